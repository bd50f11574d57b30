"""Class maps of pictures on disk: what tools/predict.py does."""
import collections
import dataclasses
import pathlib

from tf_advseg.core import errors
from tf_advseg.core import files
from tf_advseg.core import progress
from tf_advseg.data.readers import base
from tf_advseg.evaluation import multi_scale
from tf_advseg.evaluation import prediction
from tf_advseg.reporting import panels

PICTURES = ('.jpg', '.jpeg', '.png', '.bmp', '.gif', '.tif', '.tiff', '.webp')
OVERLAY = '_overlay'


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What was predicted: (picture, map file, overlay file) each; what not: (picture, reason)."""
    written: tuple
    skipped: tuple


def find_pictures(source):
    """The pictures a path means: itself, or every picture in the folder and below, sorted.

    Returns:
      (folder that names are relative to, list of Paths).

    Raises:
      UserError: there is nothing, or the folder holds no picture.
    """
    source = pathlib.Path(source).expanduser()
    if source.is_file():
        return source.parent, [source]
    folder = base.require_folder(source, 'a picture or a folder of pictures (--input)')
    found = sorted(path for path in folder.rglob('*')
                   if path.suffix.lower() in PICTURES and path.is_file()
                   and not any(part.startswith('.') for part in path.relative_to(folder).parts))
    if not found:
        raise errors.UserError(f'{folder}: no picture ({", ".join(PICTURES)}) in this folder')
    return folder, found


def output_names(root, pictures):
    """Where each picture's files go, relative to the output folder, without '.png'.

    `<stem>`, or `<stem>_<suffix>` where another picture of the folder has the same stem or is
    called like one's overlay.
    """
    stems = [path.relative_to(root).with_suffix('') for path in pictures]
    claims = collections.Counter(str(stem) for stem in stems)
    claims.update(f'{stem}{OVERLAY}' for stem in stems)
    names = []
    for path, stem in zip(pictures, stems):
        unique = claims[str(stem)] == 1 and claims[f'{stem}{OVERLAY}'] == 1
        names.append(stem if unique else stem.with_name(f'{stem.name}_{path.suffix[1:]}'))
    return names


def predict(segmentor, spec, crop_size, source, output, show=True, scales=multi_scale.SINGLE,
            flip=False):
    """Writes a palette PNG and an overlay for every picture; broken ones are skipped.

    Args:
      segmentor: the network.
      spec: its DatasetSpec: class names and palette.
      crop_size: (h, w) it was trained at, or None.
      source: a picture, or a folder (searched below, too; the folders inside are kept).
      output: folder for `<stem>.png` (mode P: pixel values are class ids) and
        `<stem>_overlay.png`; made if absent.
      show: whether to show progress.
      scales, flip: of the passes that are averaged, see `evaluation.multi_scale`.

    Returns:
      Outcome.

    Raises:
      UserError: nothing to predict, or the output cannot be written or is the input folder.
    """
    root, pictures = find_pictures(source)
    scales = multi_scale.require_scales(scales)
    output = pathlib.Path(output).expanduser()
    if output.exists() and not output.is_dir():
        raise errors.UserError(f'{output}: is a file; --output must name a folder')
    if output.resolve() == root.resolve():
        raise errors.UserError(f'{output}: is where the pictures lie, and they could be written '
                               'over; choose another --output')
    written, skipped = [], []
    with progress.Progress(len(pictures), 'pictures', enabled=show) as bar:
        for path, name in zip(pictures, output_names(root, pictures)):
            try:
                image = base.read_picture(path)
            except errors.UserError as error:
                skipped.append((path, str(error)))
            else:
                ids = prediction.predict(segmentor, image, crop_size, scales=scales, flip=flip)
                written.append((path, *_write(spec, image, ids, output / name)))
            bar.update(1)
    return Outcome(tuple(written), tuple(skipped))


def _write(spec, image, ids, stem):
    """Writes the two files of a picture and its map; returns their Paths."""
    paths = stem.with_name(f'{stem.name}.png'), stem.with_name(f'{stem.name}{OVERLAY}.png')
    with files.disk_errors(stem.parent):
        stem.parent.mkdir(parents=True, exist_ok=True)
    panels.write_palette_png(paths[0], ids, spec.palette)
    panels.write_png(paths[1], panels.overlay(image, ids, spec.palette))
    return paths
