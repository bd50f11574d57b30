"""What grows while a run goes on."""
import os
import sys

import pytest

from tf_advseg.core.errors import UserError
from tf_advseg.experiments.benchmarks import growth
from tf_advseg.reporting import curves
from tf_advseg.reporting import tables

# A stand-in for a run: writes a line of a journal, and holds 60 MiB more for its second half.
RUN = """
import pathlib, sys, time
folder = pathlib.Path(sys.argv[1])
folder.mkdir()
held = []
for step in range(40):
    with open(folder / "metrics.jsonl", "a") as file:
        file.write("x" * 999 + chr(10))
    if step == 20:
        held.append(bytearray(60 * 2 ** 20))
    time.sleep(0.05)
sys.exit(int(sys.argv[2]))
"""


def test_a_run_is_looked_at_to_its_end(tmp_path):
    samples = growth.watch([sys.executable, '-c', RUN, str(tmp_path / 'run'), '0'],
                           tmp_path / 'run', every=0.02)
    times = [sample.seconds for sample in samples]
    assert times == sorted(times) and len(samples) > len(growth.SHARES)
    first, last = (growth.at_shares(samples, lambda sample: sample.memory)[i] for i in (1, -1))
    assert last - first > 50
    lines = growth.at_shares(samples, lambda sample: sample.disk.get('metrics.jsonl', 0.0))
    assert lines == sorted(lines) and lines[0] < lines[-1] <= 40


def test_a_run_that_fails_is_one_line(tmp_path):
    with pytest.raises(UserError, match='exit code 3; .*run.log has what it said'):
        growth.watch([sys.executable, '-c', RUN, str(tmp_path / 'run'), '3'], tmp_path / 'run',
                     every=0.05)


def test_the_table_says_what_grew_since_half_of_the_time():
    samples = [growth.Sample(second, 100.0 + (50.0 if second > 75 else 0.0),
                             {'metrics.jsonl': float(second), 'control': 7.0})
               for second in range(1, 101)]
    text = tables.to_text(growth.table(samples))
    rows = {line.split(',')[0]: line.split() for line in text.splitlines() if ',' in line}
    assert rows['memory'][-1] == '1.500' and rows['control'][-1] == '1.000'
    assert float(rows['metrics.jsonl'][-1]) == pytest.approx(2.0, abs=0.06)
    assert curves.encode(growth.chart(samples)).startswith(b'\x89PNG')


def test_memory_of_this_process_and_of_none():
    assert 10 < growth.resident(os.getpid()) < 50000
    assert growth.resident(2 ** 31 - 1) is None
