"""tools/sweep.py --estimate: how long the runs take that are not finished."""
import types

from finished_cells import make_done
import pytest

from tf_advseg.core.errors import UserError
from tf_advseg.experiments.studies import estimating
from tf_advseg.experiments.studies import sweeping
from tf_advseg.experiments.train import dry_run
from tf_advseg.methods import recipe


def test_cells_are_multiplied_by_their_seeds_and_nothing_is_trained(call, tmp_path, capsys,
                                                                   monkeypatch):
    """The costs are made up: a dry run of a real cell is test_estimating's."""
    monkeypatch.setattr(estimating, 'training', types.SimpleNamespace(
        experiment=lambda workdir, strategy, instead: instead(None, None, None)))
    monkeypatch.setattr(dry_run, 'stage_costs', lambda *arguments: iter(
        (recipe.Cost('Luc', '', 40.0), recipe.Cost('control', '', 20.0))))
    words = ['--gin_file=gin/protocols/smallest.gin', f'--workdir={tmp_path}/s', '--seeds=1-3',
             '--cell=light: methods/luc.gin; luc.adversarial_weight=1.0',
             '--cell=heavy: methods/luc.gin; luc.adversarial_weight=2.0', '--estimate']
    call('sweep', *words)
    out, err = capsys.readouterr()
    *lines, total = out.splitlines()
    # The first cell of a seed trains the control of both.
    assert lines == ['light: 3 of 60 s', 'heavy: 3 of 40 s']
    assert total.startswith('together: about 5 min') and err.split('\n')[:2] == [
        'dry run: light', 'dry run: heavy']
    assert not list(tmp_path.iterdir())
    heavy = sweeping.named_cells(tmp_path / 's', [sweeping.parse_cell('heavy:')], [1, 2])
    for cell in heavy:
        make_done(cell, {'control (CE)': 0.5, 'Luc': 0.5})
    call('sweep', *words)
    assert 'heavy: 1 of 40 s' in capsys.readouterr().out
    with pytest.raises(UserError, match='leave out --estimate'):
        call('sweep', f'--runs={heavy[0].folder}', '--estimate')
