"""Scores of runs and model folders on any data: what tools/evaluate.py does."""
import contextlib
import dataclasses
import pathlib

from tf_advseg.core import errors
from tf_advseg.core import files
from tf_advseg.core import output_folder
from tf_advseg.core import progress
from tf_advseg.evaluation import file_predictor
from tf_advseg.evaluation import map_predictor
from tf_advseg.evaluation import measures as measures_lib
from tf_advseg.evaluation import multi_scale
from tf_advseg.evaluation import sliding_window
from tf_advseg.experiments.score import comparing
from tf_advseg.experiments.score import evaluation_data
from tf_advseg.experiments.score import evaluation_folder
from tf_advseg.experiments.score import predictors as predictors_lib
from tf_advseg.models import backends
from tf_advseg.models import zoo
from tf_advseg.models.backends import map_file
from tf_advseg.reporting import comparison
from tf_advseg.reporting import measure_tables
from tf_advseg.reporting import tables
from tf_advseg.run import exported_files
from tf_advseg.run import networks

BATCH_SIZE = 8
SUFFIXES = ('.json', '.csv')
# The common flag's word -> the folder of a run's checkpoints/.
WHICH = {'start': 'stage1'}


def require_output(path, sources=()):
    """Where results can be written, checked before the work: .json, .csv, or a folder.

    Args:
      path: a name that ends in .json or .csv, or the folder that a whole evaluation goes into: a
        name without a suffix, with a slash at its end, or of a folder that is there.
      sources: what is read; none of it may lie in the folder.

    Returns:
      pathlib.Path.

    Raises:
      UserError: another kind of file, no folder for it, or a folder of other things.
    """
    folder = str(path).endswith(('/', '\\'))
    path = pathlib.Path(path).expanduser()
    if folder or path.is_dir() or not any(map(str.isalpha, path.suffix)):  # v1.2 is a name
        return output_folder.require_replaceable(path, evaluation_folder.RECORD, 'an evaluation',
                                                 sources)
    if path.suffix.lower() not in SUFFIXES:
        raise errors.UserError(f'{path}: unknown format; expected a name that ends in '
                               f'{" or ".join(SUFFIXES)}, or a folder (no suffix)')
    if not path.parent.is_dir():
        raise errors.UserError(f'{path}: cannot be written, there is no folder {path.parent}')
    return path


def load(checkpoint, which=None, maps=False):
    """A model from a run directory or model folder; see `networks.load`.

    Args:
      checkpoint: the path.
      which: 'start' or one of `networks.WHICH`; None: see `networks.find`.
      maps: whether class maps are enough: then a TFLite or ONNX file that `export` wrote is
        taken, too, and what is returned is that of `exported_files.load`.

    Raises:
      UserError: there is no such path, or it holds no model.
    """
    path = pathlib.Path(checkpoint).expanduser()
    with files.disk_errors(path):
        there = zoo.is_source(path)
    if not there:
        raise errors.UserError(f'{checkpoint}: no such checkpoint; expected a run directory or a '
                               'model folder (a model of a run that is under way is not there yet)')
    if exported_files.is_exported(path):
        if not maps:
            raise errors.UserError(f'{checkpoint}: gives class maps alone, and this needs the '
                                   'network: give the checkpoint that it was exported from')
        if which is not None:
            raise errors.UserError(f'{checkpoint}: --which={which} belongs to a run directory, and '
                                   'this is one file: leave --which out')
        return exported_files.load(path)
    folder = networks.find(path, which_folder(which))
    if which is None and folder is not None and folder != path and 'averaged' in folder.name:
        print(f'{checkpoint}: the averaged model (--which chooses another)', flush=True)
    return networks.load(path, which_folder(which))


def which_folder(which):
    """The folder of a run's checkpoints/ that a word of --which means; None for None."""
    return WHICH.get(which, which)


def load_each(checkpoints, which=None, maps=False):
    """`load` for several: `which` is for the run directories among them, one at least.

    Returns:
      list of what `load` gives.
    """
    return [load(path, one, maps) for path, one in _which_of_each(checkpoints, which)]


def _which_of_each(checkpoints, which):
    """[(Path, the folder of its checkpoints/ or None)]: see `load_each`."""
    paths = [pathlib.Path(path).expanduser() for path in checkpoints]
    with files.disk_errors(paths[0]):
        single = [networks.is_model_folder(path) or exported_files.is_exported(path)
                  for path in paths]
    return [(path, None if alone and not all(single) else which_folder(which))
            for path, alone in zip(paths, single)]


def run_of(checkpoint):
    """The run directory that a checkpoint belongs to (itself, or two or three above), or None."""
    path = pathlib.Path(checkpoint).expanduser().resolve()
    with files.disk_errors(path):
        for candidate in (path, *list(path.parents)[1:3]):
            if (candidate / 'config.gin').is_file() and (candidate / 'checkpoints').is_dir():
                return candidate
    return None


@dataclasses.dataclass(frozen=True)
class Scored:
    """One model on some images.

    Attributes:
      summary: figures as JSON: those of `metrics.summary` and 'miou', and a dict a further measure.
      counts: evaluation.image_counts.ImageCounts.
      predictor: evaluation.map_predictor.MapPredictor, for panels.
    """
    summary: dict
    counts: object
    predictor: object


def make_predictor(model, images, strategy=None, checkpoint='the checkpoint', **passes):
    """What predicts images with a model, in the data's numbering of classes; no work yet.

    Args:
      model: (segmentor, DatasetSpec it was trained with, description) as from `load`; under a
        strategy loaded in its scope.
      images: `evaluation_data.Images`.
      strategy: tf.distribute.Strategy or None.
      checkpoint: what the user calls the model, for messages.
      **passes: scales, flip, padding, window, overlap of `predictions.MapPredictor`.

    Returns:
      map_predictor.MapPredictor, or file_predictor.FilePredictor.

    Raises:
      UserError: the data set's classes are not the network's; an image is larger than a file takes.
    """
    segmentor, spec, content = model
    records, theirs = images.records, images.records.spec
    try:
        translation = map_predictor.translation(spec, theirs)
    except errors.UserError:
        raise errors.UserError(
            f'{images.source or records.folder}: has {theirs.num_classes} classes, '
            f'{checkpoint} was trained on {spec.num_classes} ({spec.name}); evaluate it on data '
            'with those classes') from None
    if not isinstance(segmentor, map_file.MapFile):
        return map_predictor.MapPredictor(segmentor, crop_size(content), strategy, BATCH_SIZE,
                                          translation=translation, **passes)
    predictor = file_predictor.FilePredictor(segmentor, translation=translation, **passes)
    for image_id, size in zip(images.ids, records.image_sizes(images.ids)):
        predictor.require_size(tuple(size), image_id)
    return predictor


def score(predictor, images, measures=(), show=True, description='images'):
    """One model's figures on images at their own resolution; exact under any strategy.

    Args:
      predictor: from `make_predictor`.
      images: `evaluation_data.Images`.
      measures: names of evaluation.measures beside 'iou'.
      show: whether to show progress.
      description: what the progress bar is called.

    Returns:
      Scored.

    Raises:
      UserError: a measure that the data set cannot have; label ids that no class has.
    """
    records, theirs = images.records, images.records.spec
    asked = measures_lib.make_measures(measures, theirs, records.image_sizes(images.ids))
    with progress.Progress(len(images.ids), description, enabled=show) as bar:
        for found in predictor.over(records, images.ids):
            instances = (records.load_instances(found.image_id) if 'instances' in asked else None)
            for measure in asked.values():
                measure.update(found.image_id, found.label, found.ids, instances)
            bar.update(1)
    figures = {name: measure.result() for name, measure in asked.items()}
    iou = figures.pop('iou')
    return Scored({'miou': iou.pop('mean_iou'), **iou, **figures}, asked['iou'].counts(), predictor)


def evaluate(checkpoint, compare=(), which=None, data_dir=None, reader=None, split='test',
             strategy=None, show=True, measures=(), output=None, damaged='refuse',
             backend=backends.TENSORFLOW, **passes):
    """Evaluates one checkpoint, and others beside it, on the same images.

    Args:
      checkpoint: run directory, model folder, or a file that `export` wrote.
      compare: further ones; gains are given against them, with intervals over images.
      which: which checkpoint of each run among them.
      data_dir, reader, damaged: see `evaluation_data.open_records`; the default is the first
        checkpoint's own data.
      split: see `evaluation_data.choose_images`.
      strategy: tf.distribute.Strategy or None.
      show: whether to show progress.
      measures: names of evaluation.measures beside 'iou'.
      output: where results are written, as from `require_output`, or None.
      backend: of `backends.NAMES`; another than TensorFlow computes on one device, and is the
        same for all models: 'auto' measures the first.
      **passes: see `make_predictor`.

    Returns:
      {'dataset', 'split', 'images', 'left_out': ids of damaged ones, 'scales', 'flip',
      'padding', 'window', 'overlap', 'models': {name: summary}, 'checkpoints': {name: path},
      'which': {name: the model's folder, in a run one of networks.WHICH}}; with others to compare
      'comparisons' of `comparing.compare`. 'window' is the one really used: {name: (h, w) on the
      network's grid}, or None. 'backend': what computed, unless it was TensorFlow.

    Raises:
      UserError: see the functions above.
    """
    passes = _passes(**passes)  # a mistake fails before anything is loaded
    predictors_lib.require_apart(backend, strategy)
    checkpoints = [checkpoint, *compare]
    run = run_of(checkpoint)
    scope = strategy.scope() if strategy is not None else contextlib.nullcontext()
    folders = [path if exported_files.is_exported(path) else networks.find(path, one)
               for path, one in _which_of_each(checkpoints, which)]
    names = comparing.column_names(checkpoints, folders)
    with scope:
        models = load_each(checkpoints, which, maps=True)
    predictors_lib.require_files_run(backend, strategy, models)
    with evaluation_data.open_records(data_dir, reader, run, damaged) as records:
        images = evaluation_data.choose_images(records, split, run, data_dir)
        # All of them before the first works: one that does not fit fails at once.
        predictors = {name: make_predictor(model, images, strategy, checkpoint, **passes)
                      for name, model, checkpoint in zip(names, models, checkpoints)}
        chosen = predictors_lib.compute_by(backend, predictors.values(), len(images.ids), show)
        computed = chosen[-1].name if chosen else backends.TENSORFLOW
        passes['window'] = {name: list(predictor.window) for name, predictor in
                            predictors.items()} if passes['window'] else None
        scored = {name: score(predictor, images, measures, show, f'evaluating {name}')
                  for name, predictor in predictors.items()}
        results = {'dataset': records.spec.name, 'split': images.split,
                   'images': len(images.ids), 'left_out': list(images.left_out), **passes,
                   'models': {name: one.summary for name, one in scored.items()},
                   'checkpoints': dict(zip(names, map(str, checkpoints))),
                   'which': {name: None if folder is None or folder.is_file() else folder.name
                             for name, folder in zip(names, folders)}}
        if computed != backends.TENSORFLOW:
            results['backend'] = computed
        for text in filter(None, (one.rest_text() for one in chosen if show)):
            print(text, flush=True)
        if compare:
            results['comparisons'] = comparing.compare(scored, records.spec)
        if output is not None:
            write(output, results, scored, images)
    return results


def evaluate_model(model, checkpoint, data_dir=None, reader=None, split='test', measures=(),
                   damaged='refuse', **passes):
    """The figures of a model that is loaded already.

    Args:
      model: as from `load`, or one whose first member is a `backends.Backend`.
      checkpoint: where it was loaded from: whose run's data are the default.
      data_dir, reader, split, measures, damaged, **passes: see `evaluate`.

    Returns:
      the model's summary: 'miou', 'pixel_accuracy', 'class_iou' and so on.

    Raises:
      UserError: see `evaluate`.
    """
    passes = _passes(**passes)
    with evaluation_data.open_records(data_dir, reader, run_of(checkpoint), damaged) as records:
        images = evaluation_data.choose_images(records, split, run_of(checkpoint), data_dir)
        predictor = make_predictor(model, images, None, checkpoint, **passes)
        return score(predictor, images, measures, False).summary


def _passes(scales=(), flip=False, padding='crop', window=None,
            overlap=sliding_window.OVERLAP):
    """The options of the passes, checked, as they are written down."""
    errors.require_one_of('padding', padding, map_predictor.PADDINGS)
    window = sliding_window.require_window(window, overlap)
    return {'scales': list(multi_scale.require_scales(scales)), 'flip': bool(flip),
            'padding': padding, 'window': list(window) if window else None, 'overlap': overlap}


def crop_size(content):
    """The crop a model was trained at, from its description; None where it has none."""
    crop = content['model']['arguments'].get('crop_size')
    return (crop, crop) if isinstance(crop, int) else crop


def table(results):
    """tables.Table: per-class IoU, mIoU, pixel accuracy; a column a model."""
    return tables.class_table(
        results['models'], title=f'IoU in percent, {results["split"]} of {results["dataset"]} '
                                 f'({results["images"]} images{left_out_text(results)}'
                                 f'{passes_text(results)}{which_text(results)})')


def which_text(results):
    """Which models are averages: '; run: averaged'. '' where none is."""
    averages = [f'{name}: {which}' for name, which in results.get('which', {}).items()
                if which and 'averaged' in which and which not in name]
    return ''.join(f'; {part}' for part in averages)


def left_out_text(results):
    """', 2 damaged left out', or '' where none was."""
    number = len(results['left_out'])
    return f', {number} damaged left out' if number else ''


def passes_text(results):
    """How images were shown, unless once, whole and padded to the crop: '; scales 0.5, 1'."""
    parts = []
    if tuple(results['scales']) != multi_scale.SINGLE or results['flip']:
        listed = ', '.join(f'{scale:g}' for scale in results['scales'])
        parts.append(f'scales {listed}{" and mirrored" if results["flip"] else ""}')
    if results['window']:
        parts.append(comparing.windows_text(results))
    if results['padding'] != 'crop':
        parts.append(f'padding {results["padding"]}')
    if results.get('backend'):
        parts.append(f'computed by {results["backend"]}')
    return ''.join(f'; {part}' for part in parts)


def all_tables(results):
    """[Table]: `table`, then one a further measure, then one a comparison."""
    return [table(results), *measure_tables.measure_tables(results['models']),
            *comparing.interval_tables(results)]


def text(results):
    """Results as they are printed on a terminal."""
    parts = [tables.to_text(one) for one in all_tables(results)]
    if 'comparisons' in results:
        parts.append(comparison.NOTE)
    return '\n\n'.join(parts)


def write(path, results, scored, images):
    """Writes results: JSON (fractions, confusion matrices), CSV (the table), or a whole folder.

    Args:
      path: as from `require_output`.
      results: from `evaluate`.
      scored: {name: Scored}.
      images: `evaluation_data.Images`.
    """
    if path.suffix.lower() == '.json' and not path.is_dir():
        files.write_json(path, results)
    elif path.suffix.lower() == '.csv' and not path.is_dir():
        with files.atomic_file(path, 'w') as file:
            file.write(tables.to_csv(comparing.with_intervals(table(results), results)))
    else:
        evaluation_folder.write(path, results, scored, images, all_tables(results))
