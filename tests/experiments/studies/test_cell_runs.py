"""Cells whose starting weights are missing are refused before the first is run."""
import pytest

from tf_advseg.core.errors import UserError
from tf_advseg.experiments.studies import cell_runs
from tf_advseg.experiments.studies import sweeping


def test_a_start_that_is_not_there_is_said_once_and_before_anything_runs(tmp_path):
    cells = sweeping.named_cells(tmp_path / 's', [sweeping.parse_cell('a:')], [1, 2])
    checkpoint = f'{tmp_path}/starts/seed{{seed}}/control'
    (tmp_path / 'starts' / 'seed1' / 'control').mkdir(parents=True)
    with pytest.raises(UserError, match=r'there is no .*/seed2/control, from which a, seed 2'
                       ) as caught:
        cell_runs.require_starts(cells, checkpoint)
    assert '\n' not in str(caught.value) and not (tmp_path / 's').exists()
    cell_runs.require_starts(cells[:1], checkpoint)
    cells[1].folder.mkdir(parents=True)  # it has begun, with the weights that were there then
    cell_runs.require_starts(cells, checkpoint)


def test_a_prefix_of_a_tf1_checkpoint_and_a_name_of_the_zoo_are_starts(tmp_path):
    cells = sweeping.named_cells(tmp_path / 's', [sweeping.parse_cell('a:')], [1])
    (tmp_path / 'model.ckpt-30.index').touch()
    for there in (None, 'zoo:anything', f'{tmp_path}/model.ckpt-30'):
        cell_runs.require_starts(cells, there)
    with pytest.raises(UserError, match='model.ckpt-3,'):
        cell_runs.require_starts(cells, f'{tmp_path}/model.ckpt-3')
