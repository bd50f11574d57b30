"""Files that `export` wrote and that give class maps: which they are, and what their classes mean.

A TFLite or ONNX file is one where the export.json that `export` writes lies beside it and lists it.
Any other TFLite file is weights to import (`models.zoo`).
"""
import pathlib

from tf_advseg.core import errors
from tf_advseg.core import files
from tf_advseg.data import spec as specs
from tf_advseg.models.backends import map_file
from tf_advseg.run import networks

REPORT = 'export.json'
FORMAT = 'tf_advseg export'


def is_exported(path):
    """Whether a path is a TFLite or ONNX file that `export` wrote.

    Args:
      path: pathlib.Path of anything.

    Raises:
      UserError: an ONNX file that it did not, which nothing can take; an export.json beside it that
        cannot be read.
    """
    runtime = map_file.SUFFIXES.get(path.suffix.lower())
    with files.disk_errors(path):
        if runtime is None or not path.is_file():
            return False
    listed = _report(path) is not None
    if not listed and runtime == map_file.ONNX:
        raise errors.UserError(f'{path}: not a file that export wrote: no {REPORT} beside it lists '
                               f'it under this name; copy both from the folder of the export')
    return listed


def load(path):
    """A file that `export` wrote, ready to run.

    Args:
      path: pathlib.Path, see `is_exported`.

    Returns:
      (map_file.MapFile, DatasetSpec, description): the description has 'model' and 'num_classes' as
      model.json has them. An older export has no names of classes: they are those of the SavedModel
      beside it, or 'class 0' and so on.

    Raises:
      UserError: the file or its description is damaged, or the runtime is not installed.
    """
    report, described = _report(path), path.parent / REPORT
    entry, classes = report['files'][path.name], report.get('num_classes')
    model = report.get('model')
    if not (isinstance(entry, dict) and isinstance(model, dict) and isinstance(classes, int)
            and isinstance(model.get('arguments'), dict) and _is_colour(report.get('padding'))
            and 0 < classes <= 256):
        raise errors.UserError(f'{described}: a part is missing or damaged; export the model anew')
    changed = (files.sha256(path) != entry['sha256'] if 'sha256' in entry
               else path.stat().st_size != entry.get('bytes'))
    if changed:
        raise errors.UserError(f'{path}: is not the file that {REPORT} beside it describes '
                               '(damaged, or of another export); copy both anew, or export again')
    spec = _spec(path.parent, report, classes)
    if spec.num_classes != classes:
        raise errors.UserError(f'{described}: has {classes} classes and a data set of '
                               f'{spec.num_classes}; export the model anew')
    file = map_file.MapFile(path, classes, report.get('padding') or (127.5,) * 3,
                            report.get('large') == 'resize')
    return file, spec, {'model': model, 'num_classes': classes}


def _is_colour(value):
    """Whether it is three numbers, or None, which older reports have."""
    return value is None or isinstance(value, list) and len(value) == 3 and all(
        isinstance(one, (int, float)) and 0 <= one <= 255 for one in value)


def _report(path):
    """What export.json beside a file says, or None where it does not speak of the file.

    Raises:
      UserError: it cannot be read.
    """
    described = path.parent / REPORT
    with files.disk_errors(described):
        if not described.is_file():
            return None
    report = files.read_json(described)
    if not isinstance(report, dict) or report.get('format') != FORMAT:
        return None
    listed = report.get('files')
    return report if isinstance(listed, dict) and path.name in listed else None


def _spec(folder, report, classes):
    """The DatasetSpec of an export, see `load`."""
    fields = report.get('dataset')
    if fields is None and networks.is_model_folder(folder):
        fields = networks.read_description(folder)['dataset']
    if fields is None:
        return specs.unnamed(classes)
    if not isinstance(fields, dict):
        raise errors.UserError(f'{folder / REPORT}: "dataset" is damaged; export the model anew')
    return specs.DatasetSpec.from_json(fields, folder / REPORT)
