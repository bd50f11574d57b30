"""What LoAd's controller keeps and says: its state, its outcomes, the names of models."""
import dataclasses

END_REASONS = ('lower_bound', 'patience', 'budget')
"""Why a cycle ends: line 7's two conditions, or the run's budget."""
STOP_REASONS = ('max_cycles', 'budget', 'max_total_cycles')
"""Why a run ends: line 3, or a cap."""


NEAR_PEAK = 3
"""Propagations from a cycle's peak within which its ending may be nearly the same model."""


def restored(kind, values):
    """A dataclass of plain values from what JSON has kept of it.

    Args:
      kind: a dataclass whose fields have defaults; a default of None takes any value.
      values: dict of the fields.

    Raises:
      TypeError: a value of another kind than its default, or a field that there is none of.
    """
    made, plain = kind(**values), kind()
    for field in dataclasses.fields(kind):
        value, default = getattr(made, field.name), getattr(plain, field.name)
        kinds = (int, float) if isinstance(default, float) else type(default)
        if default is not None and not (isinstance(value, kinds) and isinstance(
                value, bool) == isinstance(default, bool)):
            raise TypeError(f'{field.name} is {value!r}, expected as {default!r}')
    return made


def peak_label(peak_index):
    """The name of the i-th peak, 'g0' (the starting model), 'g1', ..."""
    return f'g{peak_index}'


def end_label(peak_index, cycle_index):
    """The name of g^e_{i,j}, the ending of the j-th cycle spawned from the i-th peak.

    'e01' for (0, 1) as in Fig. 1; 'e1_10' once an index has two digits, so that names never clash.
    """
    if peak_index < 10 and cycle_index < 10:
        return f'e{peak_index}{cycle_index}'
    return f'e{peak_index}_{cycle_index}'


@dataclasses.dataclass(frozen=True)
class Step:
    """What one propagation decided.

    Attributes:
      best: the model is the new best one: snapshot it as g* (line 13).
      start_moved: lines 16-17 fired, gamma and omega began anew.
      save_start: snapshot the model as g^s (line 17 with start_from='current'). No rewind ever
        goes there, see `Controller`; it may be kept for the record.
      end: None while the cycle goes on, else one of END_REASONS or what `request_stop` was given.
      propagation: how many propagations the run has spent, this one included.
      in_cycle: the same within the cycle.
      gamma: the divergence patience counter after line 23.
      omega: the peak finder counter after line 21.
    """
    best: bool
    start_moved: bool
    save_start: bool
    end: object
    propagation: int
    in_cycle: int
    gamma: int
    omega: int


@dataclasses.dataclass(frozen=True)
class CycleResult:
    """What one cycle left behind (lines 25-33); `peak_index` i and `cycle_index` j name it g_{i,j}.

    Attributes:
      peak_found: line 26 held.
      peak_label: the new peak's name 'g{i+1}', None where there is none: Algorithm 1's g^p.
      end_label: the ending's name, e.g. 'e01': Algorithm 1's g^e.
      end_valid: False if `fail_cycle` ended the cycle: there is no ending model to draw maps from.
      ends_at_peak: the cycle found a peak and ended within `NEAR_PEAK` propagations of it and at
        most beta_u below it: its ending is nearly the same model.
      rewind_to: 'best' (line 27: g^s <- g*; the new peak) or 'start' (g^s as it was). Between
        cycles g^s and g* are the same model, so both name the one to go on from.
      rewind_miou: the mIoU of that model: mu^s of the next cycle.
      start_miou: mu^0.
      end_miou: the last mIoU evaluated in the cycle (mu at its start, if nothing was evaluated).
      reason: one of END_REASONS, or what `fail_cycle` or `request_stop` was given.
      propagations: how many the cycle took; 0 only with reset_mu=False.
    """
    peak_index: int
    cycle_index: int
    peak_found: bool
    peak_label: object
    end_label: str
    end_valid: bool
    ends_at_peak: bool
    rewind_to: str
    rewind_miou: float
    start_miou: float
    end_miou: float
    reason: str
    propagations: int


@dataclasses.dataclass(frozen=True)
class RunResult:
    """The model a run returns: the best peak, or g_0 if none was found."""
    label: str
    miou: float
    start_miou: float
    highest_miou: float
    peaks: int
    cycles: int
    propagations: int
    stop_reason: object


@dataclasses.dataclass
class State:
    """The paper's variables; everything `state_dict` keeps."""
    phase: str = 'new'              # 'new', 'between' two cycles, 'cycle'
    mu: float = 0.0                 # mIoU last evaluated
    mu_start: float = 0.0           # mu^s
    mu_best: float = 0.0            # mu^*
    mu_zero: float = 0.0            # mu^0, the cycle's very first start
    mu_initial: float = 0.0         # mIoU of g_0
    highest: float = 0.0            # highest mIoU ever evaluated
    psi: int = 0
    gamma: int = 0
    omega: int = 0
    peak_index: int = 0
    cycles: int = 0
    propagations: int = 0
    cycle_propagations: int = 0
    best_at: int = 0                # cycle_propagations when mu^* was found
    failure: object = None
    stop_request: object = None
