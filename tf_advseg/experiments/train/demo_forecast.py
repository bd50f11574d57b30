"""How far a demo is, and how long it has to go, from the times of the lines that its run writes."""
import pathlib
import time
import typing

from tf_advseg.core import configuration
from tf_advseg.core import errors
from tf_advseg.core import journal as journals

# What the work of a demo costs beside a step of Stage 1: (once, when TensorFlow compiles it and
# data are opened; each unit). Found on one machine, and used only until this run has measured the
# unit: until LoAd has begun the time left is rough. The units are a step, a map drawn, an
# item that the discriminator trains on (a truth or a map), and a propagation of LoAd and of the
# control.
RATIOS = {'step': (100.0, 1.0), 'map': (35.0, 0.06), 'item': (35.0, 0.06),
          'propagation': (75.0, 3.4), 'control': (45.0, 3.4), 'scores': (50.0, 0.0)}
# The kind of work that follows an event of LoAd's journal.
_NEXT = {'start': 'map', 'end': 'map', 'peak': 'map', 'rewind': 'map', 'aggregate': 'item'}


def setting(settings, name, default):
    """The value of a gin binding in `configuration.bindings`, by its full name or the end of it."""
    return next((value for full, value in settings.items()
                 if full == name or full.endswith('.' + name)), default)


class Look(typing.NamedTuple):
    """What there is to show of a run.

    Attributes:
      fraction: of the work done, between 0 and 1; never less than the look before.
      left: seconds to go, or None until this start has measured a unit of work.
      text: what is being done.
    """
    fraction: float
    left: typing.Optional[float]
    text: str


class Pace:
    """What work takes in this start, by the times between the lines that tell of it.

    The first line of a kind closes what is done once (compiling) and measures no unit. What was not
    measured yet is `RATIOS` times `scale`, the seconds that all so far took for each of its ratios:
    so on a machine that is k times slower all is k times as long.

    Args:
      lines: [(time, kind, units)] in the order of time; a line tells of the work since the last.
      started: the time at which this start began; earlier lines are of other starts.
    """

    def __init__(self, lines, started):
        self.last = started  # the time of the last line
        self.seen = set()  # kinds whose once is behind us
        self._units, self._seconds = {}, {}
        ratios = 0.0
        for when, kind, units in lines:
            if when < started:
                continue
            took, self.last = when - self.last, when
            once, each = RATIOS[kind]
            ratios += units * each
            if kind in self.seen:
                self._units[kind] = self._units.get(kind, 0) + units
                self._seconds[kind] = self._seconds.get(kind, 0.0) + took
            else:
                ratios += once
                self.seen.add(kind)
        self.measured = any(self._units.values())
        self.scale = (self.last - started) / ratios if self.measured else 1.0

    def each(self, kind):
        """Seconds of a unit (its ratio, as long as nothing is measured)."""
        if self._units.get(kind):
            return self._seconds[kind] / self._units[kind]
        return RATIOS[kind][1] * self.scale

    def once(self, kind):
        """Seconds of what is done once."""
        return RATIOS[kind][0] * self.scale


class Overview:
    """How far a run directory is, read from its journals while it is written.

    Args:
      workdir: the run directory.
      config: its gin text.
      num_train: training images.
      clock: seconds, the one that journals write down.
    """

    def __init__(self, workdir, config, num_train, clock=time.time):
        self._path = pathlib.Path(workdir)
        self._clock = clock
        self._started = clock()
        self._furthest = 0.0
        settings = configuration.bindings(config)
        epochs = (setting(settings, 'stage_one.epochs', 8)
                  + setting(settings, 'stage_one.weighted_epochs', 4))
        self._steps = round(epochs * num_train / setting(settings, 'stage_one.batch_size', 7))
        self._pictures = num_train
        self._patience = setting(settings, 'controller.patience', 50)
        self._epochs = setting(settings, 'lookahead.max_epochs', 20)
        self._slots = setting(settings, 'map_buffer.capacity', 3)
        self._cycles = setting(settings, 'controller.max_total_cycles', 3) or 3
        self._control = setting(settings, 'experiment.control', True)

    def look(self):
        """A `Look` at the files as they are now."""
        metrics, control = self._read('metrics.jsonl'), self._read('control/metrics.jsonl')
        events = [e for e in self._read('journal.jsonl') if e.get('event') != 'resume']
        lines = self._lines(metrics, events, control)
        pace = Pace(lines, self._started)
        done = dict.fromkeys(RATIOS, 0)
        for _, kind, units in lines:
            done[kind] += units
        left, now, text = self._left(done, metrics, events)
        kinds = {kind for _, kind, _ in lines}  # of earlier starts too
        behind = sum(pace.each(kind) * done[kind] + pace.once(kind) for kind in kinds)
        ahead = sum(pace.each(kind) * units + pace.once(kind) * (kind not in pace.seen)
                    for kind, units in left.items() if units)
        self._furthest = max(self._furthest, behind / (behind + ahead))
        if not pace.measured:
            return Look(self._furthest, None, text)
        # Compiling writes no lines: there the clock alone goes on.
        silent = 0.0 if now in pace.seen else pace.once(now)
        return Look(self._furthest, max(0.0, ahead - min(silent, self._clock() - pace.last)), text)

    def _lines(self, metrics, events, control):
        """[(time, kind, units)] of all that was done, see `Pace`."""
        lines, step, slots = [], 0, set()
        for line in sorted(metrics + events, key=lambda line: line['time']):
            event = line['event']
            if event == 'stage':
                lines.append((line['time'], 'step', max(0, line['step'] - step)))
                step = max(step, line['step'])
            elif event == 'aggregate':
                new = set(line['slots']) - slots
                slots = set(line['slots'])
                lines.append((line['time'], 'map', len(new) * self._pictures))
            elif event == 'discriminator':
                lines.append((line['time'], 'item', (1 + len(slots)) * self._pictures))
            elif event == 'propagation':
                lines.append((line['time'], 'propagation', 1))
        lines += [(line['time'], 'control', 1) for line in control
                  if line['event'] == 'propagation']
        return sorted(lines)

    def _left(self, done, metrics, events):
        """({kind: units to go}, the kind under way, the text); of the scores 1 till the end."""
        left = {'step': max(0, self._steps - done['step']), 'scores': 1,
                'control': self._cycles * self._patience * bool(self._control)}
        last = events[-1]['event'] if events else None
        if last == 'finished':
            total = events[-1]['propagations'] * bool(self._control)
            spent = done['control']
            left.update(step=0, control=max(0, total - spent))
            if not left['control']:
                return left, 'scores', 'scores and report'
            return left, 'control', f'control, {spent}/{total}' if spent else 'control'
        cycle = min(sum(e['event'] == 'end' for e in events), self._cycles)
        aggregated = sum(e['event'] == 'aggregate' for e in events)
        # A model's maps at first, and those of the peak and of the end after every cycle.
        left['map'] = self._pictures * (2 * (self._cycles + 1 - aggregated) - (not aggregated))
        left['item'] = sum(self._items(c) for c in range(cycle + 1, self._cycles))
        left['propagation'] = self._patience * max(0, self._cycles - cycle - 1)
        if cycle < self._cycles:
            epochs, spent = (sum(m['event'] == event and m.get('cycle') == cycle for m in metrics)
                             for event in ('discriminator', 'propagation'))
            trained = any(e['event'] == 'retrain' and e['cycle'] == cycle for e in events)
            if not trained and not spent:
                left['item'] += self._items(cycle) * max(0, self._epochs - epochs) // self._epochs
            left['propagation'] += max(0, self._patience - spent)
        if not events:
            return left, 'step', f'Stage 1, step {min(done["step"], self._steps)}/{self._steps}'
        left['step'] = 0
        return left, _NEXT.get(last, 'propagation'), (
            f'LoAd, cycle {min(cycle + 1, self._cycles)}/{self._cycles}')

    def _items(self, cycle):
        """What the discriminator trains on in a cycle: the truth and a map set for every slot.

        The buffer grows by one slot a cycle at first.
        """
        return self._epochs * self._pictures * (1 + min(cycle + 1, self._slots))

    def _read(self, name):
        path = self._path / name
        try:
            return journals.Journal.read(path) if path.exists() else []
        except errors.UserError:  # cut back while we read: the next look will do
            return []
