"""What grows while a run goes on."""
import os
import sys
import time

import pytest

from tf_advseg.core.errors import UserError
from tf_advseg.experiments.benchmarks import growth
from tf_advseg.reporting import curves
from tf_advseg.reporting import tables

# A stand-in for a run: a line of a journal a step, and 60 MiB more from step 20 on. It takes a step
# only when one is asked for, so that between two steps somebody looks, however slow the machine.
RUN = """
import pathlib, sys, time
folder = pathlib.Path(sys.argv[1])
folder.mkdir()
held = []
for step in range(int(sys.argv[3])):
    while not (folder / f"step{step}").exists():
        time.sleep(0.001)
    if step == 20:
        held.append(b"x" * 60 * 2 ** 20)
    with open(folder / "metrics.jsonl", "a") as file:
        file.write("x" * 999 + chr(10))
sys.exit(int(sys.argv[2]))
"""


def test_a_run_is_looked_at_to_its_end(tmp_path, monkeypatch):
    folder, slept = tmp_path / 'run', time.sleep

    def ask_for_a_step(seconds):
        path = folder / 'metrics.jsonl'
        if folder.exists():
            (folder / f'step{path.stat().st_size // 1000 if path.exists() else 0}').touch()
        slept(seconds)
    monkeypatch.setattr(growth.time, 'sleep', ask_for_a_step)
    samples = growth.watch([sys.executable, '-c', RUN, str(folder), '0', '40'], folder, every=0.01)
    times = [sample.seconds for sample in samples]
    assert times == sorted(times) and len(samples) >= 20
    lines = [sample.disk.get('metrics.jsonl', 0.0) for sample in samples]
    assert lines == sorted(lines) and lines[-1] >= 38
    assert max(b - a for a, b in zip(lines, lines[1:])) <= 2  # one step asked for, one under way
    before, after = (max(sample.memory for sample, count in zip(samples, lines) if wanted(count))
                     for wanted in (lambda count: count < 15, lambda count: count > 25))
    assert after - before > 50


def test_a_run_that_fails_is_one_line(tmp_path):
    with pytest.raises(UserError, match='exit code 3; .*run.log has what it said'):
        growth.watch([sys.executable, '-c', RUN, str(tmp_path / 'run'), '3', '0'], tmp_path / 'run',
                     every=0.05)


def test_the_table_says_what_grew_since_half_of_the_time():
    samples = [growth.Sample(second, 100.0 + (50.0 if second > 75 else 0.0),
                             {'metrics.jsonl': float(second), 'control': 7.0})
               for second in range(1, 101)]
    text = tables.to_text(growth.table(samples))
    rows = {line.split(',')[0]: line.split() for line in text.splitlines() if ',' in line}
    assert rows['memory'][-2:] == ['1.500', '150'] and rows['control'][-2:] == ['1.000', '7']
    assert float(rows['metrics.jsonl'][-2]) == pytest.approx(2.0, abs=0.1)
    assert curves.encode(growth.chart(samples)).startswith(b'\x89PNG')


def test_the_start_and_the_report_are_no_part_of_the_growth():
    # Memory doubles before the first step and after the last one; between them it is flat.
    samples = [growth.Sample(float(second), 200.0 if 30 <= second <= 70 else 100.0 * (
        1 if second < 30 else 4), {'metrics.jsonl': float(min(max(second - 30, 0), 40))})
        for second in range(100)]
    steps = growth.training(samples)
    assert (steps[0].seconds, steps[-1].seconds) == (31.0, 70.0)
    text = tables.to_text(growth.table(samples))
    memory = next(line.split() for line in text.splitlines() if line.startswith('memory'))
    assert memory[-2:] == ['1.000', '400'] and memory[2:7] == ['200'] * 5


def test_memory_of_this_process_and_of_none():
    assert 10 < growth.resident(os.getpid()) < 50000
    assert growth.resident(2 ** 31 - 1) is None
