"""Luc, Couprie, Chintala, Verbeek, 2016: the tables and figures, and what makes them here."""
from tf_advseg.data import official_specs
from tf_advseg.experiments.studies import luc_cells
from tf_advseg.experiments.studies.papers.entry import (
    CONTROL, Entry, Paper, Source, Time, Way, drawing)

_GIN = 'gin/papers/luc'
_STANFORD = '--data_dir=<data:stanford_background>'
_WEIGHTS = '--checkpoint=<weights:mobilenet_v2_voc_quantised>'
_VOC = '--data_dir=<data:pascal_voc_2012_sbd> --checkpoint=<weights:dilated8_voc>'
_FARABET = (f'sweep --gin_file={_GIN}/stanford_background_farabet.gin {_STANFORD} --seeds=0,1,2 '
            '--workdir=<work>/luc_farabet '
            '--measures=miou,pixel_accuracy,mean_class_accuracy,boundary')
_FARABET_RUNS = 'luc_farabet/as_given/seed*'
_FARABET_TIME = Time('a run 9 to 12 minutes for the control and 17 to 21 with the discriminator; '
                     'three seeds', f'{_GIN}/stanford_background_farabet.gin')


def _cells(full):
    """--cell of each of the twelve; of the paper's rates and weights if `full`."""
    found = []
    for cell in luc_cells.cells()[1:]:
        settings = cell.settings if full else cell.settings[1:3]
        text = '; '.join(f'{name}={value}' for name, value in settings)
        found.append(f'--cell="{cell.discriminator}_{cell.encoding}: {text}"')
    return ' '.join(found)


_BASELINE_CELL = ('--cell="baseline: segmentor_optimizer.learning_rate=1e-06; '
                  'adversarial_stage.only_control=True"')
_TABLE_2 = (
    f'sweep --gin_file={_GIN}/voc_dilated8.gin {_VOC} --seeds=0 --workdir=<work>/luc_voc '
    f'{_BASELINE_CELL} {_cells(True)} --measures=miou,boundary,boundary_std',)
_TABLE_2_HERE = (
    f'sweep --gin_file={_GIN}/stanford_background_mobilenet_v2.gin {_STANFORD} {_WEIGHTS} '
    '--gin_param="experiment.method=\'cross_entropy\'" --gin_param=experiment.control=False '
    '--seeds=0,1,2 --workdir=<work>/luc_cells_stage1',
    f'sweep --gin_file={_GIN}/stanford_background_mobilenet_v2.gin {_STANFORD} '
    '--checkpoint=<work>/luc_cells_stage1/as_given/seed{seed}/checkpoints/stage1 '
    '--gin_param=stage_one.weighted_epochs=0 --gin_param=stage_one.epochs=0 --seeds=0,1,2 '
    f'--workdir=<work>/luc_cells {_cells(False)} --measures=miou,boundary,boundary_std')


def _rows(folder):
    """Our rows of Table 2: the baseline, then one of each discriminator and encoding."""
    cells = luc_cells.cells()[1:]
    names = [f'{cell.discriminator}_{cell.encoding}' for cell in cells]
    start = (Source('luc_voc/baseline/seed*', CONTROL) if folder == 'luc_voc' else
             Source(f'{folder}/{names[0]}/seed*', CONTROL))
    return (('baseline', (start,)),
            *((_label(cell), (Source(f'{folder}/{name}/seed*', 'Luc'),))
              for cell, name in zip(cells, names)))


def _label(cell):
    return f'{cell.discriminator} {cell.encoding}'


_SUPPLEMENT = (('baseline', luc_cells.BASELINE[:3]),
               *((_label(cell), (cell.miou, cell.bf, cell.sigma))
                 for cell in luc_cells.cells()[1:]))
# As printed in the paper itself, which has one digit and no sigma.
_MAIN = (('baseline', (71.8, 47.4)),
         ('large_fov basic', (72.0, 47.2)), ('large_fov product', (72.0, 47.7)),
         ('large_fov scaling', (72.0, 47.9)),
         ('small_fov basic', (72.0, 47.6)), ('small_fov product', (71.9, 46.4)),
         ('small_fov scaling', (71.9, 47.1)),
         ('large_fov_light basic', (72.0, 47.0)), ('large_fov_light product', (72.0, 47.7)),
         ('large_fov_light scaling', (72.0, 47.4)),
         ('small_fov_light basic', (71.9, 47.2)), ('small_fov_light product', (71.9, 47.4)),
         ('small_fov_light scaling', (72.0, 46.9)))
_CELLS_VOC = Way(_TABLE_2, _rows('luc_voc'), note=(
    'one command of 12 cells, each with the control of its own rate, and the baseline; BF is of '
    "val, whose borders are void, where the paper's is of val_sbd"))
_CELLS_HERE = Way(_TABLE_2_HERE, _rows('luc_cells'),
                  time=Time('2 to 3 minutes a model, Stage 1 apart', 'docs/results.md'), note=(
    'the twelve discriminators and encodings on MobileNetV2 and Stanford Background, all from one '
    "Stage 1 a seed; rates and lambda are the recipe's, the same in all cells"))

_CLASSES = official_specs.SPECS['pascal_voc_2012'].class_names
_TEST_SERVER = Way(
    (f'train --gin_file={_GIN}/voc_dilated8_baseline.gin {_VOC} --seed=0 '
     '--workdir=<work>/luc_voc_baseline',
     f'train --gin_file={_GIN}/voc_dilated8_large_fov_product.gin {_VOC} --seed=0 '
     '--workdir=<work>/luc_voc_product',
     f'train --gin_file={_GIN}/voc_dilated8_large_fov_scaling.gin {_VOC} --seed=0 '
     '--workdir=<work>/luc_voc_scaling',
     *(f'predict --checkpoint=<work>/luc_voc_{name} --input=<work>/voc_test_images '
       f'--submission=pascal_voc_2012 --output=<work>/luc_voc_{name}_test'
       f'{" --which=control" if name == "baseline" else ""}'
       for name in ('baseline', 'product', 'scaling'))),
    (('baseline', (Source('luc_voc_baseline', CONTROL),)),
     ('LargeFOV-Product', (Source('luc_voc_product', 'Luc'),)),
     ('LargeFOV-Scaling', (Source('luc_voc_scaling', 'Luc'),))),
    note="our rows are of val; the test set's labels are on the server, which takes what predict "
         "writes (put the test images into WORKDIR/voc_test_images)")

PAPER = Paper('luc', 'Luc et al., Semantic Segmentation using Adversarial Networks (2016)', (
    Entry('table', '1', 'Stanford Background, with and without the discriminator',
          ('class accuracy', 'pixel accuracy', 'mIoU'),
          ('mean_class_accuracy', 'pixel_accuracy', 'miou'),
          (('Standard', (66.5, 73.3, 51.3)), ('Adversarial', (68.7, 75.2, 54.3))),
          Way((_FARABET,), (('Standard', (Source(_FARABET_RUNS, CONTROL),)),
                            ('Adversarial', (Source(_FARABET_RUNS, 'Luc'),))),
              time=_FARABET_TIME, note='half resolution, a fixed number of steps, our own split')),
    Entry('table', '2', 'VOC: discriminators and what they are shown', ('mIoU', 'BF'),
          ('miou', 'boundary'), _MAIN, _CELLS_VOC, _CELLS_HERE),
    drawing('1', 'overview'),
    drawing('2', 'the encoding Product'),
    Entry('figure', '3', 'class probabilities with and without the discriminator, Stanford',
          paper=Way((_FARABET,), files=('luc_farabet/as_given/seed0/figures/probabilities_*.png',),
                    time=_FARABET_TIME)),
    Entry('figure', '4', 'class accuracy over the training, training and validation images',
          paper=Way((_FARABET,), files=('luc_farabet/as_given/seed0/report.html',),
                    time=_FARABET_TIME)),
    Entry('table', 'S1', 'layers and parameters of the discriminators',
          why='nothing is trained: tf_advseg/adversaries/field_of_view.py builds them, and its '
              'tests hold them to the table'),
    Entry('table', 'S2', 'as Table 2, two digits, with sigma of BF and the chosen rates',
          ('mIoU', 'BF', 'sigma of BF'), ('miou', 'boundary', 'boundary_std'), _SUPPLEMENT,
          _CELLS_VOC, _CELLS_HERE),
    Entry('table', 'S3', 'VOC test, IoU of every class', (*_CLASSES, 'mIoU'),
          (*(f'iou/{name}' for name in _CLASSES), 'miou'),
          (('baseline', (92.9, 87.2, 38.2, 84.5, 62.3, 69.7, 88.0, 82.3, 86.4, 34.6, 80.5, 60.5,
                         81.0, 86.3, 83.0, 82.7, 53.6, 83.9, 54.5, 79.3, 63.7, 73.1)),
           ('LargeFOV-Product', (93.0, 87.1, 38.5, 84.9, 63.2, 69.7, 88.0, 82.5, 86.8, 34.5, 80.3,
                                 61.5, 80.9, 85.8, 83.3, 82.6, 55.0, 83.5, 54.7, 79.7, 62.9,
                                 73.3)),
           ('LargeFOV-Scaling', (94.9, 87.1, 38.3, 84.8, 63.3, 69.8, 88.1, 82.2, 87.0, 34.7, 80.4,
                                 60.4, 81.0, 86.1, 83.1, 82.7, 54.5, 83.4, 53.9, 79.5, 63.4,
                                 73.2))),
          _TEST_SERVER, why='no other data set here has its classes: Table 1 stands in its place'),
    Entry('figure', 'S1', 'layers of the discriminator on Stanford Background',
          why='a drawing: tf_advseg/adversaries/field_of_view.py builds it'),
))
