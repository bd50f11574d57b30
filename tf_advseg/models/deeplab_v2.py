"""DeepLabv2 on ResNet-101 as Hung et al. (BMVC 2018) and Durall et al. (2019) use it.

Chen et al., TPAMI 2018 (arXiv:1606.00915): output stride 8 by dilation 2 and 4 in the last two
stages, and an ASPP of parallel 3x3 atrous convolutions that give class scores directly and are
summed. As in Hung et al. there is no multi-scale branch; image pooling, batch norm in the ASPP and
a decoder came with later versions.
"""
import gin
import tensorflow as tf

from tf_advseg.core import arguments
from tf_advseg.models import layers, resnet

# Normal of deviation 0.01 (Hung et al.'s code, and caffe's); ours are cut at two deviations, which
# keeps 0.8796 of the spread.
ASPP_STDDEV = 0.01 / 0.8796


class SummedASPP(layers.Layer):
    """Class scores: the sum of 3x3 atrous convolutions with biases, one for each rate.

    Args:
      in_channels, num_classes: ints.
      atrous_rates: ints.
      seed: int.
    """

    def __init__(self, in_channels, num_classes, atrous_rates, seed):
        super().__init__(name='logits')
        self.branches = [
            layers.Convolution(f'logits/aspp{i}', in_channels, num_classes, 3, rate=rate,
                               stddev=ASPP_STDDEV, seed=seed)
            for i, rate in enumerate(atrous_rates, start=1)]

    def call(self, x):
        """[B, h, w, in_channels] -> [B, h, w, num_classes]."""
        return tf.add_n([branch(x) for branch in self.branches])


class DeepLabV2(tf.keras.Model):
    """A backbone and `SummedASPP`; the parts are `backbone` and `logits`.

    Args:
      backbone: a layer that returns {'features', ...}, with `output_stride` and `channels`.
      normalisation: layer from RGB 0..255 to what the backbone takes.
      num_classes, atrous_rates, seed: see `SummedASPP`.
      crop_size: pair or None; kept for who predicts (it changes nothing in the network).
      fine_tune_batch_norm: whether training uses and updates batch statistics.
    """

    def __init__(self, backbone, normalisation, num_classes, atrous_rates, crop_size=None,
                 fine_tune_batch_norm=False, seed=0, name='deeplab_v2'):
        super().__init__(name=name)
        self.num_classes = int(num_classes)
        self.output_stride = self.logits_stride = backbone.output_stride
        self.crop_size = crop_size
        self.fine_tune_batch_norm = bool(fine_tune_batch_norm)
        self.normalisation = normalisation
        self.backbone = backbone
        self.logits = SummedASPP(backbone.channels, self.num_classes, atrous_rates, seed)
        self.built = True

    def build(self, input_shape=None):
        """Nothing to do: the variables exist from the start, for any image size."""
        self.built = True

    def call(self, image, training=False, dropout_seed=None):
        """Logits of a batch of images.

        Args:
          image: [B, h, w, 3] RGB in 0..255, float32 or uint8, of any size.
          training: Python bool: batch statistics where `fine_tune_batch_norm`.
          dropout_seed: not used; there is no dropout.

        Returns:
          float32 [B, (h-1)//s+1, (w-1)//s+1, num_classes], s = logits_stride.
        """
        del dropout_seed
        mode = layers.INFERENCE
        if training:
            mode = layers.LIVE if self.fine_tune_batch_norm else layers.FROZEN
        features = self.backbone(self.normalisation(image), mode=mode)['features']
        return tf.cast(self.logits(features), tf.float32)


@gin.configurable
def deeplab_v2_resnet(num_classes, variant='resnet_101', output_stride=8,
                      atrous_rates=(6, 12, 18, 24), crop_size=None, seed=0,
                      fine_tune_batch_norm=False, train_gamma_beta=True,
                      batch_norm_momentum=None):
    """DeepLabv2 on a ResNet; the defaults are the segmentor of Hung et al. and Durall et al.

    The input follows the variant (`resnet.normalisation`): for 'resnet_101' caffe's, BGR minus the
    mean colour, as the pretrained weights want.

    Args:
      num_classes: int, at least 1.
      variant: a name in `resnet.VARIANTS`.
      output_stride: 8, 16 or 32.
      atrous_rates: of the branches that are summed. A `return` inside a loop, in some of the code
        that goes round under this name, sums the first two only: (6, 12) is that network. What it
        leaves out gets no gradient there and has no variables here.
      crop_size: int, (height, width) or None; see `DeepLabV2`.
      seed: int, for the initial values.
      fine_tune_batch_norm: whether training uses and updates batch statistics.
      train_gamma_beta: bool; False holds them with the statistics, as Hung et al.'s code does.
      batch_norm_momentum: None is the variant's own.

    Returns:
      A `DeepLabV2` whose variables exist.

    Raises:
      UserError: an argument is out of range.
    """
    name = 'deeplab_v2_resnet'
    arguments.require_classes(name, num_classes)
    arguments.require_rates(name, atrous_rates)
    arguments.require(name, len(atrous_rates) > 0, 'atrous_rates', atrous_rates, 'at least one')
    backbone = resnet.ResNet(variant, output_stride, None, batch_norm_momentum, seed)
    if not train_gamma_beta:
        for convolution in layers.convolutions(backbone):
            convolution.norm.trainable = False
    return DeepLabV2(backbone, resnet.normalisation(variant), num_classes, atrous_rates,
                     arguments.as_pair(name, crop_size), fine_tune_batch_norm, seed, name=name)
