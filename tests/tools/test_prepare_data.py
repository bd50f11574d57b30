"""tools/prepare_data.py: any reader's data into records, again and again the same."""
import pathlib
import shutil
import subprocess
import sys
import tarfile

import numpy as np
import pytest
from PIL import Image

from tf_advseg.core.errors import UserError
from tf_advseg.data import readers
from tf_advseg.data.records import record_set as record_sets
from tf_advseg.experiments.convert import preparing

ROOT = pathlib.Path(__file__).resolve().parents[2]


def test_generated_data_with_options_twice(call, tmp_path, capsys):
    words = ['--dataset=shapes', f'--output={tmp_path}/deep/records', '--option=num_train=4',
             '--option=num_val=3', '--option=num_test=0', '--option=size=(49, 49)',
             '--option=smallest=(40, 40)']
    call('prepare_data', *words)
    manifest = tmp_path / 'deep' / 'records' / 'manifest.json'
    before = manifest.read_bytes(), manifest.stat().st_mtime_ns
    call('prepare_data', *words)
    assert (manifest.read_bytes(), manifest.stat().st_mtime_ns) == before
    out = capsys.readouterr().out
    assert 'shapes: train 4, val 3; ' in out and 'sky' in out and 'train: pixels' in out
    assert len(record_sets.RecordSet(manifest.parent)) == 7
    with pytest.raises(UserError, match='choose another output or remove'):
        call('prepare_data', *words, '--option=seed=1')


def test_a_folder_of_one_s_own_and_its_archive(call, own_folder, tmp_path):
    archive = tmp_path / 'mine.tar.gz'
    with tarfile.open(archive, 'w:gz') as tar:
        tar.add(own_folder, 'mine')
    for name, source in (('a', own_folder), ('b', archive)):
        call('prepare_data', f'--source={source}', f'--output={tmp_path}/{name}')
        records = record_sets.RecordSet(tmp_path / name)
        assert len(records) == 6 and set(records.splits) == {'train', 'val', 'test'}
        assert records.spec.class_names[:2] == ('sky', 'ground')
    assert sorted(path.name for path in tmp_path.iterdir()) == ['a', 'b', 'mine.tar.gz']


def test_help_names_every_data_set_on_one_screen():
    # Away from pytest's own flags, as a user calls it.
    shown = subprocess.run([sys.executable, 'tools/prepare_data.py', '--help'], cwd=ROOT, text=True,
                           capture_output=True, check=True).stdout
    lines = shown.splitlines()
    assert len(lines) <= 24 and max(map(len, lines)) <= 100
    for name in readers.READERS:
        assert any(line.startswith(f'  {name} ') for line in lines), name


@pytest.mark.slow
@pytest.mark.parametrize('dataset, archive, sizes', [
    ('cmp_facades', 'cmp_facades.tar', {'train': 400, 'val': 100, 'test': 106}),
    ('stanford_background', 'stanford_background.tar.xz', {'train': 400, 'val': 172,
                                                           'test': 143})])
def test_official_archives_whole(call, shared, tmp_path, capsys, dataset, archive, sizes):
    words = [f'--dataset={dataset}', f'--source={shared / "data" / archive}',
             f'--output={tmp_path}/records']
    call('prepare_data', *words)
    records = record_sets.RecordSet(tmp_path / 'records')
    assert {name: len(ids) for name, ids in records.splits.items()} == sizes
    assert sum(records.class_counts(i).sum() > 0 for i in records.ids) == len(records)
    assert f'{dataset}: train 400' in capsys.readouterr().out
    stamp = (tmp_path / 'records' / 'manifest.json').stat().st_mtime_ns
    call('prepare_data', *words)
    assert (tmp_path / 'records' / 'manifest.json').stat().st_mtime_ns == stamp
    assert [path.name for path in tmp_path.iterdir()] == ['records']


def test_mistakes_are_one_line_and_leave_nothing(call, own_folder, tmp_path):
    (tmp_path / 'x.tar').write_text('no archive')
    out = f'--output={tmp_path}/out'
    for words, text in (
            ([], 'no folder for the records was given'),
            ([out], 'give --source=PATH'),
            ([out, '--source=nowhere'], 'nowhere: no such file or folder'),
            ([out, f'--source={tmp_path}/x.tar'], 'x.tar: cannot be unpacked'),
            ([out, '--dataset=shape'], 'unknown data set reader "shape". Did you mean "shapes"?'),
            ([out, '--dataset=ade20k', f'--source={own_folder}'],
             'no folder images and annotations in it or below'),
            ([out, '--dataset=cmp_facades', f'--source={own_folder}'], 'no folder base in it'),
            ([out, '--dataset=segtrack_v2', f'--source={own_folder}'],
             'no folder JPEGImages and GroundTruth'),
            ([out, '--dataset=shapes', '--option=sed=1'], 'Did you mean "seed"?'),
            ([out, '--dataset=shapes', '--option=seed'], '--option=seed: expected NAME=VALUE'),
            ([out, f'--source={own_folder}', '--option=num_classes=3'],
             'num_classes is 3, but there are 8')):
        with pytest.raises(UserError) as caught:
            call('prepare_data', *words)
        assert text in str(caught.value) and '\n' not in str(caught.value)
        assert not (tmp_path / 'out').exists()


def test_options_are_python_values_or_text():
    assert preparing.reader_options(['seed=3', 'size=(4, 5)', 'dataset_name=my data']) == {
        'seed': 3, 'size': (4, 5), 'dataset_name': 'my data'}
    switches = preparing.reader_options(['a=false', 'b=True', 'c= TRUE', 'd=False', 'e=no'])
    assert switches == {'a': False, 'b': True, 'c': True, 'd': False, 'e': 'no'}
    assert [type(switches[name]) for name in 'abcd'] == [bool] * 4
    with pytest.raises(UserError, match='given twice'):
        preparing.reader_options(['seed=1', 'seed=2'])


@pytest.mark.parametrize('form', ['zip', 'tar'])
def test_archives_with_something_beside_the_data(call, own_folder, tmp_path, form):
    packed = tmp_path / 'packed'
    shutil.copytree(own_folder, packed / 'mine')
    (packed / 'README.txt').write_text('x')
    (packed / '.DS_Store').write_bytes(b'x')
    (packed / '__MACOSX' / 'mine' / 'images').mkdir(parents=True)
    (packed / '__MACOSX' / 'mine' / 'labels').mkdir()
    for path in list((packed / 'mine' / 'images').iterdir())[:2]:
        for place in (packed / '__MACOSX' / 'mine' / 'images', path.parent):
            (place / f'._{path.name}').write_bytes(b'finder')
    archive = shutil.make_archive(str(tmp_path / 'a'), form, packed)
    call('prepare_data', f'--source={archive}', f'--output={tmp_path}/records')
    assert len(record_sets.RecordSet(tmp_path / 'records')) == 6
    (packed / 'README.txt').unlink()
    archive = shutil.make_archive(str(tmp_path / 'b'), form, packed)
    call('prepare_data', f'--source={archive}', f'--output={tmp_path}/again')
    assert len(record_sets.RecordSet(tmp_path / 'again')) == 6


def test_masks_are_asked_about_and_read_with_the_option(call, tmp_path, capsys):
    for number in range(5):
        mask = np.zeros([40, 40], np.uint8)
        mask[number:20] = 255
        for part, pixels in (('images', np.stack([mask // 2 + number] * 3, -1)), ('labels', mask)):
            (tmp_path / 'own' / part).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / 'own' / part / f'{number}.png')
    words = ['prepare_data', f'--source={tmp_path}/own', f'--output={tmp_path}/out']
    with pytest.raises(UserError, match=r'--option=label_values=\[0,255\]'):
        call(*words)
    assert not (tmp_path / 'out').exists()
    call(*words, '--option=label_values=[0,255]')
    records = record_sets.RecordSet(tmp_path / 'out')
    assert records.spec.num_classes == 2 and set(np.unique(records.load('3')[1])) == {0, 1}
