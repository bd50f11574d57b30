"""TFLite and ONNX files of export as --checkpoint: predict, evaluate, load."""
import json
import shutil

import numpy as np
import pytest
from PIL import Image

import tf_advseg
from tf_advseg.core.errors import UserError
from tf_advseg.evaluation import prediction
from tf_advseg.models import layers
from tf_advseg.models import zoo
from tf_advseg.models.zoo import tflite_export
from tf_advseg.run import exported_files
from tf_advseg.run import networks

SIDE = 49
FLOAT32, INT8, ONNX = 'model_float32.tflite', 'model_int8.tflite', 'model.onnx'


def _has_onnx():
    try:
        import onnxruntime  # noqa: F401
        import tf2onnx  # noqa: F401
    except ImportError:
        return False
    return True


NAMES = [FLOAT32, INT8, *([ONNX] if _has_onnx() else [])]


@pytest.fixture(scope='module')
def exported(deeplab_folder, made_run, tmp_path_factory):
    """The folder of an export in all forms."""
    from tf_advseg.experiments.convert import exporting
    root = tmp_path_factory.mktemp('exported')
    formats = ('tflite_float32', 'tflite_int8', *(['onnx'] if _has_onnx() else []))
    Image.fromarray(made_run.data.records.load(made_run.data.test[0])[0]).save(root / 'a.png')
    exporting.export(deeplab_folder[1], root / 'out', formats, images=root / 'a.png')
    return root / 'out'


@pytest.fixture(scope='module')
def image(made_run):
    """One that is smaller than the crop."""
    return made_run.data.records.load(made_run.data.test[0])[0][:41, :40]


def _padded(image, size=(SIDE, SIDE)):
    padded = np.full((*size, 3), 127, np.uint8)
    padded[:image.shape[0], :image.shape[1]] = image
    return padded


@pytest.mark.parametrize('name', NAMES)
def test_class_maps_are_the_files(exported, made_run, deeplab_folder, image, name):
    model = tf_advseg.load(exported / name)
    assert model.names == tuple(made_run.data.spec.class_names)
    assert (model.segmentor, model.backend) == (None, 'onnx' if name == ONNX else 'tflite')
    found = model.predict(image)
    network = prediction.predict(deeplab_folder[0], image, SIDE)
    if name == ONNX:
        assert np.mean(found.ids == network) > 0.999
    else:
        file = next(tflite_export.run((exported / name).read_bytes(), [_padded(image)]))
        np.testing.assert_array_equal(found.ids, file[:41, :40])
    if name == FLOAT32:  # half a grey level of the padding is all the difference
        assert np.mean(found.ids == network) > 0.99
    several = list(model.predict(one for one in (image, image[::-1].copy(), image)))
    np.testing.assert_array_equal(several[0].ids, several[2].ids)
    np.testing.assert_array_equal(several[0].ids, found.ids)


@pytest.mark.parametrize('name', NAMES)
def test_the_tools_predict_and_score_alike(call, exported, made_run, tmp_path, name, capsys):
    records, test = made_run.data.records, made_run.data.test
    (tmp_path / 'images').mkdir()
    for image_id in test:
        Image.fromarray(records.load(image_id)[0]).save(tmp_path / 'images' / f'{image_id}.png')
    words = [f'--checkpoint={exported / name}', f'--input={tmp_path / "images"}',
             f'--output={tmp_path / "maps"}']
    call('predict', *words)
    assert f'{len(test)} predicted, 0 skipped' in capsys.readouterr().out
    call('predict', *words)
    assert f'{len(test)} kept' in capsys.readouterr().out
    classes = made_run.data.spec.num_classes
    counts = np.zeros((classes, classes), np.int64)
    for image_id in test:
        label, ids = records.load(image_id)[1], np.array(Image.open(
            tmp_path / 'maps' / f'{image_id}.png'))
        known = label != 255
        np.add.at(counts, (label[known], ids[known]), 1)
    call('evaluate', f'--checkpoint={exported / name}', f'--data_dir={made_run.path / "records"}',
         '--measures=boundary', f'--output={tmp_path / "scores.json"}')
    results = json.loads((tmp_path / 'scores.json').read_text())
    assert list(results['models']) == [name] and results['which'] == {name: None}
    np.testing.assert_array_equal(results['models'][name]['confusion_matrix'], counts)
    assert 'boundary' in results['models'][name]
    found = tf_advseg.load(exported / name).evaluate(made_run.path / 'records')
    assert found['miou'] == results['models'][name]['miou']


def test_a_file_is_compared_with_its_network(call, exported, made_run, deeplab_folder, tmp_path):
    call('evaluate', f'--checkpoint={exported / FLOAT32}', f'--compare={deeplab_folder[1]}',
         f'--data_dir={made_run.path / "records"}', f'--output={tmp_path / "compared"}')
    results = json.loads(next((tmp_path / 'compared').glob('*.json')).read_text())
    assert 'comparisons' in json.dumps(results)
    with pytest.raises(UserError, match='is the same model as'):
        call('evaluate', f'--checkpoint={exported / FLOAT32}', f'--compare={exported / FLOAT32}',
             f'--data_dir={made_run.path / "records"}')


def test_larger_images_are_refused_by_name_and_skipped_in_a_folder(call, exported, tmp_path, image,
                                                                   made_run, capsys):
    large = np.tile(image, (2, 1, 1))
    model = tf_advseg.load(exported / FLOAT32)
    with pytest.raises(UserError, match='has 82x40 pixels, and .* takes 49x49 at most'):
        model.predict(large)
    (tmp_path / 'images').mkdir()
    Image.fromarray(large).save(tmp_path / 'images' / 'large.png')
    with pytest.raises(UserError, match='nothing could be predicted'):
        call('predict', f'--checkpoint={exported / FLOAT32}', f'--input={tmp_path / "images"}',
             f'--output={tmp_path / "maps"}')
    Image.fromarray(image).save(tmp_path / 'images' / 'small.png')
    call('predict', f'--checkpoint={exported / FLOAT32}', f'--input={tmp_path / "images"}',
         f'--output={tmp_path / "maps"}')
    printed = capsys.readouterr()
    assert '1 predicted, 1 skipped' in printed.out and 'large.png: has 82x40' in printed.err
    if ONNX in NAMES:  # any size
        assert tf_advseg.load(exported / ONNX).predict(large).ids.shape == (82, 40)


def test_an_export_that_resizes(deeplab_folder, image, tmp_path):
    from tf_advseg.experiments.convert import exporting
    import tensorflow as tf
    exporting.export(deeplab_folder[1], tmp_path / 'out', ('saved_model', 'tflite_float32'),
                     large='resize')
    large = np.tile(image, (3, 2, 1))
    ids = tf.saved_model.load(str(tmp_path / 'out')).signatures['class_map'](
        image=tf.constant(large[None]))['class_map'][0].numpy()
    found = tf_advseg.load(tmp_path / 'out' / FLOAT32).predict(large)
    # What the file is given is rounded to whole grey levels.
    assert np.mean(found.ids == ids) > 0.97


@pytest.mark.parametrize('tool, words, message', [
    ('predict', ['--confidence'], 'a confidence needs probabilities'),
    ('predict', ['--flip'], 'mirrored images needs probabilities'),
    ('predict', ['--window=33'], 'windows needs probabilities'),
    ('predict', ['--backend=auto'], 'leave --backend out'),
    ('predict', ['--which=best'], 'leave --which out'),
    ('evaluate', ['--eval_scales=0.5'], 'needs probabilities'),
    ('evaluate', ['--padding=none'], 'leave --padding out'),
    ('evaluate', ['--backend=tflite'], 'leave --backend out'),
    ('evaluate', ['--strategy=mirrored'], 'leave out --strategy'),
    ('export', [], 'gives class maps alone'), ('confidence', [], 'gives class maps alone')])
def test_what_a_file_cannot_is_one_line(call, exported, made_run, image, tmp_path, tool, words,
                                        message):
    Image.fromarray(image).save(tmp_path / 'a.png')
    given = {'predict': [f'--input={tmp_path / "a.png"}', f'--output={tmp_path / "maps"}'],
             'evaluate': [f'--data_dir={made_run.path / "records"}'],
             'export': [f'--output={tmp_path / "out"}'],
             'confidence': [f'--output={tmp_path / "out"}']}[tool]
    with pytest.raises(UserError, match=message) as caught:
        call(tool, f'--checkpoint={exported / FLOAT32}', *given, *words)
    assert '\n' not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ['a.png']


def test_probabilities_and_backends_in_python(exported, image):
    model = tf_advseg.load(exported / FLOAT32)
    with pytest.raises(UserError, match='needs probabilities'):
        model.predict(image, probabilities=True)
    with pytest.raises(UserError, match='leave --backend out'):
        tf_advseg.load(exported / FLOAT32, backend='onnx')


def test_without_its_description_it_is_weights_to_import(exported, deeplab_folder, tmp_path):
    lone = shutil.copy(exported / FLOAT32, tmp_path)
    with pytest.raises(UserError, match='import them first.*export.json'):
        tf_advseg.load(lone)
    (tmp_path / 'model.onnx').write_bytes(b'x')
    with pytest.raises(UserError, match='not a file that export wrote'):
        tf_advseg.load(tmp_path / 'model.onnx')
    # Beside its description, too, it is weights for whoever wants them.
    description = networks.read_description(deeplab_folder[1])['model']
    other = networks.build(description, seed=7)
    assert len(zoo.read(exported / FLOAT32, other).assigned) == len(other.variables)
    networks.load_weights(exported / FLOAT32, other)
    theirs = layers.official_variables(deeplab_folder[0])['logits/semantic/weights']
    np.testing.assert_allclose(layers.official_variables(other)['logits/semantic/weights'], theirs,
                               atol=1e-5)


def _older(folder, report):
    """As exports were before they had names of classes."""
    for key in ('dataset', 'padding'):
        report.pop(key)
    report['files'][FLOAT32].pop('sha256')


def test_an_older_export_has_the_saved_models_names_or_numbers(exported, deeplab_folder, image,
                                                               made_run, tmp_path):
    folder = shutil.copytree(exported, tmp_path / 'out')
    report = json.loads((folder / 'export.json').read_text())
    _older(folder, report)
    (folder / 'export.json').write_text(json.dumps(report))
    model = tf_advseg.load(folder / FLOAT32)
    assert model.names == tuple(f'class {i}' for i in range(8))
    np.testing.assert_array_equal(model.predict(image).ids,
                                  tf_advseg.load(exported / FLOAT32).predict(image).ids)
    shutil.copy(deeplab_folder[1] / 'model.json', folder)
    assert tf_advseg.load(folder / FLOAT32).names == tuple(made_run.data.spec.class_names)


@pytest.mark.parametrize('change, message', [
    (lambda folder, report: (folder / FLOAT32).write_bytes(b'damaged'), 'is not the file that'),
    (lambda folder, report: report.update(num_classes=3), '3 classes'),
    (lambda folder, report: report.update(model=None), 'missing or damaged'),
    (lambda folder, report: report.update(padding=[1, 2]), 'missing or damaged'),
    (lambda folder, report: report.update(dataset=[]), '"dataset" is damaged'),
    (lambda folder, report: report.update(dataset={'name': 'x'}), 'not a data set'),
    (lambda folder, report: (_older(folder, report), report['files'][FLOAT32].update(bytes=12), (
        folder / FLOAT32).write_bytes(b'????TFL3????')), 'cannot be run as a file of export')])
def test_damage_is_one_line(exported, tmp_path, change, message):
    folder = tmp_path / 'out'
    folder.mkdir()
    shutil.copy(exported / FLOAT32, folder)
    report = json.loads((exported / 'export.json').read_text())
    change(folder, report)
    (folder / 'export.json').write_text(json.dumps(report))
    with pytest.raises(UserError, match=message) as caught:
        tf_advseg.load(folder / FLOAT32)
    assert '\n' not in str(caught.value)


def test_other_paths_are_no_exported_files(tmp_path, made_run):
    for path in (tmp_path, tmp_path / 'none.tflite', made_run.path):
        assert not exported_files.is_exported(path)
