"""A learning-rate range test of Stage 1 (Smith 2017): `benchmark lr_range`.

The step is Stage 1's from the weights that it starts from: its batches, augmentation, optimizer,
clipping and accumulation; the rate alone is another, and rises by one factor from step to step.
Momentum and Adam's moments lag behind the rate as they do in any training, so the rates are those
of a short test. The suggestion is the steepest descent against the rate's logarithm.
"""
import dataclasses
import functools

import gin
import numpy as np

from tf_advseg.core import arguments
from tf_advseg.core import errors
from tf_advseg.core import files
from tf_advseg.core import progress
from tf_advseg.data.records import record_set as record_sets
from tf_advseg.experiments.train import stage_one
from tf_advseg.reporting import curves
from tf_advseg.reporting import rate_curve
from tf_advseg.reporting import tables
from tf_advseg.training import loop
from tf_advseg.training import schedules
from tf_advseg.training import strategy as strategies


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings of a range test.

    Attributes:
      least, most: the first and the last rate.
      steps: how many; it ends before where the loss diverges.

    Raises:
      UserError: a value out of range.
    """
    least: float = 1e-6
    most: float = 1.0
    steps: int = 100

    def __post_init__(self):
        arguments.require_number('lr_range', 'least', self.least, above=0)
        arguments.require_number('lr_range', 'most', self.most, above=self.least)
        arguments.require_number('lr_range', 'steps', self.steps, least=10, whole=True)

    @property
    def schedule(self):
        """`schedules.RisingRate` of these settings."""
        return schedules.RisingRate(self.least, self.most, self.steps)


lr_range = gin.external_configurable(Settings, name='lr_range', module='tf_advseg.experiments')


def measure(context, segmentor, settings):
    """Trains `segmentor` by Stage 1's steps at rising rates; nothing is written.

    Args:
      context: run.context.Context.
      segmentor: with the weights that Stage 1 starts from, which are lost.
      settings: `Settings`.

    Returns:
      reporting.rate_curve.RateCurve.

    Raises:
      UserError: a setting out of range; Stage 1 takes no step; the first loss is no number.
    """
    method, phase, batches = stage_one.first_steps(context, segmentor, settings.schedule)
    stepper, losses = loop.Stepper(method, context.strategy), []
    with record_sets.data_errors(), progress.Progress(settings.steps, 'lr_range') as bar:
        for step, batch in zip(range(settings.steps),
                               loop.distribute(batches, context.strategy)):
            scalars = stepper(phase, batch, context.streams.seed('dropout', step, 0))
            losses.append(scalars['loss/ce'])
            bar.update(1, loss=f'{losses[-1]:.3f}')
            if rate_curve.has_diverged(losses):
                break
    if not np.isfinite(losses[0]):
        raise errors.UserError('lr_range: the loss is not finite before anything is trained; look '
                               'at the data with tools/doctor.py')
    return rate_curve.RateCurve(settings.schedule.rates[:len(losses)], np.array(losses),
                                rate_curve.has_diverged(losses))


def tester(output=None):
    """A function for `training.experiment(instead=…)` that tests, prints and draws.

    Args:
      output: a PNG file to be written or replaced, or None for no chart.

    Raises:
      UserError: a setting out of range; a file of another kind.
    """
    if output is not None and not str(output).lower().endswith('.png'):
        raise errors.UserError(f'--output={output}: expected a PNG file, as lr_range.png')
    return functools.partial(_test, lr_range(), output)


def _test(settings, output, context, segmentor, recipe):
    """See `tester`; the recipe is not looked at, Stage 1 is every method's."""
    del recipe
    curve = measure(context, segmentor, settings)
    configured = stage_one.stage_one().learning_rate
    if not strategies.is_chief(context.strategy):
        return
    print(tables.to_text(rate_curve.table(curve, configured)))
    if output is not None:
        with files.atomic_file(output) as file:
            file.write(curves.encode(rate_curve.figure(curve, configured)))
        print(f'written: {output}')
