"""Scores of runs and model folders on any data: what tools/evaluate.py does."""
import contextlib
import dataclasses
import pathlib
import tempfile

from tf_advseg.core import configuration
from tf_advseg.core import errors
from tf_advseg.core import files
from tf_advseg.core import progress
from tf_advseg.data import pipeline
from tf_advseg.data import readers
from tf_advseg.data import records as record_sets
from tf_advseg.data import splits as splits_lib
from tf_advseg.evaluation import evaluator
from tf_advseg.evaluation import metrics as figures
from tf_advseg.evaluation import multi_scale
from tf_advseg.experiments import dataset as datasets
from tf_advseg.experiments import networks
from tf_advseg.models import segmentor as segmentors
from tf_advseg.models import zoo
from tf_advseg.reporting import tables

BATCH_SIZE = 8
SUFFIXES = ('.json', '.csv')
# The common flag's word -> the folder of a run's checkpoints/.
WHICH = {'start': 'stage1'}


@dataclasses.dataclass(frozen=True)
class Pictures:
    """What is evaluated on: `ids` of `records`, called `split`; `source` is their user's name."""
    records: object
    split: str
    ids: list
    source: object = None


def require_output(path):
    """`path` as a Path if it can take a table, checked before the work: .json or .csv.

    Raises:
      UserError: another kind of file, or no folder for it.
    """
    path = pathlib.Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise errors.UserError(f'{path}: cannot tell the format; expected a name that ends in '
                               f'{" or ".join(SUFFIXES)}')
    if not path.parent.is_dir():
        raise errors.UserError(f'{path}: cannot be written, there is no folder {path.parent}')
    return path


def load(checkpoint, which=None):
    """A model from a run directory or model folder; see `networks.load`.

    Args:
      checkpoint: the path.
      which: 'best', 'last', 'start', 'stage1' or 'control'; None: the run's best.

    Raises:
      UserError: there is no such path, or it holds no model.
    """
    path = pathlib.Path(checkpoint).expanduser()
    with files.disk_errors(path):
        there = zoo.is_source(path)
    if not there:
        raise errors.UserError(f'{checkpoint}: no such checkpoint; give a run directory or a '
                               'model folder with --checkpoint')
    return networks.load(path, WHICH.get(which, which))


def load_each(checkpoints, which=None):
    """`load` for several: `which` is for the run directories among them, one at least.

    Returns:
      list of what `load` gives.
    """
    paths = [pathlib.Path(path).expanduser() for path in checkpoints]
    with files.disk_errors(paths[0]):
        single = [networks.is_model_folder(path) for path in paths]
    return [load(path, None if alone and not all(single) else which)
            for path, alone in zip(checkpoints, single)]


def run_of(checkpoint):
    """The run directory that a checkpoint belongs to (itself, or two above), or None."""
    path = pathlib.Path(checkpoint).expanduser().resolve()
    with files.disk_errors(path):
        for candidate in (path, path.parent.parent):
            if (candidate / 'config.gin').is_file() and (candidate / 'checkpoints').is_dir():
                return candidate
    return None


def _settings(run):
    """A run's gin bindings by their names without modules; {} for no run."""
    if run is None:
        return {}
    text = (run / 'config.gin').read_text(encoding='utf-8')
    return {'.'.join(name.split('.')[-2:]): value
            for name, value in configuration.bindings(text).items()}


@contextlib.contextmanager
def open_records(data_dir=None, reader=None, run=None):
    """Opens records, a raw folder or archive, or the data a run was made with.

    A raw folder is turned into records that live as long as this context.

    Args:
      data_dir: records, raw data, or None for the run's own.
      reader: name of the reader for raw data; None: the run's, else 'folder'.
      run: Path of a run directory, or None.

    Yields:
      data.records.RecordSet.

    Raises:
      UserError: there is no data, or it is bad.
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
    data_dir = datasets.find_data(data_dir)
    if (data_dir / files.MANIFEST).is_file():
        yield record_sets.RecordSet(data_dir, verify=False)
        return
    reader = reader or settings.get('dataset.reader', 'folder')
    if reader == 'shapes' and not own:
        reader = 'folder'  # the run's pictures were drawn; these lie in a folder
    errors.require_one_of('data set reader', reader, readers.READERS)
    options = settings.get('dataset.options') if settings.get('dataset.reader') == reader else None
    with tempfile.TemporaryDirectory(prefix='tf_advseg-') as scratch:
        yield datasets.prepare(reader, data_dir, pathlib.Path(scratch) / 'records', options,
                               hint='--data_dir')


def choose_pictures(records, split='test', run=None, source=None):
    """The pictures of a split: one of the records', or one of the run's (its hold-out, too).

    Args:
      records: RecordSet.
      split: name; the run's split.json comes first where its pictures are in these records.
      run: Path of a run directory, or None.
      source: what the user calls the records, for messages; None is their folder.

    Raises:
      UserError: no such split; names those there are.
    """
    choices = dict(records.splits)
    path = run / 'split.json' if run is not None else None
    if path is not None and path.is_file():
        known = set(records.ids)
        choices.update({name: ids for name, ids in splits_lib.read_split(path).items()
                        if known.issuperset(ids)})
    errors.require_one_of('split', split, choices)
    return Pictures(records, split, list(choices[split]), source or records.folder)


def score(segmentor, spec, crop_size, pictures, strategy=None, show=True, description='pictures',
          scales=multi_scale.SINGLE, flip=False):
    """One model's figures on pictures at their own resolution; exact under any strategy.

    Args:
      segmentor: the network; under a strategy built in its scope.
      spec: the DatasetSpec the network was trained with.
      crop_size: (h, w) it was trained at, or None.
      pictures: `Pictures`.
      strategy: tf.distribute.Strategy or None.
      show: whether to show progress.
      description: what the progress bar is called.
      scales, flip: see `evaluation.multi_scale`.

    Returns:
      evaluation.metrics.summary, with 'miou'.

    Raises:
      UserError: the data set's classes are not the network's.
    """
    theirs = pictures.records.spec
    if theirs.num_classes != spec.num_classes:
        raise errors.UserError(
            f'{pictures.source or pictures.records.folder}: has {theirs.num_classes} classes, the '
            f'checkpoint was trained on {spec.num_classes} ({spec.name}); evaluate it on data with '
            'those classes')
    colour = segmentors.padding_colour(segmentor)
    several = strategy if strategy is not None and strategy.num_replicas_in_sync > 1 else None
    with progress.Progress(len(pictures.ids), description, enabled=show) as bar:
        def batches():
            for batch in pipeline.whole_pictures(pictures.records, pictures.ids,
                                                 crop_size or (1, 1), BATCH_SIZE,
                                                 pad_value=colour):
                yield batch
                bar.update(len(batch['index']))
        with record_sets.data_errors():
            counts = evaluator.Evaluator(segmentor, batches, segmentor.num_classes,
                                         strategy=several, scales=scales, flip=flip).run()
    summary = figures.summary(counts, theirs.class_names)
    return {'miou': summary['mean_iou'], **summary}


def _names(checkpoints):
    """Column headings: the shortest ends of the paths that tell them apart."""
    paths = [pathlib.Path(path).expanduser().resolve() for path in checkpoints]
    for depth in range(1, max(len(path.parts) for path in paths) + 1):
        names = ['/'.join(path.parts[-depth:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    return [f'{name} ({number})' for number, name in enumerate(names, start=1)]


def evaluate(checkpoint, compare=(), which=None, data_dir=None, reader=None, split='test',
             strategy=None, show=True, scales=multi_scale.SINGLE, flip=False):
    """Evaluates one checkpoint, and others beside it, on the same pictures.

    Args:
      checkpoint: run directory or model folder.
      compare: further ones; gains are told against the first.
      which: which checkpoint of each run among them.
      data_dir, reader: see `open_records`; the default is the first checkpoint's own data.
      split: see `choose_pictures`.
      strategy: tf.distribute.Strategy or None.
      show: whether to show progress.
      scales, flip: of the passes that are averaged, see `evaluation.multi_scale`.

    Returns:
      {'dataset', 'split', 'pictures', 'scales', 'flip', 'models': {name: summary},
      'checkpoints': {name: path}}.

    Raises:
      UserError: see the functions above.
    """
    scales = multi_scale.require_scales(scales)  # a mistake is told before anything is loaded
    checkpoints = [checkpoint, *compare]
    run = run_of(checkpoint)
    scope = strategy.scope() if strategy is not None else contextlib.nullcontext()
    with scope:
        models = load_each(checkpoints, which)
    names = _names(checkpoints)
    with open_records(data_dir, reader, run) as records:
        pictures = choose_pictures(records, split, run, data_dir)
        results = {}
        for name, (segmentor, spec, content) in zip(names, models):
            results[name] = score(segmentor, spec, crop_size(content), pictures, strategy, show,
                                  f'evaluating {name}', scales, flip)
        return {'dataset': records.spec.name, 'split': pictures.split,
                'pictures': len(pictures.ids), 'scales': list(scales), 'flip': bool(flip),
                'models': results,
                'checkpoints': dict(zip(names, map(str, checkpoints)))}


def crop_size(content):
    """The crop a model was trained at, from its description; None where it has none."""
    crop = content['model']['arguments'].get('crop_size')
    return (crop, crop) if isinstance(crop, int) else crop


def table(results):
    """tables.Table: per-class IoU, mIoU, pixel accuracy; gains of the first over the second."""
    names = list(results['models'])
    passes = ''
    if tuple(results['scales']) != multi_scale.SINGLE or results['flip']:
        listed = ', '.join(f'{scale:g}' for scale in results['scales'])
        passes = f'; scales {listed}{" and mirrored" if results["flip"] else ""}'
    return tables.class_table(
        results['models'], start=names[1] if len(names) > 1 else None, subject=names[0],
        title=f'IoU in percent, {results["split"]} of {results["dataset"]} '
              f'({results["pictures"]} pictures{passes})')


def write(path, results):
    """Writes results as JSON (fractions, confusion matrices) or CSV (the table)."""
    if path.suffix.lower() == '.json':
        files.write_json(path, results)
        return
    with files.atomic_file(path, 'w') as file:
        file.write(tables.to_csv(table(results)))
