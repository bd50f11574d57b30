"""tools/predict.py on a film: each frame under its classes, same size and rate, or one line."""
import contextlib
import fractions
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from tf_advseg.core.errors import UserError
from tf_advseg.evaluation import map_predictor
from tf_advseg.experiments.score import film_files, predicting, predicting_films
from tf_advseg.models import backends
from tf_advseg.reporting import panels

COUNT, SIZE = 13, (36, 48)  # more than a batch
RATE = fractions.Fraction(30000, 1001)


@pytest.fixture(scope='module', autouse=True)
def _ffmpeg():
    try:
        film_files.program()
    except UserError as error:
        pytest.skip(f'no film can be made here: {error}')


def ffmpeg(*words):
    subprocess.run([film_files.program(), '-v', 'error', '-y', *map(str, words)], check=True,
                   stdin=subprocess.DEVNULL)


def made_film(path, frames, rate=RATE):
    """Writes frames, uint8 [H, W, 3], by our own writer."""
    height, width = frames[0].shape[:2]
    with film_files.written(path, film_files.Film(path, height, width, rate)) as append:
        for frame in frames:
            append(frame)
    return path


def made_frames(count=COUNT, size=SIZE):
    """Soft images, as a film's are, each different."""
    random = np.random.default_rng(3)
    return [np.array(Image.fromarray(random.integers(0, 256, (4, 5, 3), np.uint8)).resize(
        size[::-1], Image.BICUBIC)) for _ in range(count)]


@pytest.fixture(scope='module')
def film(tmp_path_factory):
    return made_film(tmp_path_factory.mktemp('film') / 'in.mp4', made_frames())


def read(path):
    return list(film_files.frames(film_files.opened(path)))


def test_a_film_has_its_size_rate_and_number_of_frames(call, made_run, film, tmp_path, capsys):
    output = tmp_path / 'new' / 'out.mkv'
    call('predict', f'--checkpoint={made_run.path}', f'--input={film}', f'--output={output}')
    printed = capsys.readouterr().out
    assert f'{COUNT} frames predicted in' in printed and 'frames per second; written' in printed
    before, after = film_files.opened(film), film_files.opened(output)
    assert (after.height, after.width, after.rate) == (*SIZE, RATE) == (
        before.height, before.width, before.rate)
    written, frames = read(output), read(film)
    assert len(written) == len(frames) == COUNT
    # What is written is the overlay: the encoder loses little of it.
    predictor = map_predictor.MapPredictor(made_run.segmentor, (49, 49), only_named=True)
    overlays = [panels.overlay(frame, ids, made_run.data.spec.palette)
                for frame, ids in predicting_films.class_maps(predictor, frames)]
    apart = np.abs(np.array(written, np.float32) - np.array(overlays, np.float32)).mean()
    # Colours are at half the resolution: the frames without their maps are far off.
    assert apart < 0.3 * np.abs(np.array(frames, np.float32) - np.array(overlays)).mean()
    assert [path.name for path in output.parent.iterdir()] == ['out.mkv']


def test_class_maps_are_those_of_the_frames_as_images(made_run, film, tmp_path):
    frames = read(film)
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(tmp_path / f'{number:02}.png')
    predicting.predict(made_run.segmentor, made_run.data.spec, (49, 49), [tmp_path],
                       tmp_path / 'maps', show=False, flip=True)
    predictor = map_predictor.MapPredictor(made_run.segmentor, (49, 49), only_named=True,
                                           flip=True)
    found = list(predicting_films.class_maps(predictor, film_files.frames(
        film_files.opened(film))))
    assert len(found) == COUNT and len(np.unique([ids for _, ids in found])) > 2
    for number, (frame, ids) in enumerate(found):
        np.testing.assert_array_equal(frame, frames[number])
        np.testing.assert_array_equal(
            ids, np.array(Image.open(tmp_path / 'maps' / f'{number:02}.png')))


def test_no_more_than_a_batch_of_frames_is_held(made_run):
    taken, given = [0], [0]
    predictor = map_predictor.MapPredictor(made_run.segmentor, (49, 49), batch_size=2)

    def endless():
        while True:
            taken[0] += 1
            yield np.full((*SIZE, 3), taken[0], np.uint8)

    for frame, _ in predicting_films.class_maps(predictor, endless()):
        given[0] += 1
        assert frame[0, 0, 0] == given[0] and taken[0] - given[0] < 2
        if given[0] == 7:
            break
    assert taken[0] == 8


@pytest.mark.parametrize('backend', [name for name in backends.NAMES if name != 'tensorflow'])
def test_every_backend(deeplab_folder, made_run, film, tmp_path, backend):
    if backend == 'onnx':
        pytest.importorskip('onnxruntime', reason='ONNX Runtime is not installed')
        pytest.importorskip('tf2onnx', reason='tf2onnx is not installed')
    segmentor, said = deeplab_folder[0], []
    outcome = predicting_films.predict(
        segmentor, made_run.data.spec, (49, 49), film_files.opened(film), tmp_path / 'out.mp4',
        backend=backend, show=False, say=said.append)
    assert outcome.frames == COUNT and said[0].startswith('backend: ')
    plain = predicting_films.predict(
        segmentor, made_run.data.spec, (49, 49), film_files.opened(film), tmp_path / 'plain.mp4',
        show=False, say=said.append)
    assert len(said) == 1 and plain.frames == COUNT
    apart = np.array(read(outcome.path), np.int32) - np.array(read(plain.path), np.int32)
    assert np.abs(apart).mean() < 1.0


@pytest.mark.parametrize('suffix', film_files.CONTAINERS)
def test_every_container_is_read_and_written(tmp_path, suffix):
    frames = made_frames()
    rate = fractions.Fraction(10) if suffix == '.gif' else RATE
    path = made_film(tmp_path / f'a{suffix}', frames, rate)
    found = film_files.opened(path)
    assert (found.height, found.width, found.rate, found.claimed) == (*SIZE, rate, None)
    again = read(path)
    assert len(again) == COUNT
    assert np.abs(np.array(again, np.float32) - np.array(frames, np.float32)).mean() < 12
    assert [path.name for path in tmp_path.iterdir()] == [f'a{suffix}']


def test_odd_sides_pixels_that_are_not_square_and_films_that_lie_on_their_side(tmp_path):
    odd = made_film(tmp_path / 'odd.mp4', made_frames(3, (35, 47)))
    assert [frame.shape for frame in read(odd)] == [(35, 47, 3)] * 3
    source = made_film(tmp_path / 'a.mp4', made_frames())
    ffmpeg('-i', source, '-vf', 'setsar=4/3', tmp_path / 'wide.mp4')
    wide = film_files.opened(tmp_path / 'wide.mp4')
    assert wide.aspect == '4/3'
    with film_files.written(tmp_path / 'wide_out.mp4', wide) as append:
        append(made_frames(1)[0])
    assert film_files.opened(tmp_path / 'wide_out.mp4').aspect == '4/3'
    ffmpeg('-display_rotation', '90', '-i', source, '-c', 'copy', tmp_path / 'turned.mp4')
    turned = film_files.opened(tmp_path / 'turned.mp4')
    assert (turned.height, turned.width) == SIZE[::-1]
    assert read(tmp_path / 'turned.mp4')[0].shape == (*SIZE[::-1], 3)


def test_a_rate_that_no_camera_has_is_not_believed(made_run, tmp_path):
    path = tmp_path / 'screen.mkv'
    ffmpeg('-f', 'lavfi', '-i', 'color=size=32x32:rate=1000:duration=0.5', path)
    found, said = film_files.opened(path), []
    assert (found.rate, found.claimed, found.frames) == (30, 1000, 15)
    outcome = predicting_films.predict(made_run.segmentor, made_run.data.spec, (49, 49), found,
                                       tmp_path / 'out.mkv', show=False, say=said.append)
    assert abs(outcome.frames - 15) <= 1 and 'claims 1000 frames per second' in said[0]


def test_a_gif_is_a_film_where_a_film_is_asked_for(call, made_run, tmp_path):
    source = made_film(tmp_path / 'a.gif', made_frames(5), fractions.Fraction(10))
    call('predict', f'--checkpoint={made_run.path}', f'--input={source}',
         f'--output={tmp_path}/b.gif')
    with Image.open(tmp_path / 'b.gif') as image:
        assert image.n_frames == 5 and image.size == SIZE[::-1] and image.info['duration'] == 100
    call('predict', f'--checkpoint={made_run.path}', f'--input={source}',
         f'--output={tmp_path}/maps')
    assert Image.open(tmp_path / 'maps' / 'a.png').size == SIZE[::-1]


def test_mistakes_are_one_line_and_leave_nothing(call, made_run, film, tmp_path):
    (tmp_path / 'text.mp4').write_text('no film')
    (tmp_path / 'image.png').write_bytes(b'')
    ffmpeg('-f', 'lavfi', '-i', 'sine=duration=0.2', tmp_path / 'sound.mp4')
    before = sorted(path.name for path in tmp_path.iterdir())
    out = f'--output={tmp_path}/out.mp4'
    for words, text in (
            ([f'--input={tmp_path}/text.mp4', out], 'text.mp4: is no film that ffmpeg can read'),
            ([f'--input={tmp_path}/sound.mp4', out], 'sound.mp4: .*it has no video'),
            ([f'--input={tmp_path}/absent.mp4', out], 'absent.mp4: no such file'),
            ([f'--input={film}', f'--output={tmp_path}/maps'], 'maps: .* must end in .mp4'),
            ([f'--input={film}', f'--output={tmp_path}'], 'must end in .mp4'),
            ([f'--input={film}', f'--output={tmp_path}/out.wmv'], r'out.wmv: .* must end in'),
            ([f'--input={tmp_path}/image.png', out], 'out.mp4: a film is made of a film'),
            ([f'--input={film}', f'--input={film}', out], 'in.mp4: a film is predicted alone'),
            ([f'--input={film}', f'--output={film}'], 'in.mp4: is the film itself'),
            ([f'--input={film}', f'--output={tmp_path}/text.mp4/x.mp4'], 'is a file'),
            ([f'--input={film}', out, '--confidence'], '--confidence: is made of images'),
            ([f'--input={film}', out, '--submission=ade20k'], '--submission: is made of images'),
            ([f'--input={film}', out, '--frames=3'], '--frames: is for a camera')):
        with pytest.raises(UserError, match=text) as caught:
            call('predict', f'--checkpoint={made_run.path}', *words)
        assert '\n' not in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == before


@pytest.mark.parametrize('suffix', ['.mp4', '.mkv', '.avi', '.webm', '.gif'])
def test_a_truncated_film_leaves_what_was_there(call, made_run, tmp_path, suffix):
    rate = fractions.Fraction(10)
    whole = made_film(tmp_path / f'whole{suffix}', made_frames(30), rate).read_bytes()
    cut, output = tmp_path / f'cut{suffix}', tmp_path / f'out{suffix}'
    cut.write_bytes(whole[:len(whole) * 7 // 10])
    output.write_bytes(b'of before')
    with pytest.raises(UserError, match=f'cut{suffix}: truncated or damaged, .* frame [1-9]'):
        call('predict', f'--checkpoint={made_run.path}', f'--input={cut}', f'--output={output}')
    assert output.read_bytes() == b'of before'
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [f'whole{suffix}', f'cut{suffix}', f'out{suffix}'])


def test_an_encoder_that_fails_is_one_line_with_its_reason(film, tmp_path, monkeypatch):
    monkeypatch.setattr(film_files, '_H264', ('-c:v', 'no_such_encoder'))
    found = film_files.opened(film)
    with pytest.raises(UserError, match='out.mp4: ffmpeg cannot write it .*no_such_encoder'):
        with film_files.written(tmp_path / 'out.mp4', found) as append:
            for _ in range(500):
                append(np.zeros((*SIZE, 3), np.uint8))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow  # it is a race with ffmpeg and TensorFlow, whose outcome a busy machine decides
def test_an_interrupted_film_leaves_no_process_and_no_file(made_run, repository, tmp_path):
    film = tmp_path / 'long.mp4'
    ffmpeg('-f', 'lavfi', '-i', 'testsrc=size=48x36:rate=200:duration=60', film)
    process = subprocess.Popen(
        [sys.executable, repository / 'tools' / 'predict.py', f'--checkpoint={made_run.path}',
         f'--input={film}', f'--output={tmp_path}/out.mp4'], cwd=repository, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    until = time.monotonic() + 120
    while len(list(tmp_path.iterdir())) < 2:  # its temporary folder
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=300)[1].splitlines()[-1] == (
        'error: interrupted; nothing half-written was left; the same command starts anew')
    assert process.returncode == 130
    assert [path.name for path in tmp_path.iterdir()] == ['long.mp4']
    until = time.monotonic() + 20  # one that was just being started ends by itself
    while running(film) and time.monotonic() < until:
        time.sleep(0.05)
    assert not running(film)


def running(film):
    """The command lines of all processes that name a film."""
    found = []
    for entry in filter(str.isdigit, os.listdir('/proc')):
        with contextlib.suppress(OSError):  # it has ended since
            command = pathlib.Path('/proc', entry, 'cmdline').read_bytes()
            found.extend([command] if str(film).encode() in command else [])
    return found
