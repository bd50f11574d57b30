"""DeepLabv3 on dilated ResNet-18 and ResNet-34, trained from scratch (Durall et al., section 5.2).

The paper says: DeepLabv3 with the improved ASPP (image-level features, batch norm), ResNet18 and
ResNet34, no pretrained weights. It says nothing of strides, rates and momenta; the defaults here
are DeepLabv3's (stride 16, rates 6, 12, 18) and, as nothing is pretrained, live batch norm. As in
official DeepLab the ASPP's convolutions are separable.
"""
import gin

from tf_advseg.core import arguments
from tf_advseg.core import errors
from tf_advseg.models import deeplab, resnet

VARIANTS = tuple(name for name, layout in resnet.VARIANTS.items() if not layout.bottleneck)


@gin.configurable
def deeplab_residual(num_classes, variant='resnet_18', output_stride=16, atrous_rates=(6, 12, 18),
                     decoder=False, crop_size=None, dropout_rate=0.1, seed=0, image_pooling=True,
                     fine_tune_batch_norm=True, batch_norm_momentum=0.99, multi_grid=None):
    """DeepLabv3 on a ResNet of basic blocks.

    Args:
      num_classes: int, at least 1.
      variant: 'resnet_18' or 'resnet_34'.
      output_stride: 8, 16 or 32.
      batch_norm_momentum: for all batch norms; None is 0.99 (backbone) and 0.9997 (head).
      multi_grid: factors of the rates of block 4's units (two in ResNet-18, three in ResNet-34);
        None is all ones.
      atrous_rates, decoder, crop_size, dropout_rate, seed, image_pooling, fine_tune_batch_norm:
        see `deeplab.DeepLab`.

    Returns:
      A `deeplab.DeepLab` whose variables exist.

    Raises:
      UserError: an argument is out of range, or an unknown variant.
    """
    name = 'deeplab_residual'
    errors.require_one_of(f'{name}.variant', variant, VARIANTS)
    arguments.require_classes(name, num_classes)
    arguments.require_rates(name, atrous_rates)
    arguments.require_dropout(name, dropout_rate)
    multi_grid = arguments.as_grid(name, multi_grid, resnet.VARIANTS[variant].units[-1])
    backbone = resnet.ResNet(variant, output_stride, multi_grid, batch_norm_momentum, seed)
    return deeplab.DeepLab(
        backbone, num_classes, atrous_rates, decoder, image_pooling,
        arguments.as_pair(name, crop_size), dropout_rate, fine_tune_batch_norm,
        batch_norm_momentum, seed, name=name, normalisation=resnet.normalisation(variant))
