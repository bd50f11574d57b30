"""tools/predict.py on a camera, for which ffmpeg's test source stands in."""
import contextlib
import os
import signal
import threading
import time

import numpy as np
import pytest

from tf_advseg.core.errors import UserError
from tf_advseg.experiments.score import cameras, film_files, predicting_films

SIZE, RATE = (36, 48), 20


@pytest.fixture(autouse=True)
def _ffmpeg():
    try:
        film_files.program()
    except UserError as error:
        pytest.skip(f'no film can be made here: {error}')


def source(rest='', words='testsrc'):
    """ffmpeg's words for a stand-in that gives frames as time goes on."""
    return ('-nostdin', '-re', '-f', 'lavfi', '-i', f'{words}=size=48x36:rate={RATE}{rest}')


@pytest.fixture
def stand_in(monkeypatch):
    """Function of ffmpeg's words that every camera is read by from now on."""
    def use(words):
        monkeypatch.setattr(cameras, '_words', lambda name: words)

    use(source())
    return use


def test_a_number_of_frames_of_a_camera_is_a_film(call, made_run, stand_in, tmp_path, capsys):
    output = tmp_path / 'new' / 'out.mkv'
    call('predict', f'--checkpoint={made_run.path}', '--input=camera:0', f'--output={output}',
         '--frames=5')
    printed = capsys.readouterr().out
    assert '5 frames predicted in' in printed and 'frames per second; written' in printed
    assert 'Ctrl-C' not in printed
    film = film_files.opened(output)
    assert (film.height, film.width, film.rate) == (*SIZE, RATE)
    assert len(list(film_files.frames(film))) >= 5
    assert [path.name for path in output.parent.iterdir()] == ['out.mkv']


def test_ctrl_c_ends_the_film_and_not_the_tool(call, made_run, stand_in, tmp_path, capsys,
                                               monkeypatch):
    predicted = []
    overlay = predicting_films.panels.overlay

    def seen(*words):
        predicted.append(words)
        if len(predicted) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return overlay(*words)

    monkeypatch.setattr(predicting_films.panels, 'overlay', seen)
    before = signal.getsignal(signal.SIGINT)
    call('predict', f'--checkpoint={made_run.path}', '--input=camera:0',
         f'--output={tmp_path}/out.mkv')
    printed = capsys.readouterr().out
    assert 'camera:0: predicting; Ctrl-C ends the film' in printed
    assert '3 frames predicted in' in printed and 'no more frames' not in printed
    assert len(list(film_files.frames(film_files.opened(tmp_path / 'out.mkv')))) >= 3
    assert signal.getsignal(signal.SIGINT) is before


def test_a_camera_that_ends_leaves_its_film(made_run, stand_in, tmp_path):
    stand_in(source(':duration=0.5'))
    said = []
    outcome = predicting_films.predict_camera(
        made_run.segmentor, made_run.data.spec, (49, 49), cameras.opened('camera:0'),
        tmp_path / 'out.mkv', count=10 ** 6, show=False, say=said.append)
    assert 1 <= outcome.frames <= RATE / 2
    assert said == [f'camera:0: gave no more frames after {outcome.frames}']
    assert film_files.opened(tmp_path / 'out.mkv').rate == RATE


def test_the_newest_frame_is_taken_and_the_film_takes_its_time(made_run, tmp_path, monkeypatch):
    """Frames 0.5 s apart, as a slow network takes them, stand for half a second each."""
    frames = [(7.0 + 0.5 * i, np.full((*SIZE, 3), 60 * i, np.uint8)) for i in range(3)]
    film = film_files.Film('camera:0', *SIZE, RATE)
    monkeypatch.setattr(cameras, 'newest_frames',
                        lambda camera, stop: contextlib.nullcontext(iter(frames)))
    monkeypatch.setattr(predicting_films.panels, 'overlay', lambda frame, ids, palette: frame)
    outcome = predicting_films.predict_camera(
        made_run.segmentor, made_run.data.spec, (49, 49), cameras.Camera('camera:0', (), film),
        tmp_path / 'out.mkv', count=3, show=False)
    assert outcome.frames == 3
    levels = [int(round(frame.mean() / 60))
              for frame in film_files.frames(film_files.opened(tmp_path / 'out.mkv'))]
    assert levels == [0] * (RATE // 2) + [1] * (RATE // 2) + [2]


def test_frames_that_nobody_took_in_time_are_left_out():
    gate, given = threading.Event(), []

    def frames():
        for number in range(5):
            given.append(number)
            yield number
        gate.wait(30)

    newest = cameras._Newest(frames())
    until = time.monotonic() + 30
    while len(given) < 5 and time.monotonic() < until:
        time.sleep(0.01)
    last = newest.take(30)[1]
    while (found := newest.take(0.05)) is not None:
        last = found[1]
    assert last == 4
    gate.set()
    with pytest.raises(EOFError):
        newest.take(30)
    newest.join()


def test_mistakes_are_one_line_and_leave_nothing(call, made_run, stand_in, tmp_path):
    out = f'--output={tmp_path}/out.mp4'
    for words, text in (
            (['--input=camera:0', f'--output={tmp_path}/maps'], 'camera:0 makes a film: .*mp4'),
            (['--input=camera:0', '--input=camera:1', out], 'a camera is predicted alone'),
            (['--input=camera:0', out, '--frames=0'], '--frames=0: expected'),
            (['--input=camera:0', out, '--confidence'], '--confidence: is made of images')):
        _refused(call, made_run, words, text)
    for stood_in, text in ((source(words='no_such_source'), 'camera:0: is no camera .*does another'),
                           (source(':duration=0'), 'camera:0: gave no frame .*does another')):
        stand_in(stood_in)
        _refused(call, made_run, ['--input=camera:0', out], text)
    assert list(tmp_path.iterdir()) == []


def test_a_camera_that_is_not_there(call, made_run, tmp_path, monkeypatch):
    monkeypatch.setattr(cameras.sys, 'platform', 'linux')
    devices = tmp_path / 'dev'
    devices.mkdir()
    monkeypatch.setattr(cameras, '_DEVICES', devices)
    out = f'--output={tmp_path}/out.mp4'
    _refused(call, made_run, ['--input=camera:7', out], 'no camera .*video7; there is none at all')
    (devices / 'video2').write_bytes(b'')
    _refused(call, made_run, ['--input=camera:7', out], 'video7; there are camera:2')
    _refused(call, made_run, ['--input=camera:2', out], 'camera:2: is no camera')
    _refused(call, made_run, ['--input=camera:front', out], 'camera:front: expected camera:0')
    monkeypatch.setattr(cameras.sys, 'platform', 'win32')
    _refused(call, made_run, ['--input=camera:0', out], 'cameras are read on Linux and macOS')
    assert sorted(path.name for path in tmp_path.iterdir()) == ['dev']


def test_a_camera_that_hangs(stand_in, tmp_path, monkeypatch):
    monkeypatch.setattr(cameras, 'WAIT', 0.5)
    os.mkfifo(tmp_path / 'silent')  # which nobody writes
    stand_in(('-nostdin', '-f', 'rawvideo', '-video_size', '48x36', '-i', f'{tmp_path}/silent'))
    with pytest.raises(UserError, match='camera:0: gave no frame in 0.5 seconds; does another'):
        cameras.opened('camera:0')


def _refused(call, made_run, words, text):
    with pytest.raises(UserError, match=text) as caught:
        call('predict', f'--checkpoint={made_run.path}', *words)
    assert '\n' not in str(caught.value)
