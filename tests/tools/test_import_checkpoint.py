"""tools/import_checkpoint.py: a folder that serves everywhere, its report, and refusals."""
import json
import tarfile

import numpy as np
import pytest

from tf_advseg.core.errors import UserError
from tf_advseg.experiments.convert import importing
from tf_advseg.models import layers
from tf_advseg.models.zoo import catalogue, tf1_checkpoint
from tf_advseg.run import networks

MODEL = 'mobilenetv2_dm05_coco_voc_trainaug'


def contents(model):
    return {name: v.numpy() for name, v in layers.official_variables(model).items()}


@pytest.fixture(scope='module')
def archive(tmp_path_factory):
    """(path of an archive like MODEL's, the network in it)."""
    folder = tmp_path_factory.mktemp('archive')
    model = networks.build(networks.describe(
        'deeplab_mobilenet_v2', **{**catalogue.entry(MODEL).arguments(), 'seed': 9}))
    tf1_checkpoint.write(folder / 'model.ckpt-30000', model, 30000)
    path = folder / 'zoo.tar.gz'
    with tarfile.open(path, 'w:gz', compresslevel=0) as tar:
        for part in sorted(folder.glob('model.ckpt*')):
            tar.add(part, f'deeplabv3_mnv2_dm05/{part.name}')
    return path, model


def imported(call, archive, output, *words):
    call('import_checkpoint', f'--model={MODEL}', f'--source={archive[0]}', f'--output={output}',
         *words)
    return networks.load(output)


def test_the_folder_is_the_zoo_s_network_with_its_classes(call, archive, tmp_path, capsys):
    model, spec, content = imported(call, archive, tmp_path / 'deep' / 'out', '--verify')
    expected = contents(archive[1])
    for name, value in contents(model).items():
        np.testing.assert_array_equal(value, expected[name])
    assert spec.name == 'pascal_voc_2012' and spec.class_names[15] == 'person'
    assert content['model']['arguments']['crop_size'] == [513, 513]
    assert content['origin']['model'] == MODEL and content['origin']['assigned'] == 272
    said = capsys.readouterr().out
    assert '272 variables assigned, 0 re-initialised' in said
    assert 'no frozen graph or TFLite' in said and '--checkpoint=' in said
    whole = json.loads((tmp_path / 'deep' / 'out' / 'import_report.json').read_text())
    assert sorted(whole['assigned']) == sorted(expected) and whole['kind'] == 'TF1 checkpoint'
    assert [each['name'] for each in whole['unused']] == ['global_step']
    assert [path.name for path in (tmp_path / 'deep').iterdir()] == ['out']


def test_source_and_output_of_any_name(call, archive, tmp_path):
    """To TensorFlow these names are patterns."""
    source, output = tmp_path / 'K [x] y\\', tmp_path / 'imp {a,b}' / 'o [1]*'
    source.mkdir()
    with tarfile.open(archive[0]) as tar:
        tar.extractall(source)
    found = imported(call, (next(source.iterdir()),), output, '--verify')[0]
    for name, value in contents(found).items():
        np.testing.assert_array_equal(value, contents(archive[1])[name])
    assert [path.name for path in output.parent.iterdir()] == ['o [1]*']


def test_stride_8_and_other_classes(call, archive, tmp_path, capsys):
    model, spec, content = imported(call, archive, tmp_path / 'out', '--num_classes=4',
                                    '--output_stride=8')
    assert (model.output_stride, model.num_classes) == (8, 4)
    assert spec.class_names == ('class 0', 'class 1', 'class 2', 'class 3')
    assert 're-initialised: logits/semantic/biases: 21 classes' in capsys.readouterr().out
    model, spec, _ = imported(call, archive, tmp_path / 'out', '--dataset=stanford_background')
    assert spec.name == 'stanford_background' and model.num_classes == 8  # the folder is replaced
    assert [path.name for path in tmp_path.iterdir()] == ['out']


def test_the_folder_serves_predict_and_the_checkpoint_serves_training(call, archive, made_run,
                                                                      tmp_path):
    imported(call, archive, tmp_path / 'out')
    from PIL import Image
    image, _ = made_run.data.records.load(made_run.data.test[0])
    Image.fromarray(image).save(tmp_path / 'a.png')
    call('predict', f'--checkpoint={tmp_path}/out', f'--input={tmp_path}/a.png',
         f'--output={tmp_path}/maps')
    assert np.array(Image.open(tmp_path / 'maps' / 'a.png')).shape == image.shape[:2]
    started = networks.build(networks.describe('deeplab_mobilenet_v2', num_classes=3,
                                               depth_multiplier=0.5))
    for source in (tmp_path / 'out', archive[0], archive[0].parent / 'model.ckpt-30000'):
        said = networks.load_weights(networks.find_weights(source), started)
        assert '270 variables assigned, 2 re-initialised' in said


def test_any_other_network_is_spelt_by_gin(call, archive, tmp_path):
    gin = ['--gin_param=experiment.network = "deeplab_mobilenet_v2"',
           '--gin_param=deeplab_mobilenet_v2.depth_multiplier = 0.5',
           '--gin_param=deeplab_mobilenet_v2.atrous_rates = (2,)']
    words = [f'--source={archive[0].parent}/model.ckpt-30000', f'--output={tmp_path}/out']
    with pytest.raises(UserError, match='how many classes'):
        call('import_checkpoint', *gin, *words)
    with pytest.raises(UserError, match='no weights for aspp1_depthwise.*backbone_only'):
        call('import_checkpoint', *gin, *words, '--num_classes=21')
    call('import_checkpoint', *gin, *words, '--num_classes=21', '--backbone_only')
    model, _, content = networks.load(tmp_path / 'out')
    assert content['model']['arguments']['atrous_rates'] == [2]
    np.testing.assert_array_equal(model.backbone.stem.kernel, archive[1].backbone.stem.kernel)


def test_another_stride_takes_the_rates_of_gin_with_it(call, archive, tmp_path, capsys):
    gin = ['--gin_param=experiment.network = "deeplab_mobilenet_v2"',
           '--gin_param=deeplab_mobilenet_v2.depth_multiplier = 0.5',
           '--gin_param=deeplab_mobilenet_v2.atrous_rates = (6, 12)']
    words = [f'--source={archive[0]}', f'--output={tmp_path}/out', '--num_classes=21',
             '--backbone_only']
    bound = '--gin_param=deeplab_mobilenet_v2.output_stride = 8'
    for more, stride, rates in (([], 16, [6, 12]), (['--output_stride=8'], 8, [12, 24]),
                                ([bound, '--output_stride=32'], 32, [2, 3])):
        call('import_checkpoint', *gin, *more, *words)
        arguments = json.loads((tmp_path / 'out' / 'model.json').read_text())['model']['arguments']
        assert (arguments['output_stride'], arguments['atrous_rates']) == (stride, rates)


@pytest.mark.slow
def test_our_own_folders_know_their_network(call, archive, deeplab_folder, tmp_path):
    imported(call, archive, tmp_path / 'zoo')
    call('import_checkpoint', f'--source={tmp_path}/zoo', f'--output={tmp_path}/again')
    model, spec, content = networks.load(tmp_path / 'again')
    assert spec.name == 'pascal_voc_2012' and content['origin']['kind'] == 'model folder'
    for name, value in contents(archive[1]).items():
        np.testing.assert_array_equal(contents(model)[name], value)
    call('import_checkpoint', f'--source={deeplab_folder[1]}', f'--output={tmp_path}/again',
         '--num_classes=8', '--output_stride=8', '--verify')
    model, spec, _ = networks.load(tmp_path / 'again')
    kept = deeplab_folder[0]
    assert (model.num_classes, model.output_stride, spec.num_classes) == (8, 8, 8)
    ours, theirs = contents(model), contents(kept)
    assert list(ours) == list(theirs)
    for name, value in theirs.items():
        assert name.startswith('logits/') or np.array_equal(ours[name], value), name


def test_neighbours_are_not_taken_for_the_same_weights(call, archive, tmp_path, capsys):
    """Two graphs of who knows what beside a prefix: said, not run, and no reason to fail."""
    folder = tmp_path / 'mine'
    folder.mkdir()
    for part in archive[0].parent.glob('model.ckpt*'):
        (folder / part.name).write_bytes(part.read_bytes())
    for name in ('a.tflite', 'b.tflite', 'other.pb'):
        (folder / name).write_bytes(b'of another network')
    for source in (folder, folder / 'model.ckpt-30000'):
        call('import_checkpoint', f'--model={MODEL}', f'--source={source}',
             f'--output={tmp_path}/out', '--verify')
        said = capsys.readouterr().out
        for name in ('a.tflite', 'b.tflite', 'other.pb'):
            assert f'{folder / name}: not compared: it may be of other weights' in said
        assert '272 variables assigned' in said
    with pytest.raises(UserError, match='a.tflite: not a TFLite model'):
        call('import_checkpoint', f'--model={MODEL}', f'--source={folder}',
             f'--output={tmp_path}/out', f'--graph={folder}/a.tflite')


def test_a_graph_that_cannot_be_compared_is_no_proof(call, archive, tmp_path):
    import tensorflow as tf
    definition = tf.compat.v1.GraphDef()
    definition.node.add(name='a', op='NoOp')
    (tmp_path / 'g.pb').write_bytes(definition.SerializeToString())
    words = [f'--model={MODEL}', f'--source={archive[0]}', f'--output={tmp_path}/out',
             f'--graph={tmp_path}/g.pb']
    with pytest.raises(UserError, match='not verified, nothing was written: .*g.pb: has no node '
                       'ImageTensor.*leave --verify and --graph out'):
        call('import_checkpoint', *words)
    assert not (tmp_path / 'out').exists()
    definition.node.add(name='harm', op='WriteFile')
    (tmp_path / 'g.pb').write_bytes(definition.SerializeToString())
    words[2] = f'--output={tmp_path}/other'
    with pytest.raises(UserError, match='not run: node harm is WriteFile'):
        call('import_checkpoint', *words)
    assert not (tmp_path / 'other').exists()


def test_verify_runs_the_tflite_file_and_bad_parity_writes_nothing(call, shared, tmp_path, capsys,
                                                                  monkeypatch):
    source = shared / 'zoo' / 'deeplabv3.tflite'
    if not source.is_file():
        pytest.skip(f'the zoo files are not here: {source}')
    words = [f'--model={MODEL}', f'--source={source}', f'--output={tmp_path}/out', '--verify',
             f'--input={shared}/zoo/images/bird_513.png']
    call('import_checkpoint', *words)
    assert 'same class at 100.000 %' in capsys.readouterr().out
    origin = json.loads((tmp_path / 'out' / 'model.json').read_text())['origin']
    assert len(origin['parity']) == 1
    twins = importing._twins

    def spoilt(description, segmentor):
        segmentor.logits.bias.assign_add([5.0] * 10 + [-5.0] * 11)
        return twins(description, segmentor)

    monkeypatch.setattr(importing, '_twins', spoilt)
    words[2] = f'--output={tmp_path}/bad'
    with pytest.raises(UserError, match='parity is bad, nothing was written'):
        call('import_checkpoint', *words)
    assert not (tmp_path / 'bad').exists()


def test_the_catalogue_is_printed(call, capsys):
    call('import_checkpoint', '--list')
    assert capsys.readouterr().out.strip() == catalogue.listing().strip()


def test_mistakes_are_one_line_and_write_nothing(call, archive, made_run, tmp_path):
    source, output = f'--source={archive[0]}', f'--output={tmp_path}/out'
    (tmp_path / 'full').mkdir()
    (tmp_path / 'full' / 'thesis.txt').write_text('mine')
    (tmp_path / 'cut.tar.gz').write_bytes(archive[0].read_bytes()[:9000])
    model = f'--model={MODEL}'
    for words, text in (
            (['--model=mobilenetv2_coco_voc_trainag', source, output],
             'Did you mean "mobilenetv2_coco_voc_trainaug"'),
            (['--model=xception71_dpc_cityscapes_trainval', source, output], 'not built here'),
            ([source, output], 'no network was given'),
            ([model, output], 'it was published as http://download.tensorflow.org/models/'),
            ([model, source], 'no folder for a model'),
            ([model, source, f'--output={tmp_path}/full'], 'was not written as a model by this'),
            ([model, source, f'--output={tmp_path}/full/thesis.txt'], 'is a file'),
            ([model, output, f'--source={tmp_path}/cut.tar.gz'], 'truncated or damaged archive'),
            ([model, output, f'--source={tmp_path}/nothing'], 'no such checkpoint'),
            ([model, output, f'--source={made_run.path}'], ' in the network'),
            ([model, source, output, '--graph=nowhere.pb'], 'nowhere.pb: no such frozen graph'),
            ([model, source, output, '--dataset=citiscapes'], 'Did you mean "cityscapes"'),
            ([model, source, output, '--dataset=cityscapes', '--num_classes=21'], '19 classes'),
            (['--model=mobilenetv2_coco_cityscapes_trainfine', source, output], 'another depth'),
            ([model, source, output, '--gin_file=gin/demo.gin'], 'give one of the two')):
        with pytest.raises(UserError) as caught:
            call('import_checkpoint', *words)
        assert text in str(caught.value) and '\n' not in str(caught.value), words
    assert sorted(path.name for path in tmp_path.iterdir()) == ['cut.tar.gz', 'full']


def test_another_entry_s_file_is_not_taken_for_this_one_s(call, archive, tmp_path, monkeypatch):
    """As many channels, but Cityscapes' classes: the head would be lost unasked."""
    entry = catalogue.entry(MODEL)
    import dataclasses
    other = dataclasses.replace(entry, num_classes=19, dataset='cityscapes')
    monkeypatch.setitem(catalogue.ENTRIES, MODEL, other)
    with pytest.raises(UserError, match='not the weights of .*21 classes in the file, 19'):
        call('import_checkpoint', f'--model={MODEL}', f'--source={archive[0]}',
             f'--output={tmp_path}/out')
    assert not (tmp_path / 'out').exists()
