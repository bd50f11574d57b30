"""Confidence maps of any checkpoint, and what they are worth: what tools/confidence.py does."""
import pathlib

from tf_advseg.core import errors
from tf_advseg.core import files
from tf_advseg.core import output_folder
from tf_advseg.evaluation import confidence_counts as counting
from tf_advseg.evaluation import map_predictor
from tf_advseg.experiments.score import evaluating
from tf_advseg.experiments.score import evaluation_data
from tf_advseg.methods.hung import confidence_maps
from tf_advseg.methods.hung import discriminator_folders
from tf_advseg.reporting import curves
from tf_advseg.reporting import panels
from tf_advseg.reporting import tables
from tf_advseg.reporting.pages import evaluation_page
from tf_advseg.reporting.paper_figures import confidence_tables
from tf_advseg.run import networks
from tf_advseg.run import shown_images

RECORD = 'results.json'
SHOWN = 0.9  # T of the panel without a discriminator


def require_output(path, sources=()):
    """See `output_folder.require_replaceable`."""
    return output_folder.require_replaceable(path, RECORD, 'a measured confidence', sources)


def judge(checkpoint, output, which=None, discriminator=None, data_dir=None, reader=None,
          split='test', thresholds=None, images=shown_images.ROWS, show=True):
    """Measures the confidence in a checkpoint's predictions, and writes a folder of it.

    Args:
      checkpoint: run directory or model folder.
      output: as from `require_output`.
      which: which checkpoint of a run.
      discriminator: a run directory or a discriminator's folder; None takes the one beside the
        model, and where there is none the softmax alone is measured.
      data_dir, reader: see `evaluation_data.open_records`; the default is the run's own data.
      split: see `evaluation_data.choose_images`.
      thresholds: T; None is those of Table 7, or without a discriminator
        `confidence.SOFTMAX_THRESHOLDS`.
      images: rows of the panel; 0 for none.
      show: whether to show progress.

    Returns:
      {'dataset', 'split', 'images', 'left_out', 'checkpoint', 'which', 'discriminator': its
      folder or None, 'map_stride', 'thresholds', 'panel_threshold', 'figures': from
      `evaluation.confidence_counts.figures`, 'softmax': the same of the softmax alone}.

    Raises:
      UserError: nothing there, damaged, or of other classes; thresholds that are none.
    """
    if thresholds is not None:
        thresholds = counting.require_thresholds(thresholds, '--thresholds')
    model = evaluating.load(checkpoint, which)
    folder = networks.find(pathlib.Path(checkpoint).expanduser(),
                           evaluating.which_folder(which))
    place = (discriminator_folders.find(discriminator) if discriminator
             else discriminator_folders.beside(folder))
    discriminator, description = (discriminator_folders.load(place, model[0].num_classes) if place
                                  else (None, {}))
    if thresholds is None:
        thresholds = counting.THRESHOLDS if place else confidence_maps.SOFTMAX_THRESHOLDS
    run = evaluating.run_of(checkpoint)
    with evaluation_data.open_records(data_dir, reader, run) as records:
        chosen = evaluation_data.choose_images(records, split, run, data_dir)
        own = confidence_maps.Judge(model[0], discriminator, _stride(description, folder),
                                    evaluating.crop_size(model[2]),
                                    _translation(model[1], chosen, checkpoint),
                                    description.get('mask_predictions', True))
        softmax, disc = confidence_maps.measure(own, records, chosen.ids, thresholds, show)
        shown = shown_images.spread(chosen.ids, images)
        trained = description.get('threshold', SHOWN)
        at = min(thresholds, key=lambda one: abs(one - trained))
        drawn = confidence_maps.panel(own, records, shown, at) if shown else None
        results = {
            'dataset': records.spec.name, 'split': chosen.split, 'images': len(chosen.ids),
            'left_out': list(chosen.left_out), 'checkpoint': str(checkpoint),
            'which': folder.name, 'discriminator': str(place) if place else None,
            'map_stride': own.map_stride, 'thresholds': list(thresholds), 'panel_threshold': at,
            'figures': counting.figures(softmax, disc), 'softmax': counting.figures(softmax)}
    _write(output, results, softmax, disc, drawn)
    return results


def _stride(description, folder):
    """Pixels from one point to the next: those of the run's discriminator, that models compare.

    Without one, as beside a control, of the discriminator of the same run; else every pixel.
    """
    if description:
        return description['map_stride']
    for name in ('last', 'best'):
        other = folder.parent / name / discriminator_folders.FOLDER
        if discriminator_folders.is_folder(other):
            return discriminator_folders.read(other)['map_stride']
    return 1


def _translation(spec, images, checkpoint):
    """See `predictions.translation`; the message names what the user gave."""
    theirs = images.records.spec
    try:
        return map_predictor.translation(spec, theirs)
    except errors.UserError:
        raise errors.UserError(
            f'{images.source}: has {theirs.num_classes} classes, {checkpoint} was trained on '
            f'{spec.num_classes} ({spec.name}); measure it on data with those classes') from None


def table(results):
    """tables.Table: Table 7 of results."""
    return confidence_tables.selection_table(
        results['figures'], f'Selected points, {results["split"]} of {results["dataset"]} '
        f'({results["images"]} images)')


def text(results):
    """Results as they are printed on a terminal."""
    return '\n\n'.join((tables.to_text(table(results)), *_sentences(results)))


def _sentences(results):
    """What is to be known of the table."""
    if not results['figures']['points']:
        return ['No point of these images has a label, so nothing can be right or wrong.']
    stride, points = results['map_stride'], results['figures']['points']
    taken = (f'{points:,} labelled points: ' + (
        'every pixel' if stride == 1 else f'one for {stride} x {stride} pixels'))
    if results['discriminator'] is None:
        return [f'No discriminator; {taken}.', confidence_tables.SOFTMAX_NOTE]
    return [f'Discriminator: {results["discriminator"]}; {taken}.', confidence_tables.NOTE]


def _write(path, results, softmax, disc, drawn):
    """The folder; it is whole or not there."""
    judged = disc is not None
    series = {**({'discriminator': disc.coverage()} if judged else {}),
              'softmax': softmax.coverage()}
    first, found = ('disc' if judged else 'softmax'), results['figures']
    marks = [(f'{t:g}', found[f'{first}/share@{t:g}'], found[f'{first}/accuracy@{t:g}'])
             for t in results['thresholds']]
    figure = confidence_tables.coverage_figure(series, marks)
    scores = table(results)
    caption = ('The accuracy of the most confident points against their share, by what ranks '
               'them; dots are the thresholds.')
    shown = [] if drawn is None else [(
        'Confidence maps', 'Images spread over the split. Confidence is black at 0 and white at '
        f'1; selected is what is above {results["panel_threshold"]:g}. Errors are of all points.',
        drawn)]
    page = evaluation_page.EvaluationPage(
        f'Confidence, {results["split"]} of {results["dataset"]}',
        [*_sentences(results), f'{results["images"]} images; {found["points"]} points with a '
         f'label, one of every {results["map_stride"]}. pixel along a side.',
         f'Model: {results["checkpoint"]} ({results["which"]}).'], scores,
        figures=[(caption, figure)], panels=shown, figures_heading='Accuracy by share')
    with output_folder.written(path, RECORD) as folder:
        files.write_json(folder / RECORD, results)
        with files.atomic_file(folder / 'table.csv', 'w') as file:
            file.write(tables.to_csv(scores))
        with files.atomic_file(folder / 'coverage.png') as file:
            file.write(curves.encode(figure))
        if drawn is not None:
            panels.write_png(folder / 'confidence.png', drawn)
        evaluation_page.write_evaluation_page(folder / 'report.html', page)
