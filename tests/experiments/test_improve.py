"""LoAd on a network and on two-class data that the package does not know."""
import importlib.util
import json
import pathlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tf_advseg.core import errors
from tf_advseg.experiments import improve

_SPEC = importlib.util.spec_from_file_location(
    'tiny', pathlib.Path(__file__).parents[1] / 'lookahead' / 'tiny.py')
tiny = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(tiny)

SETTINGS = [binding for binding in tiny.GIN if not binding.startswith('dataset.')] + [
    "dataset.reader = 'folder'", 'dataset.holdout_fraction = 0.5',
    'stage_one.epochs = 2', 'stage_one.batch_size = 4', 'stage_one.learning_rate = 0.02',
    'controller.max_total_cycles = 1', 'controller.patience = 3', 'lookahead.max_epochs = 1']


def write_images(folder, classes=2):
    """Bright discs on dark ground, 40x44, in the folder layout with a folder for each split."""
    generator = np.random.default_rng(5)
    rows, columns = np.mgrid[:40, :44]
    for split, count in (('train', 8), ('val', 4), ('test', 2)):
        for kind in ('images', 'labels'):
            (folder / kind / split).mkdir(parents=True)
        for number in range(count):
            centre = generator.integers(10, 30, 2)
            label = ((rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 < 64).astype(np.uint8)
            if classes == 1:
                label[:] = 0
            image = np.clip(60 + 120 * label[..., None] + generator.normal(0, 25, (40, 44, 3)),
                            0, 255).astype(np.uint8)
            Image.fromarray(image).save(folder / 'images' / split / f'{number}.png')
            Image.fromarray(label).save(folder / 'labels' / split / f'{number}.png')
    return folder


@pytest.fixture(scope='module')
def improved(tmp_path_factory):
    """(the model, its results, the run's folder) after Stage 1, one cycle and the control."""
    folder = tmp_path_factory.mktemp('improve')
    model = tiny.network(classes=2)
    results = improve.improve(model, write_images(folder / 'mine'), folder / 'run', crop_size=49,
                              normalise=lambda x: x / 127.5 - 1.0, gin_params=SETTINGS, seed=1)
    return model, results, folder / 'run'


def test_it_scores_every_model_on_every_split(improved):
    _, results, _ = improved
    assert set(results['models']) == {'Stage 1', 'LoAd', 'control (CE)'}
    for splits in results['models'].values():
        for name in ('holdout', 'val_without_holdout', 'test'):
            assert 0.0 <= splits[name]['miou'] <= 1.0
            assert len(splits[name]['class_iou']) == 2


def test_the_model_is_trained_in_place_and_ends_with_the_best_weights(improved):
    model, _, run = improved
    reader = tf.train.load_checkpoint(str(run / 'checkpoints' / 'best' / 'weights' / 'state'))
    saved = sorted(float(np.sum(reader.get_tensor(name)))
                   for name in reader.get_variable_to_shape_map() if 'VARIABLE_VALUE' in name)
    ours = sorted(float(np.sum(v.numpy())) for v in model.variables)
    np.testing.assert_allclose(ours, saved, rtol=1e-5)
    assert len(ours) == 10


def test_stage_one_learnt_and_the_report_says_so(improved):
    _, results, run = improved
    assert results['models']['Stage 1']['test']['pixel_accuracy'] > 0.5
    page = (run / 'report.html').read_text()
    assert 'hold-out' in page and 'Stage 1' in page
    events = [json.loads(line)['event']
              for line in (run / 'journal.jsonl').read_text().splitlines()]
    assert events[0] == 'start' and events[-1] == 'finished'
    assert {'aggregate', 'retrain', 'end', 'rewind'} <= set(events)


def test_the_operative_configuration_says_what_was_in_force(improved):
    _, _, run = improved
    text = (run / 'operative_config.gin').read_text()
    assert 'controller.patience = 3' in text and "build_discriminator.name = 'small_cnn'" in text
    assert 'cross_entropy.l2_weight = 4e-05' in text  # a default nobody set, used by Stage 1


def test_another_configuration_in_the_same_folder_is_refused(improved, tmp_path):
    _, _, run = improved
    with pytest.raises(errors.UserError, match='another configuration'):
        improve.improve(tiny.network(classes=2), None, run, crop_size=49,
                        gin_params=SETTINGS + ['controller.beta_u = 0.5'], seed=1)


def test_data_without_classes_to_tell_apart_are_refused(tmp_path):
    source = write_images(tmp_path / 'one', classes=1)
    with pytest.raises(errors.UserError) as failure:
        improve.improve(tiny.network(classes=2), source, tmp_path / 'run', crop_size=49,
                        gin_params=SETTINGS)
    assert '\n' not in failure.value.message


def test_a_model_of_another_number_of_classes_is_refused(tmp_path):
    source = write_images(tmp_path / 'mine')
    with pytest.raises(errors.UserError, match='classes'):
        improve.improve(tiny.network(classes=5), source, tmp_path / 'run', crop_size=49,
                        gin_params=SETTINGS)
