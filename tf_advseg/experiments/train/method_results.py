"""What a run of a method that takes turns leaves to read: its scores with BF, and its report."""
import gin
import numpy as np

from tf_advseg.core import errors
from tf_advseg.core import files
from tf_advseg.evaluation import map_predictor
from tf_advseg.evaluation import measures as measures_lib
from tf_advseg.evaluation import prediction
from tf_advseg.experiments.train import run_results
from tf_advseg.methods.hung import confidence_maps
from tf_advseg.methods.hung import discriminator_folders
from tf_advseg.methods.zhu import gan_folders
from tf_advseg.methods.zhu import reconstruction_stage
from tf_advseg.reporting import panels
from tf_advseg.reporting import tables
from tf_advseg.reporting.pages import adversarial_report
from tf_advseg.reporting.pages import adversarial_sentences
from tf_advseg.reporting.pages import report as reports
from tf_advseg.reporting.paper_figures import probability_panels
from tf_advseg.reporting.paper_figures import training_masks
from tf_advseg.run import networks
from tf_advseg.training import strategy as strategies

BATCH_SIZE = 8
MASKS = 'masks'  # below a stage's folder: of the panel's pictures, at each evaluation


@gin.configurable
def paper_figures(paper_rows=None):
    """What a paper printed, to stand beside a run's own figures in its report.

    Args:
      paper_rows: {row's name: summary with 'mean_class_accuracy', 'pixel_accuracy' (Durall et al.'s
        "overall accuracy"), 'frequency_weighted_iou', 'miou' as fractions}, the baseline first and
        the method last; None for nothing.

    Raises:
      UserError: something else.
    """
    names = ('mean_class_accuracy', 'pixel_accuracy', 'frequency_weighted_iou', 'miou')
    good = paper_rows is None or isinstance(paper_rows, dict) and all(
        isinstance(row, dict) and set(row) <= set(names) and all(
            isinstance(value, float) and 0 <= value <= 1 for value in row.values())
        for row in paper_rows.values())
    if not good:
        raise errors.UserError(f'paper_figures.paper_rows = {paper_rows!r}: expected {{row: '
                               f'{{name: fraction}}}} with some of {", ".join(names)}')
    return paper_rows


def scores(context, segmentor, seconds, method, random=False):
    """`outcome.scores` with the boundary measure (BF) of every model on the test split.

    With several workers there is no BF: one process measures it (tools/evaluate.py). A start of
    random weights (`random`) is left out, and 'starts_random' says so.
    """
    results = run_results.scores(context, segmentor, seconds, method,
                             leave_out=('stage1',) if random else ())
    results['starts_random'] = random
    if strategies.has_workers(context.strategy):
        return results
    for name, column in run_results.columns(method).items():
        if column in results['models'] and 'test' in results['models'][column] and _there(
                context, name):
            networks.load_weights(context.run.checkpoints / name, segmentor)
            results['models'][column]['test']['boundary'] = _boundary(context, segmentor)
    return results


def masks_over_time(context, method):
    """{title: {step: [uint8 [h, w]]}}: the masks that a run's stages kept on their way."""
    found = {}
    for stage, title in ((method, run_results.TITLES[method]), ('control', run_results.CONTROL)):
        paths = sorted((context.run.stages / stage / MASKS).glob('*.npz'))
        if paths:
            found[title] = {int(path.stem): list(np.load(path).values()) for path in paths}
    return found


def _there(context, name):
    return (context.run.checkpoints / name / networks.DESCRIPTION).exists()


def _boundary(context, segmentor):
    """The result of `evaluation.boundary.BoundaryF` on the test split."""
    records, ids = context.data.records, context.data.test
    measure = measures_lib.make_measures('boundary', records.spec, records.image_sizes(ids))
    predictor = map_predictor.MapPredictor(segmentor, context.crop_size, context.several_replicas,
                                         BATCH_SIZE)
    for found in predictor.over(records, ids):
        measure['boundary'].update(found.image_id, found.label, found.ids)
    return measure['boundary'].result()


def report(context, segmentor, results, method, stage):
    """Writes report.html, the panels and the tables of a run.

    Args:
      context: run.context.Context.
      segmentor: scratch for the panels' models; ends with other weights.
      results: from `scores`.
      method: the method's name, which its lines in metrics.jsonl bear.
      stage: the settings of `adversarial.adversarial_stage`.
    """
    run, spec = context.run, context.data.spec
    grid, over_time, probabilities = _panels(context, segmentor, results, method)
    judged = _confidence(context, segmentor, method)
    redrawn = _redrawn(context, segmentor, method)
    if not context.chief:
        return
    panels.write_png(run.figures / 'panel.png', grid)
    if over_time is not None:
        panels.write_png(run.figures / 'masks_over_time.png', over_time)
    if judged is not None:
        panels.write_png(run.figures / 'confidence.png', judged)
    if redrawn is not None:
        panels.write_png(run.figures / 'redrawn.png', redrawn)
    for number, picture in enumerate(probabilities.values(), start=1):
        panels.write_png(run.figures / f'probabilities_{number}.png', picture)
    for split in run_results.SPLITS:
        if run_results.by_split(results, split):
            with files.atomic_file(run.figures / f'{split}.csv', 'w') as file:
                file.write(tables.to_csv(run_results.table(results, split)))
    notes = [*(f'Of the test split: {note}.' for note in run_results.notes_on_test(results)),
             *run_results.notes_on_training(results)]
    taken_from = reconstruction_stage.taken_from(context)
    if taken_from:
        notes.append(f'The GAN that redraws pictures was trained by {taken_from} and taken over.')
    content = adversarial_report.adversarial_report(
        f'{run_results.TITLES[method]} on {spec.name}', results,
        run_results.read_lines(run.metrics_path), method, spec.class_names, palette=spec.palette,
        steps_per_epoch=len(context.data.train) / stage['batch_size'], keep=stage['keep'],
        noise=_noise(context), masks=grid, masks_over_time=over_time, probabilities=probabilities,
        confidence=judged, redrawn=redrawn, summary=notes, paper=paper_figures(),
        configuration=run.config_path.read_text(encoding='utf-8'),
        environment=run_results.read_environment(run))
    reports.write_report(run.report_path, content)


def _noise(context):
    """What another seed is worth in points: tried on Stanford Background's test pictures alone."""
    tried = context.data.spec.name == 'stanford_background' and len(context.data.test) > 100
    return adversarial_sentences.NOISE if tried else None


def _confidence(context, segmentor, method):
    """Hung et al.'s Fig. 3 of the run's test pictures, or None where no discriminator was kept.

    On every worker: networks are run.
    """
    for name in run_results.columns(method):
        folder = context.run.checkpoints / name
        if name not in ('last', 'best') or not discriminator_folders.is_folder(
                folder / discriminator_folders.FOLDER):
            continue
        networks.load_weights(folder, segmentor)
        adversary, description = discriminator_folders.load(folder / discriminator_folders.FOLDER,
                                                     segmentor.num_classes)
        judge = confidence_maps.Judge(segmentor, adversary, description['map_stride'],
                                 context.crop_size,
                                 mask_predictions=description['mask_predictions'])
        return confidence_maps.panel(judge, context.data.records, run_results.panel_ids(context),
                                description['threshold'])
    return None


def _redrawn(context, segmentor, method):
    """Zhu et al.'s Fig. 3 of the run's test pictures, or None where there is no GAN.

    On every worker: networks are run.
    """
    folder = context.run.checkpoints / gan_folders.FOLDER
    if not (folder / gan_folders.DESCRIPTION).is_file():
        return None

    def of(name):
        def loaded():
            networks.load_weights(context.run.checkpoints / name, segmentor)
            return segmentor
        return loaded

    with context.strategy.scope():
        gan = reconstruction_stage.build(context)
    own = next((name for name in ('best', 'last') if _there(context, name)), None)
    wanted = {'redrawn from CE': 'control', f'redrawn from {run_results.TITLES[method]}': own}
    return reconstruction_stage.panel(context, gan, run_results.panel_ids(context),
                           {title: of(name) for title, name in wanted.items()
                            if name and _there(context, name)})


def _panels(context, segmentor, results, method):
    """Of a few test pictures: (their masks, those over training or None, {id: probabilities}).

    On every worker: networks are run.
    """
    chosen = run_results.panel_ids(context)
    pictures = [context.data.records.load(image_id) for image_id in chosen]
    masks, chances = {}, {}
    for name, column in run_results.columns(method).items():
        if column not in results['models'] or not _there(context, name) or column in masks:
            continue
        networks.load_weights(context.run.checkpoints / name, segmentor)
        masks[column] = run_results.masks(context, segmentor, pictures)
        if name != 'stage1':
            chances[column] = [prediction.predict(segmentor, image, context.crop_size,
                                                  probabilities=True)[1] for image, _ in pictures]
    spec = context.data.spec
    shown = {image_id: probability_panels.probability_panel(
        image, truth, {column: found[row] for column, found in chances.items()}, spec.palette,
        spec.class_names) for row, (image_id, (image, truth)) in enumerate(zip(chosen, pictures))}
    over_time = training_masks.masks_over_time(pictures, masks_over_time(context, method),
                                               spec.palette, spec.class_names, chosen)
    return run_results.mask_grid(context, pictures, masks, chosen), over_time, shown
