"""tools/export.py: what it writes can be used, its proof, and what it refuses."""
import json
import pathlib
import re
import shutil

import numpy as np
import pytest
import tensorflow as tf

from tf_advseg.core.errors import UserError
from tf_advseg.evaluation import prediction
from tf_advseg.experiments.convert import exporting
from tf_advseg.models import layers, zoo
from tf_advseg.run import networks

SIDE = 49


@pytest.fixture(scope='module')
def images(made_run, tmp_path_factory):
    from PIL import Image
    folder = tmp_path_factory.mktemp('images')
    for name in made_run.data.test[:2]:
        Image.fromarray(made_run.data.records.load(name)[0]).save(folder / f'{name}.png')
    return folder


def test_saved_model_and_tf1_checkpoint_are_checkpoints(call, made_run, deeplab_folder, images,
                                                        tmp_path, capsys):
    output = tmp_path / 'out'
    segmentor, source = deeplab_folder
    words = (f'--checkpoint={source}', f'--output={output}', f'--input={images}')
    call('export', *words, '--format=saved_model,tf1')
    printed = capsys.readouterr().out
    assert f'{output / "saved_model.pb"}: ' in printed and f'2 images of {images}' in printed
    report = json.loads((output / 'export.json').read_text())
    assert report['files']['saved_model.pb']['agreement']['worst'] >= 0.999
    names = {path.name for path in output.iterdir()}
    assert names >= {'saved_model.pb', 'model.json', 'export.json', 'tf1'}
    assert 'weights' not in names

    image, _ = made_run.data.records.load(made_run.data.test[0])
    expected = prediction.predict(segmentor, image, SIDE)
    signature = tf.saved_model.load(str(output)).signatures['class_map']
    assert np.mean(signature(image=tf.constant(image[None]))['class_map'][0] == expected) > 0.999
    assert not any('disc' in v.name for v in networks.load(output)[0].variables)
    again, spec, _ = networks.load(output)
    assert np.mean(prediction.predict(again, image, SIDE) == expected) > 0.999
    assert spec.class_names == made_run.data.spec.class_names
    # A TF1 checkpoint keeps every bit, a SavedModel the function.
    other = networks.build({'network': 'deeplab_mobilenet_v2', 'arguments': {
        'num_classes': 8, 'depth_multiplier': 0.25}})
    zoo.read(output / exporting.TF1_PREFIX, other)
    theirs = layers.official_variables(segmentor)
    for name, variable in layers.official_variables(other).items():
        np.testing.assert_array_equal(variable, theirs[name])

    call('evaluate', f'--checkpoint={output}', f'--data_dir={made_run.path / "records"}')
    assert 'mIoU' in capsys.readouterr().out
    call('export', *words)  # over an older export
    assert not (output / 'tf1').exists() and (output / 'saved_model.pb').is_file()
    assert [path.name for path in tmp_path.iterdir()] == ['out']


def test_a_file_that_tflite_cannot_run_is_one_line(call, made_run, tmp_path, monkeypatch):
    def refuses(*_):
        raise RuntimeError('kernels/div.cc:242 data[i] != 0 was not true.\nNode 18 failed.')
    monkeypatch.setattr(exporting.tflite_export, 'agreement', refuses)
    with pytest.raises(UserError, match='tflite_float16: .*div.cc.*leave tflite_float16 out') as e:
        call('export', f'--checkpoint={made_run.path}', f'--output={tmp_path}/out',
             '--format=tflite_float16')
    assert '\n' not in str(e.value) and not (tmp_path / 'out').exists()


def test_tflite_of_every_kind(call, deeplab_folder, tmp_path, capsys):
    output = tmp_path / 'out'
    call('export', f'--checkpoint={deeplab_folder[1]}', f'--output={output}', '--input_size=33x49',
         '--format=tflite_float32,tflite_float16,tflite_int8')
    printed = capsys.readouterr().out
    assert 'WARNING: model_int8.tflite has the ranges of made-up images' in printed
    assert 'made-up images (--input names' in printed
    report = json.loads((output / 'export.json').read_text())
    sizes = {}
    # Eight bits are too few for the logits of a network that has learnt nothing: that is reported
    # (tests/models/zoo/test_tflite_export.py has real weights).
    for kind, least in (('float32', 0.999), ('float16', 0.97), ('int8', 0.0)):
        entry = report['files'][f'model_{kind}.tflite']
        path = output / f'model_{kind}.tflite'
        assert entry['bytes'] == path.stat().st_size and entry['agreement']['worst'] >= least
        sizes[kind] = entry['bytes']
        interpreter = tf.lite.Interpreter(str(path))
        assert interpreter.get_signature_list()['class_map'] == {
            'inputs': ['image'], 'outputs': ['class_map']}
    assert sizes['int8'] < sizes['float16'] < sizes['float32']


def test_resizing_first(call, made_run, tmp_path):
    output = tmp_path / 'out'
    call('export', f'--checkpoint={made_run.path}', f'--output={output}', '--large=resize')
    image = np.random.default_rng(0).integers(0, 256, (1, 120, 70, 3), np.uint8)
    ids = tf.saved_model.load(str(output)).signatures['class_map'](image=tf.constant(image))
    assert ids['class_map'].shape == (1, 120, 70)
    # 49 x 28 pixels enlarged by nearest neighbours: rows repeat.
    rows = ids['class_map'][0].numpy()
    assert len(np.unique(rows, axis=0)) <= SIDE


def test_the_proof(call, made_run, capsys):
    call('export', '--prove', f'--checkpoint={made_run.path}',
         f'--compare={made_run.path / "checkpoints" / "control"}')
    lines = capsys.readouterr().out.splitlines()
    rows = {cells[0]: cells[1:] for cells in (re.split(r'  +', line) for line in lines[2:-1])}
    assert rows['parameters'][0] == rows['parameters'][1] != '0'
    assert rows['GFLOP of a 49x49 image'][0] == rows['GFLOP of a 49x49 image'][1]
    assert rows['operations in the graph'][0] == rows['operations in the graph'][1]
    # What it is depends on what else the machine does; the graphs are what is proved.
    assert rows['latency ratio'][0] == '1.00' and float(rows['latency ratio'][1]) >= 0
    assert lines[-1].startswith('the graphs are equal op by op')


def test_a_proof_that_fails_is_said(made_run, tmp_path):
    description = networks.describe('deeplab_mobilenet_v2', num_classes=8, crop_size=(49, 49),
                                    depth_multiplier=0.25, image_pooling=False)
    networks.save(tmp_path / 'other', networks.build(description), description,
                  made_run.data.spec)
    proof = exporting.prove(made_run.path, tmp_path / 'other', repeats=1)
    assert 'NOT equal' in proof.text() and proof.difference


@pytest.mark.parametrize('words, message', [
    (['--format=savedmodel'], 'Did you mean "saved_model"'),
    (['--format=,'], 'no format'),
    (['--prove'], '--compare=BASELINE'),
    (['--compare=x'], 'belongs to --prove'),
    (['--input_size=3y'], '--input_size=3y'),
    (['--input=/nowhere/at/all'], '/nowhere/at/all'),
    (['--fine_tune_steps=5'], 'add --format=tflite_int8'),
    (['--fine_tune_steps=-1', '--format=tflite_int8'], '--fine_tune_steps=-1: expected'),
    (['--fine_tune_steps=5', '--format=tflite_int8'], 'fine-tuning needs images'),
])
def test_bad_words_in_one_line(call, made_run, tmp_path, words, message):
    with pytest.raises(UserError) as caught:
        call('export', f'--checkpoint={made_run.path}', f'--output={tmp_path / "out"}', *words)
    assert message in str(caught.value) and '\n' not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_nothing_else_is_overwritten(call, made_run, tmp_path):
    (tmp_path / 'mine.txt').write_text('mine')
    with pytest.raises(UserError, match='mine.txt, which was not written as an export'):
        call('export', f'--checkpoint={made_run.path}', f'--output={tmp_path}')
    with pytest.raises(UserError, match='is a file'):
        call('export', f'--checkpoint={made_run.path}', f'--output={tmp_path / "mine.txt"}')
    with pytest.raises(UserError, match='would be lost'):
        call('export', f'--checkpoint={made_run.path}', f'--output={made_run.path}')
    assert (tmp_path / 'mine.txt').read_text() == 'mine'


def test_no_checkpoint(call, tmp_path):
    with pytest.raises(UserError, match='no checkpoint was given'):
        call('export', f'--output={tmp_path / "out"}')
    with pytest.raises(UserError, match='no such checkpoint'):
        call('export', f'--checkpoint={tmp_path / "none"}', f'--output={tmp_path / "out"}')


def test_onnx_agrees_and_a_poor_int8_file_is_told_loudly(call, deeplab_folder, images, tmp_path,
                                                         capsys):
    pytest.importorskip('onnxruntime')
    output = tmp_path / 'out'
    call('export', f'--checkpoint={deeplab_folder[1]}', f'--output={output}', f'--input={images}',
         '--format=onnx,tflite_int8', '--debug_quantization')
    printed = capsys.readouterr().out
    assert 'model_int8.tflite was calibrated with the images that it is compared on' in printed
    assert 'ranges of made-up images' not in printed
    report = json.loads((output / 'export.json').read_text())['files']
    assert report['model.onnx']['agreement']['worst'] > 0.999
    assert report['model.onnx']['bytes'] == (output / 'model.onnx').stat().st_size
    layers_found = report['model_int8.tflite']['layers']
    assert len(layers_found) > 50
    assert all(layer['name'].rsplit(';', 1)[-1] in printed for layer in layers_found)
    assert all(layer['step'] > 0 for layer in layers_found)
    text = exporting.Exported(output, {'compared_on': 'x', 'files': {'f': {
        'bytes': 1, 'agreement': {'pictures': 2, 'pixels': 0.99, 'worst': 0.94}}}}).text()
    assert 'WARNING: f differs' in text
    text = exporting.Exported(output, {'compared_on': 'x', 'files': {'f': {
        'bytes': 1, 'agreement': {'pictures': 2, 'pixels': 0.99, 'worst': 0.96}}}}).text()
    assert 'WARNING' not in text


def test_calibration_with_other_images_is_no_reason_for_a_line(call, deeplab_folder, images,
                                                               tmp_path, capsys):
    output = tmp_path / 'out'
    first, second = sorted(images.iterdir())
    call('export', f'--checkpoint={deeplab_folder[1]}', f'--output={output}', f'--input={first}',
         f'--calibration={second}', '--format=tflite_int8')
    printed = capsys.readouterr().out
    assert 'calibrated with' not in printed and 'ranges of made-up images' not in printed
    report = json.loads((output / 'export.json').read_text())['files']
    assert report['model_int8.tflite']['calibration'] == {'compared': False, 'made_up': False}


def test_fine_tuning_is_told_with_what_it_did(call, deeplab_folder, images, tmp_path, capsys):
    output = tmp_path / 'out'
    call('export', f'--checkpoint={deeplab_folder[1]}', f'--output={output}', f'--input={images}',
         '--format=tflite_float32,tflite_int8', '--fine_tune_steps=2')
    printed = capsys.readouterr().out
    assert 'model_int8.tflite was fine-tuned for 2 steps on 2 images; before it agreed' in printed
    report = json.loads((output / 'export.json').read_text())['files']
    assert 'fine_tuning' not in report['model_float32.tflite']
    tuned = report['model_int8.tflite']['fine_tuning']
    assert tuned['steps'] == 2 and tuned['images'] == 2 and 0 <= tuned['before']['pixels'] <= 1
    path = output / 'model_int8.tflite'
    assert report[path.name]['bytes'] == path.stat().st_size
    call('predict', f'--checkpoint={path}', f'--input={next(images.iterdir())}',
         f'--output={tmp_path}/maps')


def test_folders_whose_names_tensorflow_takes_for_patterns(call, made_run, tmp_path):
    """A run that was moved to such a folder, exported into another one."""
    moved = pathlib.Path(shutil.copytree(made_run.path, tmp_path / 'w [1]' / 'run'))
    output = tmp_path / 'ex [a]\\'
    assert not call('export', f'--checkpoint={moved}', f'--output={output}')
    assert (output / 'saved_model.pb').is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == [output.name, 'w [1]']
