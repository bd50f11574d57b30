"""Gradient accumulation: a step of a large batch in the memory of a small one, whatever the loss.

Losses here are sums over a normaliser of the global batch, and may ask anything of the logits of
the whole of it: which pixels are hard, which points are sure, what a discriminator makes of the
maps. Losses of micro-batches do not add up to that. Gradients with respect to the logits do, so the
step is taken as in Gao et al. 2021 ("Scaling Deep Contrastive Learning Batch Size under Memory
Limited Setup", section 3.2), with the logits in the place of their representations:

  1. the logits of each micro-batch, and nothing kept of how they came about;
  2. the loss of all logits, and its gradient with respect to them;
  3. each micro-batch through the segmentor once more: the gradient with respect to the weights.

So it is the step of the large batch but for rounding, at the price of a second forward pass (about
a third more time). What is kept at once is one micro-batch's activations, and of the whole batch
images, logits and what the losses and a discriminator make of them.

Where batch norm is live its statistics are those of a micro-batch, and the moving ones move once a
micro-batch: that is another training than the large batch's. Dropout draws other masks, too.
"""
import contextlib
import dataclasses

import gin
import tensorflow as tf

from tf_advseg.core import arguments
from tf_advseg.core import errors
from tf_advseg.methods import step_parts
from tf_advseg.training import loss_scale

PASSED = ('image', 'backbone_features', 'backbone_skip')  # what a pass of the segmentor takes
_PARTED = (*PASSED, 'labeled')  # what logits are computed from
_PART = 5000  # the kind of draw, folded into the seed of a micro-batch's dropout


@dataclasses.dataclass(frozen=True)
class Accumulate:
    """Gradient accumulation, of Stage 1, every method's segmentor and its control alike.

    Attributes:
      micro_batches: in how many parts a replica's share of a batch goes through the segmentor; 1
        for as a whole.

    Raises:
      UserError: no whole number of at least 1.
    """
    micro_batches: int = 1

    def __post_init__(self):
        arguments.require_number('accumulate', 'micro_batches', self.micro_batches, least=1,
                                 whole=True, hint='1 for none')

    @property
    def identity(self):
        """dict of what a stage is recognised by; {} without accumulation."""
        return {} if self.micro_batches == 1 else {'accumulate': dataclasses.asdict(self)}

    @property
    def passes(self):
        """int: forward passes of the segmentor that a step with its gradient takes as long as."""
        return 3 if self.micro_batches == 1 else 4

    def require_images(self, where, batch_size, replicas):
        """Raises UserError where a micro-batch of a stage would have no image.

        Args:
          where: what the batch size is called in gin.
          batch_size: of the global batch.
          replicas: how many share it; the last one's share may be the smallest.
        """
        if self.micro_batches == 1:
            return
        smallest = batch_size - -(-batch_size // replicas) * (replicas - 1)
        if self.micro_batches > smallest:
            of = f' (a replica has {smallest})' if replicas > 1 else ''
            raise errors.UserError(
                f'accumulate.micro_batches = {self.micro_batches} of {where} = {batch_size}{of} '
                'leaves a micro-batch without an image; set it lower, or give larger batches')


accumulate = gin.external_configurable(Accumulate, name='accumulate', module='tf_advseg.methods')


class Tape:
    """A GradientTape over a segmentor's logits of a batch, whole or in micro-batches.

    What is recorded computes as the method's precision says (`loss_scale.Tape`).

    Args:
      method: with `logits(batch, seed)`, `segmentor`, `accumulate`, `precision` and `optimizer`.
      keeps_statistics: whether the passes leave the statistics of live batch norm alone.
      persistent: of the tape.
    """

    def __init__(self, method, keeps_statistics=False, persistent=False):
        self._method, self._keeps = method, keeps_statistics
        self._tape = loss_scale.Tape(method.precision, method.optimizer, persistent=persistent)
        self._given = self._logits = None

    def __enter__(self):
        self._tape.__enter__()
        return self

    def __exit__(self, *problem):
        return self._tape.__exit__(*problem)

    def logits(self, batch, seed):
        """The segmentor's in training mode, float32 [b, h', w', C]; once, inside the tape.

        Args:
          batch: a replica's share of the global batch.
          seed: int32 [2], for dropout.
        """
        count = self._method.accumulate.micro_batches
        if count == 1:
            with self._statistics(self._keeps):
                return self._method.logits(batch, seed)
        self._require_images(batch, count)
        self._given = {name: batch[name] for name in _PARTED if name in batch}, seed, count

        shapes = []

        def of_part(place, found):
            logits, _ = self._part_of_logits(place)
            shapes.append(logits.shape[1:])
            return (found.write(place, logits),)

        with self._tape.stop_recording(), self._statistics(True):
            found, = self._in_turn(of_part, (tf.TensorArray(
                tf.float32, count, infer_shape=False),))
            self._logits = tf.ensure_shape(found.concat(), [None, *shapes[0]])
        self._tape.watch(self._logits)
        return self._logits

    def gradient(self, loss, variables,
                 unconnected_gradients=tf.UnconnectedGradients.NONE):
        """As `tf.GradientTape.gradient` of trainable variables of the segmentor, a list.

        The first call moves the statistics of live batch norm, unless the tape keeps them.
        """
        if self._given is None:
            return self._tape.gradient(loss, variables,
                                       unconnected_gradients=unconnected_gradients)
        upstream, *total = self._tape.gradient(loss, [self._logits, *variables])
        if upstream is not None:
            with self._statistics(self._keeps):
                through = self._through_the_segmentor(upstream, variables)
            total = [new if old is None else old if new is None else old + new
                     for old, new in zip(total, through)]
        self._keeps = True
        if unconnected_gradients == tf.UnconnectedGradients.ZERO:
            total = [tf.zeros_like(v) if g is None else g for g, v in zip(total, variables)]
        return total

    def _through_the_segmentor(self, upstream, variables):
        """The gradients that come through the logits; None of what they do not depend on."""
        unconnected = set()

        def of_part(place, *total):
            with loss_scale.Tape(self._method.precision, self._method.optimizer) as tape:
                logits, rows = self._part_of_logits(place)
            found = tape.gradient(logits, variables, output_gradients=upstream[rows])
            unconnected.update(number for number, g in enumerate(found) if g is None)
            return tuple(old if new is None else old + new for old, new in zip(total, found))

        total = self._in_turn(of_part, tuple(tf.zeros(v.shape, v.dtype) for v in variables))
        return [None if number in unconnected else g for number, g in enumerate(total)]

    def _part_of_logits(self, place):
        """(the logits of a micro-batch by its number; the slice of its rows). Sizes differ by 1 at
        most."""
        batch, seed, count = self._given
        size = tf.shape(batch['image'])[0]
        rows = slice(size * place // count, size * (place + 1) // count)
        return self._method.logits(
            {name: part[rows] for name, part in batch.items()},
            tf.random.experimental.stateless_fold_in(seed, _PART + place)), rows

    def _in_turn(self, of_part, carried):
        """What `of_part(place, *carried)` makes of all micro-batches, one after another.

        It is traced once. Not so where live batch norm is synchronised: a collective cannot stand
        in a loop. Then each part waits for the one before, else their activations would be there at
        the same time.
        """
        count = self._given[-1]
        live = getattr(self._method.segmentor, 'fine_tune_batch_norm', False)
        if live and tf.distribute.get_replica_context().num_replicas_in_sync > 1:
            for place in range(count):
                waits = [c.flow if isinstance(c, tf.TensorArray) else c for c in carried]
                with tf.control_dependencies(waits):
                    carried = of_part(place, *carried)
            return carried
        return tf.while_loop(
            lambda place, *_: place < count,
            lambda place, *carried: (place + 1, *of_part(place, *carried)),
            (tf.constant(0), *carried), parallel_iterations=1)[1:]

    def _statistics(self, keeps):
        return (step_parts.statistics_kept(self._method.segmentor) if keeps
                else contextlib.nullcontext())

    @staticmethod
    def _require_images(batch, count):
        """UserError where there are fewer images than micro-batches, as far as that is known."""
        known = batch['image'].shape[0]
        if known is not None and known < count:
            raise errors.UserError(f'accumulate.micro_batches = {count}: a share of {known} '
                                   f'image{"" if known == 1 else "s"} has not as many parts; set '
                                   'it lower, or give larger batches')
