"""Batches of labelled and unlabelled images, interleaved at random (Hung et al., section 4).

"We randomly interleave labeled and unlabeled data": a batch holds a fixed number of either, in a
random order, so that replicas, which get its consecutive parts, have now more and now fewer
labelled rows. The public code takes the two in turns inside a step; nothing depends on the order
but what a replica sees. `evenly` gives every replica, and every micro-batch of it, rows of
either kind (`even_order`).

There is no state, as in `pipeline`: the batch of step t is a function of (seed, t). The labelled
rows are drawn by the streams of the labelled-only batches, so that both hold the same images,
cut and mirrored alike: a run and its control differ in what is learnt from unlabelled ones alone.
A recipe's CutMix or ClassMix, too, is of the labelled rows among themselves, and drawn as there.

`two_views` adds to each unlabelled image, which the recipe has changed in light, colour and
sharpness and CutMix has given a box of the next one, the plain view of it: a network's prediction
on that is what is asked of the other (consistency). ClassMix needs such a prediction to mix by, so
with it the mixing is left to the step.
"""
import dataclasses

import numpy as np
import tensorflow as tf

from tf_advseg.core.errors import UserError
from tf_advseg.core.random_streams import RandomStreams
from tf_advseg.data import pipeline
from tf_advseg.data.augmentation import augment
from tf_advseg.data.augmentation import cutmix as cutmix_lib
from tf_advseg.data.augmentation import recipes
from tf_advseg.data.records.record_set import dataset_options
from tf_advseg.data.spec import IGNORE_LABEL

UNLABELLED = {'stream': 'unlabelled_data', 'augment_stream': 'unlabelled_augment'}
TRUTHS = {'stream': 'truth_data', 'augment_stream': 'truth_augment'}
INTERLEAVE, CUTMIX = 'interleave', 'cutmix'


def labelled_batches(records, ids, batch_size, crop_size, streams, first_step, num_steps=None,
                     recipe=recipes.Recipe(), pad_value=augment.PAD_VALUE,
                     independent_ground_truth=False, prefetch=2, plain_view=False,
                     unpadded_truths=False):
    """`pipeline.training_batches`, with ground truths of other images where they are asked for.

    Args:
      records, ids, batch_size, crop_size, streams, first_step, num_steps, recipe, pad_value,
        prefetch: see `pipeline.training_batches`.
      plain_view: see there.
      independent_ground_truth: add 'truth', what the public code's second loader gives its
        discriminator: label maps of the same ids, shuffled, cut and mirrored independently.
      unpadded_truths: these fill the crop, see `recipes.Recipe.unpadded`.

    Returns:
      tf.data.Dataset of dicts as there, and 'truth' int32 [B, h, w], mixed as labels are there.

    Raises:
      UserError: no ids.
    """
    def batches(recipe, **options):
        return pipeline.training_batches(
            records, ids, batch_size, crop_size, streams, first_step, num_steps, recipe,
            prefetch=prefetch, pad_value=pad_value, **options)

    own = batches(recipe, plain_view=plain_view)
    if not independent_ground_truth:
        return own
    if unpadded_truths:
        recipe = dataclasses.replace(recipe, unpadded=True)
    dataset = tf.data.Dataset.zip((own, batches(recipe, **TRUTHS)))
    return dataset.map(lambda own, other: {**own, 'truth': other['label']}).with_options(
        dataset_options())


def require_views(two_views, unlabelled_batch_size, recipe):
    """Raises UserError where two views of unlabelled images cannot be made, or would be one.

    Args:
      two_views: data.augmentation.cutmix.CutMix or classmix.ClassMix.
      unlabelled_batch_size: unlabelled images of a step.
      recipe: recipes.Recipe of the strong view.
    """
    if two_views.probability and unlabelled_batch_size < 2:
        raise UserError(f'{type(two_views).__name__} between the unlabelled images of a step, and '
                        f'a step has {unlabelled_batch_size} of them: give at least 2, or a '
                        'probability of 0')
    if not two_views.probability and not recipe.changes_looks:
        raise UserError('both views of an unlabelled image would be the same: take an augmentation '
                        "with '+photometric' or '+blur', or CutMix (ClassMix) with a probability "
                        'above 0')


def mixed_batches(labelled_records, labelled_ids, unlabelled_records, unlabelled_ids, batch_size,
                  unlabelled_batch_size, crop_size, streams, first_step, recipe=recipes.Recipe(),
                  pad_value=augment.PAD_VALUE, independent_ground_truth=False, num_steps=None,
                  prefetch=2, two_views=None, unpadded_truths=False, evenly=False):
    """Batches of B labelled and U unlabelled images in a random order, for steps first_step, ...

    Args:
      labelled_records, labelled_ids: a `RecordSet`, and the images in it whose labels count.
      unlabelled_records, unlabelled_ids: a `RecordSet`, the same one or another, and the images
        in it that are shown without labels, whatever labels the records have.
      batch_size, unlabelled_batch_size: B and U of the GLOBAL batch, at least 1 each.
      crop_size, streams, first_step, num_steps, recipe, pad_value, prefetch: see
        `pipeline.training_batches`.
      independent_ground_truth: see `labelled_batches`.
      two_views: data.augmentation.cutmix.CutMix between the unlabelled images, classmix.ClassMix,
        or None for one view of each.
      unpadded_truths: see `labelled_batches`.
      evenly: the order is `even_order`'s at each step.

    Returns:
      tf.data.Dataset of dicts: 'image' float32 [B+U, h, w, 3]; 'label' int32 [B+U, h, w], 255
      throughout rows without labels; 'labeled' bool [B+U]; 'valid' bool [B+U, h, w], of labelled
      rows where the label is not 255, of the others where the image is no padding; 'image_id'
      string [B+U]; with `independent_ground_truth` 'truth' int32 [B+U, h, w], the labelled rows'
      and 255 in the others; 'pasted_id' where `labelled_batches` has it, '' in the others. With
      `two_views` also 'plain' float32 [B+U, h, w, 3]; 'cut' bool [B+U, h, w], where unlabelled
      images show another one; 'next' int32 [B+U], the row of that image; and 'plain_valid' as
      'valid', which is of 'image', of the plain view.

    Raises:
      UserError: no ids of either kind, a batch without images of one, or CutMix among fewer than
        two.
    """
    for name, size in (('batch_size', batch_size), ('unlabelled_batch_size',
                                                    unlabelled_batch_size)):
        if not isinstance(size, (int, np.integer)) or isinstance(size, bool) or size < 1:
            raise UserError(f'a mixed batch with {name} = {size!r}: expected a whole number of at '
                            'least 1; without unlabelled images take labelled batches')
    if not len(unlabelled_ids):
        raise UserError('there is no unlabelled image to learn from: set '
                        'semi_supervised.fraction below 1, semi_supervised.labelled_split or '
                        'semi_supervised.unlabelled_dir')
    if two_views is not None:
        require_views(two_views, unlabelled_batch_size, recipe)
    labelled = labelled_batches(labelled_records, labelled_ids, batch_size, crop_size, streams,
                                first_step, num_steps, recipe, pad_value,
                                independent_ground_truth, 1, two_views is not None,
                                unpadded_truths)
    unlabelled = pipeline.training_batches(
        unlabelled_records, unlabelled_ids, unlabelled_batch_size, crop_size, streams, first_step,
        num_steps, recipe, prefetch=1, pad_value=pad_value, hide_labels=True,
        plain_view=two_views is not None, **UNLABELLED)
    seed, size = str(streams.seed_value), batch_size + unlabelled_batch_size

    def interleave(own, others, step):
        if evenly:
            order = tf.constant(even_order(batch_size, unlabelled_batch_size))
        else:
            order = tf.numpy_function(_order, [step, size, seed], tf.int64)
            order.set_shape([size])
        if two_views is not None:
            others = _cut(others, two_views, step, seed)
        found = {name: tf.gather(tf.concat(pair, axis=0), order)
                 for name, pair in _paired(own, others).items()}
        if two_views is not None:
            found['next'] = _next_rows(batch_size, unlabelled_batch_size, order)
        return found

    dataset = tf.data.Dataset.zip((labelled, unlabelled,
                                   pipeline.step_range(first_step, num_steps)))
    return dataset.map(interleave).prefetch(prefetch).with_options(dataset_options())


def _paired(own, others):
    """{key: (of the labelled rows, of the others)}."""
    pairs = {name: (own[name], others[name]) for name in ('image', 'label', 'image_id')}
    pairs['labeled'] = (tf.ones(own['label'].shape[:1], tf.bool),
                        tf.zeros(others['label'].shape[:1], tf.bool))
    pairs['valid'] = (tf.not_equal(own['label'], IGNORE_LABEL), others['valid'])
    if 'plain' in others:
        pairs['plain'] = own['plain'], others['plain']
        pairs['cut'] = tf.zeros(own['label'].shape, tf.bool), others['cut']
        pairs['plain_valid'] = pairs['valid'][0], others['plain_valid']
    if 'pasted_id' in own:
        pairs['pasted_id'] = own['pasted_id'], tf.fill(others['image_id'].shape, '')
    if 'truth' in own:
        pairs['truth'] = (own['truth'], others['label'])  # which is 255 throughout
    return pairs


def _cut(batch, cutmix, step, seed):
    """A batch of unlabelled images with boxes of one in the other, and 'cut'."""
    drawn = tf.numpy_function(_cut_seed, [step, seed], tf.int32)
    drawn.set_shape([2])
    size, height, width = batch['label'].shape
    boxes = tf.stack([cutmix.box(augment.example_seed(drawn, row), (height, width))
                      for row in range(size)])
    return {**batch, 'cut': boxes, 'plain_valid': batch['valid'],
            **{name: cutmix_lib.from_the_next(batch[name], boxes) for name in ('image', 'valid')}}


def _next_rows(labelled, unlabelled, order):
    """int32 [B+U]: of each row the row of the unlabelled image that follows it in the draw; of a
    labelled row itself."""
    following = tf.concat([tf.range(labelled),
                           labelled + (tf.range(unlabelled) + 1) % unlabelled], 0)
    return tf.cast(tf.gather(tf.argsort(order), tf.gather(following, order)), tf.int32)


def _cut_seed(step, seed):
    """int32 [2]: of the boxes of a step; at module level as `_order` is."""
    return RandomStreams(int(seed)).seed(CUTMIX, int(step))


def even_order(batch_size, unlabelled_batch_size):
    """int64 [B+U]: rows, labelled ones first, so ordered that consecutive ones are of both kinds.

    Any w consecutive rows have w B / (B + U) labelled ones, rounded up or down.
    """
    size = batch_size + unlabelled_batch_size
    places = np.arange(size)
    labelled = (places + 1) * batch_size // size > places * batch_size // size
    return np.where(labelled, np.cumsum(labelled), batch_size + np.cumsum(~labelled)) - 1


def require_both_kinds(batch_size, unlabelled_batch_size, replicas, micro_batches):
    """Raises UserError where a part of an evenly interleaved batch would lack one kind of images.

    Args:
      batch_size, unlabelled_batch_size: B and U of the global batch.
      replicas: how many share it, by consecutive parts.
      micro_batches: into how many parts each of these goes, see methods/accumulation.py.
    """
    labelled = even_order(batch_size, unlabelled_batch_size) < batch_size
    share = -(-len(labelled) // replicas)
    for own in np.split(labelled, range(share, share * replicas, share)):
        for place in range(micro_batches):
            part = own[len(own) * place // micro_batches:len(own) * (place + 1) // micro_batches]
            if part.all() or not part.any():
                raise UserError(
                    f'labelled and unlabelled images pass the segmentor one kind after the other: '
                    f'{batch_size} and {unlabelled_batch_size} of them on {replicas} '
                    f'replica{"" if replicas == 1 else "s"} in {micro_batches} '
                    f'micro-batch{"" if micro_batches == 1 else "es"} leave a pass without an '
                    'image; give larger batches, fewer replicas or a lower '
                    'accumulate.micro_batches')


def _order(step, size, seed):
    """int64 [size]: which row comes where at a step.

    At module level, as `pipeline._draw` is: TensorFlow keeps it for ever.
    """
    return RandomStreams(int(seed)).generator(INTERLEAVE, int(step)).permutation(int(size))
