"""Hung, Tsai, Liou, Lin, Yang, 2018: the tables and figures, and what makes them here."""
from tf_advseg.experiments.studies.papers.entry import (
    CONTROL, Entry, Paper, Source, Time, Way, drawing)

_GIN = 'gin/papers/hung'
_RESNET = '--checkpoint=<weights:resnet101_imagenet>'
_MOBILENET = '--checkpoint=<weights:mobilenet_v2_voc_quantised>'
_RECORDS = '--data_dir=<data:pascal_voc_2012_sbd>'
_ON_VOC = f'--gin_file={_GIN}/voc_deeplab_v2_resnet101.gin {_RECORDS} {_RESNET} --seeds=0,1,2'
_ON_CITYSCAPES = (f'--gin_file={_GIN}/cityscapes_deeplab_v2_resnet101.gin '
                  f'--data_dir=<work>/cityscapes_512 {_RESNET} --seeds=0,1,2')
_ON_STANFORD = (f'--gin_file={_GIN}/stanford_background_mobilenet_v2.gin '
                f'--data_dir=<data:stanford_background> {_MOBILENET} --seeds=0,1,2')
_ON_CMP = (f'--gin_file={_GIN}/cmp_facades_mobilenet_v2.gin --data_dir=<work>/cmp_320 '
           f'{_MOBILENET} --seeds=0,1,2')
_CITYSCAPES_RECORDS = ('prepare_data --dataset=cityscapes --source=<data:cityscapes> '
                       '--output=<work>/cityscapes_512 --option="size=(512, 1024)"')
_CMP_RECORDS = ('prepare_data --dataset=cmp_facades --source=<data:cmp_facades> '
                '--output=<work>/cmp_320 --option=split=cmp --option=longest_side=320')
_EIGHTH, _FULL = 'semi_supervised.fraction=0.125', 'semi_supervised.fraction=1.0'
_PARTS = (('1-8', '0.125'), ('1-4', '0.25'), ('1-2', '0.5'))
_ADV, _SEMI = 'baseline + L_adv', 'baseline + L_adv + L_semi'
_SMALLER = ('Stanford Background and MobileNetV2 for 300 steps: another data set and network, so '
            'gains may be compared, levels not')


def _time(runs):
    return Time('2 minutes a training for the baseline, 2 to 5 for the others; ' + runs,
                'docs/results.md')


def _time_cmp(runs):
    """Of CMP Facades, whose recipe includes Stanford Background's."""
    return Time('2 minutes a training for the baseline, 2 to 5 for the others, measured on '
                'Stanford Background with the same network, crop, batch and steps; ' + runs,
                'docs/results.md')


def _sweep(given, folder, cells, more=''):
    """A sweep of named cells: {name: 'binding; binding'}."""
    named = ' '.join(f'--cell="{name}: {settings}"' for name, settings in cells.items())
    return (f'sweep {given} --workdir=<work>/{folder} {named} --measures=miou{more}')


def _amounts(self_training=False):
    """Cells of Tables 1 and 2: each share of the labels with each loss; all labels with L_adv."""
    terms = {'adv': 'adv', 'semi': 'adv+semi', **({'self': 'self_training'} if self_training
                                                  else {})}
    cells = {f'{part}_{name}': f"semi_supervised.fraction={share}; hung.terms='{value}'"
             for part, share in _PARTS for name, value in terms.items()}
    return {**cells, 'full_adv': f"{_FULL}; hung.terms='adv'"}


def _amount_rows(folder, self_training=False):
    """Our rows of Tables 1 and 2."""
    def row(cell, column, full):
        parts = [Source(f'{folder}/{part}_{cell}/seed*', column) for part, _ in _PARTS]
        return (*parts, Source(f'{folder}/full_adv/seed*', column) if full else None)

    rows = (('our baseline', row('adv', CONTROL, True)), (_ADV, row('adv', 'Hung', True)),
            (_SEMI, row('semi', 'Hung', False)))
    return (*rows, ('self-training, no discriminator', row('self', 'Hung', False))
            ) if self_training else rows


# Table 8 in three parts, of which Table 5 has the last two.
_WEIGHTS = ('0', '0.005', '0.01', '0.02', '0.04', '0.05')
_SEMI_WEIGHTS, _THRESHOLDS = ('0', '0.05', '0.1', '0.2'), ('0', '0.1', '0.2', '0.3', '1.0')
_TABLE_5 = (*((f'lambda_semi {value}, T 0.2' if value != '0' else 'lambda_semi 0', (number,))
              for value, number in zip(_SEMI_WEIGHTS, (67.6, 68.4, 69.5, 69.1))),
            *((f'lambda_semi 0.1, T {value}', (number,))
              for value, number in zip(_THRESHOLDS, (67.2, 68.8, 69.5, 69.2, 67.6))))
_TABLE_8 = (*((f'lambda_adv {value}, all labels', (number,))
              for value, number in zip(_WEIGHTS, (73.6, 74.0, 74.9, 74.6, 74.1, 73.0))),
            *_TABLE_5)


def _sensitivity(given, folder, full):
    """One sweep: lambda_semi and T at 1/8 and, for Table 8, lambda_adv with all labels."""
    cells = {f'semi{value}': f'{_EIGHTH}; hung.semi_weight={value}' for value in _SEMI_WEIGHTS}
    # T 0.2 is lambda_semi 0.1 above.
    cells.update({f'T{value}': f'{_EIGHTH}; hung.threshold={value}' for value in _THRESHOLDS
                  if value != '0.2'})
    if full:
        cells.update({f'adv{value}': f"{_FULL}; hung.terms='adv'; "
                      f'hung.adversarial_weight={value}' for value in _WEIGHTS})
    return (_sweep(given, folder, cells),)


def _sensitivity_rows(folder, full):
    names = ([f'adv{value}' for value in _WEIGHTS] if full else []) + [
        f'semi{value}' for value in _SEMI_WEIGHTS] + [
        'semi0.1' if value == '0.2' else f'T{value}' for value in _THRESHOLDS]
    return tuple((label, (Source(f'{folder}/{name}/seed*', 'Hung'),))
                 for (label, _), name in zip(_TABLE_8 if full else _TABLE_5, names))


_NO_FCD = "hung.terms='adv'; build_fc_discriminator.kind='image'"
_ABLATION = {'1-8_adv': f"{_EIGHTH}; hung.terms='adv'", '1-8_image': f'{_EIGHTH}; {_NO_FCD}',
             '1-8_semi': f"{_EIGHTH}; hung.terms='semi'",
             '1-8_both': f"{_EIGHTH}; hung.terms='adv+semi'",
             'full_adv': f"{_FULL}; hung.terms='adv'", 'full_image': f'{_FULL}; {_NO_FCD}'}


def _ablation_rows(folder):
    def row(cell, column='Hung', full=True):
        return (Source(f'{folder}/1-8_{cell}/seed*', column),
                Source(f'{folder}/full_{cell}/seed*', column) if full else None)
    return (('baseline', row('adv', CONTROL)), ('L_adv, FCD', row('adv')),
            ('L_adv, no FCD', row('image')), ('L_semi, FCD', row('semi', full=False)),
            ('L_adv, L_semi, FCD', row('both', full=False)))


def _part(given, folder, name):
    """One cell of Table 1 alone, for a figure of it."""
    return _sweep(given, folder, {name: _amounts()[name]})


def _figure(number, title, given, folder, before=(), time=None, note='', here=None):
    """A panel of predictions at half of the labels: + L_adv and + L_adv + L_semi."""
    commands = (*before, _part(given, folder, '1-2_adv'), _part(given, folder, '1-2_semi'))
    files = tuple(f'{folder}/1-2_{name}/seed0/figures/panel.png' for name in ('adv', 'semi'))
    way = Way(commands, files=files, time=time, note=note)
    return way if here == 'way' else Entry('figure', number, title, paper=way, here=here)


_PANEL_HERE = _figure('', '', _ON_STANFORD, 'hung_stanford', time=_time('two arms, three seeds'),
                      note=_SMALLER, here='way')
_PANEL_CMP = _figure('', '', _ON_CMP, 'hung_cmp', (_CMP_RECORDS,),
                     time=_time_cmp('two arms, three seeds'), note='CMP Facades', here='way')


def _confidence(run, folder, split):
    return (f'confidence --checkpoint=<work>/{run}/seed0 --split={split} '
            f'--thresholds=0,0.1,0.2,0.3 --output=<work>/{folder}_confidence')


_CONFIDENCE_HERE = (_part(_ON_STANFORD, 'hung_stanford', '1-8_semi'),
                    _confidence('hung_stanford/1-8_semi', 'hung_stanford', 'unlabelled'))
_CONFIDENCE_FILES = ('hung_stanford_confidence/*',)
_CONFIDENCE_TIME = _time('one arm, three seeds')
_TABLE_4 = {'Full': 'voc_sbd_unlabelled', '30%': 'voc_sbd_unlabelled_30_percent'}
_HUNDREDS = ('1/8', '1/4', '1/2', 'full')

PAPER = Paper('hung', 'Hung et al., Adversarial Learning for Semi-Supervised Semantic '
              'Segmentation (2018)', (
    Entry('table', '1', 'VOC val, mIoU by the share of labels', _HUNDREDS, ('miou',) * 4,
          (('our baseline', (66.0, 68.3, 69.8, 73.6)), (_ADV, (67.6, 71.0, 72.6, 74.9)),
           (_SEMI, (69.5, 72.1, 73.8, None))),
          Way((_sweep(_ON_VOC, 'hung_voc', _amounts()),), _amount_rows('hung_voc')),
          Way((_sweep(_ON_STANFORD, 'hung_stanford', _amounts(True), ',miou_without_rare'),),
              _amount_rows('hung_stanford', True), time=_time('ten cells, three seeds'),
              note=_SMALLER)),
    Entry('table', '2', 'Cityscapes val, mIoU by the share of labels', _HUNDREDS, ('miou',) * 4,
          (('our baseline', (55.5, 59.9, 64.1, 66.4)), (_ADV, (57.1, 61.8, 64.6, 67.7)),
           (_SEMI, (58.8, 62.3, 65.7, None))),
          Way((_CITYSCAPES_RECORDS, _sweep(_ON_CITYSCAPES, 'hung_cityscapes', _amounts())),
              _amount_rows('hung_cityscapes')),
          Way((_CMP_RECORDS, _sweep(_ON_CMP, 'hung_cmp', _amounts(True))),
              _amount_rows('hung_cmp', True), time=_time_cmp('ten cells, three seeds'),
              note='CMP Facades and MobileNetV2 for 300 steps: gains may be compared, levels not')),
    Entry('table', '3', 'VOC val, against Luc et al.', ('baseline', 'adversarial'),
          ('miou', 'miou'), (('Luc et al.', (71.8, 72.0)), ('ours', (73.6, 74.9))),
          Way((_sweep(_ON_VOC, 'hung_voc', {'full_adv': _amounts()['full_adv']}),),
              (('ours', (Source('hung_voc/full_adv/seed*', CONTROL),
                         Source('hung_voc/full_adv/seed*', 'Hung'))),),
              note='the row of Luc et al. is Table 2 of --paper=luc'),
          Way((_sweep(_ON_STANFORD, 'hung_stanford', {'full_adv': _amounts()['full_adv']}),),
              (('ours', (Source('hung_stanford/full_adv/seed*', CONTROL),
                         Source('hung_stanford/full_adv/seed*', 'Hung'))),),
              time=_time('one cell, three seeds'), note=_SMALLER)),
    Entry('table', '4', "VOC val, VOC's own labels with SBD's images unlabelled",
          ('fully supervised', 'semi-supervised'), ('miou', 'miou'),
          (('Full', (66.3, 68.4)), ('30%', (57.4, 60.6))),
          Way(tuple(f'sweep --gin_file={_GIN}/{name}.gin {_RECORDS} {_RESNET} --seeds=0,1,2 '
                    f'--workdir=<work>/hung_{name}' for name in _TABLE_4.values()),
              tuple((label, (Source(f'hung_{name}/as_given/seed*', CONTROL),
                             Source(f'hung_{name}/as_given/seed*', 'Hung')))
                    for label, name in _TABLE_4.items()),
              note='which images are unlabelled at 30% is not printed: all others here'),
          why='no data set here has a second, unlabelled part: Table 1 stands in its place'),
    Entry('table', '5', 'VOC val at 1/8: lambda_semi and T', ('mIoU',), ('miou',), _TABLE_5,
          Way(_sensitivity(_ON_VOC, 'hung_voc_settings', False),
              _sensitivity_rows('hung_voc_settings', False)),
          Way(_sensitivity(_ON_STANFORD, 'hung_stanford_settings', False),
              _sensitivity_rows('hung_stanford_settings', False),
              time=_time('eight cells, three seeds'), note=_SMALLER)),
    Entry('table', '6', 'VOC val: without parts of the method', ('1/8', 'full'), ('miou', 'miou'),
          (('baseline', (66.0, 73.6)), ('L_adv, FCD', (67.6, 74.9)),
           ('L_adv, no FCD', (66.6, 74.0)), ('L_semi, FCD', (65.7, None)),
           ('L_adv, L_semi, FCD', (69.5, None))),
          Way((_sweep(_ON_VOC, 'hung_voc_ablation', _ABLATION),),
              _ablation_rows('hung_voc_ablation')),
          Way((_sweep(_ON_STANFORD, 'hung_stanford_ablation', _ABLATION),),
              _ablation_rows('hung_stanford_ablation'), time=_time('six cells, three seeds'),
              note=_SMALLER)),
    Entry('table', '7', 'Cityscapes: pixels that the discriminator selects, and how many are right',
          ('selected', 'right'), ('', ''),
          (('T 0', (100, 92.65)), ('T 0.1', (36, 99.84)), ('T 0.2', (31, 99.91)),
           ('T 0.3', (27, 99.94))),
          Way((_CITYSCAPES_RECORDS,
               _part(_ON_CITYSCAPES, 'hung_cityscapes', '1-8_semi'),
               _confidence('hung_cityscapes/1-8_semi', 'hung_cityscapes', 'unlabelled')),
              files=('hung_cityscapes_confidence/*',), note='the last command prints our table'),
          Way(_CONFIDENCE_HERE, files=_CONFIDENCE_FILES, time=_CONFIDENCE_TIME,
              note='Stanford Background; the last command prints our table')),
    Entry('table', '8', 'VOC val: lambda_adv with all labels, lambda_semi and T at 1/8', ('mIoU',),
          ('miou',), _TABLE_8,
          Way(_sensitivity(_ON_VOC, 'hung_voc_settings', True),
              _sensitivity_rows('hung_voc_settings', True)),
          Way(_sensitivity(_ON_STANFORD, 'hung_stanford_settings', True),
              _sensitivity_rows('hung_stanford_settings', True),
              time=_time('fourteen cells, three seeds'), note=_SMALLER)),
    Entry('table', '9', 'training settings',
          why='settings, not results: gin/methods/hung.gin and the recipes bind them'),
    drawing('1', 'overview'),
    _figure('2', 'VOC, predictions with half of the labels', _ON_VOC, 'hung_voc',
            here=_PANEL_HERE),
    Entry('figure', '3', 'confidence maps',
          paper=Way((_part(_ON_VOC, 'hung_voc', '1-8_semi'),
                     _confidence('hung_voc/1-8_semi', 'hung_voc', 'unlabelled')),
                    files=('hung_voc_confidence/confidence.png',)),
          here=Way(_CONFIDENCE_HERE, files=('hung_stanford_confidence/confidence.png',),
                   time=_CONFIDENCE_TIME, note=_SMALLER)),
    _figure('4', 'VOC, more predictions with half of the labels', _ON_VOC, 'hung_voc',
            here=_PANEL_HERE),
    _figure('5', 'VOC, more predictions with half of the labels', _ON_VOC, 'hung_voc',
            here=_PANEL_HERE),
    _figure('6', 'Cityscapes, predictions with half of the labels', _ON_CITYSCAPES,
            'hung_cityscapes', (_CITYSCAPES_RECORDS,), here=_PANEL_CMP),
))
