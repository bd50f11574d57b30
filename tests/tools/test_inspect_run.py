"""tools/inspect_run.py: what is in a run directory, and what is damaged."""
import shutil

import pytest

from tf_advseg.core import files, run_directory
from tf_advseg.core.errors import UserError
from tf_advseg.experiments.score import inspecting


def test_everything_of_a_finished_run_is_told(call, made_run, capsys):
    call('inspect_run', f'--workdir={made_run.path}')
    out = capsys.readouterr().out
    for text in ('process: none is running', 'LoAd: phase finished, 1 cycles, 2 propagations',
                 'start 40.00, best 45.00 (g1)', 'buffer: 2 slots of soft maps', 'B[0] g1',
                 'B[1] e00', '3 maps (holdout 1, train 2)', 'snapshots: 3', 'best, start',
                 'seconds: 20 in all', 'discriminator training', '55.0 %',
                 'best', 'hold-out mIoU 20.00', 'records: train 10, val 6, test 5',
                 'results: LoAd: mIoU holdout 40.00', 'journal of LoAd: 6 events'):
        assert text in out, text
    events = [line for line in out.splitlines() if 'budget_step=' in line]
    assert len(events) == 6 and 'label=e00 miou=0.42 reason=patience' in events[3]
    assert 'damaged' not in out


def test_damage_is_named_and_the_rest_still_told(call, run_copy, capsys):
    slot = next((run_copy / 'lookahead' / 'buffer').glob('*-e00')) / 'maps.tfrecord'
    data = bytearray(slot.read_bytes())
    data[20] ^= 1
    slot.write_bytes(data)
    state = files.read_json(run_copy / 'lookahead' / 'state.json')
    snapshot = state['snapshots']['roles']['end']
    shutil.rmtree(run_copy / 'lookahead' / 'snapshots' / snapshot)
    journal = run_copy / 'journal.jsonl'
    journal.write_text('\n'.join(journal.read_text().splitlines()[:2]) + '\n')
    with pytest.raises(UserError, match='3 damaged or missing'):
        call('inspect_run', f'--workdir={run_copy}')
    out = capsys.readouterr().out
    damaged = out[out.index('damaged:'):]
    for text in ('maps.tfrecord: its checksum', f'{snapshot}: no such folder',
                 'journal.jsonl: has'):
        assert text in damaged
    assert 'B[0] g1' in out and 'seconds: 20 in all' in out and 'journal of LoAd: 2 events' in out
    assert len(inspect_damage(run_copy, checksums=False)) == 2


def inspect_damage(path, **options):
    inspection = inspecting.Inspection(path, **options)
    assert list(inspection.lines())
    return inspection.damaged


@pytest.mark.parametrize('state', [None, {'step': 0, 'state': None, 'metrics': 0, 'seconds': 0.0}])
def test_a_stage_without_a_save_is_begun_and_not_damaged(run_copy, state):
    (run_copy / 'stages' / 'luc').mkdir()
    if state:
        files.write_json(run_copy / 'stages' / 'luc' / 'state.json', state)
    inspection = inspecting.Inspection(run_copy)
    assert 'stage luc: begun, nothing saved yet' in list(inspection.lines())
    assert inspection.damaged == []


def test_a_stages_state_may_be_replaced_while_it_runs_and_only_then(run_copy, monkeypatch):
    (run_copy / 'stages' / 'luc').mkdir()
    files.write_json(run_copy / 'stages' / 'luc' / 'state.json',
                     {'step': 4, 'state': 'step-0000004', 'metrics': 0, 'seconds': 1.0})
    inspection = inspecting.Inspection(run_copy)
    assert 'stage luc: step 4, not done' in list(inspection.lines())
    assert 'step-0000004: no such folder' in ' '.join(inspection.damaged)
    check = files.check_manifest

    def replaced_meanwhile(folder, **options):
        if folder.name == 'step-0000004':  # the running process has saved again since
            files.write_json(folder.parent / 'state.json', {'state': 'step-0000006'})
        return check(folder, **options)

    monkeypatch.setattr(files, 'check_manifest', replaced_meanwhile)
    inspection = inspecting.Inspection(run_copy)
    inspection.running = 1
    assert 'stage luc: step 4, not done' in list(inspection.lines())
    assert inspection.damaged == []


def test_files_that_hold_something_else_are_damage(run_copy):
    (run_copy / 'lookahead' / 'state.json').write_text('{"progress": 3}')
    (run_copy / 'results.json').write_text('[')
    (run_copy / 'checkpoints' / 'best' / 'model.json').write_text('[]')
    damaged = ' '.join(inspect_damage(run_copy))
    for text in ('state.json: does not hold', 'results.json: not valid JSON',
                 'model.json: does not hold'):
        assert text in damaged
    assert len(inspect_damage(run_copy)) == 3


def test_a_running_run_is_said_to_run_and_stays_undisturbed(run_copy):
    config = (run_copy / 'config.gin').read_text()
    with run_directory.RunDirectory(run_copy).open(config) as run:
        lines = list(inspecting.Inspection(run_copy).lines())
        assert any('is running in it' in line and 'none' not in line for line in lines)
        # What a running process has replaced since is no damage.
        folder = run.lookahead / 'snapshots' / 'g-000001'
        shutil.rmtree(folder)
        state = run.lookahead / 'state.json'
        inspection = inspecting.Inspection(run_copy)
        real = files.read_json(state)
        text = state.read_text()
        state.write_text(text.replace('g-000001', 'g-000099'))
        assert not inspection._still_named(run.lookahead, folder)
        assert real['snapshots']['roles']['g0'] == 'g-000001'
    assert inspecting.holder(run_copy) is None


def test_an_empty_and_a_foreign_folder_are_refused(call, tmp_path):
    for words, text in (([], 'no run directory was given'),
                        ([f'--workdir={tmp_path}'], 'not a run directory'),
                        ([f'--workdir={tmp_path}/nowhere'], 'no such run directory')):
        with pytest.raises(UserError, match=text):
            call('inspect_run', *words)


def test_a_gan_that_redraws_images_is_no_damaged_model(run_copy):
    folder = run_copy / 'checkpoints' / 'gan'
    (folder / 'weights').mkdir(parents=True)
    (folder / 'weights' / 'state.index').write_text('weights')
    files.write_manifest(folder / 'weights')
    files.write_json(folder / 'gan.json', {'format': 'a GAN', 'steps': 7,
                                           'taken_from': 'runs/first'})
    inspection = inspecting.Inspection(run_copy)
    said = '\n'.join(inspection.lines())
    assert 'a GAN, 7 steps, taken over from runs/first' in said
    assert inspection.damaged == []
    (folder / 'weights' / 'state.index').write_text('weightz')
    assert len(inspect_damage(run_copy)) == 1
