"""tools/doctor.py: any data, findings printed and written, exit code by what was found."""
import json
import os
import shutil
import subprocess
import sys
import tarfile

import pytest

from tf_advseg.core import files
from tf_advseg.core.errors import UserError
from tf_advseg.data.records import record_set as record_sets


@pytest.fixture
def broken(own_folder, tmp_path):
    """A folder of one's own with a lone image and a damaged one."""
    folder = tmp_path / 'mine'
    shutil.copytree(own_folder, folder)
    names = sorted(path.stem for path in (folder / 'labels').iterdir())
    (folder / 'labels' / f'{names[0]}.png').unlink()
    image = next((folder / 'images').glob(f'{names[1]}.*'))
    image.write_bytes(image.read_bytes()[:60])
    return folder


def test_sound_data_end_well_and_give_a_page(call, own_folder, tmp_path, capsys):
    call('doctor', f'--data_dir={own_folder}', f'--output={tmp_path}/page.html')
    out = capsys.readouterr().out
    assert '6 images in 8 classes; train 4, val 1, test 1' in out and '0 errors' in out
    page = (tmp_path / 'page.html').read_text()
    assert page.count('data:image/jpeg') >= 4 and 'Images of each class' in page


def test_generated_data(call, capsys):
    call('doctor', '--dataset=shapes', '--option=num_train=12', '--option=num_val=10',
         '--option=num_test=10', '--option=size=(49, 49)', '--option=smallest=(40, 40)')
    assert 'shapes: 32 images' in capsys.readouterr().out


def test_errors_are_all_told_and_the_exit_says_how_many(call, broken, tmp_path, capsys):
    with pytest.raises(UserError, match='2 problems that must be mended; the first: .*no label'):
        call('doctor', f'--data_dir={broken}', f'--output={tmp_path}/findings.json')
    out = capsys.readouterr().out
    assert 'images without label (1)' in out and 'images that cannot be read (1)' in out
    content = files.read_json(tmp_path / 'findings.json')
    assert content['counts']['error'] == 2
    assert {f['kind'] for f in content['findings'] if f['severity'] == 'error'} == {
        'lone_image', 'unreadable_image'}


def test_archives_are_unpacked_and_left_nowhere(call, own_folder, tmp_path, capsys, monkeypatch):
    scratch = tmp_path / 'scratch'
    scratch.mkdir()
    monkeypatch.setattr('tempfile.tempdir', str(scratch))
    with tarfile.open(tmp_path / 'mine.tar.gz', 'w:gz') as tar:
        tar.add(own_folder, 'mine')
    call('doctor', f'--data_dir={tmp_path}/mine.tar.gz', f'--output={tmp_path}/page.html')
    assert '6 images' in capsys.readouterr().out and not list(scratch.iterdir())


@pytest.mark.parametrize('inner', ['mine', '.'])
def test_files_of_an_archive_are_named_in_it(call, broken, tmp_path, capsys, inner):
    archive = tmp_path / 'mine.tar'
    with tarfile.open(archive, 'w') as tar:
        tar.add(broken, inner)
    for output in ('findings.json', 'page.html'):
        with pytest.raises(UserError, match=f'^{archive}(:mine)?: 2 problems'):
            call('doctor', f'--data_dir={archive}', f'--output={tmp_path}/{output}')
        place = f'{archive}:' + ('mine/' if inner == 'mine' else '') + 'images/'
        assert place in capsys.readouterr().out
        written = (tmp_path / output).read_text()
        assert place in written and 'tf_advseg-' not in written
    assert all(name.startswith(place.replace('images/', '')) for finding in files.read_json(
        tmp_path / 'findings.json')['findings'] for name in finding['files'])


def test_records_with_a_damaged_one(call, own_folder, tmp_path, capsys):
    folder = tmp_path / 'records'
    call('prepare_data', f'--source={own_folder}', f'--output={folder}')
    call('doctor', f'--data_dir={folder}', f'--output={tmp_path}/page.html')
    assert '6 images' in capsys.readouterr().out
    assert 'data:image/jpeg' in (tmp_path / 'page.html').read_text()
    records = record_sets.RecordSet(folder)
    hurt = records.split('train')[0]
    path = next(folder.glob('*.tfrecord'))
    content = bytearray(path.read_bytes())
    start = records._indices[0][int(records.positions([hurt])[0])][0]
    content[start + 200] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=f'{path.name}: image "{hurt}" is damaged'):
        call('doctor', f'--data_dir={folder}')
    assert '5 images' in capsys.readouterr().out
    (folder / 'splits.json').write_text('{}')
    with pytest.raises(UserError, match='splits.json'):
        call('doctor', f'--data_dir={folder}')


def test_mistakes_are_one_line(call, own_folder, tmp_path):
    for words, text in (
            ([], 'no data set was given: add --data_dir'),
            (['--data_dir=nowhere'], 'nowhere: no such file or folder'),
            ([f'--data_dir={own_folder}/classes.txt'], 'neither a folder nor an archive'),
            ([f'--data_dir={own_folder}', '--dataset=foldr'], 'Did you mean "folder"?'),
            ([f'--data_dir={own_folder}', '--option=x'], 'expected NAME=VALUE'),
            ([f'--data_dir={own_folder}', '--option=sed=1'], 'Did you mean "seed"?'),
            ([f'--data_dir={own_folder}/images', '--option=num_classes=many'], 'no folder images/'),
            ([f'--data_dir={own_folder}', f'--output={tmp_path}/x.pdf'], '.html or .json'),
            ([f'--data_dir={own_folder}', f'--output={tmp_path}/no/x.html'], 'there is no folder'),
            ([f'--data_dir={tmp_path}'], 'no folder images/ (it has nothing)')):
        with pytest.raises(UserError) as caught:
            call('doctor', *words)
        assert text in str(caught.value), words
        assert '\n' not in str(caught.value)


def test_help_fits_a_screen_and_the_exit_code_is_1(repository, broken):
    def tool(*words):
        return subprocess.run([sys.executable, 'tools/doctor.py', *words], cwd=repository,
                              text=True, capture_output=True, env=dict(os.environ))
    lines = tool('--help').stdout.splitlines()
    assert len(lines) <= 24 and max(map(len, lines)) <= 100
    done = tool(f'--data_dir={broken}')
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith('error: ') and 'Traceback' not in done.stderr


@pytest.mark.slow
def test_stanford_background_s_copies_are_found(call, stanford, tmp_path):
    call('doctor', f'--data_dir={stanford}', '--dataset=stanford_background',
         f'--output={tmp_path}/findings.json')
    content = json.loads((tmp_path / 'findings.json').read_text())
    assert content['counts']['error'] == 0
    leaks = [f for f in content['findings'] if f['kind'] == 'leak']
    assert {frozenset(f['images']) for f in leaks} == {
        frozenset(pair) for pair in (('6000068', '6000318'), ('6000324', '6000117'),
                                     ('6000348', '6000257'))}
    assert all(f['severity'] == 'warning' for f in leaks)
    assert sum(f['kind'].startswith('edges') for f in content['findings']) <= 0.01 * 715
