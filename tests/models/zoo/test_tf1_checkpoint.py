"""TF1 checkpoints: real ones segment real images, one of each family, the way back, damage."""
import shutil

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tf_advseg.core.errors import UserError
from tf_advseg.models import deeplab, layers, resize, segmentor, zoo
from tf_advseg.models.zoo import tf1_checkpoint

REAL = [('real_mnv2_pascal', 1.0, 16, 513, 'zoo_mnv2_os16_bird513', 'bird_513.png'),
        ('real_mnv2_pascal', 1.0, 8, 513, 'zoo_mnv2_os8_bird513', 'bird_513.png'),
        ('real_mnv2_dm05_pascal', 0.5, 16, 257, 'zoo_dm05_os16_horse257', 'horse_person_257.png'),
        ('real_mnv2_dm05_pascal', 0.5, 8, 257, 'zoo_dm05_os8_horse257', 'horse_person_257.png'),
        ('real_mnv2_dm05_pascal', 0.5, 8, 257, 'zoo_dm05_os8_bird257', 'bird_257.png')]
FAMILIES = {
    'mobilenet_v2': lambda: deeplab.deeplab_mobilenet_v2(21),
    'xception_41': lambda: deeplab.deeplab_xception(3, variant='xception_41'),
    'resnet_v1_50_beta': lambda: deeplab.deeplab_resnet(3, variant='resnet_v1_50_beta')}


@pytest.fixture(scope='module')
def checkpoints(shared):
    folder = shared / 'zoo'
    if not (folder / 'checkpoints').is_dir():
        pytest.skip(f'the zoo checkpoints are not here: {folder}')
    return folder


@pytest.mark.parametrize('name, depth, stride, side, expected, photo', REAL)
def test_real_weights_segment_real_images(checkpoints, name, depth, stride, side, expected,
                                          photo):
    model = deeplab.deeplab_mobilenet_v2(21, stride, depth, crop_size=side)
    report = zoo.read(checkpoints / 'checkpoints' / name / 'model.ckpt-30000', model)
    assert len(report.assigned) == len(model.variables) and not report.reinitialised
    image = np.asarray(Image.open(checkpoints / 'images' / photo).convert('RGB'))
    reference = np.load(checkpoints / f'{expected}.npz')
    logits = model(image[None]).numpy()
    assert np.abs(logits[0] - reference['logits']).max() < 1e-3 * np.abs(reference['logits']).max()
    classes = resize.resize_bilinear(logits, image.shape[:2]).numpy()[0].argmax(-1)
    assert np.mean(classes == reference['argmax']) >= 0.995
    assert len(np.unique(classes)) > 1


def test_a_checkpoint_of_the_rule_holds_the_rule(checkpoints, official):
    model = deeplab.deeplab_mobilenet_v2(21, depth_multiplier=0.5)
    report = zoo.read(checkpoints / 'checkpoints' / 'synthetic_mnv2_dm05_pascal', model)
    for name, variable in layers.official_variables(model).items():
        np.testing.assert_array_equal(variable, official.rule.param_value(name, variable.shape))
    reasons = {reason for name, reason in report.unused if name.endswith('/Momentum')}
    assert reasons == {"an optimizer's slot or a moving average"}
    assert ('global_step', 'a counter of the training') in report.unused


@pytest.mark.parametrize('family', [
    'mobilenet_v2', *(pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES
                      if name != 'mobilenet_v2')])
def test_a_training_checkpoint_of_each_family_in_and_back(official_files, tmp_path, family):
    """By prefix and from an archive, every value; written back, every byte."""
    model = FAMILIES[family]()
    values = official_files.values(model)
    prefix = official_files.training_checkpoint(tmp_path / 'model.ckpt-30000', model, values)
    archive = official_files.archive(tmp_path / 'zoo.tar.gz', [
        (f'deeplab/{path.name}', path) for path in sorted(tmp_path.iterdir())])
    for source in (prefix, archive):
        for variable in model.variables:
            variable.assign(tf.zeros_like(variable))
        report = zoo.read(source, model)
        for name, value in official_files.contents(model).items():
            assert value.tobytes() == values[name].tobytes(), name
        assert sorted(report.assigned) == sorted(values) and not report.reinitialised
        assert len(report.unused) == len(model.trainable_variables) + 1
    (tmp_path / 'back').mkdir()
    written = tf1_checkpoint.write(tmp_path / 'back' / 'model.ckpt-7', model, global_step=7)
    ours, theirs = (tf.train.load_checkpoint(str(p)) for p in (
        tmp_path / 'back' / 'model.ckpt-7', prefix))
    assert set(written) == set(values) | {'global_step'}
    assert set(ours.get_variable_to_shape_map()) == set(written)
    for name in values:
        assert ours.get_tensor(name).tobytes() == theirs.get_tensor(name).tobytes(), name
        assert ours.get_tensor(name).dtype == theirs.get_tensor(name).dtype
    assert ours.get_tensor('global_step') == 7


def test_every_way_to_name_a_checkpoint(official_files, small, tmp_path):
    state = small.folder / 'checkpoint'
    for path in (small.prefix, small.folder, f'{small.prefix}.index',
                 f'{small.prefix}.data-00000-of-00001'):
        model = official_files.mobilenet(seed=5)
        zoo.read(path, model)
        np.testing.assert_array_equal(model.logits.kernel, small.model.logits.kernel)
    # A state file that was written elsewhere, beside two checkpoints.
    folder = tmp_path / 'two'
    shutil.copytree(small.folder, folder)
    for path in small.folder.glob('model.ckpt-30000.*'):
        shutil.copy(path, folder / path.name.replace('30000', '9'))
    (folder / 'checkpoint').write_text('model_checkpoint_path: "/elsewhere/model.ckpt-9"\n')
    assert tf1_checkpoint.resolve(folder) == str(folder / 'model.ckpt-9')
    (folder / 'checkpoint').unlink()
    with pytest.raises(UserError, match='holds 2 checkpoints .*name one'):
        zoo.read(folder, model)
    assert state.is_file()


def test_a_checkpoint_of_one_file_as_old_slim_wrote_it(official_files, small, tmp_path):
    path = tmp_path / 'slim.ckpt'
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        variables = [tf.compat.v1.get_variable(name, initializer=value, use_resource=False)
                     for name, value in small.values.items()]
        session.run(tf.compat.v1.global_variables_initializer())
        saver = tf.compat.v1.train.Saver(variables, write_version=tf.compat.v1.train.SaverDef.V1)
        saver.save(session, str(path), write_meta_graph=False, write_state=False)
    assert path.is_file()
    model = official_files.mobilenet(seed=5)
    assert len(zoo.read(path, model).assigned) == len(small.values)
    np.testing.assert_array_equal(model.logits.kernel, small.model.logits.kernel)


def test_official_tools_restore_what_is_written(small, tmp_path):
    """TF1's Saver finds every variable by name, and the last checkpoint by the state file."""
    tf1_checkpoint.write(tmp_path / 'model.ckpt-3', small.model, 3)
    assert tf.compat.v1.train.latest_checkpoint(str(tmp_path)) == str(tmp_path / 'model.ckpt-3')
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        variables = [tf.compat.v1.get_variable(name, value.shape)
                     for name, value in small.values.items()]
        tf.compat.v1.train.Saver(variables).restore(session, str(tmp_path / 'model.ckpt-3'))
        for variable, value in zip(variables, session.run(variables)):
            np.testing.assert_array_equal(value, small.values[variable.op.name])


def test_writing_again_replaces_and_leaves_nothing_else(official_files, small, tmp_path):
    other = official_files.fill(official_files.mobilenet(), official_files.values(small.model, 1))
    tf1_checkpoint.write(tmp_path / 'model.ckpt', other)
    tf1_checkpoint.write(tmp_path / 'model.ckpt', small.model)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        'checkpoint', 'model.ckpt.data-00000-of-00001', 'model.ckpt.index']
    zoo.read(tmp_path, other)
    np.testing.assert_array_equal(other.logits.kernel, small.model.logits.kernel)


def test_what_cannot_be_written_is_one_line(small, tmp_path):
    with pytest.raises(UserError, match='there is no folder'):
        tf1_checkpoint.write(tmp_path / 'nowhere' / 'model.ckpt', small.model)
    foreign = segmentor.as_segmentor(tf.keras.Sequential([tf.keras.layers.Conv2D(2, 1)]))
    with pytest.raises(UserError, match='no layers with official names'):
        tf1_checkpoint.write(tmp_path / 'model.ckpt', foreign)
    assert list(tmp_path.iterdir()) == []


def test_damaged_checkpoints_are_one_line(official_files, small, tmp_path, unchanged):
    index, data = (small.folder / f'model.ckpt-30000.{end}'
                   for end in ('index', 'data-00000-of-00001'))
    whole, values = index.read_bytes(), data.read_bytes()
    random = np.random.default_rng(0)
    noisy = bytearray(whole)
    for place in random.integers(0, len(noisy) - 8, 20):
        noisy[place] ^= 0xff
    spoilt = np.frombuffer(values, np.uint8).copy()
    spoilt[::1000] ^= 0xff
    model = official_files.mobilenet(seed=5)
    cases = {'cut': (whole[:len(whole) // 2], values), 'empty': (b'', values),
             'noise': (random.bytes(3000) + whole[-8:], values), 'flipped': (bytes(noisy), values),
             'short': (whole, values[:-1000]), 'no data': (whole, None),
             'spoilt': (whole, spoilt.tobytes())}
    for name, (index, data) in cases.items():
        folder = tmp_path / name
        folder.mkdir()
        (folder / 'm.index').write_bytes(index)
        if data is not None:
            (folder / 'm.data-00000-of-00001').write_bytes(data)
        with unchanged(model), pytest.raises(UserError) as caught:
            zoo.read(folder / 'm', model)
        assert str(folder / 'm') in str(caught.value) and '\n' not in str(caught.value), name
        assert 'checkpoint' in str(caught.value), name


def test_a_missing_file_of_a_checkpoint_is_named(small, official_files, tmp_path):
    index, data = 'model.ckpt-30000.index', 'model.ckpt-30000.data-00000-of-00001'
    model = official_files.mobilenet(seed=5)
    for there, missing in ((index, data), (data, index)):
        folder = tmp_path / there
        folder.mkdir()
        shutil.copy(small.folder / there, folder)
        for path in (folder / 'model.ckpt-30000', folder / there):
            with pytest.raises(UserError, match=f'{missing} is missing beside .*{there}'):
                zoo.read(path, model)
    first = tmp_path / index / 'model.ckpt-30000.data-00000-of-00002'
    shutil.copy(small.folder / data, first)
    with pytest.raises(UserError, match='data-00001-of-00002 is missing'):
        zoo.read(tmp_path / index / 'model.ckpt-30000', model)


def test_a_part_of_a_saved_model_is_no_source(official_files, tmp_path):
    path = tmp_path / 'saved_model.pb'
    path.write_bytes(b'\x08\x01')
    with pytest.raises(UserError, match=f'a part of a SavedModel; give its folder, {tmp_path}'):
        zoo.read(path, official_files.mobilenet())


def test_a_checkpoint_of_tensorflow_2_is_told_apart(small, tmp_path):
    tf.train.Checkpoint(network=small.model).write(str(tmp_path / 'state'))
    with pytest.raises(UserError, match='object-based checkpoint.*model folder or run directory'):
        zoo.read(tmp_path / 'state', small.model)


def test_a_file_that_is_only_a_suffix_is_no_prefix(tmp_path):
    for name in ('.index', '.data-00000-of-00001', '.meta'):
        (tmp_path / name).write_bytes(b'x')
        assert tf1_checkpoint.resolve(tmp_path / name) is None
    assert tf1_checkpoint.resolve(tmp_path) is None
    assert tf1_checkpoint.resolve(tmp_path / 'absent' / '.index') is None
