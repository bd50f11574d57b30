"""tools/predict.py: maps and overlays of whatever can be read, the rest named."""
import builtins
import importlib
import os
import pathlib
import shutil

import numpy as np
import pytest
from PIL import Image

from tf_advseg.core import command_line
from tf_advseg.core.errors import UserError
from tf_advseg.data import official_specs
from tf_advseg.evaluation import prediction, submission
from tf_advseg.experiments.score import film_files, input_files, predicting
from tf_advseg.models import deeplab


@pytest.fixture
def images(made_run, tmp_path):
    """Four good images, two broken: names that clash, a folder inside, a hidden file."""
    folder = tmp_path / 'in'
    (folder / 'more').mkdir(parents=True)
    image, _ = made_run.data.records.load(made_run.data.test[0])
    photo = Image.fromarray(image)
    photo.save(folder / 'a.png')
    photo.save(folder / 'a.jpg')
    photo.convert('L').save(folder / 'grey.png')
    photo.resize((61, 35)).save(folder / 'more' / 'wide.png')
    whole = (folder / 'a.jpg').read_bytes()
    (folder / 'cut.jpg').write_bytes(whole[:-300])
    (folder / 'text.png').write_text('no image')
    (folder / '.hidden.png').write_text('not looked at')
    (folder / 'notes.txt').write_text('not looked at')
    return folder


def test_a_folder_broken_images_are_named(call, made_run, images, tmp_path, capsys):
    output = tmp_path / 'out'
    assert call('predict', f'--checkpoint={made_run.path}', f'--input={images}',
                f'--output={output}') is None
    found = sorted(path.relative_to(output).as_posix() for path in output.rglob('*.png'))
    assert found == ['a_jpg.png', 'a_jpg_overlay.png', 'a_png.png', 'a_png_overlay.png',
                     'grey.png', 'grey_overlay.png', 'more/wide.png', 'more/wide_overlay.png']
    captured = capsys.readouterr()
    assert '4 predicted, 2 skipped' in captured.out
    skipped = [line for line in captured.err.splitlines() if line.startswith('skipped: ')]
    assert len(skipped) == 2 and 'cut.jpg: truncated' in skipped[0] and 'text.png' in skipped[1]


def test_names_that_are_not_utf8_are_predicted_and_remembered(
        call, made_run, images, tmp_path, capsys):
    folder, output = tmp_path / os.fsdecode(b'caf\xe9'), tmp_path / 'out'
    folder.mkdir()
    shutil.copy(images / 'a.png', folder / os.fsdecode(b'\xe9t\xe9.png'))
    words = ['predict', f'--checkpoint={made_run.path}', f'--input={folder}',
             f'--output={output}']
    call(*words)
    assert (output / os.fsdecode(b'\xe9t\xe9_overlay.png')).is_file()
    call(*words)
    assert '0 predicted, 0 skipped, 1 kept' in capsys.readouterr().out


@pytest.mark.parametrize('longest', [None, 1000])
def test_long_names_cost_no_other_image(call, made_run, images, tmp_path, capsys, monkeypatch,
                                        longest):
    if longest:  # as on a file system that has less room
        monkeypatch.setattr(input_files, 'LONGEST', longest)
    for name in ('a.jpg', 'cut.jpg', 'text.png'):
        (images / name).unlink()
    shutil.copy(images / 'a.png', images / (246 * 'm' + '.png'))
    words = ['predict', f'--checkpoint={made_run.path}', f'--input={images}',
             f'--output={tmp_path}/out']
    call(*words)
    out, err = capsys.readouterr()
    assert ('3 predicted, 1 skipped' if longest else '4 predicted, 0 skipped') in out
    assert err.count('its name is too long') == bool(longest)
    written = [path.name for path in (tmp_path / 'out').iterdir() if path.name[0] == 'm'
               and path.is_file()]
    assert len(written) == (0 if longest else 2)
    call(*words)
    assert f'{3 if longest else 4} kept from before' in capsys.readouterr().out


def test_a_map_holds_the_ids_and_the_classes_colours(call, made_run, images, tmp_path):
    call('predict', f'--checkpoint={made_run.path}', f'--input={images}/more/wide.png',
         f'--output={tmp_path}/deep/out')
    written = Image.open(tmp_path / 'deep' / 'out' / 'wide.png')
    image = np.array(Image.open(images / 'more' / 'wide.png'))
    ids = prediction.predict(made_run.segmentor, image, (49, 49))
    assert written.mode == 'P' and len(set(ids.flat)) > 1
    np.testing.assert_array_equal(np.array(written), ids)
    assert tuple(written.getpalette()[:3]) == made_run.data.spec.palette[0]
    assert Image.open(tmp_path / 'deep' / 'out' / 'wide_overlay.png').size == (61, 35)


def test_nothing_that_can_be_predicted_is_an_error(call, made_run, images, tmp_path):
    broken = tmp_path / 'broken'
    broken.mkdir()
    for name in ('cut.jpg', 'text.png'):
        shutil.copy(images / name, broken / name)
    with pytest.raises(UserError, match='nothing could be predicted, 2 of 2 images'):
        call('predict', f'--checkpoint={made_run.path}', f'--input={broken}',
             f'--output={tmp_path}/out')
    assert not (tmp_path / 'out').exists()


def test_mistakes_are_one_line(call, made_run, images, tmp_path):
    start = [f'--checkpoint={made_run.path}', f'--output={tmp_path}/out']
    (tmp_path / 'empty').mkdir()
    for words, text in (
            ([f'--checkpoint={made_run.path}'], 'no input was given'),
            ([*start, f'--input={tmp_path}/nowhere'], 'nowhere: no such folder'),
            ([*start, f'--input={tmp_path}/empty'], 'empty: no image'),
            ([f'--input={images}', f'--output={tmp_path}/out'], 'no checkpoint was given'),
            ([f'--checkpoint={images}', f'--input={images}', f'--output={tmp_path}/out'],
             'neither a run directory'),
            ([*start, f'--input={images}', f'--output={images}'], 'where the images lie'),
            ([*start, f'--input={images}', f'--output={images}/notes.txt'], 'is a file')):
        with pytest.raises(UserError) as caught:
            call('predict', *words)
        assert text in str(caught.value) and '\n' not in str(caught.value)


def test_the_same_command_goes_on_where_it_stopped(call, made_run, images, tmp_path, capsys):
    output = tmp_path / 'out'
    words = ['predict', f'--checkpoint={made_run.path}', f'--input={images}',
             f'--output={output}']
    call(*words)
    times = {path: path.stat().st_mtime_ns for path in output.rglob('*.png')}
    (output / 'grey.png').write_bytes(b'torn')
    image = Image.open(images / 'more' / 'wide.png')
    image.rotate(180).save(images / 'more' / 'wide.png')
    capsys.readouterr()
    call(*words)
    assert '2 predicted, 2 skipped, 2 kept from before' in capsys.readouterr().out
    renewed = {path.relative_to(output).as_posix() for path, time in times.items()
               if path.stat().st_mtime_ns != time}
    assert renewed == {'grey.png', 'grey_overlay.png', 'more/wide.png', 'more/wide_overlay.png'}
    np.testing.assert_array_equal(
        np.array(Image.open(output / 'more' / 'wide.png')), prediction.predict(
            made_run.segmentor, np.array(image.rotate(180)), (49, 49)))
    call(*words, '--which=control')  # another network's maps are not these
    assert '4 predicted, 2 skipped; written' in capsys.readouterr().out
    call(*words, '--which=control', '--confidence')  # one file more is wanted
    assert '4 predicted, 2 skipped; written' in capsys.readouterr().out
    call(*words, '--which=control')  # which harms nobody who does not want it
    assert '0 predicted, 2 skipped, 4 kept from before' in capsys.readouterr().out


def test_confidence_is_the_probability_as_grey(call, made_run, images, tmp_path):
    call('predict', f'--checkpoint={made_run.path}', f'--input={images}/more/wide.png',
         f'--output={tmp_path}/out', '--confidence')
    written = Image.open(tmp_path / 'out' / 'wide_confidence.png')
    image = np.array(Image.open(images / 'more' / 'wide.png'))
    chances = prediction.predict(made_run.segmentor, image, (49, 49), probabilities=True)[1]
    assert written.mode == 'L'
    assert np.abs(np.array(written) - 255.0 * chances.max(-1)).max() <= 0.51


def test_several_inputs_and_patterns(call, made_run, images, tmp_path, capsys):
    output = tmp_path / 'out'
    call('predict', f'--checkpoint={made_run.path}', f'--input={images}/more',
         f'--input={images}/g*.png', f'--output={output}', f'{images}/a.jpg')
    found = sorted(path.relative_to(output).as_posix() for path in output.rglob('*y.png'))
    assert found == ['a_overlay.png', 'grey.png', 'grey_overlay.png', 'more/wide_overlay.png']
    assert '3 predicted, 0 skipped' in capsys.readouterr().out


def test_a_submission_has_the_servers_files_only(made_run, images, tmp_path):
    spec = official_specs.SPECS['cityscapes']
    network = deeplab.deeplab_mobilenet_v2(19, depth_multiplier=0.25, crop_size=(49, 49))
    stem = 'berlin_000000_000019'
    shutil.copy(images / 'a.png', images / 'more' / f'{stem}_leftImg8bit.png')
    (images / 'more' / 'wide.png').unlink()
    outcome = predicting.predict(network, spec, (49, 49), [images / 'more'], tmp_path / 'out',
                                 show=False, submission='cityscapes', network='x')
    assert len(outcome.written) == 1
    assert sorted(p.name for p in (tmp_path / 'out').iterdir()) == [
        '.predictions.jsonl', f'{stem}_pred_labelIds.png']
    ids = prediction.predict(network, np.array(Image.open(images / 'a.png')), (49, 49))
    np.testing.assert_array_equal(
        np.array(Image.open(tmp_path / 'out' / f'{stem}_pred_labelIds.png')),
        spec.to_official(ids))
    again = predicting.predict(network, spec, (49, 49), [images / 'more'], tmp_path / 'out',
                               show=False, submission='cityscapes', network='x')
    assert len(again.kept) == 1 and not again.written
    for words, text in (
            (dict(submission='cityscapes', confidence=True), 'leave --confidence out'),
            (dict(submission='ade20k'), 'the server expects the 150 of ade20k')):
        with pytest.raises(UserError, match=text):
            predicting.predict(network, spec, (49, 49), [images / 'more'], tmp_path / 'out',
                               show=False, **words)
    with pytest.raises(UserError, match='in/a.jpg: not the name of an image of cityscapes'):
        predicting.predict(network, spec, (49, 49), [images], tmp_path / 'other', show=False,
                           submission='cityscapes')
    assert not (tmp_path / 'other').exists()


def test_files_of_other_settings_do_not_stay(call, made_run, images, tmp_path):
    output = tmp_path / 'out'
    words = ['predict', f'--checkpoint={made_run.path}', f'--output={output}']
    (images / 'text.png').unlink()
    (images / 'cut.jpg').unlink()
    call(*words, f'--input={images}', '--confidence')
    (output / 'a_jpg_confidence.png').write_bytes(b'put there by somebody else')
    (output / 'mine.png').write_bytes(b'mine')
    call(*words, f'--input={images}', '--flip')
    found = {path.relative_to(output).as_posix() for path in output.rglob('*.png')}
    expected = {f'{name}{end}.png' for name in ('a_jpg', 'a_png', 'grey', 'more/wide')
                for end in ('', '_overlay')} | {'a_jpg_confidence.png', 'mine.png'}
    assert found == expected
    # Alone a.png needs no suffix: its old files go, those of a.jpg do not.
    call(*words, f'--input={images}/a.png', '--eval_scales=0.5')
    found = {path.relative_to(output).as_posix() for path in output.rglob('*.png')}
    assert found == expected - {'a_png.png', 'a_png_overlay.png'} | {'a.png', 'a_overlay.png'}


def test_only_files_inside_the_folder_are_ever_deleted(tmp_path, monkeypatch):
    (tmp_path / 'out').mkdir()
    (tmp_path / 'here').mkdir()
    names = ['old.png', '../outside.png', str(tmp_path / 'absolute.png'), 'new.png', 'other.png']
    for name in names:
        (tmp_path / 'out' / name).write_bytes(b'12345')
    entries = [{'picture': [str(tmp_path / 'p.png'), 1, 1], 'files': dict.fromkeys(names, 5)},
               {'picture': [str(tmp_path / 'q.png'), 1, 1], 'files': {'other.png': 5}}]
    monkeypatch.chdir(tmp_path / 'here')
    stale = predicting._Stale(pathlib.Path('../out'), entries, [('new.png',)])
    stale.delete(tmp_path / 'p.png', ('new.png',))
    assert sorted(path.name for path in tmp_path.rglob('*.png')) == [
        'absolute.png', 'new.png', 'other.png', 'outside.png']


def test_a_huge_window_is_cut_to_the_image(call, made_run, images, tmp_path):
    for window in ('9999', '16x99999999'):
        call('predict', f'--checkpoint={made_run.path}', f'--input={images}/more',
             f'--output={tmp_path}/{window}', f'--window={window}')
        assert Image.open(tmp_path / window / 'wide.png').size == (61, 35)


def test_an_output_around_the_images_and_one_that_cannot_be(
        call, made_run, images, tmp_path, monkeypatch, capsys):
    words = ['predict', f'--checkpoint={made_run.path}']
    monkeypatch.chdir(images)
    (images / 'more' / 'gone.png').symlink_to(tmp_path / 'nowhere.png')
    for _ in range(2):
        call(*words, '--input=more', '--output=.')
    captured = capsys.readouterr()
    assert '1 predicted, 1 skipped' in captured.out and 'gone.png' in captured.err
    assert '0 predicted, 1 skipped, 1 kept' in captured.out
    assert (images / 'wide_overlay.png').is_file()
    monkeypatch.setattr(predicting.map_predictor, 'MapPredictor', None)  # nothing is predicted
    with pytest.raises(UserError, match='/proc/x: ') as caught:
        call(*words, '--input=more', '--output=/proc/x')
    assert '\n' not in str(caught.value)


def test_the_tool_knows_the_servers():
    assert importlib.import_module('tools.predict').SERVERS == submission.SERVERS


def test_several_scales_and_mirrored(call, made_run, images, tmp_path):
    call('predict', f'--checkpoint={made_run.path}', f'--input={images}/a.png',
         f'--output={tmp_path}/out', '--eval_scales=0.5', '--eval_scales=1.5', '--flip')
    image = np.array(Image.open(images / 'a.png'))
    written = np.array(Image.open(tmp_path / 'out' / 'a.png'))
    np.testing.assert_array_equal(written, prediction.predict(
        made_run.segmentor, image, (49, 49), scales=(0.5, 1.5), flip=True))
    assert (written != prediction.predict(made_run.segmentor, image, (49, 49))).any()
    with pytest.raises(UserError, match='different numbers above 0'):
        call('predict', f'--checkpoint={made_run.path}', f'--input={images}/a.png',
             f'--output={tmp_path}/other', '--eval_scales=-1')
    assert not (tmp_path / 'other').exists()


def test_another_backend_gives_the_same_maps(call, deeplab_folder, made_run, tmp_path, capsys):
    source = tmp_path / 'in'
    source.mkdir()
    for name in made_run.data.test[:2]:
        Image.fromarray(made_run.data.records.load(name)[0]).save(source / f'{name}.png')
    maps = {}
    for backend in ('tensorflow', 'tflite', 'auto'):
        output = tmp_path / backend
        call('predict', f'--checkpoint={deeplab_folder[1]}', f'--input={source}',
             f'--output={output}', f'--backend={backend}')
        printed = capsys.readouterr().out
        assert ('backend: ' in printed) == (backend != 'tensorflow')
        maps[backend] = np.concatenate([np.array(Image.open(output / f'{name}.png')).ravel()
                                        for name in made_run.data.test[:2]])
    assert 'backend: tensorflow; auto: 2 images are too few' in printed
    # Again: all is kept, and nothing is converted for it; another backend's maps are not kept.
    call('predict', f'--checkpoint={deeplab_folder[1]}', f'--input={source}',
         f'--output={tmp_path / "tflite"}', '--backend=tflite')
    printed = capsys.readouterr().out
    assert '0 predicted, 0 skipped, 2 kept' in printed and 'backend: tflite' not in printed
    call('predict', f'--checkpoint={deeplab_folder[1]}', f'--input={source}',
         f'--output={tmp_path / "tflite"}')
    assert '2 predicted' in capsys.readouterr().out
    assert np.mean(maps['tflite'] == maps['tensorflow']) > 0.9998
    np.testing.assert_array_equal(maps['auto'], maps['tensorflow'])


def test_without_ffmpeg_one_line_names_the_extra(tmp_path, monkeypatch):
    (tmp_path / 'in.mp4').write_bytes(b'')
    monkeypatch.setenv('PATH', str(tmp_path))
    original = builtins.__import__

    def refuse(name, *words, **options):
        if name == 'imageio_ffmpeg':
            raise ImportError(name)
        return original(name, *words, **options)

    monkeypatch.setattr(builtins, '__import__', refuse)
    with pytest.raises(UserError, match=r"films need ffmpeg.*'\.\[video\]'"):
        film_files.requested([tmp_path / 'in.mp4'], tmp_path / 'out.mp4')


def test_the_help_fits_a_screen():
    lines = command_line.help_text(importlib.import_module('tools.predict').main).splitlines()
    assert len(lines) <= 24 and max(map(len, lines)) <= 100
