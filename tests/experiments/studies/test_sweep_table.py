"""The statistics of a sweep's tables; tests/tools/test_sweep.py has the tables of whole sweeps."""
import math
import statistics

import pytest

from tf_advseg.core.errors import UserError
from tf_advseg.experiments.studies import sweep_table
from tf_advseg.experiments.studies import tabled_measures


def collected_of(scores):
    """{cell: [{model: mIoU} of each seed, the method last]} -> as from `sweeping.collect`."""
    return {cell: {seed: {'subject': list(models)[-1], 'models': {
        model: {split: {'miou': value} for split in ('holdout', 'test')}
        for model, value in models.items()}} for seed, models in enumerate(runs) if models}
            for cell, runs in scores.items()}


def test_names_of_cells_may_have_commas():
    cells = ['a', 'a, b', 'c']
    for text, found in ((None, ()), ('', ()), ('a', ('a',)), ('a, b,c', ('a, b', 'c')),
                        ('a,b', ('a, b',)), ('c,a', ('c', 'a')), ('a,d,c', ('a', 'd', 'c'))):
        assert sweep_table.parse_references(text, cells) == found



def test_later_cells_stand_against_the_first_by_seed():
    """The spread over seeds, far larger than the difference, is in both and leaves no trace."""
    first, later = [0.50, 0.60, 0.40, 0.45], [0.51, 0.63, 0.42]
    collected = collected_of({
        'standard': [{'control (CE)': 0.1, 'Durall': a, 'Durall + SWA': a + 0.1} for a in first],
        'pixel': [{'control (CE)': 0.2, 'Durall': b, 'Durall + SWA': 0.9} for b in later],
        'one': [{}, {'control (CE)': 0.2, 'Durall': 0.58}],
        'none': []})
    found = sweep_table.differences(sweep_table.compared(collected))
    assert found.header == ('cell', 'model', 'less', 'split', 'runs', 'difference', 'SD',
                            'half-width', 'runs for ±0.5')
    rows = {tuple(cell.value for cell in row[:4]): [cell.value for cell in row[4:]]
            for row in found.rows}
    assert not any(cell == 'standard' and ':' in less for cell, _, less, _ in rows)
    differences = [1.0, 3.0, 2.0]
    mean, half = 2.0, 4.302653 * statistics.stdev(differences) / math.sqrt(3)
    assert rows['pixel', 'Durall', 'standard: Durall', 'test'] == [
        '3', f'{mean:+.2f} [{mean - half:+.2f}, {mean + half:+.2f}]', '1.00', f'{half:.2f}', '18']
    assert rows['pixel', 'Durall + SWA', 'standard: Durall + SWA', 'holdout'][1].startswith(
        '+30.00 [')
    assert rows['one', 'Durall', 'standard: Durall', 'test'] == ['1', '-2.00 –', '–', '–', '–']
    assert rows['one', 'Durall', 'control (CE)', 'test'][1] == '+38.00 –'
    assert not any(cell == 'none' for cell, *_ in rows)  # nothing to compare yet
    others = sweep_table.differences(sweep_table.compared(collected, ['pixel', 'one']))
    assert {row[2].value.partition(':')[0] for row in others.rows if ':' in row[2].value} == {
        'pixel', 'one'}
    with pytest.raises(UserError, match='Did you mean "pixel"'):
        sweep_table.compared(collected, ['pixl'])
    title = sweep_table.table(collected).title
    assert title.endswith('; not there yet: pixel seed 3; one seeds 0, 2, 3; '
                          'none seeds 0, 1, 2, 3')


def test_a_cell_of_another_method_is_compared_by_its_own_model():
    collected = collected_of({
        'a': [{'Stage 1': 0.1, 'control (CE)': 0.1, 'Luc': 0.2},
              {'Stage 1': 0.1, 'control (CE)': 0.1, 'Luc': 0.3}],
        'b': [{'Stage 1': 0.1, 'control (CE)': 0.1, 'Durall': 0.25},
              {'Stage 1': 0.1, 'control (CE)': 0.1, 'Durall': 0.35}]})
    table = sweep_table.differences(sweep_table.compared(collected))
    row, = (row for row in table.texts() if row[2] == 'a: Luc' and row[3] == 'test')
    assert row[:2] == ['b', 'Durall'] and row[5] == '+5.00 [+5.00, +5.00]'
    assert sweep_table.differences(sweep_table.compared({'a': {}, 'b': {}})) is None
    only = {'a': collected['a']}
    assert all(row[0] == 'a' for row in sweep_table.differences(sweep_table.compared(only)).texts()[1:])
    assert 'not there yet' not in sweep_table.table(only).title


@pytest.mark.parametrize('references', [(), ('longer',)])
def test_a_control_of_more_steps_is_compared_with_the_methods_control(references):
    """What a longer training gains is told over the control; with --against, methods over it."""
    collected = collected_of({
        'a': [{'Stage 1': 0.1, 'control (CE)': 0.20, 'Luc': 0.4},
              {'Stage 1': 0.1, 'control (CE)': 0.25, 'Luc': 0.5}],
        'longer': [{'Stage 1': 0.1, 'control (CE)': 0.23}, {'Stage 1': 0.1, 'control (CE)': 0.28}],
        'averaged': [{'control (CE)': 0.20, 'control (CE) + SWA': 0.22},
                     {'control (CE)': 0.25, 'control (CE) + SWA': 0.27}]})
    rows = {(row[0], row[1], row[2]): row[5] for row in sweep_table.differences(
        sweep_table.compared(collected, references)).texts()[1:] if row[3] == 'test'}
    if references:
        assert rows['a', 'Luc', 'longer: control (CE)'] == '+19.50 [-12.27, +51.27]'
    else:
        assert rows['longer', 'control (CE)', 'a: control (CE)'] == '+3.00 [+3.00, +3.00]'
        assert rows['averaged', 'control (CE)', 'a: control (CE)'] == '+0.00 [+0.00, +0.00]'
    assert rows['averaged', 'control (CE) + SWA', 'control (CE)'] == '+2.00 [+2.00, +2.00]'


def test_less_the_control_alone_every_cell_has_a_row():
    """Cells of cross-entropy alone, too: of more steps, of averaged weights, of all labels."""
    collected = collected_of({
        'longer': [{'Stage 1': 0.1, 'control (CE)': 0.23}, {'Stage 1': 0.1, 'control (CE)': 0.28}],
        'a': [{'Stage 1': 0.1, 'control (CE)': 0.20, 'Luc, teacher': 0.7, 'Luc': 0.4},
              {'Stage 1': 0.1, 'control (CE)': 0.25, 'Luc, teacher': 0.7, 'Luc': 0.5}],
        'b': [{'Stage 1': 0.1, 'control (CE)': 0.9, 'Durall': 0.8}] * 2,
        'averaged': [{'Stage 1': 0.1, 'control (CE)': 0.20, 'control (CE) + SWA': 0.22},
                     {'Stage 1': 0.1, 'control (CE)': 0.25, 'control (CE) + SWA': 0.27}]})

    def rows(*references):
        return [(cell, model, less, round(found.mean, 6)) for cell, model, less, split, found
                in sweep_table.compared(collected, references) if split == 'test']

    less_control = [('longer', 'control (CE)', 'control (CE)', 3.0),  # than the control of a
                    ('a', 'Luc', 'control (CE)', 22.5), ('b', 'Durall', 'control (CE)', -10.0),
                    ('averaged', 'control (CE) + SWA', 'control (CE)', 2.0)]
    assert rows('control') == less_control
    found = rows('control', 'longer')
    assert found[:4] == less_control
    assert ('a', 'Luc', 'longer: control (CE)', 19.5) in found[4:]
    assert all(less == 'longer: control (CE)' for _, _, less, _ in found[4:])
    collected['control'] = collected.pop('b')  # a cell of that name is meant
    assert ('a', 'Luc', 'control: Durall', -35.0) in rows('control')


def test_class_and_pixel_accuracy_are_tabled_as_miou_is():
    """Zhu et al., Tables 5 and 6: three columns, each a measure of its own with its gains."""
    def results(shift):
        scores = {name: base + shift for name, base in (
            ('miou', 0.4), ('pixel_accuracy', 0.7), ('mean_class_accuracy', 0.6))}
        return {'subject': 'Zhu', 'models': {
            'control (CE)': {'test': scores},
            'Zhu': {'test': {name: value + 0.02 for name, value in scores.items()}}}}
    cells = {'gan': {0: results(0.0), 1: results(0.02)}, 'wgan': {0: results(0.01)}}
    for name, title, mean in (('pixel_accuracy', 'pixel accuracy', '73.00 ± 1.41'),
                              ('mean_class_accuracy', 'mean class accuracy', '63.00 ± 1.41')):
        measure, = tabled_measures.parse_measures([name])
        table = sweep_table.table(cells, measure)
        rows = {(row[0].value, row[1].value): dict(zip(table.header, (c.value for c in row)))
                for row in table.rows}
        assert table.title.startswith(title) and rows['gan', 'test']['Zhu'] == mean
        beside = sweep_table.differences(
            sweep_table.compared(cells, measure=measure), measure)
        assert beside.title.startswith(f'{title}, differences in points')
        found = {tuple(row[:4]): row[5] for row in beside.texts()}
        assert found['gan', 'Zhu', 'control (CE)', 'test'].startswith('+2.00 [+2.00')
        assert found['wgan', 'Zhu', 'gan: Zhu', 'test'] == '+1.00 –'
