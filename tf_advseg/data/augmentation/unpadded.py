"""Images and labels that fill the crop without padding, as Hung et al.'s published code has truths.

Its loader of the discriminator's truths (VOCGTDataSet in dataset/voc_dataset.py) scales an image
that is smaller than the crop by another random factor, on top of those before it, until it is large
enough. After ten factors, the one that every image is scaled by included, it resizes the image to
the crop, whatever its shape. Without random scaling that is what becomes of each smaller image. Its
loader of images pads them.
"""
import tensorflow as tf

from tf_advseg.data.augmentation import official_preprocessing

FACTORS = 10  # of one image at most
_FACTOR = 9  # the kind of draw, folded into the seed beside augment's


def filled(image, label, crop_size, random_scale, grid, seed):
    """Image and label, as large as the crop at least.

    Args:
      image: [H, W, 3] of any numeric type.
      label: [H, W] integer.
      crop_size: (h, w) in pixels.
      random_scale: official_preprocessing.RandomScale; where it is active, both were scaled by it
        once.
      grid: what is resized on, see official_preprocessing.GRIDS.
      seed: int32 [2], of the example.

    Returns:
      (float32 [H', W', 3]; [H', W'] of the label's type), H' >= h and W' >= w; as they were where
      they were large enough.
    """
    own = tf.random.experimental.stateless_fold_in(seed, _FACTOR)

    def small(label):
        return tf.reduce_any(tf.shape(label) < crop_size)

    def scaled(number, image, label):
        factor = random_scale.draw(tf.random.experimental.stateless_fold_in(own, number))
        size = official_preprocessing.scaled_size(*tf.unstack(tf.shape(label)), factor, grid)
        return (number + 1, *official_preprocessing.resized(image, label, size, grid))

    image = tf.cast(image, tf.float32)
    if random_scale.active:
        _, image, label = tf.while_loop(
            lambda number, _, label: tf.logical_and(number < FACTORS, small(label)), scaled,
            (tf.constant(1), image, label),
            (tf.TensorShape([]), tf.TensorShape([None, None, 3]), tf.TensorShape([None, None])))
    return tf.cond(small(label),
                   lambda: official_preprocessing.resized(image, label, crop_size, grid),
                   lambda: (image, label))
