"""Class maps of a film's or a camera's frames over them: what tools/predict.py does with one."""
import dataclasses
import pathlib
import time

import numpy as np

from tf_advseg.core import errors
from tf_advseg.core import progress
from tf_advseg.evaluation import map_predictor
from tf_advseg.experiments.score import cameras
from tf_advseg.experiments.score import film_files
from tf_advseg.experiments.score import predictors
from tf_advseg.models import backends
from tf_advseg.reporting import panels


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What was written: the file, how many frames, seconds from the first to the last."""
    path: pathlib.Path
    frames: int
    seconds: float

    def text(self):
        """One line."""
        return (f'{self.frames} frames predicted in {self.seconds:.1f} s, '
                f'{self.frames / self.seconds:.2f} frames per second; written: {self.path}')


def class_maps(predictor, frames):
    """The class maps of frames, as those of images: batched, and equal to theirs.

    Args:
      predictor: `map_predictor.MapPredictor`.
      frames: iterable of uint8 [H, W, 3]; as many as a batch holds are taken at a time.

    Yields:
      (frame, ids uint8 [H, W]).
    """
    for chunk in map_predictor.chunks(frames, lambda frame: frame[..., 0].size,
                                      predictor.batch_size):
        for frame, (ids, _) in zip(chunk, predictor(chunk)):
            yield frame, ids


def predict(segmentor, spec, crop_size, film, output, backend=backends.TENSORFLOW, show=True,
            say=lambda text: None, **passes):
    """Writes a film of the same size and rate, each frame under its classes' colours.

    Its sound is left out. No more than a batch of frames is held in memory.

    Args:
      segmentor: the network, or `backends.map_file.MapFile`.
      spec: its DatasetSpec: class names and palette.
      crop_size: (h, w) it was trained at, or None.
      film: `film_files.Film`.
      output: file, see `film_files.written`.
      backend: of `backends.NAMES`.
      show: whether to show progress.
      say: function of a line: on the backend that was taken, on a rate that is not the film's.
      **passes: of `map_predictor.MapPredictor`.

    Returns:
      Outcome.

    Raises:
      UserError: the film is damaged, or cannot be written; nothing is written then.
    """
    predictor, rest_text = predictors.make(segmentor, crop_size, backend, film.frames, say,
                                           only_named=True, **passes)
    if film.claimed:
        say(f'{film.path}: claims {float(film.claimed):.0f} frames per second, which means that '
            f'its frames come as they come; {film_files.USUAL_RATE} per second are taken')
    began, count = time.perf_counter(), 0
    with progress.Progress(film.frames, 'frames', enabled=show) as bar, \
            film_files.written(output, film) as append:
        for frame, ids in class_maps(predictor, film_files.frames(film)):
            append(panels.overlay(frame, ids, spec.palette))
            count += 1
            bar.update(1)
    if rest_text():
        say(rest_text())
    return Outcome(output, count, time.perf_counter() - began)


def predict_camera(segmentor, spec, crop_size, camera, output, count=None,
                   backend=backends.TENSORFLOW, show=True, say=lambda text: None, **passes):
    """Writes a film of what a camera gives, each frame under its classes' colours, until Ctrl-C.

    The newest frame is predicted, and shown in the film until the next one is: so the film has the
    camera's rate and takes as long as it was filmed, however slow the network is.

    Args:
      camera: `cameras.Camera`.
      count: how many frames are predicted at most; None: until Ctrl-C, or the camera's end.
      segmentor, spec, crop_size, output, backend, show, say, **passes: see `predict`.

    Returns:
      Outcome.

    Raises:
      UserError: the camera gives no frame, or the film cannot be written.
    """
    predictor, rest_text = predictors.make(segmentor, crop_size, backend, count, say,
                                           only_named=True, **passes)
    size = camera.film.height, camera.film.width
    list(predictor([np.zeros((*size, 3), np.uint8)]))  # traces the network: no frame waits for it
    rate, last, began = float(camera.film.rate), None, None
    predicted = written = 0
    with cameras.until_interrupt() as pressed, \
            film_files.written(output, camera.film) as append, \
            progress.Progress(count, 'frames', enabled=show) as bar, \
            cameras.newest_frames(camera, pressed) as frames:
        if count is None:
            say(f'{camera.name}: predicting; Ctrl-C ends the film')
        for when, frame in frames:
            if last is None:
                began = when
            else:
                copies = max(1, round((when - began) * rate) - written)
                for _ in range(copies):
                    append(last)
                written += copies
            ids, _ = next(iter(predictor([frame])))
            last = panels.overlay(frame, ids, spec.palette)
            predicted += 1
            bar.update(1)
            if predicted == count:
                break
        if last is None:
            raise errors.UserError(f'{camera.name}: stopped before the first frame; nothing is '
                                   'written')
        append(last)
        seconds = time.monotonic() - began
    if rest_text():
        say(rest_text())
    if count is not None and predicted < count and not pressed():
        say(f'{camera.name}: gave no more frames after {predicted}')
    return Outcome(output, predicted, seconds)


def require_plain(confidence, submission):
    """UserError where a film is asked for what only images have."""
    for flag, value in (('confidence', confidence), ('submission', submission)):
        if value:
            raise errors.UserError(f'--{flag}: is made of images; leave it out for a film, or take '
                                   'its frames apart (ffmpeg -i film.mp4 frames/%06d.png)')
