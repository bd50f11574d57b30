"""Kills at random writes: the end equals the undisturbed one's, or there is a whole output or none.

tests/lookahead/test_kill.py kills LoAd at chosen points of its cycles.
"""
import campaign
import pytest

FEW = {'prepare_data': 10, 'import_checkpoint': 4}
MANY = {'load': 8, 'luc': 12, 'zhu': 12, 'prepare_data': 24, 'sweep': 10,
        'import_checkpoint': 16, 'export': 12, 'predict': 16}
SEED = 21


def _campaign(name, kills, seed, folder, capsys):
    killed, ends = campaign.of_kills(name, folder, kills, seed)
    with capsys.disabled():
        print(f'\n{name}: {killed} kills, {ends} ends equal', flush=True)
    return killed, ends


@pytest.mark.parametrize('name', FEW)
def test_a_few_kills(name, tmp_path, capsys):
    killed, ends = _campaign(name, FEW[name], SEED, tmp_path / 'kills', capsys)
    assert killed == FEW[name] and ends >= 1


@pytest.mark.slow
@pytest.mark.parametrize('name', MANY)
def test_many_kills(name, tmp_path, capsys):
    killed, ends = _campaign(name, MANY[name], SEED + 1, tmp_path / 'kills', capsys)
    assert killed == MANY[name] and ends >= 1


def test_there_are_a_hundred_in_the_slow_suite(repository):
    few, many = sum(FEW.values()), sum(MANY.values())
    assert many >= 100
    assert f'(`tests/campaign/test_kills.py`) | {few} | {many} |' in (
        repository / 'docs' / 'internals.md').read_text('utf-8')
