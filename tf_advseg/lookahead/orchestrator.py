"""LoAd's main loop (Algorithm 3 around Algorithm 1): phases, durable states, rewinds.

The orchestrator computes no gradient: the steps are methods/load.py's, the decisions the
controller's, the maps the buffer's. It is a machine of phases

    start -> aggregate -> retrain -> begin -> cycle -> end -> aggregate -> ... -> finished

whose whole state is in state.json and in the folders that it names. State is written at every
change of phase, after every epoch of the discriminator and every few propagations. A process
killed anywhere goes on from the last state on disk and, since every draw is seeded by
`budget_step`, does again exactly what was lost.
"""
import dataclasses
import pathlib

from tf_advseg.core import files
from tf_advseg.core import progress
from tf_advseg.data import records as record_sets
from tf_advseg.evaluation import metrics as figures
from tf_advseg.lookahead import discriminator_training
from tf_advseg.lookahead import settings as settings_lib
from tf_advseg.lookahead import stopwatch
from tf_advseg.training import health
from tf_advseg.training import loop
from tf_advseg.training import strategy as strategies

STATE = 'state.json'
VERSION = 1


@dataclasses.dataclass
class Progress:
    """What the run itself remembers between two durable states (JSON-able)."""
    phase: str = 'start'
    budget_step: int = 0
    epochs: int = 0
    retrains: int = 0
    adversarial_weight: float = 0.0
    pending: dict = dataclasses.field(default_factory=dict)
    retraining: dict = dataclasses.field(default_factory=dict)
    non_finite: int = 0


class LookAhead:
    """Runs LoAd, or its control, to the end.

    Args:
      method: methods.load.LoAd; without a discriminator it is the control: the same controller and
        peak picking on CE alone, with no maps.
      data: `LookaheadData`: the batches, the hold-out, the pictures.
      controller: lookahead.controller.Controller.
      buffer: lookahead.map_buffer.MapBuffer; None for the control.
      store: lookahead.snapshots.SnapshotStore.
      settings: LookaheadSettings.
      evaluator: evaluation.evaluator.Evaluator on the hold-out.
      folder: where state.json lives.
      journal, metrics: core.journal.Journal.
      streams: core.random_streams.RandomStreams.
      strategy: tf.distribute.Strategy.
      monitor: object with `scalars(step, dict)` and `cycle(step, lookahead)`, or None.
    """

    def __init__(self, method, data, controller, buffer, store, settings, evaluator, folder,
                 journal, metrics, streams, strategy, monitor=None):
        self.method = method
        self.data = data
        self.controller = controller
        self.buffer = buffer
        self.store = store
        self.settings = settings
        self.folder = pathlib.Path(folder)
        self.progress = Progress()
        self.watch = stopwatch.Stopwatch()
        self._evaluator = evaluator
        self._journal = journal
        self._metrics = metrics
        self._streams = streams
        self._strategy = strategy
        self._chief = strategies.is_chief(strategy)
        self._monitor = monitor
        self._stepper = loop.Stepper(method, strategy)
        self._guard = health.NonFiniteGuard(settings.non_finite_limit)
        self._batches = None
        self._bar = None
        self._fresh_optimizer = [v.numpy() for v in method.optimizer.variables]
        self._trainer = None
        if self.adversarial:
            self._trainer = discriminator_training.DiscriminatorTrainer(
                method, self._stepper, data.discriminator_data(buffer), store, settings, streams,
                metrics)

    @property
    def adversarial(self):
        """False for the control."""
        return self.method.discriminator is not None

    def run(self):
        """Runs, or goes on, to the end.

        Returns:
          controller.RunResult. The store's role 'start' then holds the model to keep.

        Raises:
          UserError: a full disk, a damaged slot or snapshot, losses that stay non-finite.
        """
        self._resume()
        if self.progress.phase == 'finished' and not self.controller.finished and not self._late():
            self._go_on()  # a cap was raised
        bound = self.controller.max_propagations or self.controller.patience * (
            self.controller.max_total_cycles or self.controller.max_cycles)
        name = 'LoAd' if self.adversarial else 'control'
        with progress.Progress(bound, f'{name}: propagations (at most)') as self._bar:
            self._bar.update(self.controller.propagations)
            with record_sets.data_errors():
                while self.progress.phase != 'finished':
                    getattr(self, f'_phase_{self.progress.phase}')()
        return self.controller.result

    def _late(self):
        """Whether the cap in hours is reached."""
        hours = self.settings.max_hours
        return hours is not None and self.watch.total() > 3600 * hours

    # --- durable states -------------------------------------------------------------------

    def _durable(self, phase=None):
        """Writes the state down; from here a killed process would go on."""
        if phase is not None:
            self.progress.phase = phase
        self.progress.non_finite = self._guard.count
        self.watch.lap()
        strategies.barrier(self._strategy)
        if self._chief:
            files.write_json(self.folder / STATE, {
                'version': VERSION, 'progress': dataclasses.asdict(self.progress),
                'controller': self.controller.state_dict(), 'snapshots': self.store.state_dict(),
                'buffer': self.buffer.to_state() if self.buffer is not None else None,
                'journal': self._journal.position(), 'metrics': self._metrics.position(),
                'seconds': self.watch.seconds})
            self.store.collect_garbage()
            if self.buffer is not None:
                self.buffer.collect_garbage()
        strategies.barrier(self._strategy)

    def _resume(self):
        """Goes back to the last durable state, if there is one."""
        if not (self.folder / STATE).exists():
            self.watch = stopwatch.Stopwatch()
            return
        state = files.read_json(self.folder / STATE)
        self.progress = Progress(**state['progress'])
        self.controller.load_state_dict(state['controller'])
        self.controller.clear_stop()  # the cap in hours may have been raised
        self.store.load_state_dict(state['snapshots'])
        self._guard.count = self.progress.non_finite
        if self.buffer is not None:
            self.buffer.from_state(state['buffer'])
        if self._chief:
            self._journal.cut_back(state['journal'])
            self._metrics.cut_back(state['metrics'])
            self._journal.append('resume', budget_step=self.progress.budget_step,
                                 phase=self.progress.phase)
            self.store.collect_garbage()
            if self.buffer is not None:
                self.buffer.collect_garbage()
        self.watch = stopwatch.Stopwatch(state['seconds'])
        if 'disc' in self.store.roles and self.adversarial:
            self.store.restore('disc', self.method.discriminator,
                               self.method.discriminator_optimizer)
        role = 'current' if self.progress.phase == 'cycle' else 'start'
        if role in self.store.roles:
            self.store.restore(role, self.method.segmentor, self.method.optimizer)

    def _log(self, event, **fields):
        self._journal.append(event, budget_step=self.progress.budget_step,
                             cycle=self.controller.cycles, **fields)

    # --- the phases -----------------------------------------------------------------------

    def _phase_start(self):
        """Line 1: evaluates g_0 and keeps it."""
        miou = self._evaluate()
        self.controller.start(miou)
        self.store.save('g0', self.method.segmentor, self.method.optimizer)
        self.store.alias('start', 'g0')
        self._log('start', miou=miou, label='g0')
        self.progress.pending = {'peak': 'g0', 'end': None, 'roles': {'g0': 'g0'}}
        self._durable('aggregate')

    def _phase_aggregate(self):
        """Algorithm 1 on the models the last cycle left (B = g_0(X) at first)."""
        pending = self.progress.pending
        if self.adversarial:
            with self.watch.time('map generation'):
                for entry in self.buffer.plan(pending['peak'], pending['end']).added:
                    self._write_slot(entry.label, pending['roles'][entry.label])
                self.buffer.aggregate(pending['peak'], pending['end'])
            self._log('aggregate', slots=list(self.buffer.labels), bytes=self.buffer.bytes())
            if self._monitor:
                self._monitor.scalars(self.progress.budget_step,
                                      {'buffer/slots': len(self.buffer),
                                       'buffer/bytes': self.buffer.bytes()})
        self.progress.pending = {}
        if self.controller.finished:
            self._durable('begin')  # line 35 would train a discriminator that no cycle will use
        else:
            self._go_on()

    def _go_on(self):
        """To the next cycle, by way of line 35 where there is a discriminator."""
        if not self.adversarial:
            self._durable('begin')
            return
        self.progress.retraining = self._trainer.begin(self.progress.retrains)
        self.store.save('disc', self.method.discriminator, self.method.discriminator_optimizer)
        self._durable('retrain')

    def _write_slot(self, label, role):
        """One worker draws and writes a model's maps; the others read what it wrote."""
        if self._chief:
            self.store.restore(role, self.method.segmentor)
            ids = self.data.map_ids(self.progress.budget_step, label)
            self.buffer.write_slot(
                label, self.data.generate_maps(self._stepper, self.method, ids),
                num_maps=sum(len(part) for part in ids.values()),
                num_classes=self.method.segmentor.num_classes,
                stride=self.method.segmentor.logits_stride)
        strategies.barrier(self._strategy)
        if not self._chief:
            self.buffer.adopt_slot(label)

    def _phase_retrain(self):
        """Lines 2 and 35: the discriminator on D_t and B, one durable epoch after another."""
        while True:
            with self.watch.time('discriminator training'):
                last = self._trainer.epoch(self.progress.retraining, self.progress.epochs,
                                           self.controller.cycles)
            self.progress.epochs += 1
            if last:
                break
            self._durable()
        outcome = self._trainer.finish(self.progress.retraining)
        self.progress.retrains += 1
        self._log('retrain', **outcome)
        if self._monitor:
            self._monitor.scalars(self.progress.budget_step, {
                k: v for k, v in outcome.items() if k.startswith('disc/')})
        self.store.drop('disc_best')
        self._durable('begin')

    def _phase_begin(self):
        """Rewinds to g^s and begins a cycle (lines 3-6), or ends the run."""
        if self.controller.finished:
            self._finish()
            return
        self._rewind()
        self.controller.begin_cycle()
        self._choose_weight()
        self.store.save('current', self.method.segmentor, self.method.optimizer)
        self._durable('cycle')

    def _rewind(self):
        """Puts g^s back; the optimizer goes back with it, is emptied, or goes on."""
        fate = self.settings.optimizer_at_rewind
        if fate == 'restore':
            self.store.restore('start', self.method.segmentor, self.method.optimizer)
            return
        self.store.restore('start', self.method.segmentor)
        if fate == 'reset':
            discriminator_training.assign(self.method.optimizer.variables, self._fresh_optimizer)
        elif 'end' in self.store.roles:
            self.store.restore_optimizer('end', self.method.optimizer)

    def _choose_weight(self):
        """lambda for this cycle: fixed, or balanced over the first batches the cycle will see."""
        weight = self.settings.adversarial_weight
        if not self.adversarial:
            self.progress.adversarial_weight = 0.0
            return
        if weight != settings_lib.BALANCED:
            self.progress.adversarial_weight = float(weight)
            return
        with self.watch.time('balancing'):
            sums = {'grad/ce': 0.0, 'grad/adv': 0.0}
            step = self.progress.budget_step
            for offset, batch in enumerate(self.data.local_batches(
                    step, self.settings.balance_batches)):
                norms = self._stepper(self.method.gradient_balance, batch,
                                      self._streams.seed('dropout', step + offset))
                for name in sums:
                    sums[name] += norms[name]
        ratio = sums['grad/ce'] / max(sums['grad/adv'], 1e-12)
        self.progress.adversarial_weight = self.settings.balance * ratio
        self._log('balance', adversarial_weight=self.progress.adversarial_weight,
                  **{'grad_ratio/adv_ce': 1.0 / max(ratio, 1e-12)})

    def _phase_cycle(self):
        """Lines 7-24: looks ahead until the controller says that the cycle is over."""
        while self.controller.looking_ahead:
            scalars = self._propagate()
            if not health.is_finite(scalars):
                self._fail(scalars)
                break
            miou = self._evaluate()
            decision = self.controller.propagated(miou)
            self._metrics.append('propagation', budget_step=self.progress.budget_step,
                                 cycle=self.controller.cycles, miou=miou, **scalars)
            if self._monitor:
                self._monitor.scalars(self.progress.budget_step, {'hold_out/miou': miou, **scalars})
            self._bar.update(1, miou=f'{miou:.4f}', cycle=self.controller.cycles)
            if decision.best:
                self.store.save('best', self.method.segmentor, self.method.optimizer)
            if self._late():
                self.controller.request_stop('hours')
            if self.controller.looking_ahead and (
                    self.controller.propagations % self.settings.durable_every == 0):
                self.store.save('current', self.method.segmentor, self.method.optimizer)
                self._durable()
        self.store.save('end', self.method.segmentor, self.method.optimizer)
        self._durable('end')

    def _propagate(self):
        """One propagation (line 8): its mini-batches' mean scalars."""
        steps = self.settings.steps_per_propagation(len(self.data.train_ids))
        self._diagnose()
        if self._batches is None:
            self._batches = iter(loop.distribute(
                self.data.batches(self.progress.budget_step), self._strategy))
        phase = 'segmentor' if self.adversarial else 'cross_entropy'
        totals = {}
        with self.watch.time('generator step'):
            for _ in range(steps):
                step = self.progress.budget_step
                scalars = self._stepper(phase, next(self._batches),
                                        self._streams.seed('dropout', step),
                                        adversarial_weight=self.progress.adversarial_weight)
                self.progress.budget_step += 1
                for name, value in scalars.items():
                    totals[name] = totals.get(name, 0.0) + value / steps
        return totals

    def _diagnose(self):
        """Logs the two gradients' ratio and cosine on a batch of the diagnostics' own stream."""
        every = self.settings.diagnostics_every
        if not (self.adversarial and every and self.controller.propagations % every == 0):
            return
        step = self.progress.budget_step
        with self.watch.time('diagnostics'):
            batch = self.data.diagnostics_batch(step)
            scalars = self._stepper(self.method.gradient_balance, batch,
                                    self._streams.seed('diagnostics', step))
        scalars['adversarial_weight'] = self.progress.adversarial_weight
        self._metrics.append('diagnostics', budget_step=step, **scalars)
        if self._monitor:
            self._monitor.scalars(step, scalars)

    def _fail(self, scalars):
        """A loss that is no number: the cycle ends, its ending is not drawn from, g^s returns."""
        self._log('nonfinite', **{k: str(v) for k, v in scalars.items()})
        self._guard.record(f'cycle {self.controller.cycles}, budget step '
                           f'{self.progress.budget_step}', scalars)
        self.controller.fail_cycle()

    def _phase_end(self):
        """Lines 25-33: closes the cycle and says which maps are to be drawn."""
        outcome = self.controller.end_cycle()
        roles = {outcome.end_label: 'end'}
        self._journal.append('end', budget_step=self.progress.budget_step,
                             cycle=self.controller.cycles - 1, label=outcome.end_label,
                             miou=outcome.end_miou, reason=outcome.reason)
        if outcome.peak_found:
            self.store.alias('start', 'best')
            roles[outcome.peak_label] = 'start'
            self._journal.append('peak', budget_step=self.progress.budget_step,
                                 cycle=self.controller.cycles - 1, label=outcome.peak_label,
                                 miou=outcome.rewind_miou)
        self._journal.append('rewind', budget_step=self.progress.budget_step,
                             cycle=self.controller.cycles - 1, to=f'g{self.controller.peak_index}',
                             miou=outcome.rewind_miou)
        self.store.drop('current')
        self.progress.pending = {'peak': outcome.peak_label,
                                 'end': outcome.end_label if outcome.end_valid else None,
                                 'roles': roles}
        if self._monitor:
            self._monitor.cycle(self.progress.budget_step, self)
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
            return float(figures.mean_iou(self._evaluator.run()))
