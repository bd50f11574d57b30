"""The panels of a forest plot; tests/reporting/test_forest_plot.py has how they are drawn."""
import pytest

from tf_advseg.core.errors import UserError
from tf_advseg.experiments.studies import sweep_chart


def cells_of(scores, folds=None):
    """{cell: {model: [mIoU by seed]}}, the method last -> as from `sweeping.collect`."""
    return {cell: {seed: {'subject': list(models)[-1], 'models': {
        model: {'test': {'miou': values[seed], 'components': 10 * values[seed]}}
        for model, values in models.items()}, **(folds(seed, models) if folds else {})}
        for seed in range(len(next(iter(models.values()))))} for cell, models in scores.items()}


SCORES = {'a': {'Stage 1': [0.1, 0.2], 'control (CE)': [0.2, 0.3], 'Luc': [0.3, 0.5]},
          'b': {'Stage 1': [0.1, 0.2], 'control (CE)': [0.2, 0.3], 'Luc': [0.4, 0.5]}}


def test_a_row_is_called_by_its_cell_where_all_are_less_one_thing():
    first, second = sweep_chart.panels(cells_of(SCORES), ('control',), ('miou', 'components'),
                                       {'b': 2.1})
    assert first.title == 'mIoU of test images, difference in points from control (CE)'
    assert [(name, round(found.mean, 6), claim) for name, found, claim in first.rows] == [
        ('a', 15.0, None), ('b', 20.0, 2.1)]
    assert first.higher_is_better and not second.higher_is_better
    assert [claim for *_, claim in second.rows] == [None, None]  # claims are of mIoU
    both, = sweep_chart.panels(cells_of(SCORES), ('control', 'a'), ('miou',), {'b': 2.1})
    assert [(name, claim) for name, _, claim in both.rows] == [
        ('a - control (CE)', None), ('b - control (CE)', 2.1), ('b - a: Luc', None)]


def test_runs_without_a_control_are_drawn_less_what_they_have():
    models = {model: values for model, values in SCORES['a'].items() if model != 'control (CE)'}
    panel, = sweep_chart.panels(cells_of({'a': models}))
    assert [name for name, *_ in panel.rows] == ['a'] and panel.title.endswith('from Stage 1')
    averaged = {'control (CE)': [0.2, 0.3], 'control (CE) + SWA': [0.3, 0.3],
                'Durall': [0.3, 0.4], 'Durall + SWA': [0.3, 0.5]}
    panel, = sweep_chart.panels(cells_of({'a': averaged}))
    assert [name for name, *_ in panel.rows] == ['a: Durall', 'a: control (CE) + SWA']
    assert not sweep_chart.panels(cells_of({'a': {'Luc': [0.3]}}))


def test_of_runs_on_folds_the_pooled_images_come_first():
    def on_folds(seed, models):
        return {'fold': {'count': 2, 'number': seed}, 'confusion': {
            model: {'matrix': [[50 + index, 10 + seed], [10, 50]], 'absent': 'left_out'}
            for index, model in enumerate(models)}}

    pooled, single = sweep_chart.panels(cells_of({'a': SCORES['a']}, on_folds), ('control',),
                                        claims={'a': 1.0})
    assert 'pooled over the folds' in pooled.title
    assert pooled.folds == single.folds == 2 and pooled.rows[0][1].count == 2
    assert pooled.rows[0][2] == single.rows[0][2] == 1.0
    assert pooled.rows[0][1].mean != single.rows[0][1].mean


@pytest.mark.parametrize('text, message', [('a', 'expected CELL=POINTS'), ('a=x', 'CELL=POINTS'),
                                           ('a=inf', 'CELL=POINTS'), ('c=1', 'Known: a, b')])
def test_what_is_no_claim_is_named(text, message):
    assert sweep_chart.parse_claims(['a=1.5', 'b=-2'], SCORES) == {'a': 1.5, 'b': -2.0}
    with pytest.raises(UserError, match=message):
        sweep_chart.parse_claims([text], SCORES)
