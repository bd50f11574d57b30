"""Estimates of the papers' commands: how many runs of how long, or what has to be there first."""
import types
from unittest import mock

import pytest
from whole_run import scenes

from tf_advseg.core import configuration
from tf_advseg.core import errors
from tf_advseg.experiments.studies import estimating
from tf_advseg.experiments.studies import reproducing
from tf_advseg.experiments.studies.papers import entry as entries
from tf_advseg.experiments.train import dry_run
from tf_advseg.methods import recipe

SMALL = ' '.join(f'--gin_param="{text}"' for text in scenes())
SWEEP = ('sweep --gin_file=methods/luc.gin --workdir=<work>/luc --seeds=0,1,2 '
         '--checkpoint=<work>/stage1/as_given/seed{seed} --cell="light: luc.adversarial_weight=1" '
         '--cell="heavy: luc.adversarial_weight=2" ' + SMALL)
COSTS = (recipe.Cost('Stage 1', '', 5.0), recipe.Cost('Luc', '', 10.0),
         recipe.Cost('control', '', 7.0))


def estimates(commands, work, given=None):
    """[`Estimate`] of a way of these commands."""
    place = reproducing.Place(str(work), given or {})
    return [found for _, found in estimating.of_way(entries.Way(tuple(commands)), place)]


@pytest.fixture
def costs(monkeypatch):
    """Function of Costs: what every dry run finds from then on, with no network built."""
    def set_to(*found):
        monkeypatch.setattr(estimating, 'training', types.SimpleNamespace(
            experiment=lambda workdir, strategy, instead: instead(None, None, None)))
        monkeypatch.setattr(dry_run, 'stage_costs', lambda *arguments: iter(found))
    return set_to


def test_runs_are_multiplied_and_a_shared_control_counts_once(costs, tmp_path):
    costs(*COSTS)
    found, = estimates([SWEEP], tmp_path)
    assert found.seconds == 3 * (5 + 10 + 7) + 3 * (5 + 10)
    assert '6 runs' in found.text and 'light: 3 of 22 s' in found.text


def test_what_is_finished_is_not_counted(costs, tmp_path):
    costs(*COSTS)
    with mock.patch.object(estimating.sweeping.Cell, 'done', True):
        found, = estimates([SWEEP], tmp_path)
    assert found.seconds == 0 and found.text == '0 runs to do'


def test_a_run_under_way_is_of_the_same_configuration(costs, tmp_path):
    """Its starting weights among them, which a dry run leaves out."""
    costs(*COSTS)
    folder = tmp_path / 'luc' / 'light' / 'seed0'
    folder.mkdir(parents=True)
    configuration.parse(['methods/luc.gin'], [
        f"experiment.checkpoint = '{tmp_path}/stage1/as_given/seed0'", *scenes(),
        'luc.adversarial_weight = 1'])
    (folder / 'config.gin').write_text(configuration.config_text())
    found, = estimates([SWEEP], tmp_path)
    assert found.seconds is not None, found.text
    configuration.parse(['methods/luc.gin'], [*scenes(), 'luc.adversarial_weight = 1'])
    (folder / 'config.gin').write_text(configuration.config_text())
    found, = estimates([SWEEP], tmp_path)
    assert found.seconds is None and 'another configuration' in found.text


def test_a_stage_that_nobody_can_guess_is_named(costs, tmp_path):
    costs(COSTS[0], recipe.Cost('LoAd', '', None))
    found, = estimates(['train --gin_file=methods/luc.gin --workdir=<work>/one --seed=4'], tmp_path)
    assert found.seconds == 5 and found.text == '1 run to do: as given: 1 of 5 s, LoAd apart'


def test_a_dry_run_is_taken_without_weights_and_leaves_nothing(tmp_path):
    said = []
    way = entries.Way((SWEEP.replace(' --cell="heavy: luc.adversarial_weight=2"', ''),))
    (command, found), = estimating.of_way(way, reproducing.Place(str(tmp_path)), said.append)
    assert found.seconds > 0 and found.text.startswith('3 runs to do: light: 3 of ')
    assert command.startswith('python tools/sweep.py') and said == ['dry run: light']
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_guessed_says_why(tmp_path):
    def failing(*arguments, **more):
        raise errors.UserError('a setting is wrong')

    train = 'train --gin_file=methods/luc.gin --workdir=<work>/one'
    with mock.patch.object(estimating, 'training', types.SimpleNamespace(experiment=failing)):
        found = estimates([f'{train} --data_dir=<data:ade20k>', f'{train} --data_dir=<work>/cmp',
                           'evaluate --checkpoint=<work>/one', train], tmp_path)
    assert [one.seconds for one in found] == [None] * 4
    for one, text in zip(found, ('needs the data (ade20k)', f'needs {tmp_path}/cmp, which',
                                 'trains nothing', 'a setting is wrong')):
        assert text in one.text and '\n' not in one.text


def test_the_sum_is_of_what_is_known():
    found = [('python tools/a.py', estimating.Estimate(30.0, '1 run to do')),
             ('python tools/b.py', estimating.Estimate(None, 'not guessed')),
             ('python tools/c.py', estimating.Estimate(50.0, '2 runs to do'))]
    lines = estimating.text(found).splitlines()
    assert lines[1:4] == ['    about 30 s, 1 run to do', '[2/3] python tools/b.py',
                          '    not guessed']
    assert lines[-1].startswith('together: about 80 s, guessed')
    assert 'together' not in estimating.text(found[1:2])
