"""The official model zoo's DeepLab entries, as published.

From g3doc/model_zoo.md and g3doc/quantize.md of research/deeplab, and the README of slim's
MobileNetV2 (tensorflow/models). `fetching` downloads what is asked for by name. A figure that those
pages do not give is None or absent.
"""
import dataclasses
from typing import Optional, Tuple

from tf_advseg.core.errors import UserError, require_one_of

_SITE = 'http://download.tensorflow.org/models/'
_SLIM = 'https://storage.googleapis.com/mobilenet_v2/checkpoints/'
LICENCE = ('tensorflow/models is under Apache-2.0; the pages name no licence of the weights '
           'themselves; the data sets have terms of their own')
BASE_STRIDE = 16
STRIDES = (8, 16, 32)
_RATES = (6, 12, 18)  # at output stride 16; the official code doubles them at 8
_VOC_SCALES, _CITYSCAPES_SCALES = '0.5:0.25:1.75', '0.75:0.25:1.25'


@dataclasses.dataclass(frozen=True)
class Score:
    """A published result: mIoU in percent at an output stride, on a split.

    Attributes:
      output_stride: int; scales: '1.0' or 'first:step:last'; flip: left-right flips too;
      miou: percent; split: 'val' or 'test'.
    """
    output_stride: int
    scales: str
    flip: bool
    miou: float
    split: str

    def text(self):
        """'75.32 (val, stride 16)'."""
        more = '' if self.scales == '1.0' and not self.flip else ', multi-scale + flip'
        return f'{self.miou:.2f} ({self.split}, stride {self.output_stride}{more})'


@dataclasses.dataclass(frozen=True)
class Entry:
    """One entry of the zoo.

    Attributes:
      name: official name.
      file: of the archive, as published.
      backbone: for people.
      pretrained: data the weights have seen, in order.
      dataset: name in `data.official_specs`; None for a backbone alone.
      num_classes: of the file; None for a backbone alone.
      crop_size: (height, width) of the evaluation; fixes the window of image pooling.
      network: builder's name in `run.networks`; None where it is not built.
      options: the builder's arguments that the name stands for.
      scores: published results.
      megabytes: of the download.
      note: what else one should know, or why it is not built.
      sha256: of the archive, where this package knows it; the publisher gives none, see `fetching`.
    """
    name: str
    file: str
    backbone: str
    pretrained: str
    dataset: Optional[str] = None
    num_classes: Optional[int] = None
    crop_size: Optional[Tuple[int, int]] = None
    network: Optional[str] = None
    options: Tuple = ()
    scores: Tuple[Score, ...] = ()
    megabytes: Optional[float] = None
    note: str = ''
    sha256: Optional[str] = None

    @property
    def address(self):
        """Where the archive was published."""
        return (_SLIM if self.file.endswith('.tgz') else _SITE) + self.file

    @property
    def backbone_only(self):
        """Whether the file holds no head for segmentation."""
        return self.network is not None and self.num_classes is None

    @property
    def atrous_rates(self):
        """Rates of the head at output stride 16; () where it has no atrous branches."""
        return dict(self.options).get('atrous_rates', ())

    @property
    def decoder(self):
        """Whether it has the DeepLabv3+ decoder."""
        return dict(self.options).get('decoder', False)

    def arguments(self, num_classes=None, output_stride=None):
        """The arguments of the builder `network`.

        Args:
          num_classes: int; None is the file's.
          output_stride: 8, 16 or 32; None is 16. The rates of the head are those published for
            16, doubled at 8 and halved at 32 as the official code does.

        Raises:
          UserError: the network is not built; a backbone alone without num_classes;
            no such stride.
        """
        if self.network is None:
            raise UserError(f'{self.name}: not built here: {self.note}')
        if num_classes is None and self.num_classes is None:
            raise UserError(f'{self.name}: holds a backbone only; say for how many classes with '
                            '--num_classes=N')
        stride = BASE_STRIDE if output_stride is None else output_stride
        arguments = {'num_classes': num_classes or self.num_classes, 'output_stride': stride,
                     'crop_size': self.crop_size, 'image_pooling': True, **dict(self.options)}
        arguments['atrous_rates'] = rates_at(self.atrous_rates, BASE_STRIDE, stride)
        return arguments


def rates_at(rates, stride, wanted):
    """Atrous rates of a head that sees as far at another output stride, as in the official code.

    Args:
      rates: ints, of the head at output stride `stride`.
      stride, wanted: output strides, of STRIDES.

    Returns:
      tuple of ints: doubled where the stride is halved, halved (and rounded up) where it doubles.

    Raises:
      UserError: no such stride.
    """
    for value in (stride, wanted):
        if value not in STRIDES:
            raise UserError(f'output_stride is {value!r}, expected one of '
                            f'{", ".join(map(str, STRIDES))}')
    return tuple(-(-rate * stride // wanted) for rate in rates)


def entry(name):
    """The `Entry` of a name.

    Raises:
      UserError: no such entry; names the nearest.
    """
    return ENTRIES[require_one_of('model of the zoo', name, ENTRIES)]


def _single(miou, split='val', stride=16):
    return Score(stride, '1.0', False, miou, split)


def _several(miou, scales, split='val'):
    return Score(8, scales, True, miou, split)


def _mobilenet(depth_multiplier=1.0, decoder=False):
    width = f' x {depth_multiplier}' if depth_multiplier != 1 else ''
    return dict(network='deeplab_mobilenet_v2', backbone=f'MobileNetV2{width}',
                options=(('depth_multiplier', depth_multiplier), ('atrous_rates', ()),
                         ('decoder', decoder)))


def _xception(layers=65):
    variant = f'xception_{layers}'
    return dict(network='deeplab_xception', backbone=f'Xception-{layers}',
                options=(('variant', variant), ('atrous_rates', _RATES), ('decoder', True),
                         ('multi_grid', (1, 1, 1))))


def _resnet(layers):
    variant = f'resnet_v1_{layers}_beta'
    return dict(network='deeplab_resnet', backbone=f'ResNet-v1-{layers}-beta',
                options=(('variant', variant), ('atrous_rates', _RATES), ('decoder', True),
                         ('multi_grid', (1, 2, 4))))


def _resized(side):
    return (f'images are resized so that the longer side is {side}, and pixels of id 0 ignored: '
            '`evaluate` does neither, so the score is out of reach here')


_ON_VOC = dict(dataset='pascal_voc_2012', num_classes=21, crop_size=(513, 513))
_CITYSCAPES = dict(dataset='cityscapes', num_classes=19)
_ON_CITYSCAPES = dict(crop_size=(1025, 2049), **_CITYSCAPES)
_ON_ADE20K = dict(dataset='ade20k_151', num_classes=151)
_AUG, _TRAINVAL = 'VOC 2012 train_aug', 'VOC 2012 train_aug + trainval'
_COCO = 'ImageNet, MS-COCO'
_SEEN = 'has seen val: its scores on val mean nothing'
_MISSING = 'this package has no '

_ENTRIES = (
    Entry('mobilenetv2_dm05_coco_voc_trainaug',
          'deeplabv3_mnv2_dm05_pascal_trainaug_2018_10_01.tar.gz', **_mobilenet(0.5), **_ON_VOC,
          pretrained=f'{_COCO}, {_AUG}', scores=(_single(70.19),), megabytes=7.6),
    Entry('mobilenetv2_dm05_coco_voc_trainval',
          'deeplabv3_mnv2_dm05_pascal_trainval_2018_10_01.tar.gz', **_mobilenet(0.5), **_ON_VOC,
          pretrained=f'{_COCO}, {_TRAINVAL}', scores=(_single(71.83, 'test', 8),), megabytes=7.6,
          note=_SEEN),
    Entry('mobilenetv2_coco_voc_trainaug', 'deeplabv3_mnv2_pascal_train_aug_2018_01_29.tar.gz',
          **_mobilenet(), **_ON_VOC, pretrained=f'{_COCO}, {_AUG}',
          scores=(_single(75.32), _several(77.33, _VOC_SCALES)), megabytes=23),
    Entry('mobilenetv2_coco_voc_trainval', 'deeplabv3_mnv2_pascal_trainval_2018_01_29.tar.gz',
          **_mobilenet(), **_ON_VOC, pretrained=f'{_COCO}, {_TRAINVAL}',
          scores=(_several(80.25, _VOC_SCALES, 'test'),), megabytes=23, note=_SEEN),
    Entry('mobilenetv2_dm05_coco_voc_trainaug_8bit',
          'deeplabv3_mnv2_dm05_pascal_train_aug_8bit_2019_04_26.tar.gz', **_mobilenet(0.5),
          **_ON_VOC, pretrained=f'{_COCO}, {_AUG}', scores=(_single(69.65),), megabytes=8.2,
          note='trained for 8 bits; the score is of the quantised graph'),
    Entry('mobilenetv2_coco_voc_trainaug_8bit',
          'deeplabv3_mnv2_pascal_train_aug_8bit_2019_04_26.tar.gz', **_mobilenet(), **_ON_VOC,
          pretrained=f'{_COCO}, {_AUG}', scores=(_single(74.26),), megabytes=24,
          note='trained for 8 bits; the score is of the quantised graph'),
    Entry('xception65_coco_voc_trainaug', 'deeplabv3_pascal_train_aug_2018_01_04.tar.gz',
          **_xception(), **_ON_VOC, pretrained=f'{_COCO}, {_AUG}',
          scores=(_single(82.20), _several(83.58, _VOC_SCALES)), megabytes=439),
    Entry('xception65_coco_voc_trainval', 'deeplabv3_pascal_trainval_2018_01_04.tar.gz',
          **_xception(), **_ON_VOC, pretrained=f'{_COCO}, {_TRAINVAL}',
          scores=(_several(87.80, _VOC_SCALES, 'test'),), megabytes=439, note=_SEEN),
    Entry('mobilenetv2_coco_cityscapes_trainfine',
          'deeplabv3_mnv2_cityscapes_train_2018_02_05.tar.gz', **_mobilenet(), **_ON_CITYSCAPES,
          pretrained=f'{_COCO}, Cityscapes train_fine',
          scores=(_single(70.71), _several(73.57, _CITYSCAPES_SCALES)), megabytes=23),
    Entry('mobilenetv3_large_cityscapes_trainfine',
          'deeplab_mnv3_large_cityscapes_trainfine_2019_11_15.tar.gz', 'MobileNetV3 large',
          'Cityscapes train_fine', **_CITYSCAPES, scores=(_single(72.41, stride=32),),
          megabytes=17, note=f'{_MISSING}MobileNetV3'),
    Entry('mobilenetv3_small_cityscapes_trainfine',
          'deeplab_mnv3_small_cityscapes_trainfine_2019_11_15.tar.gz', 'MobileNetV3 small',
          'Cityscapes train_fine', **_CITYSCAPES, scores=(_single(68.99, stride=32),),
          megabytes=5, note=f'{_MISSING}MobileNetV3'),
    Entry('xception65_cityscapes_trainfine', 'deeplabv3_cityscapes_train_2018_02_06.tar.gz',
          **_xception(), **_ON_CITYSCAPES, pretrained='ImageNet, Cityscapes train_fine',
          scores=(_single(78.79), _several(80.42, _CITYSCAPES_SCALES)), megabytes=439),
    Entry('xception71_dpc_cityscapes_trainfine',
          'deeplab_cityscapes_xception71_trainfine_2018_09_08.tar.gz', 'Xception-71 + DPC',
          f'{_COCO}, Cityscapes train_fine', **_CITYSCAPES, scores=(_single(80.31),),
          megabytes=445, note=f'{_MISSING}dense prediction cell (DPC)'),
    Entry('xception71_dpc_cityscapes_trainval',
          'deeplab_cityscapes_xception71_trainvalfine_2018_09_08.tar.gz', 'Xception-71 + DPC',
          f'{_COCO}, Cityscapes trainval_fine and coarse', **_CITYSCAPES,
          scores=(_several(82.66, '0.75:0.25:2', 'test'),), megabytes=446,
          note=f'{_MISSING}dense prediction cell (DPC)'),
    Entry('EdgeTPU-DeepLab', 'edgetpu-deeplab_2020_03_09.tar.gz', 'EdgeMobilenet-1.0',
          'ImageNet, Cityscapes train_fine', **_CITYSCAPES,
          scores=(_single(70.6, stride=32), _single(74.1)), note=f'{_MISSING}EdgeTPU-Mobilenet'),
    Entry('EdgeTPU-DeepLab-slim', 'edgetpu-deeplab-slim_2020_03_09.tar.gz', 'EdgeMobilenet-0.75',
          'ImageNet, Cityscapes train_fine', **_CITYSCAPES,
          scores=(_single(70.0, stride=32), _single(73.2)), note=f'{_MISSING}EdgeTPU-Mobilenet'),
    Entry('mobilenetv2_ade20k_train', 'deeplabv3_mnv2_ade20k_train_2018_12_03.tar.gz',
          **_mobilenet(decoder=True), **_ON_ADE20K, crop_size=(257, 257),
          pretrained='ImageNet, ADE20K training', scores=(_single(32.04),), megabytes=24.8,
          note=_resized(257)),
    Entry('xception65_ade20k_train', 'deeplabv3_xception_ade20k_train_2018_05_29.tar.gz',
          **_xception(), **_ON_ADE20K, crop_size=(513, 513),
          pretrained='ImageNet, ADE20K training', scores=(_several(45.65, _VOC_SCALES),),
          megabytes=439, note=_resized(513)),
    Entry('xception_41_imagenet', 'xception_41_2018_05_09.tar.gz', **_xception(41),
          pretrained='ImageNet', megabytes=288),
    Entry('xception_65_imagenet', 'deeplabv3_xception_2018_01_04.tar.gz', **_xception(65),
          pretrained='ImageNet', megabytes=447),
    Entry('xception_65_imagenet_coco', 'xception_65_coco_pretrained_2018_10_02.tar.gz',
          **_xception(65), pretrained=_COCO, megabytes=292),
    Entry('xception_71_imagenet', 'xception_71_2018_05_09.tar.gz', **_xception(71),
          pretrained='ImageNet', megabytes=474),
    Entry('resnet_v1_50_beta_imagenet', 'resnet_v1_50_2018_05_04.tar.gz', **_resnet(50),
          pretrained='ImageNet', megabytes=274),
    Entry('resnet_v1_101_beta_imagenet', 'resnet_v1_101_2018_05_04.tar.gz', **_resnet(101),
          pretrained='ImageNet', megabytes=477),
    Entry('mobilenet_v2_1.0_224', 'mobilenet_v2_1.0_224.tgz', **_mobilenet(),
          pretrained='ImageNet',
          note="slim's; its other depth multipliers round channels otherwise than DeepLab's"),
)
ENTRIES = {each.name: each for each in _ENTRIES}


def _digest_text(each, pins):
    """'; SHA-256 12ab34cd… pinned 2026-11-29', or that no digest is known yet."""
    if each.sha256:
        return f'; SHA-256 {each.sha256[:8]}…'
    pin = pins(each) if pins else {}
    return (f'; SHA-256 {pin["sha256"][:8]}… pinned {pin.get("pinned", "")}' if pin
            else '; no digest yet')


def listing(pins=None):
    """The catalogue as text: a few lines an entry.

    Args:
      pins: function(Entry) -> {'sha256', 'pinned': date} of the digest that its downloads are held
        to, or {}, see `fetching.pin_of`; None for none.
    """
    lines = []
    for each in _ENTRIES:
        if each.network is None:
            kind = 'NOT BUILT'
        elif each.backbone_only:
            kind = 'backbone only'
        else:
            kind = f'{each.dataset}, {each.num_classes} classes, crop ' + 'x'.join(
                map(str, each.crop_size))
        head = f'rates {each.atrous_rates} at stride 16' if each.atrous_rates else 'no atrous rates'
        head += ', decoder' if each.decoder else ', no decoder'
        lines.append(f'{each.name}  [{kind}]')
        lines.append(f'    {each.backbone}; {each.pretrained}'
                     + (f'; {head}' if each.network and not each.backbone_only else ''))
        if each.scores:
            lines.append('    mIoU ' + '; '.join(score.text() for score in each.scores))
        lines.append(f'    {each.address}'
                     + (f'  ({each.megabytes:g} MB)' if each.megabytes else '')
                     + _digest_text(each, pins))
        if each.note:
            lines.append(f'    {each.note}')
    return '\n'.join(lines + ['', LICENCE])
