"""Whether the input keeps up: images a second of the pipeline beside those a training step takes.

Images of PASCAL VOC's size and weight are made up and written as records; then a burst of batches
and a step of MobileNetV2 at the same crop and batch take turns in this process, because the
machine's speed drifts. Ratios are of neighbours. A burst is counted from the making of its iterator
to its last batch, so that nothing is prepared in advance and nothing goes on while the step runs:
an input that is under way delivers more.
"""
import dataclasses
import io
import os
import pathlib
import statistics
import tempfile

import numpy as np
from PIL import Image

from tf_advseg.core import random_streams
from tf_advseg.data import official_specs
from tf_advseg.data import pipeline
from tf_advseg.data.augmentation import recipes
from tf_advseg.data.readers import base
from tf_advseg.data.records import record_set as record_sets
from tf_advseg.experiments.benchmarks import inference_benchmark
from tf_advseg.methods import cross_entropy
from tf_advseg.models import segmentor as segmentors
from tf_advseg.reporting import tables
from tf_advseg.run import networks
from tf_advseg.training import loop
from tf_advseg.training import optimizers

LIMIT = 5.0  # of the ratio: issue 4, "Data" (pipeline)
CASES = (('deeplab', (513, 513)), ('hung', (321, 321)))
NETWORK = 'deeplab_mobilenet_v2'
BATCH, BURST, IMAGES = 8, 8, 48
SIZES = ((375, 500), (375, 500), (500, 375), (333, 500))  # VOC's most frequent


@dataclasses.dataclass(frozen=True)
class Rate:
    """What a recipe delivers and a step takes.

    Attributes:
      recipe: its name.
      crop_size: (h, w) in pixels.
      delivered: images a second that come out of the pipeline, median.
      taken: images a second of the training step, median.
      ratio: delivered over taken: the median over neighbouring turns.
    """
    recipe: str
    crop_size: tuple
    delivered: float
    taken: float
    ratio: float

    @property
    def met(self):
        """Whether the input is LIMIT times as fast as the step."""
        return self.ratio >= LIMIT


class VocSizedReader(base.Reader):
    """Images and labels that show nothing, as large and as costly to decode as PASCAL VOC's.

    Images are noise of every scale, grain included: about 100 kB as JPEG, VOC's mean. Labels
    have a few smooth regions, as VOC's have.

    Args:
      count: images.
    """

    def __init__(self, count=IMAGES):
        self.spec = official_specs.SPECS['pascal_voc_2012']
        self._ids = [f'p{number:04d}' for number in range(count)]
        self.description = {'reader': 'voc_sized', 'options': {'count': count}}

    def splits(self):
        """See `Reader.splits`."""
        return {'train': list(self._ids)}

    def load(self, image_id):
        """See `Reader.load`."""
        image = Image.open(io.BytesIO(self.encoded_image(image_id))).convert('RGB')
        random, (height, width) = self._draw(image_id, 1)
        fields = [_smooth(random.standard_normal((6, 8)), height, width)
                  for _ in range(self.spec.num_classes)]
        return np.array(image, np.uint8), np.argmax(fields, axis=0).astype(np.uint8)

    def encoded_image(self, image_id):
        """See `Reader.encoded_image`."""
        random, (height, width) = self._draw(image_id, 0)
        values = 127.0 + random.normal(0.0, 9.0, (height, width, 1)) * np.ones(3)
        for cells in (4, 8, 16, 32, 64, 128, 256):
            for channel in range(3):
                values[..., channel] += 64.0 / cells ** 0.6 * _smooth(
                    random.standard_normal((cells, cells)), height, width)
        stream = io.BytesIO()
        Image.fromarray(np.clip(values, 0, 255).astype(np.uint8)).save(stream, 'JPEG', quality=95)
        return stream.getvalue()

    def _draw(self, image_id, kind):
        """(generator, (height, width)) of an image; kind is of image or label."""
        number = int(image_id[1:])
        return np.random.default_rng([number, kind]), SIZES[number % len(SIZES)]


def _smooth(coarse, height, width):
    """float32 [height, width]: a coarse grid of values, interpolated."""
    coarse = Image.fromarray(coarse.astype(np.float32))
    return np.asarray(coarse.resize((width, height), Image.BICUBIC))


def measure(strategy, network=None, repeats=20, cases=CASES, batch_size=BATCH, burst=BURST,
            images=IMAGES):
    """Compares input and training step.

    Args:
      strategy: tf.distribute.Strategy; batches are distributed over it as in training.
      network: a name in `networks.NETWORKS`; None: MobileNetV2.
      repeats: turns, of one burst and one step each.
      cases: pairs (recipe's name, (h, w) of the crop).
      batch_size: of the global batch.
      burst: batches of a burst.
      images: how many different ones there are.

    Yields:
      Rate, one a case.

    Raises:
      UserError: unknown network or recipe.
    """
    with tempfile.TemporaryDirectory(prefix='tf_advseg-') as folder:
        reader = VocSizedReader(images)
        records = record_sets.RecordSet(record_sets.write_records(
            reader, reader.splits(), pathlib.Path(folder) / 'records', progress=False))
        for name, crop_size in cases:
            deliver, take = _turns(records, name, crop_size, strategy, network or NETWORK,
                                   batch_size, burst)
            seconds = inference_benchmark.interleaved([deliver, take], repeats)
            delivered, taken = burst * batch_size / seconds[0], batch_size / seconds[1]
            yield Rate(name, tuple(crop_size), statistics.median(delivered),
                       statistics.median(taken), float(np.median(delivered / taken)))


def _turns(records, name, crop_size, strategy, network, batch_size, burst):
    """(function that draws a burst of batches, function that takes one training step)."""
    streams = random_streams.RandomStreams(0)
    with strategy.scope():
        segmentor = networks.build(networks.describe(
            network, num_classes=records.spec.num_classes, crop_size=crop_size, seed=0))
        method = cross_entropy.CrossEntropy(
            segmentor, optimizers.make_optimizer('momentum', 1e-4, 0.9))
    batches = loop.distribute(
        pipeline.training_batches(records, records.split('train'), batch_size, crop_size, streams,
                                  0, burst, recipe=recipes.make_recipe(name),
                                  pad_value=segmentors.padding_colour(segmentor)), strategy)
    stepper, batch = loop.Stepper(method, strategy), next(iter(batches))

    def deliver():
        with record_sets.data_errors():
            for _ in batches:
                pass

    # Read: a step that nobody has waited for has only been asked for.
    return deliver, lambda: dict(stepper(method.default_phase, batch, streams.seed('dropout', 0)))


def table(rates, repeats, batch_size=BATCH):
    """tables.Table of Rates."""
    rows = [(rate.recipe, 'x'.join(map(str, rate.crop_size)), f'{rate.delivered:.1f}',
             f'{rate.taken:.1f}', f'{rate.ratio:.1f}', 'met' if rate.met else 'NOT MET')
            for rate in rates]
    return tables.plain_table(
        ('recipe', 'crop', 'input, images/s', 'step takes, images/s', 'ratio', f'>= {LIMIT:.0f}'),
        rows, f'made-up images of VOC\'s size, batches of {batch_size}, medians of {repeats} '
        f'turns, {os.cpu_count()} CPU cores')
