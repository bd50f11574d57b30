"""Which labels a run sees: fractions, splits, folders; no start that has seen the others."""
import json
import types

import gin
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tf_advseg.core import configuration, files
from tf_advseg.core.errors import UserError
from tf_advseg.data import splits as splits_lib
from tf_advseg.data.records import record_set as record_sets
from tf_advseg.experiments.score import evaluation_data
from tf_advseg.experiments.studies import finished_runs
from tf_advseg.experiments.studies import sweep_table
from tf_advseg.experiments import recipe_registry as recipes
from tf_advseg.experiments.train import run_results
from tf_advseg.experiments.train import run_stages
from tf_advseg.experiments.train import training
from tf_advseg.run import dataset as datasets
from tf_advseg.run import semi_supervised
from tf_advseg.training import stages

OPTIONS = {'num_train': 16, 'num_val': 4, 'num_test': 3, 'size': (49, 49), 'smallest': (40, 40)}


@pytest.fixture(scope='module')
def records(tmp_path_factory):
    return datasets.prepare('shapes', None, tmp_path_factory.mktemp('semi') / 'records', OPTIONS,
                            show=False)


@pytest.fixture
def opened(records, tmp_path):
    """Function (run's name, bindings..., seed=...) -> (the run's folder, ExperimentData)."""
    def open_(name, *bindings, seed=0, **options):
        (tmp_path / name).mkdir(exist_ok=True)
        gin.clear_config()
        gin.parse_config([f'semi_supervised.{binding}' for binding in bindings])
        (tmp_path / name / 'config.gin').write_text('')
        return tmp_path / name, datasets.dataset(
            tmp_path / name, records.folder, holdout_fraction=0.5, run_seed=seed, **options)
    return open_


@pytest.fixture
def with_two_splits(records, tmp_path):
    """Records with a split `few` of 6 training images, as VOC's train is part of train_aug."""
    class Reader:
        spec, description = records.spec, {'reader': 'few'}

        def load(self, image_id):
            return records.load(image_id)

        instances = encoded_image = lambda self, image_id: None
        files = lambda self, image_id: ()

        def splits(self):
            return {**records.splits, 'few': records.splits['train'][2:8]}

    from tf_advseg.data.records import record_set as record_sets
    return record_sets.RecordSet(record_sets.write_records(
        Reader(), None, tmp_path / 'two', progress=False))


def write_images(folder, number=5):
    """A folder of small images, one of them deeper in it."""
    (folder / 'deep').mkdir(parents=True)
    for i in range(number):
        Image.fromarray(np.full([41, 43, 3], 10 * i, np.uint8)).save(
            folder / ('deep' if i == 1 else '.') / f'{i}.png')
    return folder


def test_without_settings_nothing_is_any_different(opened, records):
    run, data = opened('run')
    assert data.train == records.splits['train']
    assert data.unlabelled == [] and data.unlabelled_records is None
    content = files.read_json(run / 'split.json')
    assert set(content['splits']) == {'train', 'holdout', 'val_without_holdout', 'test'}
    assert set(content) == {'format', 'version', 'dataset', 'holdout_seed', 'holdout_stratified',
                            'sizes', 'splits'}


def test_fractions_lie_in_each_other_and_hang_on_the_run_s_seed(opened, records):
    found = {part: opened(f'run{part}', f'fraction = {part}')[1] for part in (0.125, 0.25, 0.5)}
    for part, data in found.items():
        assert len(data.train) == 16 * part and data.unlabelled_records is data.records
        assert sorted(data.train + data.unlabelled) == sorted(records.splits['train'])
    assert set(found[0.125].train) < set(found[0.25].train) < set(found[0.5].train)
    other = opened('other', 'fraction = 0.5', seed=1)[1]
    assert other.train != found[0.5].train
    fixed = [opened(f'fixed{seed}', 'fraction = 0.5', 'seed = 1', seed=seed)[1]
             for seed in (0, 5)]
    assert fixed[0].train == fixed[1].train == other.train
    assert opened('again', 'fraction = 0.5', seed=1)[1].unlabelled == other.unlabelled


def test_the_unlabelled_part_is_written_and_can_be_evaluated_on(opened):
    run, data = opened('run', 'fraction = 0.25', seed=3)
    written = splits_lib.read_split(run / 'split.json', may_be_empty=True)
    assert written['train'] == data.train and written['unlabelled'] == data.unlabelled
    assert files.read_json(run / 'split.json')['labelled_seed'] == 3
    chosen = evaluation_data.choose_images(data.records, 'unlabelled', run)
    assert chosen.ids == data.unlabelled and len(chosen.ids) == 12


def test_a_split_may_be_the_labelled_images(with_two_splits, tmp_path):
    def opened(*bindings):
        gin.clear_config()
        gin.parse_config([f'semi_supervised.{binding}' for binding in bindings])
        return datasets.dataset(tmp_path, with_two_splits.folder, holdout_fraction=0.5)

    train = with_two_splits.splits['train']
    data = opened("labelled_split = 'few'")
    assert data.train == train[2:8] and data.unlabelled == train[:2] + train[8:]
    half = opened("labelled_split = 'few'", 'fraction = 0.5')
    assert len(half.train) == 3 and set(half.train) < set(data.train)
    assert sorted(half.train + half.unlabelled) == sorted(train)
    with pytest.raises(UserError, match='Did you mean "few"'):
        opened("labelled_split = 'fwe'")
    with pytest.raises(UserError, match='4 of its 4 images are not in dataset.train_split'):
        opened("labelled_split = 'val'")


def test_a_folder_of_images_is_made_into_records_once(opened, records, tmp_path):
    folder = write_images(tmp_path / 'mine')
    run, data = opened('run', f"unlabelled_dir = '{folder}'")
    assert data.train == records.splits['train'] and data.records.folder == records.folder
    assert data.unlabelled == ['0.png', '2.png', '3.png', '4.png', 'deep/1.png']
    assert data.unlabelled_records.folder == run / 'unlabelled'
    assert all((data.unlabelled_records.load(i)[1] == 255).all() for i in data.unlabelled)
    stamp = (run / 'unlabelled' / files.MANIFEST).stat().st_mtime_ns
    assert opened('run', f"unlabelled_dir = '{folder}'")[1].unlabelled == data.unlabelled
    assert (run / 'unlabelled' / files.MANIFEST).stat().st_mtime_ns == stamp
    # Made beforehand they are taken as they are.
    run, again = opened('other', f"unlabelled_dir = '{data.unlabelled_records.folder}'")
    assert again.unlabelled == data.unlabelled and not (run / 'unlabelled').exists()
    assert again.unlabelled_records.folder == data.unlabelled_records.folder


def test_with_a_folder_the_rest_of_the_training_images_is_left_aside(opened, tmp_path, caplog):
    folder = write_images(tmp_path / 'mine')
    run, data = opened('run', f"unlabelled_dir = '{folder}'", 'fraction = 0.25')
    assert len(data.train) == 4 and len(data.unlabelled) == 5
    assert data.unlabelled_records is not data.records
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 1 and '12 training images are used neither' in said[0]
    with pytest.raises(UserError, match='unknown split "unlabelled"'):
        evaluation_data.choose_images(data.records, 'unlabelled', run)


def test_copies_of_images_that_judge_are_counted(opened, records, tmp_path, caplog):
    folder = write_images(tmp_path / 'mine')
    for name in ('val', 'test'):
        Image.fromarray(records.load(records.splits[name][0])[0]).save(folder / f'{name}.png')
    Image.fromarray(records.load(records.splits['train'][0])[0]).save(folder / 'train.png')
    opened('run', f"unlabelled_dir = '{folder}'")
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 1 and '2 of the 8 unlabelled images are images of' in said[0]
    caplog.clear()
    opened('run', f"unlabelled_dir = '{folder}'")
    assert not caplog.records  # told once


@pytest.mark.parametrize('binding, words', [
    ('fraction = 0.0', 'semi_supervised.fraction = 0.0: expected a number above 0'),
    ('fraction = 1.5', 'at most 1'), ("fraction = '1/8'", "semi_supervised.fraction = '1/8'"),
    ('fraction = 0.01', 'labelled fraction of 0.01 of 16 images is none'),
    ('seed = -1', "semi_supervised.seed = -1.*or None for the run's"),
    ('rare_below = 0.5', 'semi_supervised.rare_below'),
    ('labelled_split = 3', 'labelled_split = 3: expected the name'),
    ("unlabelled_dir = 'nowhere/at/all'",
     "nowhere/at/all: no such file.*--gin_param=\"semi_supervised.unlabelled_dir='PATH'\"")])
def test_settings_out_of_range_are_told_in_a_line(opened, binding, words):
    with pytest.raises(UserError, match=words) as caught:
        opened('run', binding)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('spoil, words', [
    (lambda folder: [path.unlink() for path in folder.rglob('*.png')], 'mine: no image'),
    (lambda folder: (folder / '3.png').write_bytes(b'xx'), 'mine/3.png: not a readable image')])
def test_bad_folders_leave_no_records(opened, tmp_path, spoil, words):
    folder = write_images(tmp_path / 'mine')
    spoil(folder)
    with pytest.raises(UserError, match=words) as caught:
        opened('run', f"unlabelled_dir = '{folder}'")
    assert '\n' not in str(caught.value) and not (tmp_path / 'run' / 'unlabelled').exists()


def test_a_start_that_has_seen_withheld_labels_is_refused(opened, tmp_path):
    full, _ = opened('full')
    model = full / 'checkpoints' / 'stage1'
    model.mkdir(parents=True)
    same, _ = opened('same', 'fraction = 0.25')
    _, data = opened('run', 'fraction = 0.25')
    for checkpoint in (full, model):
        with pytest.raises(UserError, match='trained on 12 labelled images .of 16.') as caught:
            semi_supervised.require_unseen(checkpoint, data)
        assert '\n' not in str(caught.value) and str(full) in str(caught.value)
    semi_supervised.require_unseen(same, data)
    semi_supervised.require_unseen(None, data)
    semi_supervised.require_unseen(tmp_path / 'zoo.tflite', data)
    # What a start has started from has been seen as well.
    (same / 'config.gin').write_text(f"experiment.checkpoint = '{model}'")
    with pytest.raises(UserError, match=f'{same}: labels would leak: {full} was trained on 12'):
        semi_supervised.require_unseen(same, data)
    (same / 'config.gin').write_text(f"experiment.checkpoint = '{same}'")
    semi_supervised.require_unseen(same, data)


def test_a_start_that_trained_on_test_images_is_refused_too(opened, records):
    """Another seed of the same images' split: its training set is partly this run's test set."""
    other, _ = opened('other')
    content = files.read_json(other / 'split.json')
    content['splits']['train'] = [*records.splits['test'], 'of another version']
    files.write_json(other / 'split.json', content)
    _, data = opened('run', 'fraction = 0.5')
    with pytest.raises(UserError, match='trained on 3 labelled images .of 4.'):
        semi_supervised.require_unseen(other, data)
    files.write_json(other / 'split.json', {**content, 'dataset': 'somebody else'})
    semi_supervised.require_unseen(other, data)


def test_all_labels_may_have_been_seen_where_none_is_withheld(opened, tmp_path):
    full, data = opened('full')
    assert semi_supervised.require_unseen(full, data) is None
    _, data = opened('run', f"unlabelled_dir = '{write_images(tmp_path / 'mine')}'")
    assert semi_supervised.require_unseen(full, data) is None


def summary(spec, *values):
    return {'miou': float(np.mean([v for v in values if v is not None])),
            'class_iou': dict(zip(spec.class_names, values))}


def test_rare_classes_are_counted_in_labelled_images_alone(opened, records):
    _, data = opened('run', 'fraction = 0.25', 'rare_below = 3')
    shown = [{int(c) for c in np.unique(records.load(i)[1]) if c != 255} for i in data.train]
    expected = [name for number, name in enumerate(data.spec.class_names)
                if sum(number in classes for classes in shown) < 3]
    assert semi_supervised.rare_classes(data, 3) == expected
    assert semi_supervised.rare_classes(data, 0) == []
    assert semi_supervised.rare_classes(data, 17) == list(data.spec.class_names)
    values = [0.1 * i for i in range(len(data.spec.class_names))]
    results = {'models': {'Stage 1': {'test': summary(data.spec, *values)}}}
    semi_supervised.add_rare_classes(results, data)
    assert results['rare_classes'] == expected and results['rare_below'] == 3
    rest = [v for v, name in zip(values, data.spec.class_names) if name not in expected]
    assert results['models']['Stage 1']['test']['miou_without_rare'] == pytest.approx(
        np.mean(rest) if rest else None)


def test_results_of_runs_with_every_label_stay_as_they_were(opened):
    _, data = opened('run')
    results = {'models': {'Stage 1': {'test': summary(data.spec, *[0.5] * 8)}}}
    before = json.dumps(results)
    semi_supervised.add_rare_classes(results, data)
    assert json.dumps(results) == before and semi_supervised.label_sentences(results) == []


def test_results_that_speak_of_pictures_say_how_many_had_labels():
    said = semi_supervised.label_sentences({'training_pictures': {'labelled': 5, 'unlabelled': 35}})
    assert said == ['Training images: 5 with labels, 35 without.']


def test_miou_without_rare_classes_follows_the_rule_for_absent_ones():
    found = {'class_iou': {'a': 0.2, 'b': None, 'c': 0.6, 'd': 0.9}}
    assert semi_supervised.miou_without(found, ['d']) == pytest.approx(0.4)
    assert semi_supervised.miou_without(found, ['d'], 'zero') == pytest.approx(0.8 / 3)
    assert semi_supervised.miou_without(found, ['a', 'c', 'd']) is None
    assert semi_supervised.miou_without(found, list('abcd')) is None


def test_rare_classes_are_told_and_tabled():
    results = {'subject': 'Stage 1', 'rare_classes': ['water', 'mountain'], 'rare_below': 10,
               'models': {'Stage 1': {'test': {'miou': 0.5, 'miou_without_rare': 0.6}}}}
    notes = run_results.notes_on_training(results)
    assert notes == ['Rare, shown by fewer than 10 labelled training images: water, mountain; '
                     'test mIoU without them: Stage 1 60.00.']
    table = sweep_table.table({'cell': {0: finished_runs.measured(results)}}, 'miou_without_rare')
    assert 'mIoU without rare classes' in table.title
    assert [cell.value for cell in table.rows[1]] == ['cell', 'test', '1', '60.00']


SMALL = ("dataset.reader = 'shapes'", f'dataset.options = {OPTIONS!r}',
         'dataset.holdout_fraction = 0.5', 'experiment.crop_size = 33',
         "experiment.method = 'cross_entropy'", 'stage_one.epochs = 0',
         'stage_one.weighted_epochs = 0', 'deeplab_mobilenet_v2.depth_multiplier = 0.25',
         'semi_supervised.fraction = 0.25', 'semi_supervised.rare_below = 2')


def start(workdir, *bindings):
    """Starts a run as tools/train.py does."""
    configuration.parse([], [*SMALL, *bindings])
    return training.experiment(workdir, tf.distribute.get_strategy())


def test_a_run_draws_by_its_seed_and_refuses_a_start_that_drew_others(tmp_path, monkeypatch,
                                                                      capsys):
    monkeypatch.setattr(run_stages.Run, 'run', lambda run, *_: run.context.data)
    data = start(tmp_path / 'run', 'experiment.seed = 1')
    assert 'training images: 4 labelled, 12 unlabelled' in capsys.readouterr().out
    pool = sorted(data.train + data.unlabelled)
    assert data.train == splits_lib.labelled_fraction(pool, 0.25, seed=1)[0]
    with pytest.raises(UserError, match='labels would leak'):
        start(tmp_path / 'leak', f"experiment.checkpoint = '{tmp_path / 'run'}'")
    assert not (tmp_path / 'leak' / 'config.gin').exists()


def test_a_stratified_draw_shows_every_class(tmp_path, monkeypatch):
    monkeypatch.setattr(run_stages.Run, 'run', lambda run, *_: run.context.data)
    monkeypatch.setattr(record_sets.RecordSet, 'class_presence', lambda self, ids: {
        image_id: {int(image_id[-2:]) % 4} for image_id in ids})
    data = start(tmp_path / 'run', 'experiment.seed = 1', 'semi_supervised.stratified = True')
    pool = sorted(data.train + data.unlabelled)
    presence = data.records.class_presence(pool)
    assert set().union(*data.records.class_presence(data.train).values()) == set(range(4))
    assert data.train == splits_lib.labelled_fraction(pool, 0.25, 1, presence)[0]
    assert json.loads((tmp_path / 'run/split.json').read_text())['labelled_stratified'] is True
    plain = start(tmp_path / 'plain', 'experiment.seed = 1')
    assert plain.train != data.train
    assert 'labelled_stratified' not in json.loads((tmp_path / 'plain/split.json').read_text())
    with pytest.raises(UserError, match='has no effect'):
        start(tmp_path / 'all', 'semi_supervised.stratified = True', 'semi_supervised.fraction = 1')


def test_scores_of_a_run_come_without_rare_classes_too(opened, monkeypatch):
    run, data = opened('run', 'fraction = 0.5', 'rare_below = 9')
    (run / 'checkpoints' / 'stage1').mkdir(parents=True)
    (run / 'checkpoints' / 'stage1' / 'model.json').write_text('{}')
    monkeypatch.setattr(run_results, '_show', lambda *_: None)
    monkeypatch.setattr(run_results.shown_images, 'load', lambda *_: [])
    monkeypatch.setattr(run_results.networks, 'load_weights', lambda *_: None)
    context = types.SimpleNamespace(
        data=data, run=types.SimpleNamespace(checkpoints=run / 'checkpoints'),
        streams=types.SimpleNamespace(seed_value=0), strategy=tf.distribute.get_strategy(),
        evaluate=lambda *_: summary(data.spec, *[0.5] * 8))
    results, _ = run_results.scores(context, None, recipes.find('cross_entropy'), {})
    assert results['rare_classes'] == list(data.spec.class_names)  # of 8 images
    assert set(results['models']['Stage 1']) == {'holdout', 'val_without_holdout', 'test'}
    assert all(found['miou_without_rare'] is None
               for found in results['models']['Stage 1'].values())


@pytest.mark.slow
def test_a_whole_run_sees_its_labels_and_no_others(tmp_path):
    results = start(tmp_path / 'run', 'experiment.seed = 1')
    assert isinstance(results['rare_classes'], list)
    assert all('miou_without_rare' in found for found in results['models']['Stage 1'].values())
    parts = splits_lib.read_split(tmp_path / 'run' / 'split.json')
    done = files.read_json(tmp_path / 'run' / 'stages' / 'stage1' / stages.DONE)
    assert len(parts['train']) == 4 and len(parts['unlabelled']) == 12
    assert done['settings']['train'] == stages.settings_hash(parts['train'])
