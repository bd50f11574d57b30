"""Class maps of pictures on disk: what tools/predict.py does."""
import concurrent.futures
import dataclasses
import hashlib
import pathlib

import numpy as np

from tf_advseg.core import errors
from tf_advseg.core import files
from tf_advseg.core import journal
from tf_advseg.core import progress
from tf_advseg.data.readers import base
from tf_advseg.evaluation import predictions
from tf_advseg.evaluation import submission as submissions
from tf_advseg.experiments import input_files
from tf_advseg.experiments import networks
from tf_advseg.reporting import panels

STATE = 'predictions.jsonl'
WRITERS = 2


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What was predicted: (picture, files) each; what not: (picture, reason); kept from before."""
    written: tuple
    skipped: tuple
    kept: tuple = ()


def identity(checkpoint, which=None):
    """SHA-256 of a model folder's contents: what tells one network's maps from another's.

    Args:
      checkpoint, which: see `networks.find`.
    """
    folder = networks.find(pathlib.Path(checkpoint).expanduser(), which)
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob('*') if p.is_file()):
        digest.update(f'{path.relative_to(folder).as_posix()} {files.sha256(path)}\n'.encode())
    return digest.hexdigest()


class _Maps:
    """The usual files of a picture: palette PNG, overlay, on request confidence."""

    def __init__(self, spec, output, confidence):
        self._spec, self._output = spec, output
        self._ends = ['', input_files.OVERLAY, *([input_files.CONFIDENCE] if confidence else [])]
        self.translation = None

    def names(self, root, pictures):
        """One tuple of names, relative to the output folder, a picture."""
        return [tuple(stem.with_name(f'{stem.name}{end}.png').as_posix() for end in self._ends)
                for stem in input_files.output_names(root, pictures)]

    def write(self, picture, names, image, ids, confidence):
        """Writes a picture's files."""
        del picture
        paths = [self._output / name for name in names]
        with files.disk_errors(paths[0].parent):
            paths[0].parent.mkdir(parents=True, exist_ok=True)
        panels.write_palette_png(paths[0], ids, self._spec.palette)
        panels.write_png(paths[1], panels.overlay(image, ids, self._spec.palette))
        if confidence is not None:
            panels.write_png(paths[2], np.rint(255.0 * confidence).astype(np.uint8))


class _Submission:
    """The one file a picture that an evaluation server wants."""

    def __init__(self, server, spec, output):
        self._submission = submissions.Submission(server, spec)
        self._output = output
        self.translation = self._submission.translation

    def names(self, root, pictures):
        """See `_Maps`; UserError where the server knows no such picture, or two are the same."""
        del root
        names = [str(self._submission.path(path.stem)) for path in pictures]
        first = {}
        for name, path in zip(names, pictures):
            if first.setdefault(name, path) != path:
                raise errors.UserError(f'{path}: and {first[name]} would both be {name}; give '
                                       'each picture once')
        return [(name,) for name in names]

    def write(self, picture, names, image, ids, confidence):
        """See `_Maps`."""
        del names, image, confidence
        self._submission.write(self._output, picture.stem, ids)


def predict(segmentor, spec, crop_size, sources, output, show=True, confidence=False,
            submission=None, network='', **passes):
    """Writes a palette PNG and an overlay for every picture; broken ones are skipped.

    What an earlier call made of the same picture with the same network and passes is kept, if it
    is whole: `output`/predictions.jsonl tells.

    Args:
      segmentor: the network.
      spec: its DatasetSpec: class names and palette.
      crop_size: (h, w) it was trained at, or None.
      sources: words for `input_files.find_all`.
      output: folder for `<stem>.png` (mode P: pixel values are class ids) and
        `<stem>_overlay.png`; made if absent.
      show: whether to show progress.
      confidence: also `<stem>_confidence.png`, grey: 255 times the chosen class's probability.
      submission: one of submission.SERVERS: only its files are written.
      network: what tells this network from others, see `identity`; '': nothing is kept.
      **passes: of `predictions.MapPredictor`.

    Returns:
      Outcome.

    Raises:
      UserError: nothing to predict, or the output cannot be written or is where pictures lie.
    """
    output = pathlib.Path(output).expanduser()
    if output.exists() and not output.is_dir():
        raise errors.UserError(f'{output}: is a file; --output must name a folder')
    if submission and confidence:
        raise errors.UserError(f'--submission={submission}: the server wants class maps only; '
                               'leave --confidence out')
    root, pictures = input_files.find_all(sources, outside=output)
    writer = (_Submission(submission, spec, output) if submission
              else _Maps(spec, output, confidence))
    names = writer.names(root, pictures)
    _require_apart(output, root, pictures, names)
    predictor = predictions.MapPredictor(
        segmentor, crop_size, confidence=confidence, translation=writer.translation,
        only_named=True, **passes)
    settings = _digest(network, spec, crop_size, submission, passes) if network else None
    done = _done(output, settings)
    kept = [(path, files_) for path, files_ in zip(pictures, names)
            if _whole(output, done.get(files_[0]), path, files_)]
    ready = {path for path, _ in kept}
    wanted = [(path, files_) for path, files_ in zip(pictures, names) if path not in ready]
    written, skipped = _predict_each(predictor, writer, wanted, output, settings, show)
    return Outcome(tuple(written), tuple(skipped), tuple(kept))


def _predict_each(predictor, writer, wanted, output, settings, show):
    """Predicts and writes (picture, names) pairs; returns (written, skipped)."""
    written, skipped, log = [], [], None
    with progress.Progress(len(wanted), 'pictures', enabled=show) as bar, \
            concurrent.futures.ThreadPoolExecutor(WRITERS) as pool:
        def readable():
            for path, names in wanted:
                try:
                    yield path, names, base.read_picture(path)
                except errors.UserError as error:
                    skipped.append((path, str(error)))
                    bar.update(1)

        try:
            for chunk in predictions.chunks(readable(), lambda item: item[2][..., 0].size,
                                            predictions.AHEAD_BATCHES * predictor.batch_size):
                found = predictor([image for _, _, image in chunk])
                list(pool.map(lambda item, maps: writer.write(*item, *maps), chunk, found))
                log = log or journal.Journal(output / STATE)
                for path, names, _ in chunk:
                    log.append('predicted', settings=settings, **_entry(output, path, names))
                    written.append((path, names))
                bar.update(len(chunk))
        finally:
            if log is not None:
                log.close()
    return written, skipped


def _require_apart(output, root, pictures, names):
    """UserError if a result would be written over a picture, or among pictures."""
    taken = {path.resolve() for path in pictures}
    target = output.resolve()
    if target == root.resolve() or any(target / name in taken
                                       for files_ in names for name in files_):
        raise errors.UserError(f'{output}: is where the pictures lie, and they could be written '
                               'over; choose another --output')


def _digest(network, spec, crop_size, submission, passes):
    """What one call's maps have in common, as a short text."""
    told = files.to_json([network, spec.to_json(), crop_size, submission, sorted(passes.items())])
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def _entry(output, path, names):
    """What is remembered of a picture: its own size and time, and the sizes of its files."""
    stat = path.stat()
    return {'picture': [str(path.resolve()), stat.st_size, stat.st_mtime_ns],
            'files': {name: (output / name).stat().st_size for name in names}}


def _done(output, settings):
    """{first file's name: entry} of earlier calls with these settings; later ones win."""
    state = output / STATE
    if settings is None or not state.is_file():
        return {}
    done = {}
    for entry in journal.Journal.read(state):
        if entry.get('files'):
            done[next(iter(entry['files']))] = entry
    return {name: entry for name, entry in done.items() if entry.get('settings') == settings}


def _whole(output, entry, path, names):
    """Whether an entry's files are all there as they were written, and of this very picture."""
    if entry is None or not set(names) <= set(entry['files']):
        return False
    try:
        return (_entry(output, path, entry['files'])
                == {'picture': entry['picture'], 'files': entry['files']})
    except OSError:
        return False
