"""What the discriminator is trained on: D_t and B joined, as tf.data.

An item is (picture, truth) or (picture, a map from one slot). Maps are of the whole padded,
unflipped picture; flip and crop are drawn once and applied to picture, truth and map together.
"""
import numpy as np
import tensorflow as tf

from tf_advseg.data import augment
from tf_advseg.data import pipeline

REAL = -1


def items(num_images, num_slots, seen=None):
    """All (image position, slot) pairs: every truth once, every slot's map of every picture.

    Args:
      num_images: pictures in the set.
      num_slots: map sets in the buffer.
      seen: per slot, the set of positions it holds maps of; None for all.

    Returns:
      int64 [n, 2]; slot REAL stands for the truth.
    """
    pairs = [(position, REAL) for position in range(num_images)]
    for slot in range(num_slots):
        held = range(num_images) if seen is None else sorted(seen[slot])
        pairs.extend((position, slot) for position in held)
    return np.array(pairs, np.int64).reshape(-1, 2)


def batches(records, ids, pairs, lookup, map_shape, map_dtype, batch_size, crop_size, stride,
            seed, flip=True, drop_remainder=False):
    """Batches for `methods.load.LoAd.adversary_step`, in the order of `pairs`.

    Args:
      records: a data.records.RecordSet.
      ids: picture ids; `pairs` refers to positions in this list.
      pairs: int64 [n, 2] from `items`, in the order wanted.
      lookup: function(slot, picture id as bytes) -> NumPy map of `map_dtype`, see
        `methods.load.LoAd.maps`; for slot REAL an empty one of `map_shape`. TensorFlow keeps it for
        the life of the process: pass the same one every time.
      map_shape: static shape of a whole map where all pictures are padded to the crop.
      map_dtype: its NumPy dtype.
      batch_size: examples per global batch.
      crop_size: (h, w) in pixels.
      stride: picture pixels per map pixel; crops of larger pictures fall on its multiples.
      seed: int32[2] for flips and crops.
      flip: whether to flip at random.
      drop_remainder: leave out a last batch that is smaller.

    Returns:
      tf.data.Dataset of {'image' float32 [B,h,w,3], 'label' int32 [B,h,w], 'map', 'is_real'
      float32 [B]}.
    """
    map_type = np.dtype(map_dtype)

    # Reading calls Python, which op determinism makes serial; it is cheap, and what is not
    # (decoding, padding, flipping) stays parallel in a map of its own.
    def read(picture, slot, size, position):
        stored = tf.numpy_function(lookup, [slot, picture['image_id']], map_type)
        return picture, tf.ensure_shape(stored, [None] * len(map_shape)), slot, size, position

    def prepare(picture, stored, slot, size, position):
        image, label = augment.pad_to(picture['image'], picture['label'], size[0], size[1])
        item_seed = augment.example_seed(tf.constant(seed, tf.int32), position)
        image, label, stored = _crop(image, label, stored, slot, size, crop_size, map_shape,
                                     stride, item_seed)
        if flip:
            image, label, stored = augment.random_flip((image, label, stored), item_seed)
        return {'image': tf.ensure_shape(image, [*crop_size, 3]),
                'label': tf.cast(tf.ensure_shape(label, crop_size), tf.int32),
                'map': tf.ensure_shape(stored, map_shape),
                'is_real': tf.cast(slot == REAL, tf.float32)}

    chosen = [ids[position] for position in pairs[:, 0]]
    sizes = pipeline.padded_sizes(records.image_sizes(chosen), crop_size)
    dataset = tf.data.Dataset.zip((
        records.dataset(chosen), tf.data.Dataset.from_tensor_slices(pairs[:, 1]),
        tf.data.Dataset.from_tensor_slices(sizes), tf.data.Dataset.range(len(pairs))))
    dataset = dataset.map(read).map(prepare, num_parallel_calls=tf.data.AUTOTUNE,
                                    deterministic=True)
    return dataset.batch(batch_size, drop_remainder=drop_remainder).prefetch(2)


def _crop(image, label, stored, slot, size, crop_size, map_shape, stride, seed):
    """Cuts one crop from picture, truth and map; nothing happens where the picture fits it."""
    top, left = augment.random_crop_offsets(size[0], size[1], crop_size, seed, multiple=stride)
    image = augment.crop(image, top, left, crop_size)
    label = augment.crop(label, top, left, crop_size)
    # A truth's empty map has the crop's size already.
    top, left = tf.cond(slot == REAL, lambda: (0, 0), lambda: (top // stride, left // stride))
    return image, label, augment.crop(stored, top, left, map_shape)
