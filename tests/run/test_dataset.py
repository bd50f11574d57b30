"""Data of an experiment: archives, damage by choice, splits that serve two ends."""
import json
import tarfile
import threading
import zipfile

import gin
import pytest

from tf_advseg.core import files
from tf_advseg.core.errors import UserError
from tf_advseg.data import splits as splits_lib
from tf_advseg.data.records.record_set import RecordSet
from tf_advseg.run import dataset as datasets

OPTIONS = {'num_train': 6, 'num_val': 4, 'num_test': 3, 'size': (49, 49), 'smallest': (40, 40)}


@pytest.fixture
def records(tmp_path):
    return datasets.prepare('shapes', None, tmp_path / 'records', OPTIONS, show=False)


@pytest.fixture
def run(tmp_path):
    (tmp_path / 'run').mkdir()
    return tmp_path / 'run'


def damage(records, image_id):
    """Flips a byte in the image's record."""
    shard, number = records._places[records.positions([image_id])[0]]
    path = records.folder / (records.manifest['shards'][shard] + '.tfrecord')
    content = bytearray(path.read_bytes())
    content[records._indices[shard][number][0]] ^= 1
    path.write_bytes(content)


def test_splits_are_those_of_the_records_and_written_into_the_run(records, run):
    data = datasets.dataset(run, records.folder, holdout_fraction=0.5)
    assert data.train == records.splits['train'] and data.test == records.splits['test']
    assert sorted(data.holdout + data.rest) == sorted(records.splits['val'])
    written = splits_lib.read_split(run / 'split.json')
    assert written == {'train': data.train, 'holdout': data.holdout,
                       'val_without_holdout': data.rest, 'test': data.test}


def test_a_damaged_image_is_refused_or_left_out_by_gin(records, run):
    gone = records.splits['train'][2]
    damage(records, gone)
    data = datasets.dataset(run, records.folder, holdout_fraction=0.5)
    with pytest.raises(UserError, match=f'image "{gone}"; dataset.damaged="skip"'):
        data.records.load(gone)
    gin.parse_config("dataset.damaged = 'skip'")
    data = datasets.dataset(run, records.folder, holdout_fraction=0.5)
    assert data.train == [i for i in records.splits['train'] if i != gone]
    assert data.records.left_out == [gone]
    assert data.left_out == {'train': [gone], 'val': [], 'test': []}
    assert gone not in splits_lib.read_split(run / 'split.json')['train']
    for image_id in data.train:
        data.records.load(image_id)


def test_test_images_that_choose_or_train_are_said(records, run, caplog):
    def said(**options):
        caplog.clear()
        datasets.dataset(run, records.folder, holdout_fraction=0.5, **options)
        return [r.getMessage() for r in caplog.records]

    assert said() == []
    assert '2 of the 4 test images are also chosen by' in said(test_split='val')[0]
    assert '6 of the 6 test images are also trained on' in said(test_split='train')[0]


def pack(folder, archive):
    if archive.suffix == '.zip':
        with zipfile.ZipFile(archive, 'w') as file:
            for path in sorted(folder.rglob('*')):
                file.write(path, path.relative_to(folder.parent))
        return
    with tarfile.open(archive, 'w') as tar:
        tar.add(folder, folder.name)


@pytest.mark.parametrize('suffix', ['.zip', '.tar'])
def test_every_archive_gives_the_same_records(tmp_path, suffix):
    from PIL import Image
    own = tmp_path / 'own'
    for kind in ('images', 'labels'):
        (own / kind).mkdir(parents=True)
        for number in range(5):
            mode = 'RGB' if kind == 'images' else 'L'
            Image.new(mode, (9, 7), number if mode == 'L' else (number, 0, 0)).save(
                own / kind / f'{number}.png')
    pack(own, tmp_path / f'own{suffix}')
    options = {'num_classes': 5, 'dataset_name': 'own'}
    made = [datasets.prepare('folder', source, tmp_path / f'out{i}', options, show=False)
            for i, source in enumerate((own, tmp_path / f'own{suffix}'))]
    assert made[0].manifest == made[1].manifest
    assert not (tmp_path / 'out1.unpacked').exists()


def test_archives_that_would_write_elsewhere_are_refused(tmp_path):
    archive = tmp_path / 'evil.tar'
    (tmp_path / 'x').write_text('x')
    with tarfile.open(archive, 'w') as tar:
        tar.add(tmp_path / 'x', '../../escaped')
    with pytest.raises(UserError, match='evil.tar: cannot be unpacked'):
        datasets.prepare('folder', archive, tmp_path / 'deep' / 'out', show=False)
    assert not (tmp_path / 'escaped').exists()
    assert not list((tmp_path / 'deep').iterdir())


def test_data_in_a_run_is_used_again(run, caplog):
    options = {**OPTIONS, 'num_train': 3}
    first = datasets.dataset(run, reader='shapes', options=options, holdout_fraction=0.5)
    stamp = (run / 'records' / files.MANIFEST).stat().st_mtime_ns
    second = datasets.dataset(run, reader='shapes', options=options, holdout_fraction=0.5)
    assert (run / 'records' / files.MANIFEST).stat().st_mtime_ns == stamp
    assert first.train == second.train and len(first.train) == 3
    assert json.loads((run / 'split.json').read_text())['dataset'] == 'shapes'
    assert isinstance(first.records, RecordSet)


def own_archive(tmp_path, name='own'):
    """An archive of a folder with five sound pairs."""
    from PIL import Image
    for kind, mode in (('images', 'RGB'), ('labels', 'L')):
        (tmp_path / name / kind).mkdir(parents=True)
        for number in range(5):
            Image.new(mode, (9, 7)).save(tmp_path / name / kind / f'{number}.png')
    pack(tmp_path / name, tmp_path / f'{name}.tar')
    return tmp_path / f'{name}.tar'


def test_what_is_wrong_in_an_archive_is_named_in_the_archive(tmp_path):
    archive = own_archive(tmp_path)
    (tmp_path / 'own' / 'labels' / '3.png').unlink()
    pack(tmp_path / 'own', archive)
    with pytest.raises(UserError) as caught:
        datasets.prepare('folder', archive, tmp_path / 'out', {'num_classes': 2}, show=False)
    assert str(caught.value) == (f'{archive}:own/images/3.png: image without label; expected '
                                 f'{archive}:own/labels/3.png')


def test_an_official_data_set_read_as_folder_is_told_its_name(tmp_path):
    for part in ('JPEGImages', 'SegmentationClass', 'ImageSets'):
        (tmp_path / 'VOC2012' / part).mkdir(parents=True)
    pack(tmp_path / 'VOC2012', tmp_path / 'voc.tar')
    with pytest.raises(UserError, match=f'^{tmp_path}/voc.tar:VOC2012: no folder images/.*; '
                                        'it looks like pascal_voc_2012: add --dataset=pascal'):
        datasets.prepare('folder', tmp_path / 'voc.tar', tmp_path / 'out', show=False)
    (tmp_path / 'empty').mkdir()
    with pytest.raises(UserError, match='an official data set. name it with --dataset=NAME'):
        datasets.prepare('folder', tmp_path / 'empty', tmp_path / 'out', show=False)
    assert not list(tmp_path.glob('out*'))


def test_finished_records_are_compared_before_an_archive_is_unpacked(tmp_path, monkeypatch):
    archive, options = own_archive(tmp_path), {'num_classes': 2}
    made = datasets.prepare('folder', archive, tmp_path / 'out', options, show=False)
    again = datasets.prepare('folder', archive, tmp_path / 'out', options, show=False)
    assert again.ids == made.ids
    monkeypatch.setattr(datasets, 'unpacked', None)
    for reader, other in (('folder', {'num_classes': 3}), ('ade20k', {})):
        with pytest.raises(UserError, match='made with another reader or other options of it'):
            datasets.prepare(reader, archive, tmp_path / 'out', other, show=False)
    (tmp_path / 'mine').mkdir()
    (tmp_path / 'mine' / 'x').write_text('')
    with pytest.raises(UserError, match='mine: exists and is no folder of records'):
        datasets.prepare('folder', archive, tmp_path / 'mine', options, show=False)


def test_a_second_process_waits_and_takes_what_nobody_deletes(tmp_path, monkeypatch, capfd):
    """flock is between open files, so a thread stands for a process."""
    archive, options = own_archive(tmp_path), {'num_classes': 2}
    ready, go, unpacked = threading.Event(), threading.Event(), datasets.unpacked

    def slowly(*arguments):
        folder = unpacked(*arguments)
        ready.set()
        go.wait()
        return folder

    monkeypatch.setattr(datasets, 'unpacked', slowly)
    made = []
    threads = [threading.Thread(target=lambda: made.append(datasets.prepare(
        'folder', archive, tmp_path / 'out', options, show=False))) for _ in range(2)]
    threads[0].start()
    ready.wait()
    threads[1].start()
    threading.Timer(0.5, go.set).start()
    for thread in threads:
        thread.join()
    assert len(made) == 2 and made[0].manifest == made[1].manifest
    assert 'another process is writing it' in capfd.readouterr().err
    assert [path.name for path in tmp_path.glob('*out*')] == ['out']


def test_what_a_kill_left_unpacked_goes_and_a_folder_of_that_name_stays(tmp_path):
    archive, options = own_archive(tmp_path), {'num_classes': 2}
    left = tmp_path / datasets.files.temporary_name('out.unpacked')
    (left / 'data').mkdir(parents=True)
    mine = tmp_path / 'out.unpacked'  # perhaps what the user has unpacked, and the very source
    source = datasets.unpacked(archive, mine)
    datasets.prepare('folder', source, tmp_path / 'out', options, show=False)
    datasets.prepare('folder', archive, tmp_path / 'out', options, show=False)
    assert any(mine.iterdir()) and not left.exists()


def test_records_of_other_options_than_the_recipe_counts_on_are_refused(tmp_path):
    folder = tmp_path / 'records'
    datasets.prepare('shapes', None, folder, OPTIONS, show=False)
    run = tmp_path / 'run'
    run.mkdir()

    def opened(**options):
        return datasets.dataset(run, folder, reader='shapes', options=options,
                                holdout_fraction=0.5)
    assert opened(**OPTIONS).train == opened().train  # what is not named does not matter
    with pytest.raises(UserError, match=r'made with num_train = \d+, and dataset.options asks for '
                       r'77; make them anew'):
        opened(num_train=77)
    assert datasets.dataset(run, folder, reader='folder', options={'num_classes': 9},
                            holdout_fraction=0.5).train  # another reader's options
