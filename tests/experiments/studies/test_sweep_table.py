"""The statistics of a sweep's tables; tests/tools/test_sweep.py has the tables of whole sweeps."""
import math
import statistics

from tf_advseg.experiments.studies import sweep_table


def collected_of(scores):
    """{cell: [{model: mIoU} of each seed, the method last]} -> as from `sweeping.collect`."""
    return {cell: {seed: {'subject': list(models)[-1], 'models': {
        model: {split: {'miou': value} for split in ('holdout', 'test')}
        for model, value in models.items()}} for seed, models in enumerate(runs) if models}
            for cell, runs in scores.items()}


def test_later_cells_stand_against_the_first_by_seed():
    """The spread over seeds, far larger than the difference, is in both and leaves no trace."""
    first, later = [0.50, 0.60, 0.40, 0.45], [0.51, 0.63, 0.42]
    collected = collected_of({
        'standard': [{'control (CE)': 0.1, 'Durall': a, 'Durall + SWA': a + 0.1} for a in first],
        'pixel': [{'control (CE)': 0.2, 'Durall': b, 'Durall + SWA': 0.9} for b in later],
        'one': [{}, {'control (CE)': 0.2, 'Durall': 0.58}],
        'none': []})
    found = sweep_table.against_first(collected)
    assert found.header == ('cell', 'split', 'common seeds', 'Durall', 'Durall + SWA')
    assert 'against standard' in found.title
    rows = {(row[0].value, row[1].value): [cell.value for cell in row[2:]] for row in found.rows}
    assert len(rows) == 6  # the first cell has no row
    differences = [1.0, 3.0, 2.0]
    mean, half = 2.0, 4.302653 * statistics.stdev(differences) / math.sqrt(3)
    assert rows['pixel', 'test'][:2] == [
        '3', f'{mean:+.2f} [{mean - half:+.2f}, {mean + half:+.2f}]']
    assert rows['pixel', 'holdout'][2].startswith('+30.00 [')
    assert rows['one', 'test'] == ['1', '-2.00 –', '–']
    assert rows['none', 'test'] == ['0', '–', '–']
    title = sweep_table.table(collected).title
    assert title.endswith('; not there yet: pixel seed 3; one seeds 0, 2, 3; '
                          'none seeds 0, 1, 2, 3')


def test_a_cell_of_another_method_is_compared_by_its_own_model():
    collected = collected_of({
        'a': [{'Stage 1': 0.1, 'control (CE)': 0.1, 'Luc': 0.2},
              {'Stage 1': 0.1, 'control (CE)': 0.1, 'Luc': 0.3}],
        'b': [{'Stage 1': 0.1, 'control (CE)': 0.1, 'Durall': 0.25},
              {'Stage 1': 0.1, 'control (CE)': 0.1, 'Durall': 0.35}]})
    table = sweep_table.against_first(collected)
    assert table.header == ('cell', 'split', 'common seeds', 'Durall - Luc')
    assert table.texts()[1][3] == '+5.00 [+5.00, +5.00]'
    assert sweep_table.against_first({'a': {}, 'b': {}}) is None
    only = {'a': collected['a']}
    assert sweep_table.against_first(only) is None
    assert 'not there yet' not in sweep_table.table(only).title


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
        measure, = sweep_table.parse_measures([name])
        table = sweep_table.table(cells, measure)
        rows = {(row[0].value, row[1].value): dict(zip(table.header, (c.value for c in row)))
                for row in table.rows}
        assert table.title.startswith(title) and rows['gan', 'test']['Zhu'] == mean
        assert rows['gan', 'test']['Zhu - control (CE)'].startswith('+2.00 [+2.00')
        beside = sweep_table.against_first(cells, measure)
        assert beside.title.startswith(f'{title} against gan')
        assert [c.value for row in beside.rows for c in row if row[1].value == 'test'][-1] == (
            '+1.00 –')
