"""LoAd's control flow (Algorithms 2 and 3) as a pure state machine: no tensors, no files.

Jamali-Rad and Szabo, "Lookahead Adversarial Learning for Near Real-Time Semantic Segmentation",
section 3 and supplement C. The controller is given mIoUs and says what to do; whoever drives it
trains, evaluates, snapshots and rewinds:

    controller.start(evaluate())                    # line 1; g_0 is snapshot as g^s and as g*
    while not controller.finished:                  # line 3
        controller.begin_cycle()                    # lines 4-6
        while controller.looking_ahead:             # line 7
            step = controller.propagated(propagate_and_evaluate())     # lines 8-23
            if step.best: ...                       # snapshot g*
        result = controller.end_cycle()             # lines 25-33
        # buffer.aggregate(result.peak_label, result.end_label), retrain (line 35), then rewind
"""
import dataclasses
import math

from tf_advseg.lookahead.outcomes import (NEAR_PEAK, CycleResult, RunResult, State, Step,
                                          end_label, peak_label, restored)

PEAK_COUNTINGS = ('printed', 'total', 'consecutive')
START_CHOICES = ('best', 'current')
MIOU_TOLERANCE = 1e-6
"""How far above 1 a mIoU may lie by rounding."""

AS_PRINTED = dict(reset_mu=False, start_from='current', peak_counting='printed', moving_floor=True)
"""Constructor arguments that undo every mend: Algorithm 3 to the letter, empty cycles included."""


class Controller:
    """Algorithm 3 line by line; Algorithm 2 with dynamic_peaks=False.

    mIoUs are fractions in [0, 1]. What the paper leaves open or breaks, and what is done here:

    * Line 7 sees the mIoU the *last* cycle ended with: after a cycle that ended at the lower bound
      the inner loop is false at once and cycles burn empty. `reset_mu=True` sets mu <- mu^s when a
      cycle begins (the rewind the prose asks for); False is as printed.
    * mu* and g* before the first peak are those of g_0 (line 1 says so for mu*).
    * Omega: line 15 tests omega > Omega before line 21 raises omega, and omega counts evaluations
      above mu^s + beta_u whether or not they follow each other; so Omega = 10 fires at the 12th,
      and then again after 11 more. That is `peak_counting='printed'`, the default, for it harms
      nothing. 'total' fires at the Omega-th such evaluation ("omega reaches Omega", the prose),
      'consecutive' at the Omega-th in a row.
    * Lines 16-17 make the *current* model the start, though it may lie below g*.
      `start_from='best'` (default) moves the start to g* instead: then only a rise above the best
      prolongs a cycle, and the lower bound is measured from the best. 'current' is as printed.
    * The lower bound of line 7 moves with mu^s: `moving_floor=True`, as printed. False measures
      it from mu^0 throughout the cycle.
    * After lines 18-19 come lines 21 and 23, so counters begin anew at 1 (as printed) and a cycle
      can take more than Gamma propagations. The run's cost is capped by `max_propagations` (which
      ends even a cycle under way and keeps its peak) and `max_total_cycles`.
    * psi begins anew with every peak. `max_cycles=None` lifts that limit, for a control run that
      a budget alone has to end.

    What holds for any sequence of mIoUs (tests/lookahead/test_controller_properties.py):

    * mu^s <= mu*: line 12 precedes line 16. Lines 16-17 run only where line 10 held, hence mu* >
      mu^0 and line 26 will hold: a start that was moved is always replaced by g* at the cycle's
      end. So every rewind goes to the best model there is, the start never gets worse, and between
      cycles mu^s = mu* and g^s = g*. The g^s of line 17 is never rewound to.
    * An evaluation line 10 rejects is <= mu^s + beta_u <= mu* + beta_u: the returned mIoU is >=
      the highest ever evaluated - beta_u, as printed and with every mend
      (up to the rounding of one floating-point sum).
    * With beta_u > 0 the run ends. Every move of the start and every peak found without one lifts
      mu^s by more than beta_u, and mIoU <= 1: K = floor((1 - mu^s at first) / beta_u) + 2 bounds
      peaks and moves together (2 for rounding). A peak costs at most Psi cycles, the end Psi more;
      a cycle takes at most Gamma propagations, and Gamma more for each move in it. So there are at
      most Gamma * (Psi * (K + 1) + K) propagations.

    Args:
      beta_u: smallest rise over mu^s that makes a peak. 0 gives up the bound.
      beta_l: fall below mu^s that ends a cycle.
      patience: Gamma, propagations without a move of the start after which a cycle ends.
      max_cycles: Psi, cycles without a peak after which the run ends; None for no limit.
      peak_patience: Omega; None for infinite (then Algorithms 2 and 3 agree).
      dynamic_peaks: False is Algorithm 2 (no lines 15-20).
      max_propagations: the run's budget; a failed propagation counts.
      max_total_cycles: the run's cap on cycles, whatever their peaks.

    Raises:
      ValueError: an argument out of range, or a set of caps under which the run might never end.
    """

    def __init__(self, beta_u=0.001, beta_l=0.05, patience=50, max_cycles=50, peak_patience=10,
                 dynamic_peaks=True, reset_mu=True, start_from='best', peak_counting='printed',
                 moving_floor=True, max_propagations=None, max_total_cycles=None):
        self.beta_u = float(beta_u)
        self.beta_l = float(beta_l)
        self.patience = patience
        self.max_cycles = max_cycles
        self.peak_patience = peak_patience
        self.dynamic_peaks = bool(dynamic_peaks)
        self.reset_mu = bool(reset_mu)
        self.start_from = start_from
        self.peak_counting = peak_counting
        self.moving_floor = bool(moving_floor)
        self.max_propagations = max_propagations
        self.max_total_cycles = max_total_cycles
        self._check_arguments()
        self._state = State()

    # -- the algorithm ------------------------------------------------------------------------

    def start(self, miou):
        """Line 1: mu^s, mu, mu* <- mIoU of g_0. The driver snapshots g_0 as g^s and as g*."""
        self._require(self._state.phase == 'new', 'start() comes once, first')
        miou = _checked_miou(miou)
        self._state = State(phase='between', mu=miou, mu_start=miou, mu_best=miou, mu_zero=miou,
                             mu_initial=miou, highest=miou)

    def begin_cycle(self):
        """Lines 4-6, after the driver has put the start model back in place."""
        state = self._state
        self._require(state.phase == 'between' and not self.finished,
                      'begin_cycle() comes after start() or end_cycle(), while not finished')
        state.phase = 'cycle'
        state.mu_zero = state.mu_start                          # line 4
        state.gamma = 0                                         # line 5
        state.omega = 0                                         # line 6
        state.cycle_propagations = 0
        state.failure = None
        if self.reset_mu:
            state.mu = state.mu_start                           # a mend: see the class docstring

    @property
    def looking_ahead(self):
        """Line 7 (and the caps): in a cycle that wants another propagation."""
        return self._state.phase == 'cycle' and self._end_reason() is None

    def propagated(self, miou):
        """Lines 9-23, after one propagation was made and evaluated on the hold-out.

        Args:
          miou: the model's mIoU on the hold-out, a fraction.
        Returns:
          a `Step`.
        Raises:
          ValueError: a mIoU that is NaN (every class absent) or outside [0, 1].
        """
        state = self._state
        self._require(self.looking_ahead, 'propagated() comes while looking_ahead')
        miou = _checked_miou(miou)
        state.propagations += 1
        state.cycle_propagations += 1
        state.highest = max(state.highest, miou)
        state.mu = miou                                         # line 9
        best = moved = False
        if state.mu > state.mu_start + self.beta_u:             # line 10
            if state.mu > state.mu_best:                        # line 11
                state.mu_best = state.mu                        # line 12
                state.best_at = state.cycle_propagations
                best = True                                     # line 13
            moved = self.dynamic_peaks and self._peak_patience_is_over()            # line 15
            if moved:
                state.mu_start = (state.mu_best if self.start_from == 'best'
                                  else state.mu)                # lines 16, 17
                state.omega = 0                                 # line 18
                state.gamma = 0                                 # line 19
            if not moved or self.peak_counting == 'printed':
                state.omega += 1                                # line 21
        elif self.peak_counting == 'consecutive':
            state.omega = 0
        state.gamma += 1                                        # line 23
        return Step(best=best, start_moved=moved,
                    save_start=moved and self.start_from == 'current',
                    end=self._end_reason(), propagation=state.propagations,
                    in_cycle=state.cycle_propagations, gamma=state.gamma, omega=state.omega)

    def end_cycle(self):
        """Lines 25-33, once `looking_ahead` is False.

        Returns:
          a `CycleResult`. If the run is then `finished`, line 35's training serves only a run
          that goes on later under a raised cap.
        """
        state = self._state
        self._require(state.phase == 'cycle' and not self.looking_ahead,
                      'end_cycle() comes in a cycle that is not looking_ahead')
        found = state.mu_best > state.mu_zero                   # line 26
        result = CycleResult(
            peak_index=state.peak_index, cycle_index=state.psi, peak_found=found,
            peak_label=peak_label(state.peak_index + 1) if found else None,
            end_label=end_label(state.peak_index, state.psi),   # line 25
            end_valid=state.failure is None,
            ends_at_peak=(found and state.cycle_propagations - state.best_at <= NEAR_PEAK
                          and state.mu_best - state.mu <= self.beta_u),
            rewind_to='best' if found else 'start',
            rewind_miou=state.mu_best if found else state.mu_start,
            start_miou=state.mu_zero, end_miou=state.mu, reason=self._end_reason(),
            propagations=state.cycle_propagations)
        if found:
            state.mu_start = state.mu_best                      # lines 27, 28
            state.psi = 0                                       # line 30
            state.peak_index += 1
        else:
            state.psi += 1                                      # line 33
        state.cycles += 1
        state.phase = 'between'
        state.failure = None
        return result

    # -- what the paper does not speak of -----------------------------------------------------

    def fail_cycle(self, reason='non_finite'):
        """Ends the cycle under way because its propagation failed (a loss that is not finite).

        The failed propagation counts in the budget; `end_cycle` then keeps a peak found before,
        else counts the cycle in psi, and says end_valid=False.
        """
        self._require(self.looking_ahead, 'fail_cycle() comes while looking_ahead')
        self._state.propagations += 1
        self._state.cycle_propagations += 1
        self._state.failure = str(reason)

    def request_stop(self, reason):
        """Ends the cycle under way and then the run, for a reason of the driver's ('hours')."""
        self._state.stop_request = str(reason)

    def clear_stop(self):
        """Takes `request_stop` back, e.g. when a run goes on under a raised cap."""
        self._state.stop_request = None

    @property
    def finished(self):
        """Whether the run has ended (line 3 or a cap), its last cycle's end_cycle() included."""
        return self.stop_reason is not None

    @property
    def stop_reason(self):
        """None while the run goes on, else one of STOP_REASONS or what `request_stop` was given.

        Told from the counters, so a run that a cap ended goes on when loaded under a higher one.
        """
        state = self._state
        if state.phase != 'between':
            return None
        if self.max_cycles is not None and state.psi >= self.max_cycles:            # line 3
            return 'max_cycles'
        if self.max_propagations is not None and state.propagations >= self.max_propagations:
            return 'budget'
        if self.max_total_cycles is not None and state.cycles >= self.max_total_cycles:
            return 'max_total_cycles'
        return state.stop_request

    @property
    def result(self):
        """The `RunResult` so far; a peak of the cycle under way is counted in."""
        state = self._state
        self._require(state.phase != 'new', 'result needs start()')
        pending = state.phase == 'cycle' and state.mu_best > state.mu_zero
        peaks = state.peak_index + int(pending)
        return RunResult(label=peak_label(peaks), miou=state.mu_best, start_miou=state.mu_initial,
                         highest_miou=state.highest, peaks=peaks, cycles=state.cycles,
                         propagations=state.propagations, stop_reason=self.stop_reason)

    # -- what the driver may show or name -----------------------------------------------------

    @property
    def in_cycle(self):
        """Whether a cycle is under way: begun, and end_cycle() not yet called."""
        return self._state.phase == 'cycle'

    @property
    def peak_index(self):
        """i: how many peaks have been set as start so far (0 = g_0)."""
        return self._state.peak_index

    @property
    def cycle_index(self):
        """j: the number, within its peak, of the cycle under way or, between two, of the next."""
        return self._state.psi

    @property
    def cycles(self):
        """How many cycles have ended."""
        return self._state.cycles

    @property
    def propagations(self):
        """How many propagations the run has spent; rewinds do not take any back."""
        return self._state.propagations

    @property
    def start_miou(self):
        """mu^s."""
        return self._state.mu_start

    @property
    def lower_bound(self):
        """The mIoU at or below which the cycle ends: mu^s - beta_l."""
        state = self._state
        return (state.mu_start if self.moving_floor else state.mu_zero) - self.beta_l

    def state_dict(self):
        """The whole state as JSON-able values; floats are exact through json.dumps/loads."""
        return dict(version=1, **dataclasses.asdict(self._state))

    def load_state_dict(self, state):
        """Takes over what `state_dict` gave. The constructor's arguments are not part of it.

        Raises:
          ValueError, TypeError: not a controller's state.
        """
        state = dict(state)
        names = {field.name for field in dataclasses.fields(State)}
        if state.pop('version', None) != 1 or set(state) != names:
            raise ValueError(f'not the state of a LoAd controller of version 1: {sorted(state)}')
        if state['phase'] not in ('new', 'between', 'cycle'):
            raise ValueError(f"a LoAd controller has no phase {state['phase']!r}")
        self._state = restored(State, state)

    # -- within -------------------------------------------------------------------------------

    def _peak_patience_is_over(self):
        """Line 15, in the chosen way of counting; line 21's raise comes after it."""
        if self.peak_patience is None:
            return False
        if self.peak_counting == 'printed':
            return self._state.omega > self.peak_patience
        return self._state.omega + 1 >= self.peak_patience

    def _end_reason(self):
        """Why the cycle under way has to end, None if it goes on (line 7, failures and caps)."""
        state = self._state
        if state.failure is not None:
            return state.failure
        if not self.lower_bound < state.mu:
            return 'lower_bound'
        if not state.gamma < self.patience:
            return 'patience'
        if self.max_propagations is not None and state.propagations >= self.max_propagations:
            return 'budget'
        return state.stop_request

    @staticmethod
    def _require(condition, message):
        if not condition:
            raise RuntimeError(f'LoAd controller called out of order: {message}')

    def _check_arguments(self):
        if not (math.isfinite(self.beta_u) and self.beta_u >= 0):
            raise ValueError(f'beta_u must be >= 0, got {self.beta_u}')
        if not (math.isfinite(self.beta_l) and self.beta_l >= 1e-6):
            raise ValueError(f'beta_l must be at least 1e-6, got {self.beta_l}: with less, line 7 '
                             'is false before the first propagation')
        least_omega = 0 if self.peak_counting == 'printed' else 1
        for name, least, optional in (
                ('patience', 1, False), ('max_cycles', 1, True),
                ('peak_patience', least_omega, True), ('max_propagations', 0, True),
                ('max_total_cycles', 0, True)):
            value = getattr(self, name)
            if value is None and optional:
                continue
            if isinstance(value, bool) or value is None or value != int(value) or value < least:
                raise ValueError(f'{name} must be a whole number >= {least}'
                                 f'{" or None" if optional else ""}, got {value!r}')
            setattr(self, name, int(value))
        for name, choices in (('start_from', START_CHOICES), ('peak_counting', PEAK_COUNTINGS)):
            if getattr(self, name) not in choices:
                raise ValueError(f'{name} must be one of {choices}, got {getattr(self, name)!r}')
        if self.max_cycles is None and self.max_total_cycles is None:
            if self.max_propagations is None:
                raise ValueError('max_cycles=None needs max_propagations or max_total_cycles: '
                                 'nothing else would end the run')
            if not self.reset_mu:
                raise ValueError('max_cycles=None with reset_mu=False needs max_total_cycles: '
                                 'empty cycles spend no propagations')


def _checked_miou(miou):
    """The mIoU as a float; ValueError if it is NaN or no fraction."""
    miou = float(miou)
    if math.isnan(miou):
        raise ValueError('the mIoU is NaN: no class occurs in the hold-out or its predictions')
    if not 0.0 <= miou <= 1.0 + MIOU_TOLERANCE:
        raise ValueError(f'a mIoU is a fraction between 0 and 1, got {miou}')
    return miou
