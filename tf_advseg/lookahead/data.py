"""The pictures of a LoAd run, in the forms its phases want them."""
import numpy as np

from tf_advseg.data import pipeline
from tf_advseg.data import records as record_sets
from tf_advseg.lookahead import discriminator_training
from tf_advseg.training import loop


class LookaheadData:
    """Training pictures, hold-out pictures and everything drawn from them.

    Args:
      records: data.records.RecordSet.
      train_ids, holdout_ids: lists of picture ids; 30 % of the validation set in section 4.
      crop_size: (h, w) in pixels.
      settings: LookaheadSettings.
      streams: RandomStreams.
      strategy: tf.distribute.Strategy.
      segmentor: for the maps' shape.
      map_kind: 'soft', 'hard' or 'quantised'.
    """

    def __init__(self, records, train_ids, holdout_ids, crop_size, settings, streams, strategy,
                 segmentor, map_kind):
        self.records = records
        self.train_ids = list(train_ids)
        self.holdout_ids = list(holdout_ids)
        self.crop_size = tuple(crop_size)
        self._settings = settings
        self._streams = streams
        self._strategy = strategy
        self._stride = 1 if map_kind == 'hard' else segmentor.logits_stride
        side = [(size - 1) // self._stride + 1 for size in self.crop_size]
        self.map_shape = (*side,) if map_kind == 'hard' else (*side, segmentor.num_classes)
        self.map_dtype = np.float16 if map_kind == 'soft' else np.uint8

    def batches(self, first_step, num_steps=None, stream='data', augment_stream='augment'):
        """Global generator batches from a budget step on."""
        return pipeline.training_batches(
            self.records, self.train_ids, self._settings.batch_size, self.crop_size,
            self._streams, first_step, num_steps, flip=self._settings.flip, stream=stream,
            augment_stream=augment_stream)

    def local_batches(self, first_step, num_steps):
        """The batches the next steps will see, distributed, without consuming them."""
        return loop.distribute(self.batches(first_step, num_steps), self._strategy)

    def diagnostics_batch(self, step):
        """One distributed batch of the diagnostics' own random stream."""
        return next(iter(loop.distribute(
            self.batches(step, 1, 'diagnostics', 'diagnostics'), self._strategy)))

    def seen_ids(self, budget_step):
        """Training pictures the generator has seen in stage 2 up to a step, in their own order."""
        drawn = budget_step * self._settings.batch_size
        count = len(self.train_ids)
        if drawn >= count:
            return self.train_ids
        order = pipeline.epoch_order(self.train_ids, self._streams, 0)
        seen = set(order[:drawn])
        return [image_id for image_id in self.train_ids if image_id in seen]

    def map_ids(self, budget_step, label):
        """Whose maps a slot gets: {'train': ids, 'holdout': ids}; g_0 has seen everything."""
        train = self.train_ids
        if self._settings.map_images == 'seen' and label != 'g0':
            train = self.seen_ids(budget_step) or self.train_ids
        return {'train': train, 'holdout': self.holdout_ids}

    def generate_maps(self, stepper, method, ids):
        """Yields (picture id, part, map) of whole padded, unflipped pictures, batch by batch."""
        function = stepper.local(method.maps)
        for part, part_ids in ids.items():
            batches = pipeline.whole_pictures(self.records, part_ids, self.crop_size,
                                              self._settings.map_batch_size)
            with record_sets.data_errors():
                for batch in batches:
                    maps = function(batch['image']).numpy()
                    for image_id, single in zip(batch['image_id'].numpy(), maps):
                        yield image_id.decode(), part, single

    def discriminator_data(self, buffer):
        """`DiscriminatorData` of these pictures and a buffer."""
        return discriminator_training.DiscriminatorData(
            self.records, self.train_ids, self.holdout_ids, buffer, self.map_shape,
            self.map_dtype, self._stride, self._settings, self.crop_size, self._strategy)
