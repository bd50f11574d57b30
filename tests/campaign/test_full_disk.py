"""A disk that gets full at random: one line, nothing half-written, and it goes on with room."""
import campaign
import pytest

FEW = {'prepare_data': 4}
MANY = {'load': 3, 'luc': 4, 'zhu': 5, 'prepare_data': 12, 'sweep': 3, 'import_checkpoint': 8,
        'export': 5, 'predict': 10}
SEED = 5


def _campaign(name, times, folder, tmpfs, capsys):
    failed = campaign.of_full_disks(name, folder, times, SEED, tmpfs)
    with capsys.disabled():
        print(f'\n{name}: {failed} of {times} full disks '
              f'({"tmpfs" if tmpfs else "refused writes"}) told', flush=True)
    return failed


@pytest.mark.parametrize('name', FEW)
def test_a_few_full_disks(name, tmp_path, capsys):
    assert _campaign(name, FEW[name], tmp_path / 'full', False, capsys)


@pytest.mark.slow
@pytest.mark.parametrize('tmpfs', [False, True])
@pytest.mark.parametrize('name', MANY)
def test_many_full_disks(name, tmpfs, tmp_path, capsys):
    if tmpfs and not campaign.can_mount(tmp_path):
        pytest.skip('no tmpfs can be mounted here; refused writes stand for it')
    assert _campaign(name, MANY[name], tmp_path / 'full', tmpfs, capsys)


def test_their_number_is_the_documented_one(repository):
    few, many = sum(FEW.values()), sum(MANY.values())
    assert f'(`tests/campaign/test_full_disk.py`) | {few} | {many}, and {many} more ' in (
        repository / 'docs' / 'internals.md').read_text('utf-8')
