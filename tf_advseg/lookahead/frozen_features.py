"""What Stage 1's backbone, kept as it was, makes of an image: further channels for D's input."""
import tensorflow as tf

from tf_advseg.core import errors
from tf_advseg.models import resize
from tf_advseg.run import networks


class FrozenBackbone(tf.Module):
    """Features of a copy of a segmentor's backbone that no step moves.

    Each point's features are divided by their length, so that they weigh no more than the map
    beside them: of the size of probabilities each, hundreds of them drown it, and the discriminator
    learns nothing.

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
        copy = networks.twin(segmentor)
        copy.trainable = False
        self._copy, self._points = copy, tuple(points)
        self.channels = copy.backbone.channels

    def __call__(self, image):
        """float32 [B, h', w', F] of images float32 [B, h, w, 3]."""
        return self.of_maps(self._copy.backbone(self._copy.normalisation(image))['features'])

    def of_maps(self, maps):
        """The same of what the backbone has made of the images."""
        maps = tf.cast(maps, tf.float32)
        maps = tf.math.l2_normalize(maps, -1, epsilon=1e-30)
        return tf.stop_gradient(resize.resize_bilinear(maps, self._points))
