"""The images of a LoAd run, in the forms its phases want them."""
import numpy as np

from tf_advseg.core import errors
from tf_advseg.data import pipeline
from tf_advseg.data.records import record_set as record_sets
from tf_advseg.lookahead import discriminator_data
from tf_advseg.models import segmentor as segmentors
from tf_advseg.training import loop


class LookaheadData:
    """Training images, hold-out images and everything drawn from them.

    Args:
      records: data.records.record_set.RecordSet.
      train_ids, holdout_ids: lists of image ids; 30 % of the validation set in section 4.
      crop_size: (h, w) in pixels.
      settings: LookaheadSettings.
      streams: RandomStreams.
      strategy: tf.distribute.Strategy.
      segmentor: for the maps' shape.
      map_kind: 'soft', 'hard' or 'quantised'.
      known: lookahead.head_only.BackboneMaps of all images, or None.

    Attributes:
      known: the same.
    """

    def __init__(self, records, train_ids, holdout_ids, crop_size, settings, streams, strategy,
                 segmentor, map_kind, known=None):
        self.records = records
        self.train_ids = list(train_ids)
        self.holdout_ids = list(holdout_ids)
        self.crop_size = tuple(crop_size)
        self._settings, self.known = settings, known
        self._streams = streams
        self._strategy = strategy
        self._pad_value = segmentors.padding_colour(segmentor)
        self._recipe = settings.recipe
        self._stride = 1 if map_kind == 'hard' else segmentor.logits_stride
        self._check_crop()
        side = [(size - 1) // self._stride + 1 for size in self.crop_size]
        self.map_shape = (*side,) if map_kind == 'hard' else (*side, segmentor.num_classes)
        self.map_dtype = np.float16 if map_kind == 'soft' else np.uint8

    def _check_crop(self):
        """Crops of larger images must fall on the grid of the maps of whole ones."""
        sizes = self.records.image_sizes(self.train_ids + self.holdout_ids)
        fits = (sizes <= np.array(self.crop_size)).all() and not self._recipe.random_scale.active
        if not fits and (self._stride > 16 or any((side - 1) % self._stride
                                                  for side in self.crop_size)):
            raise errors.UserError(
                f'{self.records.folder}: has images larger than the crop (or scaled to be) '
                f'{self.crop_size[0]}x{self.crop_size[1]}, and the maps\' stride is '
                f'{self._stride}; expected a crop of k * stride + 1 and a stride of at most 16, or '
                'a crop that holds every image')

    def batches(self, first_step, num_steps=None, stream='data', augment_stream='augment'):
        """Global generator batches from a budget step on."""
        found = pipeline.training_batches(
            self.records, self.train_ids, self._settings.batch_size, self.crop_size,
            self._streams, first_step, num_steps, recipe=self._recipe, stream=stream,
            augment_stream=augment_stream, pad_value=self._pad_value,
            say_flipped=self.known is not None)
        return found if self.known is None else self.known.beside(found)

    def upcoming_batches(self, first_step, num_steps):
        """The batches the next steps will see, distributed, without consuming them."""
        return loop.distribute(self.batches(first_step, num_steps), self._strategy)

    def diagnostics_batch(self, step):
        """One distributed batch of the diagnostics' own random stream."""
        return next(iter(loop.distribute(
            self.batches(step, 1, 'diagnostics', 'diagnostics'), self._strategy)))

    def seen_ids(self, spans):
        """Training images that the steps of some spans have drawn, in the list's order.

        Args:
          spans: pairs [first, last) of budget steps.
        """
        count, batch = len(self.train_ids), self._settings.batch_size
        orders, seen = {}, set()
        for first, last in spans:
            for item in range(first * batch, last * batch):
                epoch, place = divmod(item, count)
                if epoch not in orders:
                    orders[epoch] = pipeline.epoch_order(self.train_ids, self._streams, epoch)
                seen.add(orders[epoch][place])
        return [image_id for image_id in self.train_ids if image_id in seen]

    def map_ids(self, spans):
        """Whose maps a model's slot gets: {'train': ids, 'holdout': ids}.

        With map_images='seen', "images that have been seen by the corresponding model [...] up to
        that stage" (section 6): by the steps of stage 2 behind its weights. g_0, which stage 2 has
        shown nothing yet, gets all.
        """
        train = self.train_ids
        if self._settings.map_images == 'seen':
            train = self.seen_ids(spans) or self.train_ids
        return {'train': train, 'holdout': self.holdout_ids}

    def generate_maps(self, stepper, method, ids):
        """Yields (image id, part, map) of whole padded, unflipped images, batch by batch."""
        if self.known is not None:
            yield from self.known.generate_maps(stepper, method, ids)
            return
        function = stepper.local(method.maps)
        for part, part_ids in ids.items():
            batches = pipeline.whole_images(self.records, part_ids, self.crop_size,
                                            self._settings.map_batch_size,
                                            pad_value=self._pad_value)
            with record_sets.data_errors():
                for batch in batches:
                    maps = function(batch['image']).numpy()
                    for image_id, single in zip(batch['image_id'].numpy(), maps):
                        yield image_id.decode(), part, single

    def discriminator_data(self, buffer, method):
        """`DiscriminatorData` of these images and a buffer, for methods.load.LoAd."""
        return discriminator_data.DiscriminatorData(
            self.records, self.train_ids, self.holdout_ids, buffer, self.map_shape,
            self.map_dtype, self._stride, self._settings, self.crop_size, self._strategy,
            method, self._pad_value, self._withheld())

    def _withheld(self):
        """Training images that the discriminator is judged on, see `discriminator_holdout`."""
        share = self._settings.discriminator_holdout
        if share is None:
            return []
        count = max(1, round(share * len(self.train_ids)))
        if count >= len(self.train_ids):
            raise errors.UserError(
                f'lookahead.discriminator_holdout = {share}: leaves none of '
                f'{len(self.train_ids)} training images to train the discriminator on')
        order = self._streams.generator('disc_holdout').permutation(len(self.train_ids))
        return [self.train_ids[place] for place in sorted(order[:count])]
