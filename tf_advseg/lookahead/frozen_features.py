"""What Stage 1's backbone, kept as it was, makes of an image: further channels for D's input."""
import tensorflow as tf

from tf_advseg.core import errors
from tf_advseg.models import resize
from tf_advseg.run import networks


class FrozenBackbone(tf.Module):
    """Features of a copy of a segmentor's backbone that no step moves.

    Each point's features are divided by their root mean square, so that they are of the size of
    probabilities whatever the backbone's activations are.

    Args:
      description: of the segmentor, see `networks.describe`.
      segmentor: with Stage 1's weights; build the copy in the strategy's scope.
      points: (h', w') that features are resized to, align-corners bilinear.

    Attributes:
      channels: F.

    Raises:
      UserError: a network without a backbone of its own.
    """

    def __init__(self, description, segmentor, points):
        super().__init__(name='frozen_backbone')
        if description is None or not hasattr(segmentor, 'backbone'):
            raise errors.UserError('load.backbone_features = True: needs one of our networks with '
                                   'a backbone; set it to False for this network')
        copy = networks.build(description)
        for ours, theirs in zip(copy.variables, segmentor.variables):
            ours.assign(theirs.read_value())
        copy.trainable = False
        self._copy, self._points = copy, tuple(points)
        self.channels = copy.backbone.channels

    def __call__(self, image):
        """float32 [B, h', w', F] of images float32 [B, h, w, 3]."""
        maps = self._copy.backbone(self._copy.normalisation(image))['features']
        maps = tf.cast(maps, tf.float32)
        size = tf.sqrt(tf.reduce_mean(tf.square(maps), -1, keepdims=True) + 1e-30)
        return tf.stop_gradient(resize.resize_bilinear(maps / size, self._points))
