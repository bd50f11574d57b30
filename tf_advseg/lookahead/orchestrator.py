"""LoAd's main loop (Algorithm 3 around Algorithm 1): phases, durable states, rewinds.

The orchestrator computes no gradient: the steps are methods/load.py's, the decisions the
controller's, the maps the buffer's. It is a machine of phases

    start -> aggregate -> retrain -> begin -> cycle -> end -> aggregate -> ... -> finished

whose whole state is in state.json and in the folders that it names. State is written at every
change of phase, after every epoch of the discriminator and every few propagations. A process
killed anywhere goes on from the last state on disk and, since every draw is seeded by counters
that never go back (`budget_step`, the discriminator's epochs), does again exactly what was lost.
"""
import pathlib

import numpy as np

from tf_advseg.core import progress
from tf_advseg.data.records import record_set as record_sets
from tf_advseg.lookahead import discriminator_phases
from tf_advseg.lookahead import discriminator_training
from tf_advseg.lookahead import gradients
from tf_advseg.lookahead import run_state
from tf_advseg.lookahead import stopwatch
from tf_advseg.methods import recipe
from tf_advseg.training import checkpoints
from tf_advseg.training import health
from tf_advseg.training import loop
from tf_advseg.training import loss_scale
from tf_advseg.training import optimizers
from tf_advseg.training import strategy as strategies


class LookAhead(discriminator_phases.DiscriminatorPhases):
    """Runs LoAd, or its control, to the end.

    Args:
      arm: methods.recipe.Arm. The control has the same controller and peak picking on CE alone,
        with no maps and no discriminator.
      method: methods.load.LoAd, or methods.objective.Control.
      data: `LookaheadData`: the batches, the hold-out, the images.
      controller: lookahead.controller.Controller.
      buffer: lookahead.map_buffer.MapBuffer; None for the control.
      store: lookahead.snapshots.SnapshotStore; an average that it has follows each step.
      settings: LookaheadSettings.
      holdout_miou: function() -> float, the mIoU of the segmentor on the hold-out.
      folder: where state.json lives.
      journal, metrics: core.journal.Journal.
      streams: core.random_streams.RandomStreams.
      strategy: tf.distribute.Strategy.
      monitor: object with `scalars(step, dict)` and `cycle(step, lookahead)`, or None.
      screen: function(method, stepper, accuracy) -> screening.Screening, asked once the first discriminator
        is trained; None for no screening.
    """

    def __init__(self, arm, method, data, controller, buffer, store, settings, holdout_miou, folder,
                 journal, metrics, streams, strategy, monitor=None, screen=None):
        self.adversarial = arm is recipe.Arm.METHOD
        self.method = method
        self.data = data
        self.controller = controller
        self.buffer = buffer
        self.store = store
        self.settings = settings
        self.state = run_state.RunState()
        self.watch = stopwatch.Stopwatch()
        self._holdout_miou = holdout_miou
        self._journal = journal
        self._metrics = metrics
        self._streams = streams
        self._strategy = strategy
        self._chief = strategies.is_chief(strategy)
        self._files = run_state.Durable(pathlib.Path(folder), controller, store, buffer, journal,
                                        metrics, self._chief)
        self._monitor, self._screen = monitor, screen
        self.stepper = loop.Stepper(method, strategy)
        self._guard = health.NonFiniteGuard(settings.non_finite_limit)
        self._batches = None
        self._bar = None
        self._fresh_optimizer = [v.numpy() for v in loss_scale.variables(method.optimizer)]
        self._trainer = self._meter = None
        if self.adversarial:
            self._meter = gradients.GradientMeter(method, self.stepper, data, settings, streams)
            self._trainer = discriminator_training.DiscriminatorTrainer(
                method, self.stepper, data.discriminator_data(buffer, method), store, settings,
                streams, metrics)

    def run(self):
        """Runs, or goes on, to the end.

        Returns:
          controller.RunResult. The store's role 'start' then holds the model to keep.

        Raises:
          UserError: a full disk, a damaged slot or snapshot, losses that stay non-finite.
        """
        self._resume()
        name = 'LoAd' if self.adversarial else 'control'
        total, text = self._expected(), f'{name}: propagations'
        if self.adversarial:  # between them it retrains: their own pace says nothing of the end
            total, text = None, f'{text} of at most {total}'
        with progress.Progress(total, text) as self._bar:
            self._bar.update(self.controller.propagations)
            with record_sets.data_errors():
                while self.state.phase != 'finished':
                    getattr(self, f'_phase_{self.state.phase}')()
        return self.controller.result

    def train_discriminator(self):
        """Takes the run, or goes on with it, to its first trained discriminator (line 2)."""
        self._resume()
        with record_sets.data_errors():
            while not self.state.retrains and self.state.phase != 'finished':
                getattr(self, f'_phase_{self.state.phase}')()

    def _expected(self):
        """Propagations that the caps allow if no cycle is prolonged; for the progress bar."""
        rules = self.controller
        bounds = [rules.patience * cycles for cycles in (rules.max_total_cycles, rules.max_cycles)
                  if cycles is not None]
        if rules.max_propagations is not None:
            bounds.append(rules.max_propagations)
        return min(bounds)

    def _late(self):
        """Whether the cap in hours is reached."""
        hours = self.settings.max_hours
        if hours is None:
            return False
        return strategies.any_worker(self._strategy, self.watch.total() > 3600 * hours)

    # --- durable states -------------------------------------------------------------------

    def _durable(self, phase=None):
        """Writes the state down; from here a killed process would go on."""
        if phase is not None:
            self.state.phase = phase
        self.state.non_finite = self._guard.count
        self.watch.lap()
        strategies.barrier(self._strategy)
        self._files.write(self.state, self.watch.seconds)
        strategies.barrier(self._strategy)

    def _resume(self):
        """Goes back to the last durable state, or makes the first."""
        found = self._files.read()
        strategies.barrier(self._strategy)
        if found is None:
            self.watch = stopwatch.Stopwatch()
            self._durable('start')
            self._compute_backbone_maps()
            return
        self.state, seconds = found
        self.watch = stopwatch.Stopwatch(seconds)
        self._guard.count = self.state.non_finite
        self._journal.append('resume', budget_step=self.state.budget_step, phase=self.state.phase)
        self._reconsider()
        if 'disc' in self.store.roles and self.adversarial:
            self.store.restore('disc', self.method.discriminator,
                               self.method.discriminator_optimizer)
        role = 'current' if self.state.phase == 'cycle' else 'start'
        if role in self.store.roles:
            self.store.restore(role, self.method.segmentor, self.method.optimizer)
        self._compute_backbone_maps()

    def _compute_backbone_maps(self):
        """What a frozen backbone makes of the images, all at once and as a part of its own."""
        if self.data.known is not None:
            with self.watch.time('backbone maps'):
                self.data.known.compute()

    def _reconsider(self):
        """A cap may have been raised since: then a cycle or run that it ended goes on."""
        self.controller.clear_stop()
        if self._late():
            self.controller.request_stop('hours')
        if self.state.phase == 'end' and self.controller.looking_ahead:
            self.store.alias('current', 'end')
            self.state.phase = 'cycle'
        if self.state.phase == 'finished' and not self.controller.finished:
            self.state.phase = 'begin'

    def _log(self, event, **fields):
        self._journal.append(event, budget_step=self.state.budget_step,
                             cycle=self.controller.cycles, **fields)

    # --- the phases -----------------------------------------------------------------------

    def _phase_start(self):
        """Line 1: evaluates g_0 and keeps it."""
        miou = self._evaluate()
        self.controller.start(miou)
        self.store.save('g0', self.method.segmentor, self.method.optimizer)
        self.store.alias('start', 'g0')
        self.store.alias('best', 'g0')
        self._log('start', miou=miou, label='g0')
        self.state.pending = {'peak': 'g0', 'end': None, 'roles': {'g0': 'g0'}}
        self._durable('aggregate')

    def _phase_begin(self):
        """Rewinds to g^s and begins a cycle (lines 3-6), or ends the run."""
        if self.controller.finished:
            self._finish()
            return
        if self.state.pending:  # left undrawn by a run that a cap had ended
            self._durable('aggregate')
            return
        if self.state.retrain_due:
            self._prepare_retraining()
            return
        self._rewind()
        self.controller.begin_cycle()
        self._choose_weight()
        step = self.state.budget_step
        self.state.seen['end'] = self.state.seen.get('start', []) + [[step, step]]
        self._keep_current()
        self._durable('cycle')

    def _keep_current(self):
        """The model in the middle of a cycle; D too if the generator's step moves its averages."""
        self.store.save('current', self.method.segmentor, self.method.optimizer)
        if self.adversarial and self.method.discriminator_training_mode:
            self.store.save('disc', self.method.discriminator, self.method.discriminator_optimizer)

    def _rewind(self):
        """Puts g^s back; the optimizer goes back with it, is emptied, or goes on."""
        fate = self.settings.optimizer_at_rewind
        if fate == 'restore':
            self.store.restore('start', self.method.segmentor, self.method.optimizer)
            return
        self.store.restore('start', self.method.segmentor)
        if fate == 'reset':
            optimizer = self.method.optimizer
            checkpoints.assign(loss_scale.variables(optimizer), self._fresh_optimizer)
            if optimizers.has_schedule(optimizer):  # which goes by the steps of the whole run
                optimizer.iterations.assign(np.asarray(self.state.budget_step, np.int64))
        elif 'end' in self.store.roles:
            self.store.restore_optimizer('end', self.method.optimizer)

    def _choose_weight(self):
        """lambda for this cycle: fixed, or balanced over the first batches the cycle will see."""
        if not self.adversarial:
            self.state.adversarial_weight = 0.0
        elif not self._meter.is_balanced():
            self.state.adversarial_weight = float(self.settings.adversarial_weight)
        else:
            with self.watch.time('balancing'):
                weight, ratio = self._meter.balanced_weight(self.state.budget_step)
            self.state.adversarial_weight = weight
            self._log('balance', adversarial_weight=weight, **{'grad_ratio/adv_ce': ratio})

    def _phase_cycle(self):
        """Lines 7-24: looks ahead until the controller says that the cycle is over."""
        scalars = {}
        while self.controller.looking_ahead:
            scalars = self._propagate()
            if not health.is_finite(scalars):
                self._record_non_finite(f'cycle {self.controller.cycles}', scalars)
                self.controller.fail_cycle()
                break
            miou = self._evaluate()
            decision = self.controller.propagated(miou)
            self._metrics.append('propagation', budget_step=self.state.budget_step,
                                 cycle=self.controller.cycles, miou=miou, **scalars)
            if self._monitor:
                self._monitor.scalars(self.state.budget_step, {'hold_out/miou': miou, **scalars})
            self._bar.update(1, miou=f'{miou:.4f}', cycle=self.controller.cycles)
            if decision.best:
                self.store.save('best', self.method.segmentor, self.method.optimizer)
                self.state.seen['best'] = [list(span) for span in self.state.seen['end']]
            if self._late():
                self.controller.request_stop('hours')
            if self.controller.looking_ahead and (
                    self.controller.propagations % self.settings.durable_every == 0):
                self._keep_current()
                self._durable()
        if health.is_finite(scalars):
            self.store.save('end', self.method.segmentor, self.method.optimizer)
        else:
            self.store.alias('end', 'start')  # no maps are drawn from a broken model
        self._durable('end')

    def _propagate(self):
        """One propagation (line 8): its mini-batches' mean scalars."""
        steps = self.settings.steps_per_propagation(len(self.data.train_ids))
        self._diagnose()
        if self._batches is None:
            self._batches = iter(loop.distribute(
                self.data.batches(self.state.budget_step), self._strategy))
        phase = 'segmentor' if self.adversarial else 'cross_entropy'
        taken = []
        with self.watch.time('generator step'):
            for _ in range(steps):
                step = self.state.budget_step
                taken.append(self.stepper(phase, next(self._batches),
                                           self._streams.seed('dropout', step),
                                           adversarial_weight=self.state.adversarial_weight))
                if self.store.average is not None:
                    self.store.average.after_step()
                self.state.budget_step += 1
                self.state.seen['end'][-1][1] = self.state.budget_step
            return loop.means(taken, steps)

    def _diagnose(self):
        """Logs the two gradients' ratio and cosine on a batch of the diagnostics' own stream."""
        every = self.settings.diagnostics_every
        if not (self.adversarial and every and self.controller.propagations % every == 0):
            return
        step = self.state.budget_step
        with self.watch.time('diagnostics'):
            scalars = self._meter.diagnose(step)
        scalars = {**scalars, 'adversarial_weight': self.state.adversarial_weight}
        self._metrics.append('diagnostics', budget_step=step, **scalars)
        if self._monitor:
            self._monitor.scalars(step, scalars)

    def _record_non_finite(self, where, scalars):
        """Writes down, and counts, a loss that is no number; raises beyond the limit."""
        self._log('nonfinite', where=where, **{k: str(v) for k, v in scalars.items()})
        self._guard.record(f'{where}, budget step {self.state.budget_step}', scalars)

    def _phase_end(self):
        """Lines 25-33: closes the cycle and says which maps are to be drawn."""
        outcome = self.controller.end_cycle()
        roles = {outcome.end_label: 'end'}
        self._journal.append('end', budget_step=self.state.budget_step,
                             cycle=self.controller.cycles - 1, label=outcome.end_label,
                             miou=outcome.end_miou, reason=outcome.reason)
        if outcome.peak_found:
            self.store.alias('start', 'best')
            self.state.seen['start'] = self.state.seen['best']
            roles[outcome.peak_label] = 'start'
            self._journal.append('peak', budget_step=self.state.budget_step,
                                 cycle=self.controller.cycles - 1, label=outcome.peak_label,
                                 miou=outcome.rewind_miou)
        self._journal.append('rewind', budget_step=self.state.budget_step,
                             cycle=self.controller.cycles - 1, to=f'g{self.controller.peak_index}',
                             miou=outcome.rewind_miou)
        self.store.drop('current')
        drawn = outcome.end_valid and (self.settings.draw_near_duplicates
                                       or not outcome.ends_at_peak)
        self.state.pending = {'peak': outcome.peak_label,
                              'end': outcome.end_label if drawn else None, 'roles': roles}
        if self._monitor:
            self._monitor.cycle(self.state.budget_step, self)
        self._durable('aggregate')

    def _finish(self):
        result = self.controller.result
        self._rewind()
        self.watch.lap()
        self._log('finished', reason=result.stop_reason, best=result.label, miou=result.miou,
                  propagations=result.propagations, seconds=self.watch.seconds)
        self._durable('finished')

    def _evaluate(self):
        """mIoU of the segmentor on the hold-out (line 9)."""
        with self.watch.time('hold-out evaluation'):
            return self._holdout_miou()
