"""The images that models are evaluated on: records, raw data, or those of a run itself."""
import contextlib
import dataclasses
import pathlib
import tempfile

from tf_advseg.core import arguments
from tf_advseg.core import configuration
from tf_advseg.core import errors
from tf_advseg.core import files
from tf_advseg.data import readers
from tf_advseg.data import splits as splits_lib
from tf_advseg.data.records import record_set as record_sets
from tf_advseg.run import dataset as datasets


@dataclasses.dataclass(frozen=True)
class Images:
    """What is evaluated on.

    Attributes:
      records: data.records.record_set.RecordSet.
      split: what the images are called.
      ids: theirs.
      source: what the user calls the records.
      left_out: ids of the split's images that were left out for damage.
    """
    records: object
    split: str
    ids: list
    source: object = None
    left_out: tuple = ()


def _settings(run):
    """A run's gin bindings by their names without modules; {} for no run."""
    if run is None:
        return {}
    text = configuration.read(run / 'config.gin')
    return {'.'.join(name.split('.')[-2:]): value
            for name, value in configuration.bindings(text).items()}


@contextlib.contextmanager
def open_records(data_dir=None, reader=None, run=None, damaged='refuse'):
    """Opens records, a raw folder or archive, or the data a run was made with.

    A raw folder is turned into records that live as long as this context.

    Args:
      data_dir: records, raw data, or None for the run's own.
      reader: name of the reader for raw data; None: the run's, else 'folder'. For records it may be
        the data set's name or its reader's, and is checked.
      run: Path of a run directory, or None.
      damaged: 'refuse' or 'skip', see `RecordSet`.

    Yields:
      data.records.record_set.RecordSet.

    Raises:
      UserError: there is no data, it is bad, or is not what `reader` says.
    """
    settings = _settings(run)
    own = data_dir is None
    if own:
        if run is None:
            raise errors.UserError('no data was given, and the checkpoint does not lie in a run '
                                   'directory; add --data_dir=RECORDS_OR_FOLDER')
        data_dir = run / 'records'
        if not (data_dir / files.MANIFEST).is_file():
            data_dir = settings.get('dataset.data_dir') or settings.get('experiment.data_dir')
            if data_dir is None:
                raise errors.UserError(f'{run}: has no records of its own; add --data_dir')
            arguments.require_path(f'{run / "config.gin"}: dataset', 'data_dir', data_dir)
    data_dir = datasets.find_data(data_dir)
    if (data_dir / files.MANIFEST).is_file():
        records = record_sets.RecordSet(data_dir, verify=False, damaged=damaged)
        _require_named(records, reader)
        yield records
        return
    reader = reader or settings.get('dataset.reader', 'folder')
    if reader == 'shapes' and not own:
        reader = 'folder'  # the run's images were drawn; these lie in a folder
    readers.reader_class(reader)  # a typo fails before any work
    options = settings.get('dataset.options') if settings.get('dataset.reader') == reader else None
    with tempfile.TemporaryDirectory(prefix='tf_advseg-') as scratch:
        yield datasets.prepare(reader, data_dir, pathlib.Path(scratch) / 'records', options,
                               hint='--data_dir')


def _require_named(records, name):
    """UserError unless `name` is None, the records' data set or the reader that made them."""
    made = records.manifest['identity']['reader'].get('reader')
    if name is None or name in (made, records.spec.name) or name.rpartition(':')[2] == made:
        return
    readers.reader_class(name)  # a typo is reported as one
    raise errors.UserError(f'{records.folder}: holds records of {records.spec.name}, made by the '
                           f'reader "{made}", not of "{name}"; leave --dataset out, or give '
                           '--data_dir')


def choose_images(records, split='test', run=None, source=None):
    """The images of a split: one of the records', or one of the run's (its hold-out, too).

    Args:
      records: RecordSet.
      split: name; the run's split.json comes first where its images are in these records.
      run: Path of a run directory, or None.
      source: what the user calls the records, for messages; None is their folder.

    Raises:
      UserError: no such split; names those there are.
    """
    choices = dict(records.splits)
    gone = set(records.left_out)
    path = run / 'split.json' if run is not None else None
    if path is not None and path.is_file():
        known = gone.union(records.ids)
        own = splits_lib.read_split(path, may_be_empty=True)
        choices.update({name: ids for name, ids in own.items() if ids and known.issuperset(ids)})
    if split not in choices and split in ('unlabelled', 'labelled'):
        raise errors.UserError(f'unknown split "{split}": ' + (
            'what was trained on with labels is "train"' if split == 'labelled' else
            'the images of semi_supervised.unlabelled_dir have no labels to score; see what '
            'tools/predict.py makes of them'))
    errors.require_one_of('split', split, choices)
    ids = [image_id for image_id in choices[split] if image_id not in gone]
    if not ids:
        raise errors.UserError(f'{records.folder}: every image of split "{split}" is damaged; '
                               'make the records anew')
    # A run that skipped damage itself lists in its split.json what it had left.
    left_out = (records.left_out_of(split) if ids == records.splits.get(split)
                else [image_id for image_id in choices[split] if image_id in gone])
    return Images(records, split, ids, source or records.folder, tuple(left_out))
