"""state.json: what is in it that no run writes is one line that names the file."""
import json
import types

import pytest

from tf_advseg.core import journal
from tf_advseg.core.errors import UserError
from tf_advseg.lookahead import controller as controllers
from tf_advseg.lookahead import orchestrator
from tf_advseg.lookahead import run_state


@pytest.fixture
def durable(tmp_path):
    """A run without maps and snapshots."""
    store = types.SimpleNamespace(state_dict=dict, load_state_dict=lambda state: None,
                                  collect_garbage=lambda: None)
    with journal.Journal(tmp_path / 'journal.jsonl') as log, \
            journal.Journal(tmp_path / 'metrics.jsonl') as metrics:
        yield run_state.Durable(tmp_path, controllers.Controller(), store, None, log, metrics, True)


def test_what_was_written_comes_back(durable):
    state = run_state.RunState(phase='cycle', budget_step=7, adversarial_weight=0.5,
                               pending={'g0': 'start'})
    durable.write(state, {'steps': 1.5})
    assert durable.read() == (state, {'steps': 1.5})


@pytest.mark.parametrize('place, value', [
    (('run', 'phase'), 'x'), (('run', 'phase'), None), (('run', 'budget_step'), 'x'),
    (('run', 'retrain_due'), 3), (('run', 'pending'), []), (('run', 'other'), 1), (('run',), []),
    (('controller', 'psi'), None), (('controller', 'phase'), 'x'), (('seconds',), 3),
    (('journal',), None), (('metrics',), 'x')])
def test_other_values_are_one_line_that_names_the_file(durable, place, value):
    durable.write(run_state.RunState(), {})
    path = durable.folder / run_state.STATE
    content = json.loads(path.read_text())
    holder = content if len(place) == 1 else content[place[0]]
    holder[place[-1]] = value
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match='state.json: does not hold what it should') as caught:
        durable.read()
    assert '\n' not in str(caught.value)


def test_the_phases_are_those_that_the_orchestrator_has():
    assert {f'_phase_{name}' for name in run_state.PHASES} == {
        *(name for name in dir(orchestrator.LookAhead) if name.startswith('_phase_')),
        '_phase_finished'}
