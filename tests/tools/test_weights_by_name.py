"""zoo:NAME in the place of a path: downloaded, imported and kept, whoever asks."""
import pathlib
import tarfile

import numpy as np
import pytest

import tf_advseg
from tf_advseg.core import configuration
from tf_advseg.core.errors import UserError
from tf_advseg.evaluation import prediction
from tf_advseg.experiments.convert import importing
from tf_advseg.models.zoo import catalogue
from tf_advseg.models.zoo import fetching
from tf_advseg.models.zoo import tf1_checkpoint
from tf_advseg.run import networks

NAME = 'mobilenetv2_dm05_coco_voc_trainaug'


@pytest.fixture(scope='module')
def archive(tmp_path_factory):
    """(the network, an archive as the zoo has it)."""
    folder = tmp_path_factory.mktemp('zoo')
    entry = catalogue.entry(NAME)
    segmentor = networks.build(networks.describe(entry.network, **entry.arguments()))
    segmentor.logits.kernel.assign(segmentor.logits.kernel * 300.0)
    (folder / 'deeplab').mkdir()
    tf1_checkpoint.write(folder / 'deeplab/model.ckpt-30000', segmentor)
    with tarfile.open(folder / entry.file, 'w:gz') as tar:
        tar.add(folder / 'deeplab', 'deeplab')
    return segmentor, folder / entry.file


@pytest.fixture
def published(archive, tmp_path, monkeypatch):
    """The network, whose archive is to be had; the addresses that were asked for."""
    monkeypatch.setenv('TF_ADVSEG_CACHE', str(tmp_path / 'cache'))
    asked = []

    def download(address, path, entry):
        asked.append(address)
        path.write_bytes(archive[1].read_bytes())
    monkeypatch.setattr(fetching, '_download', download)
    return archive[0], asked


def test_a_name_predicts_in_python(published, capsys):
    segmentor, asked = published
    image = np.random.default_rng(1).integers(0, 256, (40, 50, 3)).astype(np.uint8)
    model = tf_advseg.load(f'zoo:{NAME}')
    expected = prediction.predict(segmentor, image, (513, 513))
    np.testing.assert_array_equal(model.predict(image).ids, expected)
    assert model.names[15] == 'person' and asked == [fetching.address_of(catalogue.entry(NAME))]
    tf_advseg.load(f'zoo:{NAME}')
    assert len(asked) == 1  # imported once, too
    assert 'is pinned' in capsys.readouterr().out


def test_training_starts_from_a_name(published):
    path = networks.find_weights(f'zoo:{NAME}')
    assert path.name == catalogue.entry(NAME).file
    _, asked = published
    assert networks.find_weights(f'zoo:{NAME}') == path and len(asked) == 1


def test_download_imports_under_a_folder_of_ones_own(call, published, tmp_path, capsys):
    call('import_checkpoint', f'--model={NAME}', '--download', f'--output={tmp_path}/model')
    assert networks.is_model_folder(tmp_path / 'model')
    call('import_checkpoint', '--list')
    assert capsys.readouterr().out.count(' pinned 20') == 1


@pytest.mark.parametrize('words', [('--download',),
                                   ('--download', f'--model={NAME}', '--source=x')])
def test_download_needs_a_name_and_no_source(call, published, tmp_path, words):
    with pytest.raises(UserError, match='--download fetches'):
        call('import_checkpoint', *words, f'--output={tmp_path}/model')


def test_a_path_stays_a_path_and_a_backbone_is_no_segmentor(published):
    assert importing.resolved(pathlib.Path('runs/mine')) == pathlib.Path('runs/mine')
    assert importing.resolved(None) is None
    with pytest.raises(UserError, match='a backbone without a head'):
        importing.resolved('zoo:xception_65_imagenet')
    with pytest.raises(UserError, match='model of the zoo'):
        importing.resolved('zoo:deeplab')
    with pytest.raises(UserError, match='leave --which out'):
        importing.resolved(f'zoo:{NAME}', 'best')
    with pytest.raises(UserError, match='not built here'):
        importing.resolved('zoo:xception71_dpc_cityscapes_trainfine')
    assert published[1] == []  # nothing was downloaded for any of them


def test_every_tool_takes_a_name(call, published, tmp_path, own_folder):
    image = own_folder / 'images'
    call('predict', f'--checkpoint=zoo:{NAME}', f'--input={image}', f'--output={tmp_path}/maps')
    assert list((tmp_path / 'maps').rglob('*.png'))
    call('export', f'--checkpoint=zoo:{NAME}', f'--output={tmp_path}/out', '--format=tf1')
    assert (tmp_path / 'out/tf1').is_dir()
    with pytest.raises(UserError, match='trained on 21'):  # classes of other data
        call('evaluate', f'--checkpoint=zoo:{NAME}', f'--data_dir={own_folder}')
    with pytest.raises(UserError, match='confidence|classes|--data_dir'):
        call('confidence', f'--checkpoint=zoo:{NAME}', f'--output={tmp_path}/c')
    assert len(published[1]) == 1


def test_another_archive_is_imported_anew(published):
    _, asked = published
    folder = importing.resolved(f'zoo:{NAME}')
    made = (folder / 'model.json').stat().st_mtime_ns
    assert importing.resolved(f'zoo:{NAME}') == folder
    assert (folder / 'model.json').stat().st_mtime_ns == made
    archive_ = fetching.fetch(NAME)
    pin = archive_.with_name(archive_.name + fetching.PIN)
    archive_.write_bytes(archive_.read_bytes() + bytes(20))  # as if the publisher had changed it
    pin.unlink()
    importing.resolved(f'zoo:{NAME}')
    assert (folder / 'model.json').stat().st_mtime_ns != made and len(asked) == 1


def test_what_gin_says_here_is_not_in_the_model_of_all(published):
    configuration.parse([], ['deeplab_mobilenet_v2.dropout_rate = 0.77'])
    folder = importing.resolved(f'zoo:{NAME}')
    assert '0.77' not in (folder / 'model.json').read_text()
