"""What every method shares: the phases of a step, global normalisers, the pixel-wise loss.

Everything a step returns is global. A replica computes the share of its own examples, divided
by a normaliser that was all-reduced first, and the optimizer sums the shares' gradients. So a
step over shards of 3 and 2 examples equals the step over 5 on one device.
"""
import contextlib
import dataclasses
from typing import Optional

import tensorflow as tf

from tf_advseg.core import errors
from tf_advseg.losses import pixel
from tf_advseg.models import layers
from tf_advseg.models import resize
from tf_advseg.models import segmentor as segmentors
from tf_advseg.training import loss_scale

REDUCTIONS = ('mean', 'sum')
# The scopes of what the official code calls the last layers: what a new data set starts anew.
LAST_LAYERS = ('logits', 'image_pooling', 'aspp', 'concat_projection', 'decoder',
               'meta_architecture')
LOGITS_ONLY = ('logits',)


def replicas_own(seed, number):
    """int32 [2]: of a step's seed, for one of its uses, on each replica another."""
    fold = tf.random.experimental.stateless_fold_in
    replica = tf.distribute.get_replica_context().replica_id_in_sync_group
    return fold(fold(seed, number), replica)


def global_sum(tensor):
    """Sums a tensor over the replicas of the running strategy (identity on one device)."""
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, tensor)


def globally(scalars):
    """All-reduces a dict of per-replica float scalars (shares) in one collective.

    Args:
      scalars: dict name -> float32 scalar, each a replica's share of a global value.

    Returns:
      The same names with the sums over replicas.
    """
    names = sorted(scalars)
    total = global_sum(tf.stack([tf.cast(scalars[name], tf.float32) for name in names]))
    return dict(zip(names, tf.unstack(total, num=len(names))))


@dataclasses.dataclass(frozen=True)
class BatchNeeds:
    """What a method asks of its batches beyond images and labels.

    Attributes:
      independent_ground_truth: whether the discriminator's truths are of other labelled images,
        shuffled and cropped by themselves ('truth' in the batch, see data/mixed.py).
      unlabelled_batch_size: unlabelled images of a step that takes some; None for as many as
        labelled ones.
      two_views: data.augmentation's CutMix or ClassMix where unlabelled images come in two views
        (see data/mixed.py), or None.
      unpadded_truths: whether these truths fill the crop (`recipes.Recipe.unpadded`).
      evenly: whether every replica and micro-batch needs labelled and unlabelled images; they are
        interleaved evenly then.
    """
    independent_ground_truth: bool = False
    unlabelled_batch_size: Optional[int] = None
    two_views: Optional[object] = None
    unpadded_truths: bool = False
    evenly: bool = False


class Method(tf.keras.Model):
    """A segmentor, its adversaries and the steps that train them.

    Subclasses define `phases`: a dict from phase name to step. A step takes (batch, seed,
    **tensors) with batch as in WORKSPACE.md ("Batch"), seed int32[2] for stateless dropout, and
    returns a dict of global float32 scalars under the project's common names (`loss/ce`,
    `loss/adv`, ...).

    Attributes:
      segmentor: the network that is trained and, in the end, kept.
      default_phase: the phase that `train_step`, and so `fit`, takes.
    """

    default_phase = 'segmentor'
    step_name = 'segmentor_step'  # what counts its own steps in metrics.jsonl

    def __init__(self, segmentor, name=None):
        super().__init__(name=name)
        self.segmentor = segmentor

    @property
    def phases(self):
        """dict: phase name -> step function."""
        raise NotImplementedError('a method names its phases')

    def call(self, image, training=False):
        """Logits of the segmentor, float32 [B, h', w', C]."""
        return segmentors.apply(self.segmentor, image, training=training)

    def train_step(self, batch):
        """One step of the default phase: makes `fit` work on any dataset of batches.

        Dropout is seeded by the optimizer's iterations, so that a `fit` is reproducible too.
        """
        seed = tf.stack([tf.constant(20201, tf.int32),
                         tf.cast(self.phase_optimizer(self.default_phase).iterations, tf.int32)])
        return self.phases[self.default_phase](batch, seed)

    def example_fields(self, batch):
        """What the steps read beyond images and labels, for a batch that no run has made.

        Args:
          batch: see `phases`.

        Returns:
          dict of arrays; {} for most methods.
        """
        del batch
        return {}

    def shown_maps(self, batch, logits):
        """What another network is shown as true and as predicted, before an image comes to it.

        Args:
          batch: a batch with 'image' and 'label', not distributed.
          logits: float32 [B, h', w', C], the segmentor's or an oracle's.

        Returns:
          (true maps, predicted maps: float32 [B, h'', w'', C]; bool [B, h'', w''], which points
          count); None where the method shows no maps.
        """
        del batch, logits

    @property
    def state(self):
        """dict: name -> network or optimizer: what is written down so that a run can go on."""
        return {'segmentor': self.segmentor, 'optimizer': self.optimizer}

    def phase_optimizer(self, phase):
        """The optimizer that a phase's step applies."""
        raise NotImplementedError(f'no optimizer is named for the phase {phase}')


def examples(tensor):
    """float32 scalar: examples of the global batch; at least 1, for an empty shard."""
    return tf.maximum(global_sum(tf.cast(tf.shape(tensor)[0], tf.float32)), 1.0)


def upsampled(logits, labels):
    """Logits at the labels' resolution, align-corners bilinear: float32 [B, h, w, C]."""
    return resize.resize_bilinear(logits, tf.shape(labels)[1:3])


def pixel_loss(logits, labels, reduction='mean', pixel_weights=None, upsample=True,
               hard_fraction=None):
    """A replica's share of the pixel-wise cross-entropy of the global batch.

    Args:
      logits: float32 [b, h', w', C], at the segmentor's own resolution.
      labels: int32 [b, h, w], 255 = ignore.
      reduction: 'mean' divides by the valid pixels of the global batch (official DeepLab code);
        'sum' is the sum over pixels and images, as LoAd eq. 3 and Luc eq. 1 print it.
      pixel_weights: float32 [b, h, w] or None; the normaliser stays the count of valid pixels.
      upsample: True brings the logits to the labels' size; False the labels (and weights) to the
        logits' (official `upsample_logits`).
      hard_fraction: float or scalar: only this share of a replica's pixels counts, those of the
        largest loss; None for all. A replica's mean is its own then, and the loss the mean over
        replicas: two replicas are not one device here.

    Returns:
      float32 scalar; summed over the replicas it is the loss of the global batch.
    """
    if reduction not in REDUCTIONS:
        raise ValueError(f'reduction {reduction!r}: expected one of {REDUCTIONS}')
    if upsample:
        logits = upsampled(logits, labels)
    else:
        size = tf.shape(logits)[1:3]
        labels = resize.resize_nearest(labels[..., None], size)[..., 0]
        if pixel_weights is not None:
            pixel_weights = resize.resize_nearest(pixel_weights[..., None], size)[..., 0]
    if hard_fraction is not None:
        total, count = pixel.hard_example_cross_entropy(logits, labels, hard_fraction,
                                                        pixel_weights=pixel_weights)
        replicas = tf.distribute.get_replica_context().num_replicas_in_sync
        return total if reduction == 'sum' else tf.math.divide_no_nan(total, count) / replicas
    sums, counts = pixel.cross_entropy(logits, labels, pixel_weights=pixel_weights)
    total = tf.reduce_sum(sums)
    if reduction == 'sum':
        return total
    valid = global_sum(tf.cast(tf.reduce_sum(counts), tf.float32))
    return tf.math.divide_no_nan(total, valid)


def official_multipliers(names, last_layer=1.0, bias=2.0, last_layers=LAST_LAYERS):
    """What the official DeepLab code multiplies gradients by (get_model_gradient_multipliers).

    Biases by `bias`, variables of the last layers by `last_layer`, biases of these by both.

    Args:
      names: official variable names.
      last_layer, bias: floats.
      last_layers: parts of a name that mean a last layer; `LOGITS_ONLY` for the logits alone.

    Returns:
      dict name -> float of those variables that one of the two rules names.
    """
    multipliers = {}
    for name in names:
        is_bias, is_last = 'biases' in name, any(layer in name for layer in last_layers)
        if is_bias or is_last:
            multipliers[name] = (bias if is_bias else 1.0) * (last_layer if is_last else 1.0)
    return multipliers


def gradient_multipliers(segmentor, last_layer=1.0, bias=1.0, last_layers=LAST_LAYERS):
    """`official_multipliers` of a segmentor's trainable variables, in their order.

    Args:
      segmentor: a network with official scopes; any other where both multipliers are 1.
      last_layer, bias, last_layers: see `official_multipliers`.

    Returns:
      list of floats; None where all are 1.

    Raises:
      UserError: multipliers for a network without official scopes, or `last_layer` for one where
        `last_layers` names nothing.
    """
    if last_layer == 1.0 and bias == 1.0:
        return None
    named = layers.official_variables(segmentor)
    found = official_multipliers(named, last_layer, bias, last_layers)
    if not found:
        raise errors.UserError(
            f'gradient multipliers {last_layer} (last layers) and {bias} (biases): '
            f'{segmentor.name} has neither biases nor layers called {", ".join(last_layers)}; set '
            'both to 1')
    if last_layer != 1.0 and not any(layer in name for name in named for layer in last_layers):
        raise errors.UserError(
            f'gradient multiplier {last_layer} for the last layers: {segmentor.name} has none '
            f'called {", ".join(last_layers)}; set the multiplier to 1, or say what they are '
            'called there (in Stage 1: cross_entropy.last_layers)')
    by_variable = {id(named[name]): value for name, value in found.items()}
    return [by_variable.get(id(v), 1.0) for v in segmentor.trainable_variables]


def apply_gradients(optimizer, gradients, variables, multipliers=None):
    """Applies a replica's share of the gradients; the optimizer sums over replicas.

    Where the optimizer has a loss scale, only if the sums are finite (`training.loss_scale`).

    Args:
      optimizer: a tf.keras optimizer.
      gradients: of the whole loss, weight decay included, one a variable or None.
      variables: what they are gradients of.
      multipliers: from `gradient_multipliers`, or None.
    """
    multipliers = [1.0] * len(variables) if multipliers is None else multipliers
    pairs = [(g if m == 1.0 else g * m, v) for g, v, m in
             zip(gradients, variables, multipliers) if g is not None]
    scale = loss_scale.of(optimizer)
    if scale is None:
        optimizer.apply_gradients(pairs)
    else:
        scale.apply(optimizer, pairs)


def clip_weights(variables, limit):
    """Brings every weight within `limit` of 0, on all replicas alike (Arjovsky et al. 2017).

    Args:
      variables: trainable ones, in a step.
      limit: float above 0.
    """
    def clip(strategy, *variables):
        for variable in variables:
            strategy.extended.update(variable, _clip, args=(limit,))

    tf.distribute.get_replica_context().merge_call(clip, args=tuple(variables))


def _clip(variable, limit):
    variable.assign(tf.clip_by_value(variable, -limit, limit))


def gradient_balance(tape, cross_entropy, adversarial, variables):
    """Norms of the gradients of the two losses of a generator, and their cosine.

    Args:
      tape: a persistent GradientTape over both losses.
      cross_entropy, adversarial: float32 scalars, a replica's shares; lambda is not in the second.
      variables: of the segmentor.

    Returns:
      {'grad/ce', 'grad/adv', 'grad_ratio/adv_ce', 'grad_cosine/adv_ce'}: global scalars.
    """
    flat = [global_sum(flat_gradient(tape, loss, variables))
            for loss in (cross_entropy, adversarial)]
    norm_ce, norm_adv = tf.norm(flat[0]), tf.norm(flat[1])
    return {'grad/ce': norm_ce, 'grad/adv': norm_adv,
            'grad_ratio/adv_ce': tf.math.divide_no_nan(norm_adv, norm_ce),
            'grad_cosine/adv_ce': tf.math.divide_no_nan(
                tf.reduce_sum(flat[0] * flat[1]), norm_ce * norm_adv)}


def flat_gradient(tape, loss, variables):
    """The gradient of a loss as one vector, float32; zeros where it does not reach a variable."""
    gradients = tape.gradient(loss, variables,
                              unconnected_gradients=tf.UnconnectedGradients.ZERO)
    return tf.concat([tf.reshape(gradient, [-1]) for gradient in gradients], axis=0)


def limiting_factor(reference, gradient, limit):
    """What to scale a gradient by so that it is at most `limit` times as long as another.

    Args:
      reference, gradient: a replica's shares, of one shape; lengths are those over all replicas.
      limit: float.

    Returns:
      float32 scalar, at most 1; 1 where the gradient is zero.
    """
    squares = global_sum(tf.stack([tf.nn.l2_loss(reference), tf.nn.l2_loss(gradient)]))
    ratio = tf.sqrt(tf.math.divide_no_nan(squares[0], squares[1]))
    return tf.where(squares[1] > 0, tf.minimum(limit * ratio, 1.0), 1.0)


@contextlib.contextmanager
def statistics_kept(segmentor):
    """Puts back what forward passes in training mode move beside the weights (live batch norm).

    For passes that train nothing of the segmentor: else as many of them as a method takes would
    rewrite its statistics, and the control, which takes none, would be no control. Works in a step,
    on the replica's own values.
    """
    live = getattr(segmentor, 'fine_tune_batch_norm', False)
    kept = [(v, tf.identity(v)) for v in segmentor.non_trainable_variables] if live else []
    yield
    for variable, value in kept:
        variable.assign(value)


def share(value):
    """A replica's share of a value that all replicas have alike, for `globally`."""
    replicas = tf.distribute.get_replica_context().num_replicas_in_sync
    return tf.cast(value, tf.float32) / replicas


def weights_norm(variables):
    """A replica's share of the L2 norm of updated weights.

    A gradient can be infinite under a finite loss; the weights then are no numbers, and so is this.
    """
    replicas = tf.distribute.get_replica_context().num_replicas_in_sync
    return tf.linalg.global_norm([v.read_value() for v in variables]) / replicas


def l2_loss(variables, weight):
    """slim's L2: weight * 1/2 * sum(w^2) over the given kernels (Keras regularizers double it)."""
    return weight * tf.add_n([tf.nn.l2_loss(v) for v in variables])
