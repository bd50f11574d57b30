"""Durall, Pfreundt, Köthe, Keuper, 2019: the tables and figures, and what makes them here."""
from tf_advseg.data import official_specs
from tf_advseg.experiments.studies.papers import charts
from tf_advseg.experiments.studies.papers.entry import (
    CONTROL, Entry, Paper, Source, Time, Way, drawing)

_GIN = 'gin/papers/durall'
_RESNET = '--checkpoint=<weights:resnet101_imagenet>'
_ON_VOC = (f'--gin_file={_GIN}/voc_deeplab_v2_resnet101.gin --data_dir=<data:pascal_voc_2012_sbd> '
           f'{_RESNET}')
_ON_SEGTRACK = (f'--gin_file={_GIN}/segtrack_deeplab_v2_resnet101.gin '
                f'--data_dir=<data:segtrack_v2> {_RESNET}')
_ON_STANFORD = (f'--gin_file={_GIN}/stanford_background_mobilenet_v2.gin '
                '--data_dir=<data:stanford_background> '
                '--checkpoint=<weights:mobilenet_v2_voc_quantised>')
_MEASURES = '--measures=miou,pixel_accuracy,mean_class_accuracy,fwiou'
_BOTH = ('--cell="pixel: build_pixel_discriminator.kind=\'pixel\'" '
         '--cell="image: build_pixel_discriminator.kind=\'image\'"')
SWA = ' + SWA'


def _both(given, folder, seeds):
    """The sweep that trains the pixel-wise and the standard loss with their one control."""
    return (f'sweep {given} --seeds={seeds} --workdir=<work>/{folder} {_BOTH} {_MEASURES}',)


_VOC, _SEGTRACK = _both(_ON_VOC, 'durall_voc', '0'), _both(_ON_SEGTRACK, 'durall_segtrack', '0')
_STANFORD = _both(_ON_STANFORD, 'durall_stanford', '0,1,2')
_TIME = Time('3 minutes for the control and 4 to 7 for a training with a discriminator; three '
             'seeds of one control and two of these', 'docs/results.md')
_SMALLER = ('Stanford Background and MobileNetV2 for 300 steps: another data set and network, so '
            'gains may be compared, levels not')


def _rows(folder):
    """Baseline and proposed: the control, and the discriminator with averaged weights."""
    return (('baseline', (Source(f'{folder}/pixel/seed*', CONTROL),)),
            ('proposed', (Source(f'{folder}/pixel/seed*', f'Durall{SWA}'),)))


def _losses(folder):
    """Table 4's, of one data set."""
    return (('baseline', (Source(f'{folder}/pixel/seed*', CONTROL),)),
            ('standard', (Source(f'{folder}/image/seed*', f'Durall{SWA}'),)),
            ('pixel-wise', (Source(f'{folder}/pixel/seed*', f'Durall{SWA}'),)))


def _two(first, second):
    """Rows whose two columns are two data sets'."""
    return tuple((label, (one[0], other[0]))
                 for (label, one), (_, other) in zip(_losses(first), _losses(second)))


_FOUR = (('overall accuracy', 'mean accuracy', 'fwIoU', 'mIoU'),
         ('pixel_accuracy', 'mean_class_accuracy', 'fwiou', 'miou'))
_CLASSES = official_specs.SPECS['pascal_voc_2012'].class_names
_STAND_IN = Way(_STANFORD, (*_rows('durall_stanford'),
                            ('CE + SWA', (Source('durall_stanford/pixel/seed*', CONTROL + SWA),)),
                            ('pixel-wise, no SWA', (Source('durall_stanford/pixel/seed*',
                                                           'Durall'),))),
                time=_TIME, note=_SMALLER)


def _sweep(given, folder, seeds, name, axis):
    """A sweep of Fig. 4 over one setting."""
    return (f'sweep {given} --seeds={seeds} --workdir=<work>/{folder}_{name} {axis} '
            '--measures=miou')


_EVERY, _EVERY_HERE = (10, 50, 100, 200), (3, 6, 12, 24)  # of 20,000 steps, of 300
_LAMBDAS, _STARTS = (0.001, 0.005, 0.01, 0.05, 0.1), (0.0, 0.25, 0.5, 0.75)


def _axes(every):
    """(name, gin's, label of the axis, values, whose runs, the paper's choice) of Fig. 4."""
    return (('lambda', 'durall.adversarial_weight', 'λ', _LAMBDAS, 'Durall', 0.01),
            ('start', 'swa.start', 'averaging starts at (share of the steps)', _STARTS, CONTROL,
             0.0),
            ('every', 'swa.every', 'n (steps from one averaging to the next)', every, CONTROL,
             100 if 100 in every else None))


def _figure_4(given, folder, seeds, every):
    """lambda, then where averaging starts, then how rarely; the last two train no discriminator."""
    alone = '--gin_param="adversarial_stage.only_control = True" '
    return tuple(_sweep(given, folder, seeds, name,
                        (alone if column == CONTROL else '') + f'--grid={setting}='
                        + ','.join(map(str, values)))
                 for name, setting, _, values, column, _ in _axes(every))


def _figure_4_source(folder, axis, value, column):
    """Runs at a value of one of `_axes`."""
    name, setting, *_ = axis
    return Source(f'{folder}_{name}/{setting}={value}/seed*', column)


def _figure_4_rows(folder, every):
    """Every value without and with averaged weights; without is one model over the last two."""
    labels = {'lambda': 'lambda', 'start': 'CE, averaging starts at', 'every': 'CE, n'}
    return tuple((f'{labels[axis[0]]} {value}', tuple(
        _figure_4_source(folder, axis, value, axis[4] + mark) for mark in ('', SWA)))
        for axis in _axes(every) for value in axis[3])


def _figure_4_chart(folder, every):
    """mIoU over each of the three; what does not depend on a setting is level."""
    panels = []
    for axis in _axes(every):
        name, _, label, values, column, choice = axis
        drawn = (('CE + SWA', CONTROL + SWA),) if column == CONTROL else (
            ('with discriminator', column), ('with discriminator + SWA', column + SWA))
        level = (('CE', CONTROL), ('CE + SWA', CONTROL + SWA))[:2 if column != CONTROL else 1]
        panels.append(charts.Setting(
            label, tuple((line, tuple((value, _figure_4_source(folder, axis, value, model))
                                      for value in values)) for line, model in drawn),
            tuple((line, _figure_4_source(folder, axis, values[0], model))
                  for line, model in level), choice, name == 'lambda'))
    return charts.Settings(f'{folder}_settings.png', tuple(panels))


_RESNETS = tuple(
    f'train --gin_file={_GIN}/voc_deeplabv3_resnet{depth}.gin --data_dir=<data:pascal_voc_2012_sbd>'
    f' --seed=0 --workdir=<work>/durall_voc_resnet{depth}' for depth in (18, 34))
_RESNET_HERE = (f'sweep --gin_file={_GIN}/stanford_background_resnet18.gin '
                '--data_dir=<data:stanford_background> --seeds=0,1,2 '
                f'--workdir=<work>/durall_resnet18 {_MEASURES}',)


def _bars(group, runs):
    """Baseline and proposed of Fig. 8, on one network."""
    return group, (('baseline', Source(runs, CONTROL)), ('proposed', Source(runs, f'Durall{SWA}')))


def _bar_rows(groups):
    return tuple((f'{group}, {label}', (source,)) for group, found in groups
                 for label, source in found)


_BARS = tuple(_bars(f'ResNet-{depth}', f'durall_voc_resnet{depth}') for depth in (18, 34))
_BARS_HERE = (_bars('ResNet-18', 'durall_resnet18/as_given/seed*'),)

PAPER = Paper('durall', 'Durall et al., Object Segmentation using Pixel-wise Adversarial Loss '
              '(2019)', (
    Entry('table', '1', 'VOC val, IoU of every class', (*_CLASSES, 'mIoU'),
          (*(f'iou/{name}' for name in _CLASSES), 'miou'),
          (('baseline', (93, 87, 40, 85, 60, 77, 89, 84, 88, 34, 82, 48, 81, 78, 78, 83, 56, 80,
                         42, 83, 68, 72.1)),
           ('proposed', (94, 88, 40, 88, 69, 78, 93, 86, 89, 37, 82, 60, 83, 79, 83, 85, 63, 82,
                         49, 82, 74, 75.4))),
          Way(_VOC, _rows('durall_voc')),
          why='no other data set here has its classes: Table 2 stands in its place'),
    Entry('table', '2', 'VOC val, four measures (right); gains of other papers (left)', *_FOUR,
          (('baseline', (93.6, 81.6, 88.5, 72.1)), ('proposed', (94.4, 84.1, 90.0, 75.4))),
          Way(_VOC, _rows('durall_voc'), note="the left half quotes other papers' mIoU"),
          _STAND_IN),
    Entry('table', '3', 'SegTrack-v2, four measures', *_FOUR,
          (('baseline', (98.9, 87.1, 98.0, 81.2)), ('proposed', (99.1, 87.2, 98.3, 83.1))),
          Way(_SEGTRACK, _rows('durall_segtrack'), note='split and classes are ours'), _STAND_IN),
    Entry('table', '4', 'pixel-wise against standard loss, VOC and SegTrack-v2',
          ('mIoU, VOC', 'mIoU, SegTrack-v2'), ('miou', 'miou'),
          (('baseline', (72.1, 81.2)), ('standard', (74.2, 54.7)), ('pixel-wise', (75.4, 83.1))),
          Way(_VOC + _SEGTRACK, _two('durall_voc', 'durall_segtrack')),
          Way(_STANFORD, tuple((label, (source[0], None))
                               for label, source in _losses('durall_stanford')), time=_TIME,
              note=_SMALLER + '; our number stands under VOC')),
    drawing('1', 'overview'), drawing('2', 'the discriminator'), drawing('3', 'the two losses'),
    Entry('figure', '4', 'VOC val, mIoU over lambda, the start of averaging and n',
          ('mIoU', 'mIoU, averaged weights'), ('miou', 'miou'), (),
          Way(_figure_4(_ON_VOC, 'durall_voc', '0', _EVERY),
              _figure_4_rows('durall_voc', _EVERY), chart=_figure_4_chart('durall_voc', _EVERY),
              note="the figure's points are not readable, so the ranges are ours"),
          Way(_figure_4(_ON_STANFORD, 'durall_stanford', '0,1,2', _EVERY_HERE),
              _figure_4_rows('durall_stanford', _EVERY_HERE),
              chart=_figure_4_chart('durall_stanford', _EVERY_HERE),
              time=Time('3 minutes for the control and 4 to 7 for a training with a '
                        'discriminator; three seeds of thirteen settings', 'docs/results.md'),
              note=_SMALLER)),
    Entry('figure', '5', 'VOC, masks at several stages of training',
          paper=Way(_VOC, files=('durall_voc/pixel/seed0/figures/masks_over_time.png',)),
          here=Way(_STANFORD, files=('durall_stanford/pixel/seed0/figures/masks_over_time.png',),
                   time=_TIME, note=_SMALLER)),
    Entry('figure', '6', 'SegTrack-v2, mIoU over the training, baseline and proposed',
          paper=Way(_SEGTRACK, files=('durall_segtrack/pixel/seed0/report.html',)),
          here=Way(_STANFORD, files=('durall_stanford/pixel/seed0/report.html',), time=_TIME,
                   note=_SMALLER)),
    Entry('figure', '7', 'VOC and SegTrack-v2, masks of baseline and proposed',
          paper=Way(_VOC + _SEGTRACK, files=('durall_voc/pixel/seed0/figures/panel.png',
                                             'durall_segtrack/pixel/seed0/figures/panel.png')),
          here=Way(_STANFORD, files=('durall_stanford/pixel/seed0/figures/panel.png',), time=_TIME,
                   note=_SMALLER)),
    Entry('figure', '8', 'VOC, DeepLabv3 on ResNet-18 and ResNet-34 from nothing',
          ('mIoU',), ('miou',), (),
          Way(_RESNETS, _bar_rows(_BARS), chart=charts.Bars('durall_voc_resnets.png', _BARS),
              note="the bars' numbers are not readable"),
          Way(_RESNET_HERE, _bar_rows(_BARS_HERE),
              chart=charts.Bars('durall_resnet18_bars.png', _BARS_HERE),
              note='Stanford Background, crops of 161 and 200 steps; ResNet-18 alone')),
))
