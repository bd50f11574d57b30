"""Jamali-Rad, Szabó, 2021, LoAd: the tables and figures, and what makes them here."""
import pathlib

from tf_advseg.data import official_specs
from tf_advseg.experiments.studies import load_cells
from tf_advseg.experiments.studies.papers.entry import (
    CONTROL, STAGE1, Entry, Paper, Source, Time, Way, drawing)

_GIN, _RIVAL = 'gin/papers/load', 'gin/papers/luc'
_ON_VOC = '--data_dir=<data:pascal_voc_2012> --checkpoint=<weights:xception65_voc>'
_ON_CITYSCAPES = '--data_dir=<data:cityscapes> --checkpoint=<weights:mobilenet_v2_cityscapes>'
_STANFORD = '--data_dir=<data:stanford_background>'
_MOBILENET = '--checkpoint=<weights:mobilenet_v2_voc_quantised>'
_DLV3, _LUC, _LOAD = 'DLv3+', '[27] (Luc et al.)', 'DLv3+ & LoAd'


def _pair(recipe, given, name):
    """A run of LoAd and one of its rival from the same weights."""
    return (f'train --gin_file={_GIN}/{recipe}.gin {given} --seed=0 --workdir=<work>/load_{name}',
            f'train --gin_file={_RIVAL}/{recipe}.gin {given} --seed=0 '
            f'--workdir=<work>/load_luc_{name}')


def _submissions(name, images, server):
    """Maps for the test server: the baseline, the rival, LoAd."""
    models = ((f'load_{name}/checkpoints/stage1', 'baseline'), (f'load_luc_{name}', 'luc'),
              (f'load_{name}', 'load'))
    return tuple(f'predict --checkpoint=<work>/{run} --input={images} --submission={server} '
                 f'--output=<work>/load_{name}_test_{label}' for run, label in models)


def _rows(name, seeds=''):
    """The three rows of most tables: the start, the rival, LoAd."""
    return ((_DLV3, (Source(f'load_{name}{seeds}', STAGE1),)),
            (_LUC, (Source(f'load_luc_{name}{seeds}', 'Luc'),)),
            (_LOAD, (Source(f'load_{name}{seeds}', 'LoAd'),)))


def _evaluate(run, split, scales=(), output=''):
    """LoAd beside its start; at several scales and mirrored, or with the most changed images."""
    more = ''.join(f' --eval_scales={scale}' for scale in scales)
    return (f'evaluate --checkpoint=<work>/{run} --compare=<work>/{run}/checkpoints/stage1 '
            f'--split={split}' + (f' --flip{more}' if scales else '')
            + (f' --output=<work>/{output}' if output else ''))


_VOC = _pair('voc_xception65', _ON_VOC, 'voc')
_CITYSCAPES = _pair('cityscapes_mobilenet_v2', _ON_CITYSCAPES, 'cityscapes')
_XCEPTION = (f'train --gin_file={_GIN}/stanford_background_xception65.gin {_STANFORD} '
             '--checkpoint=<weights:xception65_cityscapes> --seed=0 '
             '--workdir=<work>/load_xception65',)
_HERE = (f'sweep --gin_file={_GIN}/stanford_background_mobilenet_v2.gin {_STANFORD} {_MOBILENET} '
         '--seeds=0,1 --workdir=<work>/load_stanford',
         f'sweep --gin_file={_RIVAL}/stanford_background_mobilenet_v2.gin {_STANFORD} {_MOBILENET} '
         '--seeds=0,1 --workdir=<work>/load_luc_stanford')
_SEEDS = '/as_given/seed*'
_FIRST = 'load_stanford/as_given/seed0'
_ROWS_HERE = (*_rows('stanford', _SEEDS),
              ('control of as many steps', (Source(f'load_stanford{_SEEDS}', CONTROL),)))
_TIME = Time('926 s of Stage 1 and 431.8 s a cycle of five, its control apart; two seeds',
             'docs/methods/load.md')
_SMALLER = ('Stanford Background and MobileNetV2 from VOC weights: another start and network, so '
            'gains may be compared, levels not')
_VOC_SCALES = (0.5, 0.75, 1, 1.25, 1.5, 1.75)
_OTHER_SCALES = (0.75, 1, 1.25)
_NO_CLASSES = 'no other data set here has its classes: Table 5 stands in its place'
_SERVER = ("our rows are of val; the server, which has the test set's labels, takes what predict "
           'writes')
_TEXT = "the paper's text at hand has these of its classes"
# Those whose columns are whole in the text at hand.
_VOC_CLASSES = official_specs.SPECS['pascal_voc_2012'].class_names[:11]
_CITY_CLASSES = official_specs.SPECS['cityscapes'].class_names[:10]


def _classes(names):
    """(columns, measures) of a table by class."""
    return (*names, 'mIoU'), (*(f'iou/{name}' for name in names), 'miou')


def _by_class(start, rival, own):
    return (_DLV3, start), (_LUC, rival), (_LOAD, own)


_TABLE_7_VOC = tuple(
    f'sweep --gin_file=gin/{cell.name} {_ON_VOC} --seeds=0,1,2 '
    f'--workdir=<work>/load_{pathlib.PurePath(cell.name).stem}' for cell in load_cells.cells())


def _cell_name(cell):
    return f'l{cell.beta_l:g}_u{cell.beta_u:g}_g{cell.patience}_b{cell.capacity}'


def _cell_label(cell):
    return (f'beta_l {cell.beta_l:g}, beta_u {cell.beta_u:g}, Gamma {cell.patience}, B_max '
            f'{cell.capacity}')


# A propagation of the head alone is five mini-batches, so Gamma counts a fifth of the paper's.
_TABLE_7_HERE = (
    f'sweep --gin_file={_GIN}/stanford_background_mobilenet_v2_head_only.gin {_STANFORD} '
    f'{_MOBILENET} --gin_param="experiment.method=\'cross_entropy\'" '
    '--gin_param=experiment.control=False --seeds=0,1,2 --workdir=<work>/load_head_only_stage1',
    f'sweep --gin_file={_GIN}/stanford_background_mobilenet_v2_head_only.gin {_STANFORD} '
    '--checkpoint=<work>/load_head_only_stage1/as_given/seed{seed}/checkpoints/stage1 '
    '--gin_param=stage_one.weighted_epochs=0 --gin_param=stage_one.epochs=0 --seeds=0,1,2 '
    '--workdir=<work>/load_table7 '
    + ' '.join(f'--cell="{_cell_name(cell)}: controller.beta_l={cell.beta_l / 100:g}; '
               f'controller.beta_u={cell.beta_u / 100:g}; '
               f'controller.patience={cell.patience // 5}; '
               f'map_buffer.capacity={cell.capacity}"' for cell in load_cells.cells()))


def _table_7_rows(pattern):
    """pattern: function of a cell -> pattern of its runs."""
    cells = load_cells.cells()
    return ((_DLV3, (Source(pattern(cells[0]), STAGE1),)),
            *((_cell_label(cell), (Source(pattern(cell), 'LoAd'),)) for cell in cells))


_MNV2_VOC = (f'train --gin_file={_GIN}/voc_mobilenet_v2.gin --data_dir=<data:pascal_voc_2012> '
             '--checkpoint=<weights:mobilenet_v2_voc> --seed=0 --workdir=<work>/load_voc_mnv2',)
_DEPTH_05 = (f'sweep --gin_file={_GIN}/stanford_background_mobilenet_v2.gin {_STANFORD} '
             '--checkpoint=<weights:mobilenet_v2_dm05_voc_quantised> --seeds=0,1 '
             '--gin_param=deeplab_mobilenet_v2.depth_multiplier=0.5 '
             '--workdir=<work>/load_stanford_dm05',)


def _backbones(first, second, names, seeds='', splits=('test', None)):
    """Table 6's rows: start and LoAd of two backbones, a column a split."""
    def sources(run, column):
        return tuple(split and Source(f'{run}{seeds}', column, split) for split in splits)
    return tuple((f'{label}, {name}', sources(run, column))
                 for run, name in zip((first, second), names)
                 for label, column in ((_DLV3, STAGE1), (_LOAD, 'LoAd')))


def _changed(title, number):
    """Figs 4 and 5: images that LoAd changes most."""
    return Entry('figure', number, title, paper=Way(
        (*_VOC[:1], _evaluate('load_voc', 'val', output='load_voc_changed'), *_CITYSCAPES[:1],
         _evaluate('load_cityscapes', 'val', output='load_cityscapes_changed')),
        files=('load_voc_changed/*.png', 'load_cityscapes_changed/*.png')),
        here=Way((*_HERE[:1], _evaluate(_FIRST, 'test', output='load_stanford_changed')),
                 files=('load_stanford_changed/*.png',), time=_TIME, note=_SMALLER))


def _report(number, title, commands, runs):
    """Figures of which a run's report has the counterpart."""
    return Entry('figure', number, title,
                 paper=Way(commands, files=tuple(f'{run}/report.html' for run in runs)),
                 here=Way(_HERE[:1], files=(f'{_FIRST}/report.html',), time=_TIME, note=_SMALLER))


PAPER = Paper('load', 'Jamali-Rad, Szabó, Lookahead Adversarial Learning for Near Real-Time '
              'Semantic Segmentation (2021)', (
    Entry('table', '1', 'VOC val, IoU by class', *_classes(_VOC_CLASSES), _by_class(
        (95.55, 90.33, 44.23, 89.56, 72.15, 81.11, 96.76, 91.37, 94.33, 51.87, 96.08, 82.20),
        (95.57, 91.94, 44.27, 89.99, 72.83, 81.48, 96.70, 91.21, 94.27, 51.92, 95.75, 82.35),
        (95.71, 93.31, 44.14, 90.43, 74.48, 81.37, 96.36, 91.34, 93.73, 53.22, 95.59, 83.08)),
        Way(_VOC, _rows('voc'), note=f'{_TEXT}; mIoU as in Table 8'), why=_NO_CLASSES),
    Entry('table', '2', 'VOC test, IoU by class', *_classes(_VOC_CLASSES), _by_class(
        (93.52, 84.27, 39.70, 86.22, 66.67, 79.68, 92.12, 81.89, 85.84, 42.40, 82.91, 76.81),
        (93.69, 85.10, 39.81, 86.39, 68.04, 80.42, 92.08, 84.21, 85.34, 43.33, 80.41, None),
        (93.68, 84.91, 39.76, 86.48, 68.02, 80.32, 91.98, 82.70, 88.18, 42.64, 82.74, 77.51)),
        Way((*_VOC, *_submissions('voc', '<work>/voc_test_images', 'pascal_voc_2012')),
            _rows('voc'), note=f'{_SERVER} (put the test images into WORKDIR/voc_test_images); '
            f'{_TEXT}; mIoU as in Table 6'), why=_NO_CLASSES),
    Entry('table', '3', 'Cityscapes val, IoU by class', *_classes(_CITY_CLASSES), _by_class(
        (97.56, 81.08, 90.20, 38.34, 53.23, 50.27, 60.96, 70.71, 90.91, 59.00, 70.67),
        (97.54, 81.02, 90.23, 39.26, 52.77, 50.82, 61.17, 70.94, 90.96, 59.25, 70.85),
        (97.59, 81.21, 90.53, 47.20, 54.38, 51.81, 61.54, 71.11, 90.92, 60.66, 71.57)),
        Way(_CITYSCAPES, _rows('cityscapes'), note=f'{_TEXT}; mIoU as in Table 8'),
        why=_NO_CLASSES),
    Entry('table', '4', 'Cityscapes test, IoU by class', *_classes(_CITY_CLASSES), _by_class(
        (97.86, 80.91, 90.14, 43.73, 48.73, 49.14, 62.11, 67.82, 91.69, 66.42, None),
        (97.84, 80.79, 90.19, 44.62, 48.22, 49.64, 62.31, 67.84, 91.77, 66.86, None),
        (97.85, 80.99, 90.25, 50.17, 49.46, 50.24, 62.73, 67.32, 91.80, 68.32, None)),
        Way((*_CITYSCAPES,
             *_submissions('cityscapes', '<data:cityscapes>/leftImg8bit/test', 'cityscapes')),
            _rows('cityscapes'), note=f'{_SERVER}; {_TEXT}'), why=_NO_CLASSES),
    Entry('table', '5', 'Stanford Background test', ('mIoU',), ('miou',),
          _by_class((74.33,), (74.43,), (75.05,)),
          Way(_XCEPTION, ((_DLV3, (Source('load_xception65', STAGE1),)),
                          (_LOAD, (Source('load_xception65', 'LoAd'),))),
              note="the row [27] has no recipe on this network; classes are garbled in the paper's "
                   'text at hand'),
          Way(_HERE, _ROWS_HERE, time=_TIME, note=_SMALLER)),
    Entry('table', '6', 'VOC, two backbones', ('mIoU, val', 'mIoU, test'), ('miou', 'miou'),
          (('DLv3+, Xception-65', (82.20, 76.81)), ('DLv3+ & LoAd, Xception-65', (83.08, 77.51)),
           ('DLv3+, MobileNetV2', (75.32, 71.45)), ('DLv3+ & LoAd, MobileNetV2', (75.70, 71.74))),
          Way((*_VOC[:1], *_MNV2_VOC), _backbones('load_voc', 'load_voc_mnv2',
                                                  ('Xception-65', 'MobileNetV2')),
              note="the test set's labels are on the server; Table 2 has the commands for it"),
          Way((*_HERE[:1], *_DEPTH_05), _backbones(
              'load_stanford', 'load_stanford_dm05', ('MobileNetV2', 'MobileNetV2 of depth 0.5'),
              _SEEDS, ('val_without_holdout', 'test')), time=_TIME,
              note=_SMALLER + '; a network of half the width is the second backbone')),
    Entry('table', '7', 'VOC val, settings of LoAd', ('mIoU',), ('miou',),
          ((_DLV3, (load_cells.BASELINE,)),
           *((_cell_label(cell), (cell.miou,)) for cell in load_cells.cells())),
          Way(_TABLE_7_VOC, _table_7_rows(
              lambda cell: f'load_{pathlib.PurePath(cell.name).stem}{_SEEDS}')),
          Way(_TABLE_7_HERE, _table_7_rows(lambda cell: f'load_table7/{_cell_name(cell)}/seed*'),
              time=Time('43.3 s a cycle of five, its control and 926 s of Stage 1 apart; six '
                        'settings, three seeds', 'docs/methods/load.md'),
              note=_SMALLER + '; the head alone, Gamma in propagations of five mini-batches')),
    Entry('table', '8', 'scales and flips at inference: VOC, Cityscapes, Stanford Background',
          ('mIoU', 'mIoU, scales and flips'), ('miou', ''),
          (('DLv3+, VOC', (82.20, 83.58)), ('[27] (Luc et al.), VOC', (82.35, 83.66)),
           ('DLv3+ & LoAd, VOC', (83.08, 84.57)), ('DLv3+, Cityscapes', (70.67, 73.88)),
           ('[27] (Luc et al.), Cityscapes', (70.85, 73.96)),
           ('DLv3+ & LoAd, Cityscapes', (71.57, 74.61)), ('DLv3+, Stanford', (74.33, 76.33)),
           ('[27] (Luc et al.), Stanford', (74.43, 76.42)),
           ('DLv3+ & LoAd, Stanford', (75.05, 76.78))),
          Way((*_VOC, _evaluate('load_voc', 'val', _VOC_SCALES),
               *_CITYSCAPES, _evaluate('load_cityscapes', 'val', _OTHER_SCALES),
               *_XCEPTION, _evaluate('load_xception65', 'test', _OTHER_SCALES)),
              tuple((f'{label}, {title}', (source[0], None))
                    for name, title in (('voc', 'VOC'), ('cityscapes', 'Cityscapes'))
                    for label, source in _rows(name)) + tuple(
                        (f'{label}, Stanford', (Source('load_xception65', column), None))
                        for label, column in ((_DLV3, STAGE1), (_LOAD, 'LoAd'))),
              note='evaluate prints the second column'),
          Way((*_HERE, _evaluate(_FIRST, 'test', _OTHER_SCALES)),
              tuple((f'{label}, Stanford', (source[0], None))
                    for label, source in _rows('stanford', _SEEDS)), time=_TIME,
              note=_SMALLER + '; evaluate prints the second column, of seed 0')),
    drawing('1', 'a hypothetical course of the mIoU, and the buffer of maps'),
    drawing('2', 'the networks'),
    _report('3', "VOC, the hold-out's mIoU through the cycles: the report's first chart",
            _VOC[:1], ('load_voc',)),
    _changed('VOC and Cityscapes, missing objects and confused classes', '4'),
    _changed('VOC and Cityscapes, inconsistent bodies and edges', '5'),
    _report('6', 'images through all cycles', _VOC[:1] + _CITYSCAPES[:1],
            ('load_voc', 'load_cityscapes')),
    _report('7', 'more images through all cycles', _VOC[:1] + _CITYSCAPES[:1],
            ('load_voc', 'load_cityscapes')),
    drawing('8', 'flow chart of the method'),
))
