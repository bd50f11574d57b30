"""Zhu, Zhang, Zhang, Xue, Wang, 2018: the tables and figures, and what makes them here."""
from tf_advseg.data import official_specs
from tf_advseg.experiments.studies.papers import charts
from tf_advseg.experiments.studies.papers.entry import (
    CONTROL, Entry, Paper, Source, Time, Way, drawing)

_GIN = 'gin/papers/zhu'
_MOBILENET = '--checkpoint=<weights:mobilenet_v2_voc_quantised>'
_MEASURES = '--measures=miou,mean_class_accuracy,pixel_accuracy'
_FORMS = '--cell="SegGAN: zhu_gan.form=\'gan\'" --cell="SegWGAN: zhu_gan.form=\'wgan\'"'
# Two steps of the critic for one of the generator, for the sake of two CPU cores.
_FORMS_HERE = ('--cell="SegGAN: zhu_gan.form=\'gan\'" '
               '--cell="SegWGAN: zhu_gan.form=\'wgan\'; zhu_gan.critic_steps=2"')
_CMP_RECORDS = ('prepare_data --dataset=cmp_facades --source=<data:cmp_facades> '
                '--output=<work>/cmp_320 --option=split=cmp --option=longest_side=320',)


def _xception(dataset, recipe=None, data=None, weights=None):
    """Both forms with one control on a large data set, in one sweep."""
    return (f'sweep --gin_file={_GIN}/{recipe or dataset}_xception65.gin '
            f'--data_dir=<data:{data or dataset}> --checkpoint=<weights:{weights}> --seeds=0 '
            f'--workdir=<work>/zhu_{dataset} {_FORMS} {_MEASURES}',)


def _mobilenet(name, recipe, data):
    """A Stage 1 a seed for all arms; a GAN for each seed and form, so its variance counts."""
    given = f'--gin_file={_GIN}/{recipe}_mobilenet_v2.gin --data_dir={data}'
    return (f'sweep {given} {_MOBILENET} --seeds=0,1,2 --workdir=<work>/zhu_{name}_stage1 '
            '--gin_param="experiment.method=\'cross_entropy\'"',
            f'sweep {given} --seeds=0,1,2 --workdir=<work>/zhu_{name} {_FORMS_HERE} '
            '--checkpoint=<work>/zhu_' + name + '_stage1/as_given/seed{seed} '
            f'--gin_param=stage_one.epochs=0 {_MEASURES}')


def _rows(name):
    """DeepLabv3 (the control), SegGAN, SegWGAN."""
    return (('DeepLabv3', (Source(f'zhu_{name}/SegGAN/seed*', CONTROL),)),
            *((form, (Source(f'zhu_{name}/{form}/seed*', 'Zhu'),))
              for form in ('SegGAN', 'SegWGAN')))


def _files(name, *patterns):
    return tuple(f'zhu_{name}/{form}/seed0/{pattern}' for form in ('SegGAN', 'SegWGAN')
                 for pattern in patterns)


_CITYSCAPES = _xception('cityscapes', weights='xception65_cityscapes')
_VOC = _xception('voc', data='pascal_voc_2012', weights='xception65_voc')
_ADE20K = _xception('ade20k', weights='xception65_ade20k')
_STANFORD = _mobilenet('stanford', 'stanford_background', '<data:stanford_background>')
_CMP = _CMP_RECORDS + _mobilenet('cmp', 'cmp_facades', '<work>/cmp_320')
_TIME = Time('84 to 180 seconds a phase 2; a data set has six of these, and three Stage 1s and six '
             'GANs, which nobody timed', 'docs/results.md')
_NETWORK = ('MobileNetV2 in the place of a backbone that is not printed, 200 steps, a GAN of half '
            'the width on every 2nd pixel; each seed trains a GAN of its own, so the spread over '
            "seeds is the GAN's, too (docs/results.md: one GAN for all seeds)")
_ON_VAL = "our rows are of val, as the test set's labels are on the server"
_INSTANCES = tuple(f'evaluate --checkpoint=<work>/zhu_cityscapes/{form}/seed0 --split=val '
                   '--measures=instances' for form in ('SegGAN', 'SegWGAN'))
_PLAIN = ('plain DeepLabv3, without a decoder as the paper draws it: '
          'gin/papers/zhu/{}_deeplabv3_resnet101.gin')
_CURVES = 'the paper does not say of which phase gloss is: both are drawn, of runs under way too'
_THREE = ('class accuracy', 'pixel accuracy', 'mIoU')
_THREE_OURS = ('mean_class_accuracy', 'pixel_accuracy', 'miou')
_CITY_CLASSES = official_specs.SPECS['cityscapes'].class_names
_VOC_CLASSES = official_specs.SPECS['pascal_voc_2012'].class_names[1:]  # background is not printed


def _losses(name):
    """The two losses of both forms, each of both phases of one run."""
    return charts.Losses(f'zhu_{name}_losses.png', tuple(
        (form, *[f'zhu_{name}/{form}/seed0'] * 2) for form in ('SegGAN', 'SegWGAN')))


def _curves(number, name, title, commands, here):
    """A figure of the two losses over the training."""
    files = _files(name, 'report.html')
    if here:  # the paper's data are at hand
        return Entry('figure', number, title, paper=Way(
            commands, files=files, chart=_losses(name), time=_TIME, note=f'{_NETWORK}; {_CURVES}'))
    return Entry('figure', number, title,
                 paper=Way(commands, files=files, chart=_losses(name), note=_CURVES),
                 here=Way(_STANFORD, files=_files('stanford', 'report.html'),
                          chart=_losses('stanford'), time=_TIME,
                          note=f'Stanford Background; {_NETWORK}; {_CURVES}'))


def _compare(name):
    """DeepLabv3, SegGAN and SegWGAN side by side on the images that the first does worst and best.
    """
    runs = [f'<work>/zhu_{name}/{form}/seed0' for form in ('SegGAN', 'SegWGAN')]
    return (f'evaluate --checkpoint={runs[0]}/checkpoints/control --compare={runs[0]} '
            f'--compare={runs[1]} --split=test --output=<work>/zhu_{name}_predictions',)


def _panels(number, title, name, commands):
    """A figure of predictions."""
    def made(of, commands, **more):
        return Way(commands + _compare(of), files=tuple(
            f'zhu_{of}_predictions/{which}.png' for which in ('best', 'worst')), **more)

    return Entry('figure', number, title, paper=made(name, commands),
                 here=made('stanford', _STANFORD, time=_TIME,
                           note=f'Stanford Background; {_NETWORK}'))


PAPER = Paper('zhu', 'Zhu et al., A Novel Framework for Semantic Segmentation with Generative '
              'Adversarial Network (2018)', (
    Entry('table', '1', 'Cityscapes test, IoU of every class', (*_CITY_CLASSES, 'mIoU'),
          (*(f'iou/{name}' for name in _CITY_CLASSES), 'miou'),
          (('DeepLabv3', (98.5, 85.3, 92.6, 54.6, 51.7, 63.5, 69.8, 76.1, 93.2, 71.6, 95.5, 84.7,
                          66.9, 95.3, 66.0, 75.3, 66.4, 65.8, 73.8, 76.1)),
           ('SegGAN', (98.5, 85.7, 92.9, 55.9, 58.5, 65.5, 71.2, 77.7, 93.2, 72.1, 95.5, 85.6,
                       69.3, 95.4, 72.9, 85.7, 79.9, 67.8, 74.8, 78.9)),
           ('SegWGAN', (98.8, 85.1, 92.8, 56.4, 58.7, 65.7, 71.4, 77.1, 93.6, 72.4, 94.0, 85.6,
                        69.5, 95.2, 71.1, 85.9, 80.9, 67.8, 74.8, 79.1))),
          Way(_CITYSCAPES, _rows('cityscapes'), note=_ON_VAL),
          why='no other data set here has its classes: Tables 5 and 6 stand in its place'),
    Entry('table', '2', 'Cityscapes test, IoU and iIoU of classes and categories',
          ('IoU class', 'iIoU class', 'IoU category', 'iIoU category'), ('miou', '', '', ''),
          (('DeepLabv3', (76.1, 52.5, 90.0, 76.8)), ('SegGAN', (78.9, 52.9, 90.4, 76.5)),
           ('SegWGAN', (79.1, 53.9, 90.5, 76.6))),
          Way(_CITYSCAPES + _INSTANCES,
              tuple((label, (source[0], None, None, None))
                    for label, source in _rows('cityscapes')),
              note=f'{_ON_VAL}; evaluate prints categories and instances'),
          why='no data set here has instances or categories: Tables 5 and 6 stand in its place'),
    Entry('table', '3', 'VOC test, IoU of every class', (*_VOC_CLASSES, 'mIoU'),
          (*(f'iou/{name}' for name in _VOC_CLASSES), 'miou'),
          (('DeepLabv3', (94.7, 44.7, 95.3, 74.1, 85.7, 96.0, 89.1, 92.1, 47.1, 90.4, 74.9, 88.6,
                          95.5, 92.4, 89.5, 65.9, 90.4, 67.6, 88.5, 80.1, 82.7)),
           ('SegGAN', (95.5, 45.6, 96.3, 74.8, 88.3, 96.6, 90.0, 92.2, 46.6, 91.9, 69.8, 89.9,
                       95.9, 92.5, 89.9, 66.8, 91.9, 62.1, 90.0, 81.5, 83.1)),
           ('SegWGAN', (95.9, 45.9, 96.5, 74.7, 88.7, 96.8, 90.4, 92.5, 46.0, 92.8, 69.8, 90.5,
                        96.2, 92.2, 89.5, 67.8, 91.7, 62.7, 90.1, 81.6, 83.4))),
          Way(_VOC, _rows('voc'), note=f'{_ON_VAL}; {_PLAIN.format("voc")}'),
          why='no other data set here has its classes: Tables 5 and 6 stand in its place'),
    Entry('table', '4', 'ADE20K val', _THREE, _THREE_OURS,
          (('DeepLabv3', (53.9, 72.5, 36.0)), ('SegGAN', (54.6, 73.7, 36.7)),
           ('SegWGAN', (54.9, 74.1, 36.9))),
          Way(_ADE20K, _rows('ade20k')),
          Way(_STANFORD, _rows('stanford'), time=_TIME, note=f'Stanford Background; {_NETWORK}')),
    Entry('table', '5', 'Stanford Background', _THREE, _THREE_OURS,
          (('DeepLabv3', (76.5, 87.4, 73.2)), ('SegGAN', (76.8, 87.6, 73.8)),
           ('SegWGAN', (79.0, 87.7, 73.9))),
          Way(_STANFORD, _rows('stanford'), time=_TIME,
              note=f'{_NETWORK}; {_PLAIN.format("stanford_background")}')),
    Entry('table', '6', 'CMP Facades', _THREE, _THREE_OURS,
          (('DeepLabv3', (67.9, 72.1, 43.3)), ('SegGAN', (71.7, 76.1, 49.6)),
           ('SegWGAN', (72.6, 77.8, 53.5))),
          Way(_CMP, _rows('cmp'), time=_TIME,
              note=f'images of at most 320 pixels a side; {_NETWORK}')),
    drawing('1', 'overview'), drawing('2', 'DeepLabv3'),
    Entry('figure', '3', 'reconstructed images on all five data sets',
          paper=Way(_CITYSCAPES + _VOC + _ADE20K + _STANFORD + _CMP, files=tuple(
              file for name in ('cityscapes', 'voc', 'ade20k', 'stanford', 'cmp')
              for file in _files(name, 'figures/reconstructed.png'))),
          here=Way(_STANFORD + _CMP, files=(*_files('stanford', 'figures/reconstructed.png'),
                                            *_files('cmp', 'figures/reconstructed.png')),
                   time=_TIME, note=f'its last two data sets; {_NETWORK}')),
    _curves('4', 'cityscapes', 'Cityscapes, losses over the training', _CITYSCAPES, False),
    _panels('5', 'Cityscapes, predictions', 'cityscapes', _CITYSCAPES),
    _curves('6', 'voc', 'VOC, losses over the training', _VOC, False),
    _panels('7', 'VOC, predictions', 'voc', _VOC),
    _curves('8', 'ade20k', 'ADE20K, losses over the training', _ADE20K, False),
    _curves('9', 'stanford', 'Stanford Background, losses over the training', _STANFORD, True),
    _curves('10', 'cmp', 'CMP Facades, losses over the training', _CMP, True),
))
