"""The settings of a LoAd run besides the controller's and the buffer's parameters."""
import dataclasses
from typing import Optional

import gin

from tf_advseg.core import arguments
from tf_advseg.core import errors
from tf_advseg.data.augmentation import recipes

BALANCED = 'balanced'
OPTIMIZER_FATES = ('restore', 'reset', 'keep')
DISCRIMINATOR_FATES = ('continue', 'reset_optimizer', 'reinitialise')
MAP_IMAGES = ('all', 'seen')
CRITERIA = ('log_loss', 'accuracy')
NULLS = ('shuffled', 'random')


@dataclasses.dataclass(frozen=True)
class LookaheadSettings:
    """Parameters of the orchestrator; where the paper is silent it is said what we chose.

    Attributes:
      batch_size: of the generator; 5 in section 4.
      propagation_steps: what "one propagation" of Algorithms 2-3 is: this many mini-batches
        (1: the paper's O(V_e N) "per propagation" and Gamma = 50 "iterations" suggest a
        mini-batch), or 'epoch'.
      adversarial_weight: lambda, or 'balanced': balance * |g_ce| / |g_adv| over the first
        `balance_batches` batches of a cycle, kept for that cycle.
      maximum_weight: bound of a balanced lambda: a discriminator that is fooled through and through
        has hardly a gradient.
      flip: random horizontal flips, the paper's only augmentation.
      map_images: 'all' training images per slot, or only those 'seen' since stage 2 began
        (section 6 proposes it against the imbalance of a large buffer).
      map_batch_size: images per forward pass when maps are generated.
      discriminator_batch_size: 16 in section 4.
      min_epochs, max_epochs, patience: early stopping of the discriminator on its hold-out, whose
        fakes are the buffer's models' maps of it; the best epoch's weights are kept.
      criterion: what an epoch is judged by: 'log_loss' (the binary CE, a mean of that on real and
        on fake maps: it sees a discriminator become too sure) or 'accuracy' (mean of both).
      target_accuracy: a discriminator that reaches it on its hold-out is trained no further in
        that cycle, whatever min_epochs says ("until sufficient performance", section 4); None for
        no such end.
      discriminator_holdout: share of the training images that the discriminator is judged on and
        not trained on; None: it is judged on the hold-out, which chooses the peaks as well.
      draw_near_duplicates: whether a cycle's ending is drawn, too, that lies within three
        propagations of the cycle's peak and at most beta_u below it, and so is nearly the same
        model (Algorithm 1 draws it).
      discriminator_pairs: whether an image's truth and its maps stand side by side in the
        discriminator's epochs, mirrored and cut alike (but for the ends of batches, they are seen
        in one step), so that what differs between them is learnt; else all are shuffled.
      null: what LoAd is compared with to see what structure is worth: 'shuffled' trains the
        discriminator on shuffled targets, for min_epochs epochs; 'random' takes a random direction
        of the adversarial gradient's length, new at each step. None for LoAd itself.
      reestimate_batches: batches over which D's batch-norm averages are taken anew after each
        epoch (0: never; Keras MobileNet's own averages lag for hundreds of steps).
      optimizer_at_rewind: the generator's momentum is emptied ('reset': else it follows the
        superseded discriminator for a third of a cycle), goes back with the weights ('restore') or
        goes on ('keep').
      discriminator_at_retrain: D and its Adagrad go on ('continue'), D goes on with a fresh
        Adagrad ('reset_optimizer', so that its steps do not shrink for ever), or both start
        anew ('reinitialise').
      diagnostics_every: propagations between measurements of the two gradients; 0 for never.
      screening_images: training images whose adversarial gradients are compared once the first
        discriminator is trained (lookahead/screening.py); 0 for none, None for all.
      durable_every: propagations between durable states within a cycle.
      max_hours: ends the run, cycle under way included, after this wall time (all starts added
        up); None for no cap. The one cap that makes a run's length depend on the machine.
      non_finite_limit: cycles that may end with a loss that is not finite.
      evaluation_batch_size: images per forward pass on the hold-out.
      min_scale, max_scale, scale_step: random resizing before the crop, of the generator's and the
        discriminator's images (data.augmentation.official_preprocessing.RandomScale); none in the
        paper.
      augmentation: a recipe by name (data.augmentation.recipes) in place of flip and the scales, or
        None. One that changes an image's shape or mixes images is refused: stored maps could not
        follow it.
      head_only: trains what stands behind the backbone and leaves that as Stage 1 made it; what it
        makes of the images is then computed once, where the images fit into the crop and are
        neither scaled nor recoloured (lookahead/head_only.py). Of LoAd and its control alike.
      budget_steps: LoAd ends after so many steps of the segmentor, and is compared with the
        ordinary control of as many (`adversarial_stage`), which other methods can share. None ends
        it by the controller's caps and compares it with its own control, of as many propagations.
    """
    batch_size: int = 5
    propagation_steps: object = 1
    adversarial_weight: object = BALANCED
    balance: float = 1.0
    balance_batches: int = 4
    maximum_weight: float = 100.0
    flip: bool = True
    map_images: str = 'all'
    map_batch_size: int = 8
    discriminator_batch_size: int = 16
    min_epochs: int = 3
    max_epochs: int = 20
    patience: int = 2
    criterion: str = 'log_loss'
    target_accuracy: Optional[float] = None
    discriminator_holdout: Optional[float] = None
    draw_near_duplicates: bool = False
    discriminator_pairs: bool = False
    null: Optional[str] = None
    reestimate_batches: int = 10
    optimizer_at_rewind: str = 'reset'
    discriminator_at_retrain: str = 'reset_optimizer'
    diagnostics_every: int = 25
    screening_images: Optional[int] = 48
    durable_every: int = 10
    max_hours: object = None
    non_finite_limit: int = 5
    evaluation_batch_size: int = 8
    min_scale: float = 1.0
    max_scale: float = 1.0
    scale_step: float = 0.25
    augmentation: object = None
    head_only: bool = False
    budget_steps: Optional[int] = None

    def __post_init__(self):
        if self.budget_steps is not None:
            arguments.require_number('lookahead', 'budget_steps', self.budget_steps, 1, whole=True,
                                     hint="or None for the controller's own end")
        for name in ('batch_size', 'balance_batches', 'map_batch_size', 'min_epochs', 'max_epochs',
                     'discriminator_batch_size', 'durable_every', 'evaluation_batch_size'):
            self._require_whole(name, 1)
        for name in ('patience', 'reestimate_batches', 'diagnostics_every', 'non_finite_limit'):
            self._require_whole(name, 0)
        if self.screening_images is not None:
            self._require_whole('screening_images', 0)
        if not isinstance(self.propagation_steps, str):
            self._require_whole('propagation_steps', 1)
        if not self.recipe.keeps_shape:  # looking at it refuses what is out of range
            raise errors.UserError(
                f'lookahead.augmentation = {self.augmentation!r}: changes the shape or '
                'the angle of images, cuts them by their labels or mixes them, and the maps of the '
                'buffer cannot follow; expected flip, deeplab or hung')
        arguments.require_flag('lookahead', 'draw_near_duplicates', self.draw_near_duplicates)
        arguments.require_flag('lookahead', 'head_only', self.head_only)
        arguments.require_flag('lookahead', 'discriminator_pairs', self.discriminator_pairs)
        if self.head_only and self.budget_steps is not None:
            raise errors.UserError('lookahead.head_only with lookahead.budget_steps: the shared '
                                   'control trains the whole network; leave out one of the two')
        errors.require_one_of('lookahead.criterion', self.criterion, CRITERIA)
        if self.target_accuracy is not None:
            arguments.require_number('lookahead', 'target_accuracy', self.target_accuracy,
                                     above=0.5, most=1, hint='or None')
        if self.discriminator_holdout is not None:
            arguments.require_number('lookahead', 'discriminator_holdout',
                                     self.discriminator_holdout, above=0, below=1,
                                     hint='a share of the training images, or None')
        if self.null is not None:
            errors.require_one_of('lookahead.null', self.null, NULLS)
        if self.null == 'shuffled' and self.target_accuracy is not None:
            raise errors.UserError("lookahead.target_accuracy has no effect with lookahead.null = "
                                   "'shuffled', whose accuracies mean nothing; set it to None")
        if self.map_images == 'seen' and self.discriminator_holdout is not None:
            raise errors.UserError("lookahead.discriminator_holdout with lookahead.map_images = "
                                   "'seen': the buffer has no maps of all withheld images; set "
                                   "one of the two to its default")
        errors.require_one_of('optimizer_at_rewind', self.optimizer_at_rewind, OPTIMIZER_FATES)
        errors.require_one_of('discriminator_at_retrain', self.discriminator_at_retrain,
                              DISCRIMINATOR_FATES)
        errors.require_one_of('map_images', self.map_images, MAP_IMAGES)
        if isinstance(self.adversarial_weight, str):
            errors.require_one_of('adversarial_weight', self.adversarial_weight, (BALANCED,))
        if isinstance(self.propagation_steps, str):
            errors.require_one_of('propagation_steps', self.propagation_steps, ('epoch',))

    def _require_whole(self, name, least):
        value = getattr(self, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise errors.UserError(f'lookahead.{name} = {value!r}: expected a whole number of at '
                                   f'least {least}')

    @property
    def recipe(self):
        """data.augmentation.recipes.Recipe of these settings."""
        return recipes.of_settings('lookahead', self.augmentation, self.flip, self.min_scale,
                                   self.max_scale, self.scale_step)

    def steps_per_propagation(self, training_images):
        """Mini-batches in one propagation."""
        if self.propagation_steps == 'epoch':
            return max(1, -(-training_images // self.batch_size))
        return int(self.propagation_steps)


# gin fills in the fields of a frozen dataclass like any function's arguments.
lookahead_settings = gin.external_configurable(LookaheadSettings, name='lookahead',
                                               module='tf_advseg.lookahead')
