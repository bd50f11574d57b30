"""From "here are my images" to records, splits and a hold-out, all written into the run."""
import contextlib
import dataclasses
import pathlib
import shutil

import gin
from absl import logging

from tf_advseg.core import archives
from tf_advseg.core import arguments
from tf_advseg.core import configuration
from tf_advseg.core import errors
from tf_advseg.core import files
from tf_advseg.core import locks
from tf_advseg.data import readers
from tf_advseg.data import splits
from tf_advseg.data.readers import base
from tf_advseg.data.readers import layouts
from tf_advseg.data.records import record_set as record_sets
from tf_advseg.data.records import record_writing
from tf_advseg.run import folds
from tf_advseg.run import semi_supervised
from tf_advseg.training import stages


@dataclasses.dataclass(frozen=True)
class ExperimentData:
    """A data set as an experiment uses it.

    Attributes:
      records: data.records.record_set.RecordSet.
      train, holdout, rest, test: image ids: the training set, of which every label may be seen;
        the part of the validation set that LoAd chooses by; the rest of it; the test set, never
        used for any choice. Where a data set has no labelled test set and `test_is_val` was asked
        for, test is val: the hold-out in it was chosen by, which `dataset` warns of.
      left_out: {'train', 'val', 'test': ids of the images that were left out for damage}.
      unlabelled: ids in `unlabelled_records` of the images that are trained on without labels;
        [] where there are none.
      unlabelled_records: the RecordSet they are in: `records`, or that of a folder of images
        (`semi_supervised.semi_supervised`); None where there are none.
      fold: which fold is tested on, see `folds.Settings.description`; None without.
    """
    records: object
    train: list
    holdout: list
    rest: list
    test: list
    left_out: dict = dataclasses.field(default_factory=dict)
    unlabelled: list = dataclasses.field(default_factory=list)
    unlabelled_records: object = None
    fold: object = None

    @property
    def spec(self):
        """The DatasetSpec."""
        return self.records.spec


def find_data(path, what='the data set', flag='--data_dir'):
    """A path as given, or relative to the checkout's root.

    Args:
      path: str or Path.
      what, flag: for the message.

    Raises:
      UserError: there is nothing.
    """
    candidates = [pathlib.Path(path).expanduser(),
                  configuration.gin_root().parent / path]
    for candidate in candidates:
        if candidate.exists():
            return candidate
    given = f'{flag}=PATH' if flag.startswith('--') else f'--gin_param="{flag}=\'PATH\'"'
    raise errors.UserError(f'{path}: no such file or folder; give {what} with {given}')


def unpacked(archive, folder):
    """Unpacks an archive below `folder`; see `archives.unpack`.

    Returns:
      The folder that holds the contents (the archive's only top folder, if there is one).

    Raises:
      UserError: the archive is damaged or unsafe, or the disk is full.
    """
    with files.atomic_folder(folder) as temporary:
        archives.unpack(archive, temporary)
    # Beside the data archivers put what is no part of them.
    return archives.top_folder(folder, base.JUNK)


def without_scratch(text, archive, scratch):
    """A text with the paths below the folder an archive was unpacked in as ARCHIVE:inner/path."""
    for folder in {str(scratch), str(pathlib.Path(scratch).resolve())}:
        text = text.replace(f'{folder}/', f'{archive}:').replace(folder, str(archive))
    return text


@contextlib.contextmanager
def named_as(archive, scratch):
    """Errors name what lies in an archive, and not the folder it was unpacked in and that goes.

    Args:
      archive: its path; None for no archive.
      scratch: the folder.
    """
    try:
        yield
    except errors.UserError as error:
        if archive is None:
            raise
        raise errors.UserError(without_scratch(str(error), archive, scratch)) from error


def prepare(reader_name, source, output, options=None, show=True, hint='--source'):
    """Turns an official folder or archive, or anybody's folder, into records.

    Args:
      reader_name: one of data.readers.READERS.
      source: folder or archive; None for a generated data set.
      output: the records' folder; records that are already there and whole are kept.
      options: the reader's own options.
      show: whether a progress bar is shown.
      hint: the flag named when `source` is missing or not there.

    Returns:
      data.records.record_set.RecordSet.

    Raises:
      UserError: bad input; names the file, one of an archive as ARCHIVE:inner/path. Records of
        another reader or other options at `output` are refused before an archive is unpacked.
        A process that prepares the same output is waited for.
    """
    options = dict(options or {})
    output = pathlib.Path(output)
    record_writing.require_same_reader(output, readers.description(reader_name, options))
    output.parent.mkdir(parents=True, exist_ok=True)
    # What is unpacked belongs to one process, and what a killed one left of it goes.
    scratch = output.with_name(f'{output.name}.unpacked')
    with locks.writing(scratch):
        files.remove_left(output.parent, [scratch.name])
        return _prepare(reader_name, source, output, options, show, hint,
                        scratch.with_name(files.temporary_name(scratch.name)))


def _prepare(reader_name, source, output, options, show, hint, scratch):
    """`prepare`; an archive is unpacked below `scratch`, a name that nothing has."""
    archive, place, is_archive = None, scratch / 'data', False
    if reader_name != 'shapes':
        if source is None:
            raise errors.UserError(f'no data set was given; expected the folder or archive of '
                                   f'"{reader_name}": give {hint}=PATH')
        source = find_data(source, flag=hint)
        is_archive = source.is_file()
        if is_archive and not str(source).endswith(archives.ENDINGS):
            raise errors.UserError(f'{source}: neither a folder nor an archive '
                                   f'({", ".join(archives.ENDINGS)})')
    try:
        if is_archive:
            with files.disk_errors(output):
                scratch.mkdir()
            archive, source = source, unpacked(source, place)
        with named_as(archive, place):
            reader = _make_reader(reader_name, source, options)
            record_sets.write_records(reader, reader.splits(), output, progress=show)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return record_sets.RecordSet(output, verify=False)


def _make_reader(name, source, options):
    """`readers.make_reader`; a folder that is no `folder`, the default, is said to be another's."""
    try:
        return readers.make_reader(name, source, **options)
    except errors.UserError as error:
        looks = layouts.guess(source) if name == 'folder' else None
        if name != 'folder' or not looks and all(
                (source / part).is_dir() for part in ('images', 'labels')):
            raise
        hint = (f'it looks like {looks}: add' if looks else
                'an official data set? name it with') + f' --dataset={looks or "NAME"}'
        raise errors.UserError(f'{error}; {hint} (in train: dataset.reader)') from error


@gin.configurable(denylist=['workdir', 'chief_writes', 'run_seed'])
def dataset(workdir, data_dir=None, reader='folder', options=None, holdout_fraction=0.3,
            holdout_seed=0, holdout_stratified=False, train_split='train', val_split='val',
            test_split='test', damaged='refuse', chief_writes=True, run_seed=0):
    """Opens the data of an experiment; converts it into `workdir`/records if it is raw.

    Which of the training images are labelled is `semi_supervised.semi_supervised`'s to say, and
    whether the splits are drawn anew, as folds, `folds.folds`'s.

    Args:
      workdir: the run directory; split.json is written there.
      data_dir: records (made by tools/prepare_data.py), the official folder or archive, or a
        folder of your own; relative paths are looked for here and below the checkout.
      reader: name of the reader for raw data.
      options: dict of the reader's own options (e.g. the seed of a split).
      holdout_fraction: share of the validation set that LoAd chooses by; 30 % in the paper. 1 takes
        all of it, as Luc et al. do.
      holdout_seed: of that choice.
      holdout_stratified: keep every class's share of images in the hold-out.
      train_split, val_split, test_split: names of the splits.
      damaged: 'refuse' or 'skip', see data.records.record_set.RecordSet.
      chief_writes: False on the other workers of several.
      run_seed: the run's seed, which chooses the labelled images unless they have their own.

    Returns:
      ExperimentData.

    Raises:
      UserError: bad data or settings.
    """
    arguments.require_path('dataset', 'data_dir', data_dir)
    fold_settings = folds.folds()
    settings = semi_supervised.semi_supervised()  # out of range: an error before a conversion
    workdir = pathlib.Path(workdir)
    folder = pathlib.Path(data_dir) if data_dir else None
    if folder is not None and (folder / files.MANIFEST).is_file():
        records = record_sets.RecordSet(folder, verify=False, damaged=damaged)
        _require_options(records, reader, options)
    elif (workdir / 'records' / files.MANIFEST).is_file():
        records = record_sets.RecordSet(workdir / 'records', verify=False, damaged=damaged)
    else:
        records = prepare(reader, data_dir, workdir / 'records', options, hint='--data_dir')
    records = folds.redrawn(records, (train_split, val_split, test_split), fold_settings, run_seed)
    val = records.split(val_split)
    presence = records.class_presence(val) if holdout_stratified else None
    holdout, rest = (list(val), []) if holdout_fraction == 1 else splits.hold_out(
        val, holdout_fraction, holdout_seed, presence)
    train, others = semi_supervised.divide(records, train_split, settings, run_seed)
    elsewhere = _images_without_labels(workdir, settings.unlabelled_dir, damaged)
    unlabelled = others if elsewhere is None else list(elsewhere.ids)
    data = ExperimentData(records, train, holdout, rest, records.split(test_split), {
        'train': records.left_out_of(train_split), 'val': records.left_out_of(val_split),
        'test': records.left_out_of(test_split)}, unlabelled,
        (elsewhere or records) if unlabelled else None,
        fold_settings.description(run_seed))
    if chief_writes:
        _warn_of_overlaps(data)
        if elsewhere is not None:
            _warn_of_folder(data, len(others), first=not (workdir / 'split.json').exists())
        splits.write_split(workdir / 'split.json', {
            'train': data.train, 'holdout': holdout, 'val_without_holdout': rest, 'test': data.test,
            **({semi_supervised.PART: unlabelled} if settings.in_use else {})},
            dataset=records.spec.name, holdout_seed=holdout_seed,
            holdout_stratified=holdout_stratified,
            **({'fold': data.fold} if data.fold else {}),
            **semi_supervised.split_fields(settings, run_seed))
    return data


def _require_options(records, reader, options):
    """UserError where records were made with other options than the configuration names.

    They would not be applied: a split or a size that a recipe counts on would silently be another.
    """
    for name, (value, was) in readers.other_options(
            records.manifest['identity']['reader'], reader, options or {}).items():
        raise errors.UserError(
            f'{records.folder}: these records were made with {name} = {was!r}, and dataset.options '
            f'asks for {value!r}; make them anew (prepare_data --option="{name}={value}"), or set '
            'dataset.options to what they are')


def _images_without_labels(workdir, source, damaged):
    """The RecordSet of a folder of images, made once, or of records; None for no source."""
    if source is None:
        return None
    made = workdir / semi_supervised.PART
    if not (made / files.MANIFEST).is_file():
        folder = find_data(source, 'the images without labels', 'semi_supervised.unlabelled_dir')
        if not (folder / files.MANIFEST).is_file():
            prepare('pictures', folder, made, hint='semi_supervised.unlabelled_dir')
            folder = made
        made = folder
    return record_sets.RecordSet(made, verify=False, damaged=damaged)


def _warn_of_folder(data, unused, first):
    """Logs what a folder of unlabelled images means for others, at a run's first start."""
    if not first:
        return
    if unused:
        logging.warning('%d training images are used neither with nor without their labels: the '
                        'unlabelled ones are those of semi_supervised.unlabelled_dir', unused)
    same = semi_supervised.copies(data)
    if same:
        logging.warning('%s: %d of the %d unlabelled images are images of the hold-out, the '
                        'rest of val or test, byte for byte; no label leaks, but scores are on '
                        'images that were seen', data.unlabelled_records.folder, same,
                        len(data.unlabelled))


def _warn_of_overlaps(data):
    """Logs which images serve two ends: scores on them are not what they seem."""
    test = set(data.test)
    own = data.unlabelled if data.unlabelled_records is data.records else []
    for ids, what in ((data.train, 'trained on'), (data.holdout, 'chosen by (the hold-out)'),
                      (own, 'trained on without their labels')):
        both = len(test.intersection(ids))
        if both:
            logging.warning('%s: %d of the %d test images are also %s; scores on them are no '
                            'scores on unseen data', data.records.folder, both, len(test), what)


def require_classes(data):
    """Raises UserError unless there are at least two classes."""
    if data.spec.num_classes < 2:
        raise errors.UserError(f'{data.records.folder}: the data set has {data.spec.num_classes} '
                               'class; at least 2 are needed')


def fingerprint(records):
    """Text that identifies the images and labels of a RecordSet.

    Of what they were made of (reader, options, classes, split, digests of the sources' bytes), not
    of the records' own bytes: two conversions of one source may order a record's fields otherwise.
    """
    return stages.settings_hash(records.manifest['identity'])
