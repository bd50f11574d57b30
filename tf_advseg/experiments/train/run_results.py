"""What the models of a run score, on data that chose nothing, and how that is reported."""
import collections
import dataclasses

import numpy as np

from tf_advseg.core import files
from tf_advseg.core import journal as journals
from tf_advseg.evaluation import map_predictor
from tf_advseg.evaluation import measures as measures_lib
from tf_advseg.evaluation import prediction
from tf_advseg.experiments.train import best_model
from tf_advseg.reporting import like_with_like
from tf_advseg.reporting import tables
from tf_advseg.reporting.pages import adversarial_sentences
from tf_advseg.run import networks
from tf_advseg.run import semi_supervised
from tf_advseg.run import shown_images
from tf_advseg.training import strategy as strategies

# The names a reader sees of the run's folders below checkpoints/.
START, CONTROL = 'Stage 1', 'control (CE)'
AVERAGED = like_with_like.AVERAGED
SPLITS = ('holdout', 'val_without_holdout', 'test')
BATCH_SIZE = 8


@dataclasses.dataclass(frozen=True)
class Shown:
    """What is drawn of the panel's test images by the models of a run.

    Attributes:
      images: [(image, label)].
      masks: {folder below checkpoints/: [uint8 [h, w]]}.
      probabilities: {the same, Stage 1 left out: [float [h, w, C]]}.
      observed: {the same: what `recipe.observe` gave}.
    """
    images: list
    masks: dict
    probabilities: dict
    observed: dict


def columns(recipe):
    """{folder below checkpoints/: the name a reader sees}, the method's own result last."""
    title = recipe.title
    beside = {f'{kept}/{folder}': f'{title}, {name}' for folder, name in recipe.companions.items()
              for kept in ('last', 'best')}
    own = {**beside, 'last': title, 'best': title,
           'averaged': title + AVERAGED} if recipe.trains else {}
    return {'stage1': START, 'stage1_averaged': START + AVERAGED, 'control': CONTROL,
            'control_averaged': CONTROL + AVERAGED, **own}


def scores(context, segmentor, recipe, seconds, random=False):
    """Evaluates every model of the run on every part of the data; each is loaded once.

    Leaves the weights of the last of them in `segmentor`. With several workers `recipe.measures`
    are left out: one process takes them (tools/evaluate.py).

    Args:
      context: run.context.Context.
      segmentor: built in the strategy's scope.
      recipe: methods.recipe.Recipe.
      seconds: {stage: seconds}.
      random: whether the start has random weights, and so is no model to compare with: it is left
        out, and 'starts_random' says so.

    Returns:
      ({'models': {column: {split: summary}}, 'subject': the method's column, 'seconds': ...,
      'seed': ..., 'dataset': ..., 'method': ..., 'images': {split: number}, 'left_out': [ids of
      damaged images], 'images_left_out': {'train', 'val', 'test': number}, 'test_shares':
      {'train', 'holdout': how many images of test are these, too}, 'starts_random': bool, 'fold':
      of ExperimentData, where it has one}, a split without images left out, with what
      `semi_supervised.add_rare_classes` adds; `Shown`).
    """
    data = context.data
    ids = {'holdout': data.holdout, 'val_without_holdout': data.rest, 'test': data.test}
    shown = Shown(shown_images.load(context, shown_images.test_ids(context)), {}, {}, {})
    models, by_image = collections.OrderedDict(), {}
    for name, column in columns(recipe).items():
        if random and name == 'stage1' or column in models or not (
                context.run.checkpoints / name / networks.DESCRIPTION).exists():
            continue
        networks.load_weights(context.run.checkpoints / name, segmentor)
        models[column] = {split: context.evaluate(segmentor, ids[split]) for split in SPLITS
                          if ids[split]}
        if 'test' in models[column] and not strategies.has_workers(context.strategy):
            found, mious = _measured(context, segmentor, recipe.measures)
            models[column]['test'].update(found)
            if mious is not None:
                by_image[column] = mious
        _show(context, segmentor, recipe, name, shown)
    for column, found in by_image.items():
        models[column]['test']['improved'] = improved(found, by_image, column)
    results = {'models': dict(models), 'subject': _subject(models, recipe), 'seconds': seconds,
               'seed': context.streams.seed_value, 'method': recipe.name,
               'dataset': data.spec.name,
               'images': {name: len(part) for name, part in ids.items()},
               'left_out': data.records.left_out,
               'images_left_out': {name: len(part) for name, part in data.left_out.items()},
               'test_shares': {name: len(set(part).intersection(data.test)) for name, part
                               in (('train', data.train), ('holdout', data.holdout))},
               'starts_random': random, **({'fold': data.fold} if data.fold else {})}
    semi_supervised.add_rare_classes(results, data)
    return results, shown


def _measured(context, segmentor, names):
    """({name: result} of measures that are taken image by image, on the test split; float64 [N],
    the mIoU of each image). ({}, None) for no names."""
    if not names:
        return {}, None
    records, ids = context.data.records, context.data.test
    measures = measures_lib.make_measures(','.join(names), records.spec, records.image_sizes(ids))
    predictor = map_predictor.MapPredictor(segmentor, context.crop_size, context.several_replicas,
                                           BATCH_SIZE)
    for found in predictor.over(records, ids):
        for measure in measures.values():
            measure.update(found.image_id, found.label, found.ids)
    images = measures.pop(measures_lib.ALWAYS)
    return ({name: measure.result() for name, measure in measures.items()},
            images.counts().image_miou())


def improved(found, by_image, column):
    """The share of images whose mIoU a model raises over Stage 1's and over the control's.

    Args:
      found: float [N], the model's mIoU of each image; nan where nothing is labelled.
      by_image: {column: the same of every model}.
      column: the model's own name.

    Returns:
      {other model: share of images that are better, in 0..1}; an equal image counts for half.
    """
    shares = {}
    # Averaged weights beside averaged ones: else the gain of averaging would count as a method's.
    mark = AVERAGED if like_with_like.is_averaged(column) else ''
    for other in (START + mark, CONTROL + mark):
        if other in by_image and other != column:
            difference = (found - by_image[other])[~np.isnan(found - by_image[other])]
            shares[other] = float(np.mean((difference > 0) + 0.5 * (difference == 0))) if len(
                difference) else None
    return shares


def _show(context, segmentor, recipe, name, shown):
    """Adds what one model makes of the panel's images."""
    shown.masks[name] = shown_images.masks(context, segmentor, shown.images)
    if name != 'stage1':
        shown.probabilities[name] = [
            prediction.predict(segmentor, image, context.crop_size, probabilities=True)[1]
            for image, _ in shown.images]
    shown.observed[name] = recipe.observe(context, segmentor, name)


def _subject(models, recipe):
    """The column that is a run's result, and that --checkpoint=RUN means."""
    if not recipe.averages_are_the_result and recipe.title in models:
        return recipe.title
    return list(models)[-1]


def by_split(results, split):
    """{column: summary} of one split, in reading order; {} where it has no images."""
    return {column: splits[split] for column, splits in results['models'].items()
            if split in splits}


def table(results, split='test'):
    """tables.Table of one split: per-class IoU, mIoU, pixel accuracy, gains."""
    notes = ''.join(f'; {note}' for note in notes_on_test(results)) if split == 'test' else ''
    subject = results.get('subject', list(results['models'])[-1])  # earlier versions' lack it
    columns = by_split(results, split)
    subject, control = like_with_like.chosen(columns, subject, CONTROL)
    return tables.class_table(columns, start=START, control=control, subject=subject,
                              title=f'IoU in percent, {split}, '
                              f'{results["dataset"]}, seed {results["seed"]}{notes}')


def of_discriminator(context, recipe):
    """{'discriminator_accuracy': see `adversarial_sentences`}, of training; {} without one.

    LoAd's is that on the maps that it keeps apart, of its last retrainings.
    """
    lines = read_lines(context.run.metrics_path)
    found = adversarial_sentences.discriminator_accuracy(
        adversarial_sentences.discriminator_lines(lines, recipe.name)
        or [line for line in lines if line.get('event') == 'discriminator'])
    return {'discriminator_accuracy': found} if found else {}


def average_sentence(column, found):
    """A sentence without its stop: what averaging a stage's weights came to.

    Args:
      column: of the averaged weights.
      found: from `averaged.save`.
    """
    models, after = found['models'], found['holdout_miou']
    before = found['holdout_miou_before_batch_norm']
    text = f'{column}: {models} model{"" if models == 1 else "s"} averaged'
    if 'every' in found:
        mean = (f'n = {found["constant"]:g} constant' if found['reading'] == 'constant'
                else 'their plain mean')
        text += f', every {found["every"]} steps from step {found["start"]} on, {mean}'
    if models < 2:
        text += ', the weights that it began with alone: set swa.every lower'
    if after is not None:
        text += f', hold-out mIoU {100 * after:.2f}'
        if before is not None:
            text += (f' with batch norm estimated anew, {100 * before:.2f} with the statistics of '
                     'the last weights')
    return text


def notes_on_training(results):
    """[str], sentences: when Stage 1 ended, how averages came about, where the control is from,
    rare classes."""
    subject = like_with_like.plain(results.get('subject'))
    notes = [f'{subject}: {results["about"]}.'] if results.get('about') else []
    if results.get('early_stopping'):
        notes.append(f'{best_model.sentence(START, results["early_stopping"])}.')
    notes += [f'{average_sentence(column, found)}.'
              for column, found in results.get('averaged', {}).items()]
    if results.get('control_from'):
        notes.append(f'{CONTROL} was trained by {results["control_from"]} and taken over: the same '
                     'start, batches and settings.')
    return notes + semi_supervised.label_sentences(results) + one_class_sentences(results)


def one_class_sentences(results):
    """[str]: a sentence on models that name one class everywhere; [] for none.

    Such a model has learnt nothing yet, and runs of it score alike: an interval over them has no
    width.
    """
    found = []
    for column, scores in by_split(results, 'test').items():
        named = np.flatnonzero(np.sum(scores.get('confusion_matrix', [[0, 0]]), axis=0))
        if len(named) == 1:
            found.append(f'{column} names one class alone, in all test images: it has learnt '
                         'nothing yet. Train longer, or start from trained weights.')
    return found


def notes_on_test(results):
    """[str]: what scores on the test split do not say by themselves; [] where they may stand.

    Args:
      results: from `scores`; those of earlier versions, which say less, will do.
    """
    # Earlier versions called images pictures.
    total = (results.get('images') or results.get('pictures', {})).get('test', 0)
    shared = results.get('test_shares', {})
    gone = (results.get('images_left_out') or results.get('pictures_left_out', {})).get('test', 0)
    notes = [f'{shared[part]} of its {total} images {what}'
             for part, what in (('holdout', 'are the hold-out, which models were chosen by'),
                                ('train', 'were trained on')) if shared.get(part)]
    if gone:
        notes.append(f'{gone} damaged image{"" if gone == 1 else "s"} of it left out')
    return notes


def read_environment(run):
    """environment.json for reading: of earlier starts only how many there were."""
    with files.as_written(run.environment_path):
        found = dict(files.read_json(run.environment_path))
        found['earlier starts'] = len(found.pop('earlier_starts', []))
    return found


def read_lines(path):
    """Entries of a journal; none where there is none."""
    return journals.Journal.read(path) if path.exists() else []
