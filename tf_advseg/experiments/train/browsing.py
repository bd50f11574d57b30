"""What a network is shown: the very batches of a run's first steps, as a page to look at.

They come from the stages themselves, so crop, augmentation, order, labels and views are the run's:
the batch of step t is a function of the seed and t.
"""
import dataclasses
import pathlib

import numpy as np
import tensorflow as tf

from tf_advseg.core import errors
from tf_advseg.core import files
from tf_advseg.core import output_folder
from tf_advseg.core import tensorflow_paths
from tf_advseg.data.records import record_set as record_sets
from tf_advseg.data.spec import IGNORE_LABEL
from tf_advseg.experiments.train import run_stages
from tf_advseg.experiments.train import stage_one
from tf_advseg.reporting import contact_sheet
from tf_advseg.reporting import tables
from tf_advseg.reporting.pages import page

PAGE, RECORD, BOARD = 'batches.html', 'batches.json', 'tensorboard'
WIDTH = 200  # of an image on the page, in pixels
KIND = 'a page of batches'
TITLES = {'segmentor': 'the segmentor', 'discriminator': 'the discriminator',
          'unlabelled': 'the segmentor, with unlabelled images'}


@dataclasses.dataclass(frozen=True)
class Shown:
    """A batch that is shown: whose, of which step (from 0), its sheet, pixels of each class."""
    title: str
    step: int
    sheet: np.ndarray
    counts: np.ndarray


def require_output(path, sources=()):
    """The folder that the page is written to, checked; see `output_folder.require_replaceable`."""
    return output_folder.require_replaceable(path, RECORD, KIND, [s for s in sources if s])


def write(context, segmentor, recipe, output, steps=3, first=0):
    """Writes batches of Stage 1 and of the method: a page, a JSON file, TensorBoard's events.

    Args:
      context: run.context.Context.
      segmentor: built in the strategy's scope.
      recipe: methods.recipe.Recipe.
      output: folder, from `require_output`.
      steps: how many of each stream.
      first: the number of the first of them.

    Returns:
      [Shown].

    Raises:
      UserError: a setting out of range; data that cannot be read.
    """
    shown = []
    for title, batches in _streams(context, segmentor, recipe).items():
        with record_sets.data_errors():
            for step, batch in enumerate(batches(first).take(steps), first):
                shown.append(_shown(title, step, batch, context.data.spec))
    if not shown:
        raise errors.UserError('no stage of this run takes a step; raise stage_one.epochs')
    with output_folder.written(output, RECORD) as folder:
        (folder / PAGE).write_text(_page(context, recipe, shown), encoding='utf-8')
        writer = tf.summary.create_file_writer(tensorflow_paths.plain_folder(folder / BOARD))
        with writer.as_default():
            for one in shown:
                tf.summary.image(f'batches/{one.title}', one.sheet[None], step=one.step)
        writer.close()
        files.write_json(folder / RECORD, {'batches': [
            {'of': one.title, 'step': one.step, 'pixels': one.counts.tolist()} for one in shown]})
    return shown


def _streams(context, segmentor, recipe):
    """{title: function(first step) -> dataset} of all stages that take steps."""
    found, settings = {}, stage_one.stage_one()
    if settings.steps(len(context.data.train))[1]:
        found['Stage 1'] = stage_one.batch_streams(context, segmentor, settings)['segmentor']
    if recipe.trains:
        run = run_stages.Run(context, segmentor, recipe)
        run.check()
        for name, batches in run.stage(run.arms()[0]).batch_streams().items():
            found[f'{recipe.title}: {TITLES[name]}'] = batches
    return found


def _shown(title, step, batch, spec):
    """`Shown` of one global batch."""
    batch = {name: value.numpy() for name, value in batch.items()}
    rows, labelled = [], batch.get('labeled', np.ones(len(batch['image']), bool))
    for row, image_id in enumerate(batch['image_id']):
        name = image_id.decode('utf-8')
        if not labelled[row]:
            name += ', without label'
        if 'pasted_id' in batch and batch['pasted_id'][row]:
            name += f', with parts of {batch["pasted_id"][row].decode("utf-8")}'
        label = batch['label'][row].astype(np.uint8) if labelled[row] else None
        rows.append(contact_sheet.Shown(name, _as_rgb(batch['image'][row]), label))
        if 'plain' in batch and not labelled[row]:
            rows.append(contact_sheet.Shown('the teacher\'s view of it', _as_rgb(
                batch['plain'][row])))
        if 'truth' in batch and labelled[row]:
            truth = batch['truth'][row].astype(np.uint8)
            rows.append(contact_sheet.Shown('the truth D sees', np.zeros(
                (*truth.shape, 3), np.uint8), truth))
    ids = np.append(np.arange(spec.num_classes), IGNORE_LABEL)
    labels = batch['label'][labelled]
    counts = np.array([np.count_nonzero(labels == number) for number in ids], np.int64)
    return Shown(title, step, contact_sheet.contact_sheet(rows, spec.palette, width=WIDTH), counts)


def _as_rgb(image):
    """uint8 [H, W, 3] of what the network is fed, RGB in 0..255."""
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def table(shown, spec):
    """tables.Table: each class's share of the pixels that the shown batches of a stage have."""
    totals = {}
    for one in shown:
        totals[one.title] = totals.get(one.title, 0) + one.counts
    return tables.plain_table(
        ('class', *totals), [
            (name, *(f'{100 * total[number] / max(1, total.sum()):.2f} %'
                     for total in totals.values()))
            for number, name in enumerate((*spec.class_names, '(ignored or padding)'))],
        'share of the pixels of the labelled images that are shown')


def _page(context, recipe, shown):
    """The page as a string."""
    height, width = context.crop_size
    return page.render(
        'batches.html', title=f'Batches of {context.data.spec.name}',
        summary=f'{recipe.title}, seed {context.streams.seed_value}, crop {height}x{width}, '
                f'{len(context.data.train)} training images',
        shares=tables.to_html(table(shown, context.data.spec)),
        sheets=[page.figure(f'{one.title}: step {one.step + 1}',
                            contact_sheet.encode_jpeg(one.sheet), one.sheet.shape[1])
                for one in shown])


def browser(output, steps, first, sources=()):
    """A function for `training.experiment(instead=…)` that writes the page and says so.

    Args:
      output, sources: see `require_output`.
      steps, first: see `write`.
    """
    output = require_output(output, sources)

    def browse(context, segmentor, recipe):
        shown = write(context, segmentor, recipe, output, steps, first)
        print(tables.to_text(table(shown, context.data.spec)))
        print(f'written: {pathlib.Path(output) / PAGE}; tensorboard --logdir {output}')
    return browse
