"""What all backends have in common."""
import functools
import threading

import tensorflow as tf


class Backend:
    """A segmentor's logits, computed outside TensorFlow with its weights of this moment.

    Args:
      segmentor: see `models.segmentor`; one that takes images of any size.

    Attributes:
      num_classes, logits_stride, output_stride, crop_size, name: the segmentor's. `crop_size` may
        be changed, as prediction at several scales does.
      normalisation: what `segmentor.padding_colour` looks at.

    Raises:
      UserError: the runtime is not installed, or cannot hold the network.
    """

    fine_tune_batch_norm = False

    def __init__(self, segmentor):
        self.segmentor = segmentor
        self.name = segmentor.name
        self.num_classes = segmentor.num_classes
        self.logits_stride = segmentor.logits_stride
        self.output_stride = segmentor.output_stride
        self.crop_size = segmentor.crop_size
        self.normalisation = getattr(segmentor, 'normalisation', None)
        # TensorFlow may run the passes of several scales side by side.
        self._lock = threading.Lock()
        # Building it now tells what is missing before the first image is read.
        self.prepare()

    def prepare(self):
        """Imports and builds what does not depend on an image; raises what cannot be."""

    def logits(self, image, crop_size):
        """The logits of images.

        Args:
          image: float32 array [B, h, w, 3], RGB in 0..255.
          crop_size: (h, w) that image pooling's window comes from, or None.

        Returns:
          float32 array [B, h', w', classes].
        """
        raise NotImplementedError

    def __call__(self, image, training=False, dropout_seed=None):
        """As a segmentor is called; in a tf.function too.

        Args:
          image: float32 [B, h, w, 3], RGB in 0..255.
          training: must be False.
          dropout_seed: is not looked at.

        Returns:
          float32 [B, h', w', classes].
        """
        if training:
            raise ValueError('a backend predicts; it cannot be trained')
        del dropout_seed
        # crop_size is read while a function is traced, as a network reads its own.
        logits = tf.numpy_function(functools.partial(self._alone, crop_size=self.crop_size),
                                   [tf.cast(image, tf.float32)], tf.float32, stateful=False)
        logits.set_shape([image.shape[0], None, None, self.num_classes])
        return logits

    def _alone(self, image, crop_size):
        with self._lock:
            return self.logits(image, crop_size)
