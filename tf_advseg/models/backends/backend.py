"""What all backends have in common."""
import functools
import threading

import numpy as np
import tensorflow as tf

from tf_advseg.core import errors
from tf_advseg.models import inference
from tf_advseg.models import segmentor as segmentors


PROVED = (65, 65)  # size of the image that a backend is proved on where there is no crop size
APART = 0.01       # of the logits' size: rounding is far below, a wrong graph far above


class Backend:
    """A segmentor's logits, computed outside TensorFlow with its weights of this moment.

    What the runtime does not take is computed in TensorFlow with the same weights: so a backend
    that could be made never fails afterwards.

    Args:
      segmentor: a network of `tf_advseg.models`.

    Attributes:
      network: `inference.InferenceNetwork`, the weights of this moment.
      num_classes, logits_stride, output_stride, crop_size, name: the segmentor's. `crop_size` may
        be changed, as prediction at several scales does.
      normalisation: what `segmentor.padding_colour` looks at.
      by_tensorflow: int, how many images TensorFlow has computed in the runtime's place so far.

    Raises:
      UserError: the runtime is not installed, or cannot hold the network.
    """

    fine_tune_batch_norm = False

    def __init__(self, segmentor):
        if isinstance(segmentor, segmentors.WrappedSegmentor):
            raise errors.UserError(f'{segmentor.name}: a backend takes the networks of this '
                                   "package, and this is another Keras model; leave it at "
                                   "'tensorflow'")
        self.segmentor = segmentor
        self.network = inference.InferenceNetwork(segmentor, tuned=False)
        self.name = segmentor.name
        self.num_classes = segmentor.num_classes
        self.logits_stride = segmentor.logits_stride
        self.output_stride = segmentor.output_stride
        self.crop_size = segmentor.crop_size
        self.normalisation = getattr(segmentor, 'normalisation', None)
        self._lock = threading.Lock()  # the user's threads may predict side by side
        self._plain, self._given_up = {}, set()
        self.by_tensorflow = 0
        # Building it now tells what is missing before the first image is read.
        self.prepare()
        self._prove()

    def prepare(self):
        """Imports and builds what does not depend on an image; raises what cannot be."""

    def _prove(self):
        """UserError where a small image's logits are not TensorFlow's: a converter may err."""
        crop_size = None if self.crop_size is None else tuple(self.crop_size)
        size = PROVED if crop_size is None else crop_size
        image = np.random.default_rng(0).uniform(0, 255, (1, *size, 3)).astype(np.float32)
        expected = self.plain_logits(image, crop_size)
        apart = np.abs(self.compute(image, crop_size) - expected).max()
        if not apart <= APART * np.abs(expected).max():
            raise errors.UserError(f'{self.name}: this backend computes something else than '
                                   f'TensorFlow (logits up to {apart:.3g} apart); take another')

    def compute(self, image, crop_size):
        """The logits of images, by the runtime.

        Args:
          image: float32 array [B, h, w, 3], RGB in 0..255.
          crop_size: (h, w) that image pooling's window comes from, or None.

        Returns:
          float32 array [B, h', w', classes].

        Raises:
          UserError: it cannot.
        """
        raise NotImplementedError

    def takes(self, image, crop_size):
        """Whether the runtime is to be asked for images like these."""
        del image, crop_size
        return True

    def logits(self, image, crop_size):
        """As `compute`, by TensorFlow where the runtime is not asked or has failed."""
        key = image.shape[1:3], crop_size
        if key not in self._given_up and self.takes(image, crop_size):
            try:
                return self.compute(image, crop_size)
            except errors.UserError:
                self._given_up.add(key)
        self.by_tensorflow += len(image)
        return self.plain_logits(image, crop_size)

    def plain_logits(self, image, crop_size):
        """`logits` by TensorFlow, with the same weights."""
        if crop_size not in self._plain:
            with segmentors.with_crop_size(self.segmentor, crop_size):
                self._plain[crop_size] = tf.function(
                    self.network.logits, autograph=False, input_signature=[
                        tf.TensorSpec([None, None, None, 3])]).get_concrete_function()
        return self._plain[crop_size](tf.constant(image)).numpy()

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
        # crop_size is read while a function is traced, as a network reads its own. Stateful: the
        # passes of several scales then run one after another, and none waits on TensorFlow's
        # threads for another that needs them.
        crop_size = None if self.crop_size is None else tuple(self.crop_size)
        logits = tf.numpy_function(functools.partial(self._alone, crop_size=crop_size),
                                   [tf.cast(image, tf.float32)], tf.float32, stateful=True)
        logits.set_shape([image.shape[0], None, None, self.num_classes])
        return logits

    def _alone(self, image, crop_size):
        with self._lock:
            return self.logits(image, crop_size)
