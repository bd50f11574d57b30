"""The report of a run: its page, panels and tables, with the method's own parts in their places."""
import dataclasses
from typing import Mapping, Optional

import gin
import numpy as np

from tf_advseg.core import configuration
from tf_advseg.core import errors
from tf_advseg.core import files
from tf_advseg.experiments.train import method_stage
from tf_advseg.experiments.train import run_results
from tf_advseg.experiments.train import stage_training
from tf_advseg.methods import recipe as recipes
from tf_advseg.reporting import panels
from tf_advseg.reporting import tables
from tf_advseg.reporting.pages import adversarial_report
from tf_advseg.reporting.pages import adversarial_sentences
from tf_advseg.reporting.pages import report as reports
from tf_advseg.reporting.paper_figures import probability_panels
from tf_advseg.reporting.paper_figures import training_masks
from tf_advseg.run import shown_images

_ROW = ('mean_class_accuracy', 'pixel_accuracy', 'frequency_weighted_iou', 'miou')


@dataclasses.dataclass(frozen=True)
class PaperFigures:
    """What a paper printed, to stand beside a run's own figures in its report.

    Attributes:
      paper_rows: {row's name: summary with some of 'mean_class_accuracy', 'pixel_accuracy' (Durall
        et al.'s "overall accuracy"), 'frequency_weighted_iou', 'miou' as fractions}, the baseline
        first; None for nothing.
      holds_for: {gin name: value} under which they were printed, such as
        {'semi_supervised.fraction': 0.125}: a run with another value does not show them.

    Raises:
      UserError: something else.
    """
    paper_rows: Optional[dict] = None
    holds_for: Optional[Mapping] = None

    def __post_init__(self):
        rows = self.paper_rows
        good = rows is None or isinstance(rows, dict) and all(
            isinstance(row, dict) and set(row) <= set(_ROW) and all(
                isinstance(value, float) and 0 <= value <= 1 for value in row.values())
            for row in rows.values())
        if not good:
            raise errors.UserError(f'paper_figures.paper_rows = {rows!r}: expected {{row: '
                                   f'{{name: fraction}}}} with some of {", ".join(_ROW)}')
        if self.holds_for is not None and not isinstance(self.holds_for, Mapping):
            raise errors.UserError(f'paper_figures.holds_for = {self.holds_for!r}: expected '
                                   "{gin name: value}, such as {'semi_supervised.fraction': 0.125}")

    def shown(self):
        """`paper_rows` where they are of such a run, else None."""
        for name, value in (self.holds_for or {}).items():
            if configuration.bound(name) != value:
                return None
        return self.paper_rows


paper_figures = gin.external_configurable(PaperFigures, name='paper_figures',
                                          module='tf_advseg.experiments')


def write(context, segmentor, recipe, results, shown):
    """Writes report.html, the panels and the tables of a run.

    Args:
      context: run.context.Context.
      segmentor: scratch for the method's own parts; may end with other weights.
      recipe: methods.recipe.Recipe.
      results, shown: from `run_results.scores`.
    """
    run = context.run
    control = method_stage.CONTROL if run_results.CONTROL in results['models'] else None
    inputs = recipes.ReportInputs(
        context, run_results.read_lines(run.metrics_path), shown.probabilities, shown.observed,
        shown.masks, recipe.name if recipe.trains else 'stage 1', control)
    parts = recipe.own_parts(inputs)  # on every worker: networks may be run
    fields = {
        'configuration': run.config_path.read_text(encoding='utf-8'),
        'environment': run_results.read_environment(run),
        'summary': [*(f'Of the test split: {note}.' for note in run_results.notes_on_test(results)),
                    *run_results.notes_on_training(results)]}
    made = recipe.report and recipe.report(inputs, segmentor, results, fields)
    if not context.chief:
        return
    titles = {name: title for name, title in run_results.columns(recipe).items()
              if name in shown.masks}
    grid = shown_images.mask_grid(
        context, shown.images, {title: shown.masks[name] for name, title in titles.items()},
        shown_images.test_ids(context))
    if made is None:
        made = _page(context, recipe, results, shown, grid, parts, inputs, fields)
    else:
        grid = made.panels[0][1]
    panels.write_png(run.figures / 'panel.png', grid)
    for part in parts:
        if part.file is not None:
            panels.write_png(run.figures / part.file, part.content)
    for split in run_results.SPLITS:
        if run_results.by_split(results, split):
            with files.atomic_file(run.figures / f'{split}.csv', 'w') as file:
                file.write(tables.to_csv(run_results.table(results, split)))
    reports.write_report(run.report_path, made)


def _page(context, recipe, results, shown, grid, parts, inputs, fields):
    """reporting's RunReport of an ordinary method, or of Stage 1 alone."""
    run, spec, stage = context.run, context.data.spec, method_stage.adversarial_stage()
    ids = shown_images.test_ids(context)
    over_time = training_masks.masks_over_time(shown.images, masks_over_time(context, recipe),
                                               spec.palette, spec.class_names, ids)
    if over_time is not None:
        panels.write_png(run.figures / 'masks_over_time.png', over_time)
    titles = run_results.columns(recipe)
    chances = {image_id: probability_panels.probability_panel(
        image, truth, {titles[name]: found[row] for name, found in shown.probabilities.items()},
        spec.palette, spec.class_names)
        for row, (image_id, (image, truth)) in enumerate(zip(ids, shown.images))
        if shown.probabilities}
    for number, panel in enumerate(chances.values(), start=1):
        panels.write_png(run.figures / f'probabilities_{number}.png', panel)
    paper = paper_figures().shown()
    title = recipe.title if recipe.trains else 'Cross-entropy (Stage 1)'
    return adversarial_report.adversarial_report(
        f'{title} on {spec.name}', results, inputs.metrics, inputs.stage, spec.class_names,
        control=inputs.control, palette=spec.palette,
        steps_per_epoch=len(context.data.train) / stage.batch_size,
        keep=stage.keep if recipe.trains else 'last', noise=_noise(context), masks=grid,
        masks_over_time=over_time, probabilities=chances, parts=parts, paper=paper,
        paper_row=recipe.paper_row(paper) if paper else None, trains=recipe.trains, **fields)


def masks_over_time(context, recipe):
    """{title: {step: [uint8 [h, w]]}}: the masks that a run's stages kept on their way."""
    found = {}
    for stage, title in ((recipe.name, recipe.title), (method_stage.CONTROL, run_results.CONTROL)):
        paths = sorted((context.run.stages / stage / stage_training.MASKS).glob('*.npz'))
        if paths:
            found[title] = {int(path.stem): list(np.load(path).values()) for path in paths}
    return found


def _noise(context):
    """What another seed is worth in points: tried on Stanford Background's test images alone."""
    tried = context.data.spec.name == 'stanford_background' and len(context.data.test) > 100
    return adversarial_sentences.NOISE if tried else None
