"""Tables: gains, missing values, four renderings."""
import csv
import io
from html.parser import HTMLParser

import pytest

from tf_advseg.reporting import tables


@pytest.fixture
def columns(make_summary):
    found = {'Stage 1': make_summary(0.60), 'control': make_summary(0.612),
             'LoAd': make_summary(0.6251)}
    found['LoAd']['class_iou']['water'] = float('nan')
    return found


def _rows(table):
    return {row[0]: dict(zip(table.header[1:], row[1:])) for row in table.texts()[1:]}


def test_gains_against_both_baselines(columns):
    table = tables.class_table(columns, 'Stage 1', 'control')
    assert table.header == ('class', 'Stage 1', 'control', 'LoAd', 'vs Stage 1', 'vs control')
    rows = _rows(table)
    assert list(rows) == ['sky', 'ground', 'water', 'mIoU', 'pixel accuracy']
    assert rows['mIoU'] == {'Stage 1': '60.00', 'control': '61.20', 'LoAd': '62.51',
                            'vs Stage 1': '+2.51', 'vs control': '+1.31'}
    assert rows['water']['LoAd'] == rows['water']['vs control'] == tables.MISSING


def test_subject_and_losses_are_signed(columns):
    rows = _rows(tables.class_table(columns, 'Stage 1', 'LoAd', subject='control', digits=1))
    assert rows['mIoU']['vs LoAd'] == '-1.3' and rows['mIoU']['vs Stage 1'] == '+1.2'


def test_a_gain_that_rounds_to_nothing_has_no_sign(make_summary):
    columns = {'a': make_summary(0.6), 'b': make_summary(0.599999)}
    assert _rows(tables.class_table(columns, 'a'))['mIoU']['vs a'] == '0.00'


@pytest.mark.parametrize('control', [None, 'control'])
def test_control_not_run(columns, control):
    columns['control'] = None
    table = tables.class_table(columns, 'Stage 1', control, 'LoAd')
    assert table.header == ('class', 'Stage 1', 'LoAd', 'vs Stage 1')


def test_empty_and_partial_summaries():
    assert tables.class_table({}).rows == ()
    assert tables.to_text(tables.class_table({'a': None})).startswith('class')
    rows = _rows(tables.class_table({'a': {}, 'b': {'miou': 0.5}}, 'a'))
    assert rows['mIoU'] == {'a': '–', 'b': '50.00', 'vs a': '–'}


def test_classes_of_all_models_and_extra_measures():
    table = tables.class_table({'a': {'class_iou': {'sky': 0.5}},
                                'b': {'class_iou': {'sea': 0.25}, 'frequency_weighted_iou': 0.7}})
    rows = _rows(table)
    assert rows['sky'] == {'a': '50.00', 'b': '–'} and rows['sea'] == {'a': '–', 'b': '25.00'}
    assert rows['frequency weighted IoU']['b'] == '70.00'


def test_split_table(columns, make_summary):
    table = tables.split_table({'hold-out': columns, 'test': {'LoAd': make_summary(0.5)},
                                'val': None}, 'Stage 1', 'control', 'LoAd')
    rows = _rows(table)
    assert list(rows) == ['hold-out mIoU', 'hold-out pixel accuracy', 'test mIoU',
                          'test pixel accuracy']
    assert rows['hold-out mIoU']['vs control'] == '+1.31'
    assert rows['test mIoU']['LoAd'] == '50.00' and rows['test mIoU']['vs control'] == '–'


def test_text_is_aligned(columns):
    lines = tables.to_text(tables.class_table(columns, 'Stage 1', 'control', title='Test'))
    lines = lines.split('\n')
    assert lines[0] == 'Test' and len(lines) == 9
    assert len({len(line) for line in lines[1:]}) == 1
    assert max(map(len, lines)) <= 80


def test_csv_reads_back_as_numbers(columns):
    table = tables.class_table({'a, "b"': columns['Stage 1'], **columns}, 'Stage 1', 'control')
    rows = list(csv.DictReader(io.StringIO(tables.to_csv(table))))
    miou = next(row for row in rows if row['class'] == 'mIoU')
    assert float(miou['LoAd']) == 62.51 and float(miou['vs control']) == 1.31
    assert float(miou['a, "b"']) == 60.0
    assert next(row for row in rows if row['class'] == 'water')['LoAd'] == ''


class _Cells(HTMLParser):
    def __init__(self):
        super().__init__()
        self.rows, self.classes = [], []

    def handle_starttag(self, tag, attributes):
        if tag == 'tr':
            self.rows.append([])
        if tag in ('td', 'th'):
            attributes = dict(attributes)
            self.classes.append(attributes.get('class'))
            self.rows[-1] += [''] * int(attributes.get('colspan', 1))

    def handle_data(self, data):
        if self.rows and self.rows[-1]:
            self.rows[-1][-1] += data.strip()


def test_html_escapes_and_marks_gains(columns):
    columns['<script>'] = columns.pop('control')
    text = tables.to_html(tables.class_table(columns, 'Stage 1', '<script>', 'LoAd',
                                             title='a & b'))
    assert '<script>' not in text and '&lt;script&gt;' in text and 'a &amp; b' in text
    cells = _Cells()
    cells.feed(text)
    assert 'up' in cells.classes and len({len(row) for row in cells.rows}) == 1


def test_side_by_side_keeps_rows_together(columns, make_summary):
    left = tables.class_table(columns, 'Stage 1', 'control')
    right = tables.class_table({'LoAd': make_summary(0.5, ('water', 'road'))})
    cells = _Cells()
    cells.feed(tables.side_by_side_html({'hold-out': left, 'test <': right}, 'both'))
    assert len({len(row) for row in cells.rows}) == 1
    rows = {row[0]: row[1:] for row in cells.rows}
    assert rows['mIoU'][:3] == ['60.00', '61.20', '62.51'] and rows['mIoU'][-1] == '50.00'
    assert rows['sky'][-1] == '–' and rows['road'][:-1] == ['–'] * 5


def test_a_row_of_another_length_is_refused():
    with pytest.raises(ValueError, match='2 cells under 1'):
        tables.plain_table(['a'], [['b', 'c']])
