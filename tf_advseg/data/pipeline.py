"""Batches of records that depend on the seed and the step alone.

There is no state to save or restore: the batch of step t is a function of (seed, t), so a
run that is resumed, or one that rewinds its weights, goes on with the batch it would have had.

Under a strategy a batch is the global one: `training.loop.distribute` gives every replica its own
consecutive part, on several workers too, so that no example is in a global step twice. Each worker
reads and cuts the whole batch and keeps its part.

Nothing is cached but the hold-out. Training images are cut anew at every step; what could be kept
is the decoding, a third to a half of the work, for seven times the space, and `cache(file)` keeps
serving what was once put in after anything before it has changed. Records are the cache: their
bytes are as many as the files', read at random places, and stay in the page cache of the system.
`evaluation_arrays` decodes the hold-out once, in memory, for evaluations after every step.
How many images are decoded at a time is tuned by tf.data; `tools/benchmark.py input` compares
what comes out with what a training step takes.
"""
import functools

import numpy as np
import tensorflow as tf

from tf_advseg.core.errors import UserError
from tf_advseg.core.random_streams import RandomStreams
from tf_advseg.data.augmentation import augment
from tf_advseg.data.augmentation import pasting
from tf_advseg.data.augmentation import recipes
from tf_advseg.data.records import record_format
from tf_advseg.data.records.record_set import CALLS, data_errors, dataset_options
from tf_advseg.data.spec import IGNORE_LABEL

BYTES_OF_A_PIXEL = 4  # of `evaluation_arrays`: three channels and the label


def epoch_order(ids, streams, epoch, stream='data'):
    """The ids in the order of an epoch: a permutation that depends on (seed, stream, epoch)."""
    return [ids[i] for i in _permutation(len(ids), streams, epoch, stream)]


def _permutation(count, streams, epoch, stream):
    return streams.generator(stream, epoch).permutation(count)


@functools.lru_cache(maxsize=8)
def _known_permutation(count, seed, epoch, stream):
    """`_permutation`, kept for the next images of the epoch."""
    return _permutation(count, RandomStreams(seed), epoch, stream)


def _draw(item, count, batch_size, seed, stream, augment_stream):
    """(index into the ids, int32 [2] seed of its step) of an item of the endless order.

    At module level and without any state of a caller's: TensorFlow keeps the functions given
    to tf.numpy_function for ever, and a LoAd run makes thousands of data sets.
    """
    epoch, place = divmod(int(item), int(count))
    order = _known_permutation(int(count), int(seed), epoch, stream.decode())
    step_seed = RandomStreams(int(seed)).seed(augment_stream.decode(), int(item) // batch_size)
    return np.int64(order[place]), step_seed


def training_batches(records, ids, batch_size, crop_size, streams, first_step, num_steps=None,
                     recipe=recipes.Recipe(), num_parallel_calls=CALLS, prefetch=2,
                     stream='data', augment_stream='augment', pad_value=augment.PAD_VALUE,
                     hide_labels=False, say_flipped=False, plain_view=False):
    """Batches for steps first_step, first_step + 1, ...

    The batch of step t holds items t*B .. (t+1)*B-1 of the endless concatenation of the
    epochs' permutations (no image is left out at an epoch's end). What happens to an image is
    the recipe's; the seed of all its draws is streams.seed('augment', t) folded with the position
    in the batch. A recipe with CutMix or ClassMix then mixes labelled images with each other
    (`pasting`); a batch of one image stays as it is.

    Args:
      records: a `RecordSet`.
      ids: the image ids to train on.
      batch_size: B, of the GLOBAL batch; under tf.distribute pass the result to
        `experimental_distribute_dataset`.
      crop_size: (h, w) in pixels.
      streams: `RandomStreams`.
      first_step, num_steps: which steps; num_steps None goes on for ever.
      recipe: `recipes.Recipe`; by default images are padded, cropped and mirrored.
      num_parallel_calls: images decoded at a time.
      prefetch: batches prepared ahead.
      stream, augment_stream: the names of the random streams.
      pad_value: see `augment.pad_to`.
      hide_labels: 'label' is 255 throughout; 'valid' bool [B, h, w] says what is no padding.
      say_flipped: 'flipped' bool [B] says which images are mirrored.
      plain_view: 'plain' float32 [B, h, w, 3] is the image in the same place without what the
        recipe does to light, colour and sharpness (`recipes.Recipe.plain`).

    Returns:
      tf.data.Dataset of dicts: 'image' float32 [B, h, w, 3] in 0..255, 'label' int32
      [B, h, w], 'image_id' string [B], 'index' int32 [B] (the position in ids). Of mixed images
      image_id and index are the ground's, and 'pasted_id' string [B] is whose parts lie on it, ''
      for nobody's. UserError for an empty `ids`. Wrap loops in `records.data_errors()`.
    """
    positions = _require_ids(records, ids)
    mix = None if hide_labels or batch_size == 1 else recipe.pasting
    # The seed goes as text: a tensor has no room for every whole number.
    stream_arguments = [len(positions), batch_size, str(streams.seed_value), stream,
                        augment_stream]

    def fetch(item):
        index, seed = tf.numpy_function(_draw, [item, *stream_arguments], [tf.int64, tf.int32])
        index.set_shape([])
        seed.set_shape([2])
        return (records.read_tensor(tf.gather(positions, index)), tf.cast(index, tf.int32),
                augment.example_seed(seed, item % batch_size))

    def prepare(payload, index, seed):
        example = record_format.decode(payload)
        whole = tf.zeros_like(example['label']) if hide_labels else example['label']
        size = tuple(map(int, crop_size))
        image, label = recipe.apply(example['image'], whole, size, seed, pad_value)
        found = {'image': image, 'label': tf.cast(label, tf.int32),
                 'image_id': example['image_id'], 'index': index}
        if plain_view:
            found['plain'], _ = recipe.plain.apply(example['image'], whole, size, seed, pad_value)
        if say_flipped:
            found['flipped'] = augment.is_flipped(seed) if recipe.flip else tf.constant(False)
        if mix is not None:
            found[pasting.GIVEN] = mix.given(label, seed)
        return _without_labels(found) if hide_labels else found

    dataset = step_range(first_step, num_steps, batch_size).map(fetch)
    dataset = dataset.map(prepare, num_parallel_calls=num_parallel_calls, deterministic=True)
    dataset = dataset.batch(batch_size, drop_remainder=True)
    if mix is not None:
        dataset = dataset.map(pasting.pasted)
    return dataset.prefetch(prefetch).with_options(dataset_options())


def step_range(first_step, num_steps=None, batch_size=1):
    """tf.data.Dataset of the int64 numbers of steps' items: all from `first_step` on, or as many.

    The bounds are NumPy's: TensorFlow keeps every Python number that it is given, and LoAd makes
    a data set at each diagnosis.
    """
    stop = np.iinfo(np.int64).max if num_steps is None else (first_step + num_steps) * batch_size
    return tf.data.Dataset.range(np.asarray(first_step * batch_size, np.int64),
                                 np.asarray(stop, np.int64))


def _without_labels(example):
    """An example whose label was 0 throughout before padding, with 'valid' in its place."""
    label = example['label']
    return {**example, 'label': tf.fill(label.shape, IGNORE_LABEL),
            'valid': tf.not_equal(label, IGNORE_LABEL)}


def _require_ids(records, ids):
    """Positions of the ids; UserError if there are none."""
    if not len(ids):
        raise UserError(f'{records.folder}: an empty list of images was asked for; is the '
                        'split empty?')
    return records.positions(ids)


def padded_sizes(sizes, crop_size, multiple=16):
    """The sizes whole images are padded to.

    A side no longer than the crop's becomes the crop's; a longer one the next
    k * multiple + 1, the sizes whose align-corners grid the network reproduces exactly.

    Args:
      sizes: int [N, 2], (height, width) of images.
      crop_size: (h, w).
      multiple: the network's coarsest stride.

    Returns:
      int32 [N, 2].
    """
    sizes = np.asarray(sizes, np.int32).reshape(-1, 2)
    larger = (sizes - 1 + multiple - 1) // multiple * multiple + 1
    crop = np.asarray(crop_size, np.int32)
    return np.where(sizes <= crop, crop, larger).astype(np.int32)


def whole_images(records, ids, crop_size, batch_size, num_parallel_calls=CALLS, prefetch=2,
                 pad_value=augment.PAD_VALUE, multiple=16):
    """Every image once, whole, unflipped, in order: for maps and evaluation.

    Images are padded at the bottom and right to `padded_sizes` (of `multiple`); neighbours of
    one size form a batch, so batches are smaller where the size changes, and at the end.

    Returns:
      tf.data.Dataset of the same dicts as `training_batches`.
    """
    positions = _require_ids(records, ids)
    targets = padded_sizes(records.image_sizes(ids), crop_size, multiple)
    starts = np.flatnonzero(np.any(targets[1:] != targets[:-1], axis=1)) + 1
    starts = np.concatenate([[0], starts]).astype(np.int64)
    stops = np.append(starts[1:], len(positions))

    def fetch(index):
        return records.read_tensor(tf.gather(positions, index)), tf.cast(index, tf.int32)

    def run_of_one_size(start, stop, size):
        def prepare(payload, index):
            example = record_format.decode(payload)
            image, label = augment.pad_to(example['image'], example['label'], size[0], size[1],
                                          pad_value)
            if len(starts) == 1:
                image.set_shape([*targets[0], 3])
                label.set_shape(targets[0])
            return {'image': image, 'label': tf.cast(label, tf.int32),
                    'image_id': example['image_id'], 'index': index}

        run = tf.data.Dataset.range(start, stop).map(fetch)
        run = run.map(prepare, num_parallel_calls=num_parallel_calls, deterministic=True)
        return run.batch(batch_size)

    runs = (starts, stops.astype(np.int64), targets[starts])
    dataset = tf.data.Dataset.from_tensor_slices(runs).flat_map(run_of_one_size)
    return dataset.prefetch(prefetch).with_options(dataset_options())


def evaluation_arrays(records, ids, crop_size, multiple=16):
    """Images and labels decoded once, for evaluations that come again and again.

    All are padded to one size: the largest of `padded_sizes` (of `multiple`), the crop where no
    image is larger. `BYTES_OF_A_PIXEL` * N * h * w bytes.

    Returns:
      (images uint8 [N, h, w, 3], labels uint8 [N, h, w], sizes int32 [N, 2]) as NumPy.
      The padding of images is 127 here, since 127.5 is no uint8; `padded_batch` puts it right.
    """
    _require_ids(records, ids)
    sizes = records.image_sizes(ids)
    height, width = padded_sizes(sizes, crop_size, multiple).max(axis=0)
    images = np.full([len(ids), height, width, 3], int(augment.PAD_VALUE), np.uint8)
    labels = np.full([len(ids), height, width], IGNORE_LABEL, np.uint8)
    with tf.device('/cpu:0'), data_errors():
        for i, example in enumerate(records.dataset(ids).prefetch(2).as_numpy_iterator()):
            h, w = sizes[i]
            images[i, :h, :w] = example['image']
            labels[i, :h, :w] = example['label']
    return images, labels, sizes.copy()


def padded_batch(images, labels, sizes, pad_value=augment.PAD_VALUE):
    """What the network sees of `evaluation_arrays`: exactly a batch of `whole_images`.

    Args:
      images: uint8 [B, h, w, 3].
      labels: uint8 [B, h, w].
      sizes: int32 [B, 2], (height, width) of the images proper.
      pad_value: see `augment.pad_to`.

    Returns:
      dict of 'image' float32 [B, h, w, 3] with `pad_value` beyond the sizes, 'label' int32
      [B, h, w].
    """
    shape = tf.shape(labels)
    rows = tf.range(shape[1])[None, :, None] < sizes[:, 0][:, None, None]
    columns = tf.range(shape[2])[None, None, :] < sizes[:, 1][:, None, None]
    inside = tf.logical_and(rows, columns)[..., None]
    image = tf.where(inside, tf.cast(images, tf.float32), tf.constant(pad_value, tf.float32))
    return {'image': image, 'label': tf.cast(labels, tf.int32)}
