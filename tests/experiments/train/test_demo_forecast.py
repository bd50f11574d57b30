"""What the demo's bar shows: how far a run is and what it has to go, by the times of its lines."""
import json
import types

import pytest

from tf_advseg.core import configuration
from tf_advseg.experiments.train import demo_forecast

PICTURES, STEPS, CYCLES, PATIENCE = 300, 750, 3, 20


@pytest.fixture
def demo_config():
    """The demo's whole configuration as text; gin is emptied afterwards."""
    from tf_advseg.experiments.train import training
    configuration.parse(['demo.gin'])
    yield configuration.config_text()
    configuration.parse([], [])


def story(epochs=(3, 2, 3)):
    """[(seconds since the line before, file, entry)] of a whole demo in the order of its lines."""
    found = [(1.0 + 20.0 * (step == 10), 'metrics.jsonl', {'event': 'stage', 'step': step})
             for step in range(10, STEPS + 1, 10)]
    found.append((1.0, 'journal.jsonl', {'event': 'start', 'cycle': 0}))
    slots = ['g0']
    for cycle in range(CYCLES + 1):
        found.append((3.0, 'journal.jsonl',
                      {'event': 'aggregate', 'cycle': cycle, 'slots': slots}))
        if cycle == CYCLES:
            break
        found += [(9.0, 'metrics.jsonl', {'event': 'discriminator', 'cycle': cycle})
                  for _ in range(epochs[cycle])]
        found.append((0.5, 'journal.jsonl', {'event': 'retrain', 'cycle': cycle}))
        found += [(0.3 + 12.0 * (cycle + i == 0), 'metrics.jsonl',
                   {'event': 'propagation', 'cycle': cycle}) for i in range(PATIENCE)]
        found.append((0.5, 'journal.jsonl', {'event': 'end', 'cycle': cycle}))
        slots = [f'g{cycle + 1}', f'e{cycle}']
    total = CYCLES * PATIENCE
    found.append((0.5, 'journal.jsonl', {'event': 'finished', 'propagations': total}))
    found += [(0.3 + 9.0 * (i == 0), 'control/metrics.jsonl', {'event': 'propagation', 'cycle': 0})
              for i in range(total)]
    return found


class Run:
    """A run directory whose lines are written by hand, `slowness` times as slowly as told."""

    def __init__(self, path, config, slowness=1.0):
        self.path, self.now, self._config, self._slowness = path, 0.0, config, slowness
        (path / 'control').mkdir(parents=True)
        self.start()

    def start(self):
        """A start of the demo, now."""
        self._overview = demo_forecast.Overview(self.path, self._config, PICTURES,
                                                clock=lambda: self.now)

    def wait(self, seconds):
        """Nothing is written meanwhile; returns the look afterwards."""
        self.now += self._slowness * seconds
        return self._overview.look()

    def write(self, lines):
        """The looks after each of the lines."""
        looks = []
        for seconds, name, entry in lines:
            self.now += self._slowness * seconds
            with open(self.path / name, 'a') as file:
                file.write(json.dumps({'time': self.now, **entry}) + '\n')
            looks.append(self._overview.look())
        return looks


def test_the_bar_only_goes_forward_and_names_what_is_done(tmp_path, demo_config):
    run = Run(tmp_path / 'run', demo_config)
    looks = [run.wait(0.0), *run.write(story())]
    fractions = [look.fraction for look in looks]
    assert fractions[0] == 0.0 and fractions == sorted(fractions) and 0.8 < fractions[-1] < 1.0
    texts = [look.text for look in looks]
    assert texts[0] == 'Stage 1, step 0/750' and texts[-1] == 'scores and report'
    for text in ('Stage 1, step 500/750', 'LoAd, cycle 1/3', 'LoAd, cycle 3/3', 'control, 30/60'):
        assert text in texts


def test_nothing_is_forecast_before_a_unit_is_measured(tmp_path, demo_config):
    run = Run(tmp_path / 'run', demo_config)
    assert run.wait(50.0).left is None
    first, second = run.write(story()[:2])
    assert first.left is None and second.left > 0


def test_a_slower_machine_is_told_as_much_more_at_every_look(tmp_path, demo_config):
    fast, slow = (Run(tmp_path / name, demo_config, slowness).write(story())
                  for name, slowness in (('fast', 1.0), ('slow', 7.0)))
    for a, b in zip(fast[1:], slow[1:]):
        assert b.left == pytest.approx(7.0 * a.left) and b.fraction == pytest.approx(a.fraction)
        assert a.text == b.text
    assert fast[1].left > 60


def test_what_was_not_seen_scales_with_what_was(tmp_path, demo_config):
    # Lines that cost just what the ratios say, at half a second a step.
    once, each = demo_forecast.RATIOS['step']
    steps = [(0.5 * (10 * each + once * (i == 1)), 'metrics.jsonl',
              {'event': 'stage', 'step': 10 * i}) for i in range(1, STEPS // 10 + 1)]
    looks = Run(tmp_path / 'run', demo_config).write(steps)
    sets, items = 1 + 2 * CYCLES, 3 * (2 + 3 + 4)
    units = {'map': sets * PICTURES, 'item': items * PICTURES, 'propagation': CYCLES * PATIENCE,
             'control': CYCLES * PATIENCE, 'scores': 1}
    rest = sum(0.5 * (demo_forecast.RATIOS[kind][0] + count * demo_forecast.RATIOS[kind][1])
               for kind, count in units.items())
    assert looks[-1].left == pytest.approx(rest)
    assert looks[49].left == pytest.approx(rest + (STEPS - 500) * 0.5)


def test_what_was_seen_counts_as_measured(tmp_path, demo_config):
    lines = story()
    begun = next(i for i, line in enumerate(lines) if line[1].startswith('control'))
    run = Run(tmp_path / 'run', demo_config)
    run.write(lines[:begun + 1])
    # Whatever the ratio says: from here a propagation of the control takes 40 s.
    slow = [(40.0, *line[1:]) for line in lines[begun + 1:]]
    looks = run.write(slow[:9])
    lefts = [look.left for look in looks]
    for after, before in zip(lefts[1:], lefts):
        assert before - after == pytest.approx(40.0, abs=5.0)  # the scores' guess moves a little
    assert lefts[-1] > 40.0 * (CYCLES * PATIENCE - 10)


def test_a_resumed_run_counts_from_where_it_was_and_measures_anew(tmp_path, demo_config):
    lines = story()
    half = next(i for i, line in enumerate(lines) if line[2].get('cycle') == 1)
    run = Run(tmp_path / 'run', demo_config, slowness=100.0)
    before = run.write(lines[:half])[-1]
    run.wait(1e4)
    run._slowness = 1.0
    run.start()
    begun = run.wait(0.0)
    assert begun.left is None and begun.text == before.text == 'LoAd, cycle 2/3'
    assert begun.fraction == pytest.approx(before.fraction, abs=0.15) and begun.fraction > 0.2
    looks = [begun, *run.write(lines[half:])]
    fractions = [look.fraction for look in looks]
    assert fractions == sorted(fractions) and fractions[-1] > 0.8
    told = [look.left for look in looks if look.left is not None]
    seconds = sum(line[0] for line in lines[half:])
    assert told and max(told) < 4.0 * seconds  # the slow start's lines would give a hundred times


def test_while_something_is_compiled_the_clock_goes_on(tmp_path, demo_config):
    run = Run(tmp_path / 'run', demo_config)
    before = run.write(story()[:STEPS // 10 + 1])[-1]
    assert before.text == 'LoAd, cycle 1/3'
    after = run.wait(2.0)
    assert before.left - after.left == pytest.approx(2.0)
    much_later, later_still = run.wait(1e4), run.wait(1e4)
    assert 0 < much_later.left == later_still.left  # late is late, and the rest is to come


def test_without_a_control_none_is_waited_for(tmp_path, demo_config):
    alone = demo_config + '\nexperiment.control = False\n'
    lines = [line for line in story() if not line[1].startswith('control')]
    looks = Run(tmp_path / 'run', alone).write(lines)
    assert looks[-1].text == 'scores and report'
    with_control = Run(tmp_path / 'both', demo_config).write(lines)
    assert looks[50].left < with_control[50].left


def test_settings_are_found_by_the_end_of_their_names():
    settings = types.MappingProxyType({'tf_advseg.x.stage_one.epochs': 3, 'seed': 1})
    assert demo_forecast.setting(settings, 'stage_one.epochs', 8) == 3
    assert demo_forecast.setting(settings, 'epochs', 8) == 3
    assert demo_forecast.setting(settings, 'one.epochs', 8) == 8
