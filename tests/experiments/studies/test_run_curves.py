"""What is drawn of several runs: which evaluations are whose, what is said where there are none."""
import json

from logged_runs import evaluated, make_run
import pytest

from tf_advseg.core.errors import UserError
from tf_advseg.experiments.studies import finished_runs
from tf_advseg.experiments.studies import run_curves
from tf_advseg.experiments.studies import sweeping


STAGE_ONE = [{'event': 'stage', 'stage': 'stage 1', 'segmentor_step': step, 'hold_out/miou': miou}
             for step, miou in ((50, 0.25), (100, 0.375))]
LUC, CONTROL = ((10, 0.5), (20, 0.625)), ((10, 0.5), (20, 0.5625))


@pytest.fixture
def luc(tmp_path):
    return make_run(tmp_path / 'luc', [
        *STAGE_ONE, *evaluated('control', CONTROL), *evaluated('luc', LUC),
        *evaluated('luc', ((10, 0.9),), 'train'),
        *evaluated('luc', ((20, 0.8),), 'holdout_averaged'),
        {'event': 'stage', 'stage': 'luc', 'segmentor_step': 20, 'loss/ce': 0.3}])


def test_evaluations_of_the_hold_out_are_the_methods_or_the_controls(luc):
    assert run_curves.read(luc) == (((10, 50.0), (20, 62.5)), ((10, 50.0), (20, 56.25)),
                                    ((50, 25.0), (100, 37.5)))


def test_a_method_with_a_loop_of_its_own_has_its_control_in_a_folder(tmp_path):
    lines = [{'event': 'propagation', 'budget_step': step, 'cycle': step // 10, 'miou': 0.5}
             for step in (5, 10)]
    found = run_curves.read(make_run(tmp_path / 'run', lines, lines[:1]))
    assert found.method == ((5, 50.0), (10, 50.0)) and found.control == ((5, 50.0),)


def test_what_is_no_number_is_passed_over_and_what_is_no_line_is_named(tmp_path):
    odd = [(1, None), (2, 'high'), (3, float('nan')), (4, 7.0), (None, 0.5),
           (1e300, 0.5), (5, 0.5)]
    run = make_run(tmp_path / 'run', evaluated('luc', odd))
    assert run_curves.read(run).method == ((5, 50.0),)
    for line in ('{"event": \n', '[]\n', '{"event": "evaluation", "split": "holdout", '
                 f'"segmentor_step": 1{"0" * 400}, "miou": 0.5}}\n'):
        (run / 'metrics.jsonl').write_text(line)
        with pytest.raises(UserError, match='metrics.jsonl') as caught:
            run_curves.read(run)
        assert '\n' not in str(caught.value)
    # A line that is being written is no damage.
    (run / 'metrics.jsonl').write_text(json.dumps(evaluated('luc', LUC)[0]) + '\n{"event": "ev')
    assert run_curves.read(run).method == ((10, 50.0),)


def test_runs_are_called_by_what_tells_them_apart(tmp_path):
    def names(*paths):
        return list(run_curves.cells({finished_runs.GIVEN: [tmp_path / path for path in paths]}))

    assert names('runs/luc', 'runs/load') == ['luc', 'load']
    assert names('sweep/a/seed0', 'sweep/b/seed0', 'sweep/b/seed1') == ['a', 'b']
    assert names('x/a/run', 'y/a/run') == ['x', 'y']
    assert names('runs/luc') == ['luc'] and names('s/luc/seed3') == ['luc']
    found = run_curves.cells({finished_runs.GIVEN: [tmp_path / 'a'], 'b': [tmp_path / 'b']})
    assert list(found) == ['b', 'a']


def test_a_control_that_cells_share_is_drawn_once(tmp_path, luc):
    longer = make_run(tmp_path / 'durall', [
        *evaluated('control', (*CONTROL, (30, 0.5))), *evaluated('durall', LUC)])
    found = run_curves.gather({'luc': [luc], 'durall': [longer]})
    assert [(curve.name, curve.cell, len(curve.runs)) for curve in found.found] == [
        ('luc', 0, 1), ('durall', 1, 1), ('control', None, 1)]
    assert found.found[-1].runs[0][-1] == (30, 50.0)
    other = make_run(tmp_path / 'other', [*evaluated('control', ((10, 0.25),)),
                                          *evaluated('luc', LUC)])
    found = run_curves.gather({'luc': [luc], 'durall': [longer], 'other': [other]})
    assert [(curve.name, curve.cell) for curve in found.found if curve.is_control] == [
        ('control of luc and 1 more', 0), ('control of other', 2)]


def test_a_gain_is_over_a_runs_own_control_and_takes_two_runs(tmp_path, luc):
    assert run_curves.gather({'luc': [luc]}).gains == []
    second = make_run(tmp_path / 'second', [*evaluated('control', ((20, 0.5),)),
                                            *evaluated('luc', LUC)])
    gain, = run_curves.gather({'luc': [luc, second]}).gains
    assert gain.runs == (((10, 0.0), (20, 6.25)), ((20, 12.5),))


def test_stage_one_is_drawn_where_nothing_has_gone_beyond_it(tmp_path, luc):
    first = make_run(tmp_path / 'first', STAGE_ONE)
    bare = make_run(tmp_path / 'bare', [])
    found = run_curves.gather({'a': [first], 'b': [bare]})
    assert [curve.runs for curve in found.found] == [(((50, 25.0), (100, 37.5)),)]
    assert found.counted.endswith('of Stage 1') and found.notes == [
        f'{bare}: not drawn, it has no evaluation so far']
    found = run_curves.gather({'a': [first], 'b': [luc]})
    assert [curve.name for curve in found.found] == ['b', 'control']
    assert found.notes == [f'{first}: not drawn, it has Stage 1 alone so far']
    with pytest.raises(UserError, match='bare: nothing to draw yet'):
        run_curves.gather({'b': [bare]})


def test_the_table_says_where_all_runs_of_a_curve_are(tmp_path, luc):
    second = make_run(tmp_path / 'second', evaluated('luc', ((10, 0.25),)))
    texts = run_curves.table(run_curves.gather({'luc': [luc, second]}).found).texts()
    assert texts[1:] == [['luc', '2', '10', '37.50 ± 17.68'], ['control', '1', '20', '56.25']]


def test_a_sweep_draws_its_runs_as_far_as_they_have_come(tmp_path, luc):
    cells = sweeping.make_cells(tmp_path / 'sweep', [('a.b', ('1', '2'))], [0])
    usual, asked = tmp_path / 'curves.png', tmp_path / 'asked.png'
    run_curves.write_sweep(cells, None, usual)
    assert not usual.exists()
    make_run(cells[0].folder, [*evaluated('luc', LUC)])
    run_curves.write_sweep(cells, None, usual)
    run_curves.write_sweep(cells, str(asked), usual)
    assert usual.read_bytes() == asked.read_bytes()
    (cells[0].folder / 'metrics.jsonl').unlink()
    with pytest.raises(UserError, match='nothing to draw yet'):
        run_curves.write_sweep(cells, str(asked), usual)
