"""A data set examined and reported on: what tools/doctor.py does."""
import contextlib
import pathlib
import tempfile

from tf_advseg.core import archives
from tf_advseg.core import errors
from tf_advseg.core import files
from tf_advseg.core.random_streams import RandomStreams
from tf_advseg.data import readers
from tf_advseg.data.doctor import examination
from tf_advseg.data.doctor import record_checks
from tf_advseg.data.doctor.findings import SUSPECT
from tf_advseg.experiments.convert import preparing
from tf_advseg.reporting import contact_sheet
from tf_advseg.reporting.pages import doctor_page
from tf_advseg.run import dataset as datasets

SUFFIXES = ('.html', '.json')
SAMPLES = 6  # of each class
MOST = 60  # suspect images of a kind that a page shows


def require_output(path):
    """Where the findings can be written, checked before the work.

    Args:
      path: a name that ends in .html or .json; None or '' for none.

    Returns:
      pathlib.Path or None.

    Raises:
      UserError: another kind of file, a folder, or no folder for it.
    """
    if not path:
        return None
    path = pathlib.Path(path).expanduser()
    if path.suffix.lower() not in SUFFIXES or path.is_dir():
        raise errors.UserError(f'{path}: unknown format; expected a name that ends in '
                               f'{" or ".join(SUFFIXES)}')
    if not path.parent.is_dir():
        raise errors.UserError(f'{path}: cannot be written, there is no folder {path.parent}')
    return path


def examine(data_dir, reader=None, options=(), output=None, show=True):
    """Examines a data set and writes what was found.

    Args:
      data_dir: records, a folder, or an archive; None for generated data.
      reader: name of the reader for raw data, default 'folder'; not used for records.
      options: texts NAME=VALUE, the reader's options.
      output: from `require_output`.
      show: whether to show progress.

    Returns:
      data.doctor.examination.Diagnosis.

    Raises:
      UserError: there is nothing that could be examined, or the output cannot be written.
    """
    options = preparing.reader_options(options)
    if reader is not None:
        readers.reader_class(reader)  # a typo fails before any work
    with _opened(data_dir, reader) as (folder, rename):
        if folder is not None and (folder / files.MANIFEST).is_file():
            diagnosis = record_checks.examine_records(folder, show)
        else:
            diagnosis = examination.examine_source(reader, folder, options, show)
        diagnosis.rename(rename)
        if output is not None and output.suffix.lower() == '.json':
            files.write_json(output, diagnosis.to_json())
        elif output is not None:
            doctor_page.write(output, diagnosis, list(class_sheets(diagnosis)),
                              list(suspect_sheets(diagnosis)))
    return diagnosis


@contextlib.contextmanager
def _opened(data_dir, reader):
    """The folder to be examined, and a function text -> text that names its files for the user.

    An archive is unpacked as long as this context lives; its files are ARCHIVE:inner/path.
    """
    if data_dir is None:
        if reader != 'shapes':
            raise errors.UserError('no data set was given: add --data_dir=RECORDS_OR_FOLDER')
        yield None, str
        return
    path = datasets.find_data(data_dir)
    if path.is_dir():
        yield path, str
        return
    if not str(path).endswith(archives.ENDINGS):
        raise errors.UserError(f'{path}: neither a folder nor an archive '
                               f'({", ".join(archives.ENDINGS)})')
    with tempfile.TemporaryDirectory(prefix='tf_advseg-') as scratch:
        place = pathlib.Path(scratch) / 'data'
        with datasets.named_as(path, place):
            yield (datasets.unpacked(path, place),
                   lambda text: datasets.without_scratch(text, path, place))


def class_sheets(diagnosis, samples=SAMPLES, seed=0):
    """(class name, uint8 [H, W, 3]): images of each class, drawn at random.

    Those of which the class is at least a hundredth are preferred: what is hardly there is not
    seen on a small image.
    """
    streams = RandomStreams(seed)
    for number in range(diagnosis.spec.num_classes if diagnosis.spec else 0):
        able = {i: one.counts[number] / one.counts.sum() for i, one in diagnosis.facts.items()
                if not one.troubles and one.counts[number]}
        if not able:
            continue
        order = [list(able)[k] for k in
                 streams.generator('contact sheet', number).permutation(len(able))]
        chosen = sorted(order, key=lambda i: able[i] < 0.01)[:samples]
        shown = [contact_sheet.Shown(image_id, *diagnosis.reader.load(image_id), only=number)
                 for image_id in chosen]
        name = diagnosis.spec.class_names[number]
        yield (f'{name} ({len(able)} images)',
               contact_sheet.contact_sheet(shown, diagnosis.spec.palette))


def suspect_sheets(diagnosis, most=MOST):
    """(kind, note, uint8 [H, W, 3]): the images that findings name, beside their labels."""
    for kind in SUSPECT:
        found = [f for f in diagnosis.findings if f.kind == kind]
        ids = list(dict.fromkeys(i for finding in found for i in finding.images))
        shown = [contact_sheet.Shown(_caption(diagnosis, i), *diagnosis.reader.load(i))
                 for i in ids[:most]]
        if shown:
            note = 'Image and label; what is ignored is black.' + (
                f' The first {most} of {len(ids)}.' if len(ids) > most else '')
            # Two images a row, each beside its label: so copies stand side by side.
            yield kind, note, contact_sheet.contact_sheet(shown, diagnosis.spec.palette, 4, 244)


def _caption(diagnosis, image_id):
    """'0001 (train)'."""
    splits = '/'.join(name for name, ids in diagnosis.splits.items() if image_id in ids)
    return f'{image_id} ({splits})'
