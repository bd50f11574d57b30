"""Whose turn it is: which phase each step of a run takes, on which batch. Pure Python.

Luc et al. (2016), section 4: "We experimented with a fast alternating scheme, where we alternate
between updating the segmenting network's and the adversarial network's weights at every iteration
of SGD and a slow one, where we alternate only after 500 iterations of each." Before, they had
"first experimented with pre-training the adversarial network", which made training "rapidly
instable".

Each phase has batches of its own, counted by its own steps. So the segmentor's k-th step sees the
same images under every scheme, and in the control, which has no discriminator.
"""
import dataclasses

import gin

from tf_advseg.core import arguments
from tf_advseg.core import errors

SEGMENTOR, DISCRIMINATOR = 'segmentor', 'discriminator'
UNLABELLED = 'unlabelled'  # the segmentor's, with unlabelled images beside the labelled ones


@dataclasses.dataclass(frozen=True)
class Turn:
    """One step.

    Attributes:
      phase: of the method.
      stream: whose batches it takes; the steps of one stream share one sequence of batches.
      index: how many steps of the stream lie before it.
    """
    phase: str
    stream: str
    index: int


class Plan:
    """Whose turn each step of a stage is; subclasses have `total`, `segmentor_steps` and `turn`.

    Attributes:
      discriminator_steps: int, of the discriminator in all.
      joint: whether each step moves both networks.
      streams: the streams whose batches are taken.
    """
    discriminator_steps = 0
    joint = False
    streams = (SEGMENTOR,)

    def share_of(self, stream):
        """float: which part of the segmentor's steps takes batches of this stream."""
        return float(stream in self.streams)


@dataclasses.dataclass(frozen=True)
class Sequence(Plan):
    """Steps of the segmentor alone.

    Attributes:
      total: how many.
      phase_of: function(step) -> phase.
    """
    total: int
    phase_of: object

    @property
    def segmentor_steps(self):
        """Of the segmentor: all."""
        return self.total

    def turn(self, step):
        """The `Turn` of a step."""
        return Turn(self.phase_of(step), SEGMENTOR, step)


@dataclasses.dataclass(frozen=True)
class Alternation(Plan):
    """Blocks of `every` steps of the discriminator and of the segmentor in turn.

    It ends with the last step of the segmentor; its last block may be shorter.

    Attributes:
      segmentor_steps: int, of the segmentor in all.
      every: int, steps of a block: 1 is the paper's fast scheme, 500 its slow one.
      pretraining: int, steps of the discriminator before the first block.
      first: 'discriminator' or 'segmentor', whose block comes first.

    Raises:
      UserError: a number out of range, or another `first`.
    """
    segmentor_steps: int
    every: int = 500
    pretraining: int = 0
    first: str = DISCRIMINATOR
    streams = (SEGMENTOR, DISCRIMINATOR)

    def __post_init__(self):
        errors.require_one_of('alternation.first', self.first, (DISCRIMINATOR, SEGMENTOR))
        for name, least in (('segmentor_steps', 0), ('every', 1), ('pretraining', 0)):
            arguments.require_number('alternation', name, getattr(self, name), least, whole=True)

    @property
    def total(self):
        """Steps of both networks together."""
        if not self.segmentor_steps:
            return self.pretraining
        whole = (self.segmentor_steps - 1) // self.every  # full blocks before the last
        blocks = whole + (self.first == DISCRIMINATOR)
        return self.pretraining + blocks * self.every + self.segmentor_steps

    @property
    def discriminator_steps(self):
        """Of the discriminator in all."""
        return self.total - self.segmentor_steps

    def turn(self, step):
        """The `Turn` of a step, from 0."""
        if step < self.pretraining:
            return Turn(DISCRIMINATOR, DISCRIMINATOR, step)
        pairs, place = divmod(step - self.pretraining, 2 * self.every)
        phase = self.first if place < self.every else (
            SEGMENTOR if self.first == DISCRIMINATOR else DISCRIMINATOR)
        index = pairs * self.every + place % self.every
        if phase == DISCRIMINATOR:
            index += self.pretraining
        return Turn(phase, phase, index)


@dataclasses.dataclass(frozen=True)
class Joint(Plan):
    """Steps that move both networks at once (Hung et al., section 5), in periods.

    Attributes:
      segmentor_steps: int, of the segmentor, and so of all.
      periods: ((first step, phase, stream), ...), the first of step 0, in order.
    """
    segmentor_steps: int
    periods: tuple
    joint = True

    @property
    def streams(self):
        """The streams whose batches are taken."""
        return tuple(dict.fromkeys(stream for _, _, stream in self.periods))

    def share_of(self, stream):
        """See `Plan.share_of`."""
        ends = [first for first, _, _ in self.periods[1:]] + [self.segmentor_steps]
        taken = sum(end - first for (first, _, own), end in zip(self.periods, ends)
                    if own == stream)
        return taken / self.segmentor_steps

    @property
    def total(self):
        """Steps in all."""
        return self.segmentor_steps

    @property
    def discriminator_steps(self):
        """Of the discriminator in all: as many."""
        return self.segmentor_steps

    def turn(self, step):
        """The `Turn` of a step, from 0."""
        _, phase, stream = [period for period in self.periods if period[0] <= step][-1]
        return Turn(phase, stream, step)


@dataclasses.dataclass(frozen=True)
class Alone(Plan):
    """Steps of the segmentor against a discriminator that stays as it is (Zhu et al., phase 2).

    Attributes:
      segmentor_steps: int.
    """
    segmentor_steps: int

    @property
    def total(self):
        """Steps in all."""
        return self.segmentor_steps

    def turn(self, step):
        """The `Turn` of a step, from 0."""
        return Turn(SEGMENTOR, SEGMENTOR, step)


@dataclasses.dataclass(frozen=True)
class CriticSteps(Plan):
    """Several steps of a critic, the last of them together with one of the generator.

    Arjovsky et al. (2017), Algorithm 1; with `critic_steps` 1 each step moves both networks.

    Attributes:
      generator_steps: int, of the generator in all.
      critic_steps: int, of the critic for each of them.
    """
    generator_steps: int
    critic_steps: int = 1

    @property
    def total(self):
        """Steps in all."""
        return self.generator_steps * self.critic_steps

    def turn(self, step):
        """The `Turn` of a step, from 0."""
        whole, place = divmod(step, self.critic_steps)
        alone = self.critic_steps - 1
        if place == alone:
            return Turn('both', SEGMENTOR, whole)
        return Turn('discriminator', DISCRIMINATOR, whole * alone + place)


@gin.configurable(denylist=['segmentor_steps'])
def alternation(segmentor_steps, every=500, pretraining=0, first=DISCRIMINATOR):
    """Builds the run's `Alternation`.

    Section 4 found the slow scheme the most stable on PASCAL VOC, hence the default. Which network
    begins is not printed: the discriminator, so that the segmentor's first block does not learn
    from a discriminator that has seen nothing.
    """
    return Alternation(segmentor_steps, every, pretraining, first)
