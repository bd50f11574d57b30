"""One step of every method on a small network, so that devices can be compared.

`cases` names the steps; `Trial` builds one on a strategy and takes it; `difference` says how far
two outcomes lie apart. What a step is compared by is the update: the weights alone hardly move.

Tolerances. Two devices add the same float32 numbers in other orders. How much that is was
measured where there are two sets of kernels: on a CPU, with oneDNN and without
(TF_ENABLE_ONEDNN_OPTS), all `cases` from the same start. Losses differed by at most 3.3e-7; updates
on farabet by at most 1.6e-4, on the deep networks by up to 3.6e-2 (`deeplab_resnet`): of images so
small their last layers have 45 points, and one ReLU that rounding takes over its kink turns the
gradient of all layers below. So LOSS, and UPDATE on farabet, are 60 times what was measured,
DEEP_UPDATE is 7 times. They find a wrong kernel or gradient, not a coarser one: TF32 may pass.
"""
import dataclasses
import functools

import numpy as np
import tensorflow as tf

from tf_advseg.experiments import recipe_registry as recipes
from tf_advseg.experiments import small_methods
from tf_advseg.methods import cross_entropy
from tf_advseg.models import dilated8
from tf_advseg.models import layers
from tf_advseg.run import networks
from tf_advseg.training import loop
from tf_advseg.training import optimizers
from tf_advseg.training import strategy

STAGE_ONE = 'Stage 1'
CLASSES, SIDE, BATCH = 3, 33, 5
LOSS, UPDATE, DEEP_UPDATE = 2e-5, 0.01, 0.25
SEED = np.array([1, 2], np.int32)  # of the step; no network here draws anything
_FIXED = dict(dropout_rate=0.0, seed=1)
# The smallest of each builder, without dropout: replicas would draw masks of their own.
_GIVEN = {
    'farabet': dict(hidden=16, seed=1),
    'deeplab_mobilenet_v2': dict(depth_multiplier=0.25, **_FIXED),
    'deeplab_residual': _FIXED, 'dilated8': dict(context='basic', fc_channels=8, **_FIXED),
    'deeplab_v2_resnet': dict(variant='resnet_50', seed=1),
    'deeplab_xception': dict(variant='xception_41', **_FIXED),
    'deeplab_resnet': dict(variant='resnet_v1_50_beta', **_FIXED)}


def _network(name):
    """The small network of a name, built as a run builds it."""
    return networks.build(networks.describe(name, num_classes=CLASSES, **_GIVEN[name]))


NETWORKS = {name: functools.partial(_network, name) for name in _GIVEN}
LIGHT = ('farabet', 'deeplab_mobilenet_v2')  # those that are traced in seconds


def awake(segmentor, image):
    """Gives a fresh network the statistics of `image` in its batch norms, and freezes them.

    Behind statistics that were never taken a fresh network is all but silent, and no gradient
    reaches its first layers; Dilated-8's scores are small by their initial values.

    Args:
      segmentor: of this package.
      image: float32 [B, h, w, 3].
    """
    norms = [c.norm for c in layers.convolutions(segmentor) if c.norm is not None]
    for norm in norms:
        norm.momentum = 0.0
    if norms:
        segmentor.fine_tune_batch_norm = True
        segmentor(image, training=True)
    segmentor.fine_tune_batch_norm = False
    if isinstance(segmentor, dilated8.Dilated8):
        kernel = segmentor.logits.scores.kernel
        kernel.assign(1000.0 * kernel)


# --- the steps ---------------------------------------------------------------------------------

def _stage_one(segmentor, side):
    """Stage 1's method; its weighted step too."""
    optimizer = optimizers.make_optimizer('momentum', 1e-2, 0.9)
    return cross_entropy.CrossEntropy(
        segmentor, optimizer, l2_weight=1e-4,
        average_counts=[float(side * side) / CLASSES] * CLASSES)


def _methods(segmentor, side, owner):
    """{name: Method} of the recipe that has this name."""
    recipe = recipes.find(owner)
    if not recipe.trains:
        return {STAGE_ONE: _stage_one(segmentor, side)}
    return small_methods.make(recipe, segmentor, side)


@functools.lru_cache(maxsize=None)
def steps():
    """{'method: phase': (recipe's name, method, phase)} of every method and each of its steps."""
    segmentor = NETWORKS[LIGHT[0]]()
    return {f'{method}: {phase}': (name, method, phase) for name in recipes.load_all()
            for method, made in _methods(segmentor, SIDE, name).items() for phase in made.phases}


@dataclasses.dataclass(frozen=True)
class Case:
    """A step of a method (of `steps`) on a network (of NETWORKS)."""
    step: str
    network: str

    @property
    def allowed(self):
        """float: how far updates of it may lie apart, see above."""
        return UPDATE if self.network == 'farabet' else DEEP_UPDATE

    def __str__(self):
        return f'{self.step} on {self.network}'


def cases(networks=LIGHT, names=None):
    """The steps (all of `steps` for None) on the first of the networks, Stage 1's on the others."""
    first, *others = networks
    return [*(Case(step, first) for step in names or steps()),
            *(Case(f'{STAGE_ONE}: segmentor', network) for network in others)]


# --- taking them -----------------------------------------------------------------------------

class Trial:
    """A case built on a strategy.

    Args:
      case: `Case`.
      strategy: a tf.distribute.Strategy.
      side: of the images, 16 k + 1.
      start: the values that another trial of this case began with (its `start`), or None. Drawing
        them anew on another device may give other last digits.

    Attributes:
      start: arrays of all networks and optimizers, in their order.
    """

    def __init__(self, case, strategy, side=SIDE, start=None):
        owner, name, self._phase = steps()[case.step]
        batch = small_methods.images(CLASSES, side, BATCH)
        with strategy.scope():
            segmentor = NETWORKS[case.network]()
            segmentor.fine_tune_batch_norm = False
            self._method = _methods(segmentor, side, owner)[name]
        parts = [segmentor, *self._method.state.values()]
        self._networks = [p for p in dict.fromkeys(parts) if small_methods.is_network(p)]
        if start is None:
            with tf.device('/cpu:0'):
                awake(segmentor, batch['image'])
        self._variables = [v for part in dict.fromkeys(parts) for v in part.variables]
        self.start = [v.numpy() for v in self._variables] if start is None else start
        self._stepper = loop.Stepper(self._method, strategy)
        self.reset()
        batch = small_methods.completed(self._method, batch)
        whole = tf.data.Dataset.from_tensors(batch).unbatch().batch(len(batch['image']))
        self._shares = next(iter(loop.distribute(whole, strategy)))

    def reset(self):
        """Puts networks and optimizers back to the start."""
        for variable, value in zip(self._variables, self.start):
            variable.assign(value)

    def take(self):
        """Takes one step; returns its scalars, dict name -> float."""
        # Read here: a step that nobody waits for has only been asked for.
        return dict(self._stepper(self._phase, self._shares, SEED))

    def values(self):
        """{name: array} of the trainable variables of all networks that take part."""
        return {f'{network.name}/{number} {v.name}': v.numpy() for network in self._networks
                for number, v in enumerate(network.trainable_variables)}

    def outcome(self):
        """An `Outcome` of one step from the start."""
        self.reset()
        before = self.values()
        scalars = self.take()
        return Outcome(scalars, before, self.values())


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a step returned, and the trained variables before and after it ({name: array})."""
    scalars: dict
    before: dict
    after: dict

    def moved(self):
        """The norm of the whole update, all variables together."""
        return float(np.sqrt(sum(np.sum(np.square(self.after[name] - value, dtype=np.float64))
                                 for name, value in self.before.items())))


@dataclasses.dataclass(frozen=True)
class Difference:
    """How far two outcomes of one step lie apart.

    Attributes:
      loss: the largest relative difference of a loss or of the norm of the weights.
      update: the largest over variables of |w1 - w2| / |w1 - w0|, w0 being the start: norms, since
        where rounding takes an activation over its kink single elements differ. Two units in the
        last place of each weight are taken off first: what is stored can be no nearer.
      where: name of the variable of the largest.
      allowed: what `update` may be.
    """
    loss: float
    update: float
    where: str = ''
    allowed: float = UPDATE

    @property
    def within(self):
        """bool: whether both are within LOSS and `allowed` (a value that is no number is not)."""
        return bool(self.loss <= LOSS and self.update <= self.allowed)


def difference(one, other, allowed=UPDATE):
    """The `Difference` of two Outcomes of a case, of which `allowed` is asked for.

    Raises:
      ValueError: they are of other cases.
    """
    if one.scalars.keys() != other.scalars.keys() or one.after.keys() != other.after.keys():
        raise ValueError('outcomes of two different steps')
    # Accuracies are left out: they count decisions, and jump.
    losses = [_relative(value, other.scalars[name]) for name, value in one.scalars.items()
              if name.startswith(('loss/', 'weights/'))]
    updates = {name: _of_update(one.before[name], value, other.after[name])
               for name, value in one.after.items()}
    where = max(updates, key=lambda name: _nan_last(updates[name]))
    return Difference(max(losses, key=_nan_last), updates[where], where, allowed)


def _nan_last(value):
    return np.inf if np.isnan(value) else value


def _relative(a, b):
    size = max(abs(a), abs(b))
    return abs(a - b) / size if size != 0 else 0.0


def _of_update(before, one, other):
    one, other = one.astype(np.float64), other.astype(np.float64)
    off = np.linalg.norm(one - other)
    if np.isnan(off):
        return np.nan
    off -= 2 * np.linalg.norm(np.spacing(np.abs(one).astype(np.float32)))
    moved = np.linalg.norm(one - before)
    return float(max(off, 0.0) / moved) if moved else float('inf' if off > 0 else 0.0)


def on(*devices):
    """A strategy of one device ('/gpu:0') or, of several, of a replica on each."""
    if len(devices) == 1:
        return tf.distribute.OneDeviceStrategy(devices[0])
    return strategy.mirrored(*devices)
