"""Class maps of images on disk: what tools/predict.py does."""
import concurrent.futures
import contextlib
import dataclasses
import hashlib
import os
import pathlib

import numpy as np

from tf_advseg.core import errors
from tf_advseg.core import files
from tf_advseg.core import journal
from tf_advseg.core import output_folder
from tf_advseg.core import progress
from tf_advseg.data.readers import base
from tf_advseg.evaluation import map_predictor
from tf_advseg.evaluation import submission as submissions
from tf_advseg.experiments.score import input_files
from tf_advseg.experiments.score import predictors
from tf_advseg.models import backends
from tf_advseg.reporting import panels
from tf_advseg.run import networks

STATE = 'predictions.jsonl'
# A dot file: what lies in a submission's folder is packed and sent.
SUBMISSION_STATE = '.predictions.jsonl'
WRITERS = 2


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What was predicted: (image, files) each; what not: (image, reason); kept from before."""
    written: tuple
    skipped: tuple
    kept: tuple = ()


def identity(checkpoint, which=None):
    """SHA-256 of a model folder's contents, or of a file: identifies what made a map.

    Args:
      checkpoint, which: see `networks.find`; or a file that `export` wrote.
    """
    path = pathlib.Path(checkpoint).expanduser()
    if path.is_file():
        return files.sha256(path)
    folder = networks.find(path, which)
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob('*') if p.is_file()):
        digest.update(f'{path.relative_to(folder).as_posix()} {files.sha256(path)}\n'.encode())
    return digest.hexdigest()


class _Maps:
    """The usual files of an image: palette PNG, overlay, on request confidence."""

    state = STATE

    def __init__(self, spec, output, confidence):
        self._spec, self._output = spec, output
        self._ends = ['', input_files.OVERLAY, *([input_files.CONFIDENCE] if confidence else [])]
        self.translation = None

    def names(self, root, images):
        """One tuple of names, relative to the output folder, an image."""
        return [tuple(stem.with_name(f'{stem.name}{end}.png').as_posix() for end in self._ends)
                for stem in input_files.output_names(root, images)]

    def write(self, path, names, image, ids, confidence):
        """Writes an image's files."""
        del path
        paths = [self._output / name for name in names]
        with files.disk_errors(paths[0].parent):
            paths[0].parent.mkdir(parents=True, exist_ok=True)
        panels.write_palette_png(paths[0], ids, self._spec.palette)
        panels.write_png(paths[1], panels.overlay(image, ids, self._spec.palette))
        if confidence is not None:
            panels.write_png(paths[2], np.rint(255.0 * confidence).astype(np.uint8))


class _Submission:
    """The one file an image that an evaluation server wants."""

    state = SUBMISSION_STATE

    def __init__(self, server, spec, output):
        self._submission = submissions.Submission(server, spec)
        self._output = output
        self.translation = self._submission.translation

    def names(self, root, images):
        """See `_Maps`; UserError where the server knows no such image, or two are the same."""
        del root
        names = [str(self._submission.path(path.stem, path)) for path in images]
        first = {}
        for name, path in zip(names, images):
            if first.setdefault(name, path) != path:
                raise errors.UserError(f'{path}: and {first[name]} would both be {name}; give '
                                       'each image once')
        return [(name,) for name in names]

    def write(self, path, names, image, ids, confidence):
        """See `_Maps`."""
        del names, image, confidence
        self._submission.write(self._output, path.stem, ids)


def predict(segmentor, spec, crop_size, sources, output, show=True, confidence=False,
            submission=None, network='', backend=backends.TENSORFLOW, say=lambda text: None,
            **passes):
    """Writes a palette PNG and an overlay for every image; broken ones are skipped.

    What an earlier call made of the same image with the same network and passes is kept, if it
    is whole: `output`/predictions.jsonl says so (.predictions.jsonl of a submission). What other
    settings made of an image that is predicted anew is deleted. EXIF orientation is not applied:
    maps have the orientation of the stored pixels, as labels have.

    Args:
      segmentor: the network, or `backends.map_file.MapFile`.
      spec: its DatasetSpec: class names and palette.
      crop_size: (h, w) it was trained at, or None.
      sources: words for `input_files.find_all`.
      output: folder for `<stem>.png` (mode P: pixel values are class ids) and
        `<stem>_overlay.png`; made if absent.
      show: whether to show progress.
      confidence: also `<stem>_confidence.png`, grey: 255 times the chosen class's probability.
      submission: one of submission.SERVERS: only its files are written.
      network: identifies this network, see `identity`; '': nothing is kept.
      backend: of `backends.NAMES`. What another one made is kept by a call that asks for the same.
      say: function of a line on the backend that was taken.
      **passes: of `predictions.MapPredictor`.

    Returns:
      Outcome.

    Raises:
      UserError: nothing to predict, or the output cannot be written or is where images lie.
    """
    output = output_folder.require_makeable(output)
    if submission and confidence:
        raise errors.UserError(f'--submission={submission}: the server wants class maps only; '
                               'leave --confidence out')
    root, images = input_files.find_all(sources, outside=output)
    writer = (_Submission(submission, spec, output) if submission
              else _Maps(spec, output, confidence))
    names = writer.names(root, images)
    _require_apart(output, root, images, names)
    backends.require(backend)
    settings = _digest(network, spec, crop_size, submission, {
        **passes, **({} if backend == backends.TENSORFLOW else {'backend': backend})}
                       ) if network else None

    rest_texts = []

    def predictor(number):
        made, rest_text = predictors.make(
            segmentor, crop_size, backend if number else backends.TENSORFLOW, number, say,
            confidence=confidence, translation=writer.translation, only_named=True, **passes)
        rest_texts.append(rest_text)
        return made

    with output_folder.shared(output, writer.state):
        outcome = _predict_into(output, writer, images, names, settings, predictor, show)
    for text in filter(None, (rest_text() for rest_text in rest_texts)):
        say(text)
    return outcome


def _predict_into(output, writer, images, names, settings, make_predictor, show):
    """What is not kept is predicted; returns the Outcome."""
    entries = _entries(output / writer.state)
    done = _done(entries, settings)
    kept = [(path, files_) for path, files_ in zip(images, names)
            if _whole(output, done.get(files_[0]), path, files_)]
    ready = {path for path, _ in kept}
    wanted = [(path, files_) for path, files_ in zip(images, names) if path not in ready]
    _remove_left(output, wanted)
    stale = _Stale(output, entries, names)
    written, skipped = _predict_each(make_predictor(len(wanted)), writer, wanted, output, settings,
                                     stale, show)
    return Outcome(tuple(written), tuple(skipped), tuple(kept))


def _remove_left(output, wanted):
    """Deletes what a killed call left of the files that are written now."""
    folders = {}
    for _, names in wanted:
        for path in (output / name for name in names):
            folders.setdefault(path.parent, set()).add(path.name)
    for folder, below in folders.items():
        files.remove_left(folder, below)


def _predict_each(predictor, writer, wanted, output, settings, stale, show):
    """Predicts and writes (image, names) pairs; returns (written, skipped)."""
    written, skipped, log = [], [], None
    with progress.Progress(len(wanted), 'images', enabled=show) as bar, \
            concurrent.futures.ThreadPoolExecutor(WRITERS) as pool:
        def readable():
            for path, names in wanted:
                try:
                    image = base.read_image(path)
                    predictor.require_size(image.shape[:2], path)
                    yield path, names, image
                except errors.UserError as error:
                    skipped.append((path, str(error)))
                    bar.update(1)

        try:
            for chunk in map_predictor.chunks(readable(), lambda item: item[2][..., 0].size,
                                              map_predictor.AHEAD_BATCHES * predictor.batch_size):
                found = predictor([image for _, _, image in chunk])
                failed = list(pool.map(
                    lambda item, maps: _write(writer, output, *item, *maps), chunk, found))
                skipped += [(item[0], reason) for item, reason in zip(chunk, failed) if reason]
                done = [item[:2] for item, reason in zip(chunk, failed) if not reason]
                log = log or (journal.Journal(output / writer.state) if done else None)
                for path, names in done:
                    stale.delete(path, names)  # before the entry: else a kill would keep them
                    log.append('predicted', settings=settings, **_entry(output, path, names))
                    written.append((path, names))
                bar.update(len(chunk))
        finally:
            if log is not None:
                log.close()
    return written, skipped


def _write(writer, output, path, names, image, ids, confidence):
    """Writes an image's files; returns why it could not where only this image is at fault."""
    try:
        writer.write(path, names, image, ids, confidence)
    except errors.UserError as error:
        if not files.is_too_long(error):
            raise
        for name in names:
            with contextlib.suppress(OSError):
                (output / name).unlink()
        return f'{path}: its name is too long for what is made of it; shorten it'
    return None


def _require_apart(output, root, images, names):
    """UserError if a result would be written over an image, or among images."""
    # Not resolve(), which fails on links in a ring: those are broken images like others.
    taken = {pathlib.Path(os.path.realpath(path)) for path in images}
    target = output.resolve()
    if target == root.resolve() or any(target / name in taken
                                       for files_ in names for name in files_):
        raise errors.UserError(f'{output}: is where the images lie, and they could be written '
                               'over; choose another --output')


def _digest(network, spec, crop_size, submission, passes):
    """What one call's maps have in common, as a short text."""
    text = files.to_json([network, spec.to_json(), crop_size, submission, sorted(passes.items())])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _entry(output, path, names):
    """What is remembered of an image: its own size and time, and the sizes of its files."""
    stat = path.stat()
    return {'picture': [os.path.realpath(path), stat.st_size, stat.st_mtime_ns],
            'files': {name: (output / name).stat().st_size for name in names}}


def _entries(state):
    """What earlier calls wrote down of images, in their order."""
    entries = journal.Journal.read(state) if state.is_file() else ()
    return [entry for entry in entries if entry.get('files') and entry.get('picture')
            and isinstance(entry['files'], dict) and isinstance(entry['picture'], list)]


def _done(entries, settings):
    """{first file's name: entry} of earlier calls with these settings; later ones win."""
    if settings is None:
        return {}
    done = {next(iter(entry['files'])): entry for entry in entries}
    return {name: entry for name, entry in done.items() if entry.get('settings') == settings}


class _Stale:
    """Files of earlier calls that no longer belong to the image they were made of.

    Args:
      output: the folder.
      entries: of earlier calls.
      names: files of the images of this call, none of which is ever deleted.
    """

    def __init__(self, output, entries, names):
        self._output = output
        self._kept = {name for files_ in names for name in files_}
        owners = {}  # a file is the one's who wrote it last
        for entry in entries:
            first = next(iter(entry['files']))
            owners.update({name: (entry['picture'][0], first, size)
                           for name, size in entry['files'].items()})
        self._files = {}
        for name, (image, first, size) in owners.items():
            for owner in (('image', image), ('name', first)):
                self._files.setdefault(owner, {})[name] = size

    def delete(self, image, names):
        """Deletes what was made of the image, or beside the first of its new files, before."""
        old = {**self._files.get(('image', os.path.realpath(image)), {}),
               **self._files.get(('name', names[0]), {})}
        for name in sorted(old.keys() - self._kept):
            path = self._output / name
            inside = '..' not in pathlib.Path(name).parts and self._output in path.parents
            # Nothing outside the folder is touched, whoever wrote the state; and a file of
            # another size was put there by somebody else since.
            if inside and path.is_file() and path.stat().st_size == old[name]:
                with files.disk_errors(path):
                    path.unlink()


def _whole(output, entry, path, names):
    """Whether an entry's files are all there as they were written, and of this very image."""
    if entry is None or not set(names) <= set(entry['files']):
        return False
    try:
        return (_entry(output, path, entry['files'])
                == {'picture': entry['picture'], 'files': entry['files']})
    except OSError:
        return False
