"""The table of what a training step costs."""
from tf_advseg.experiments import step_benchmark
from tf_advseg.reporting import tables


def test_every_setting_has_a_row_from_processes_of_its_own():
    table = step_benchmark.measure(processes=1, steps=1, crop=33, kinds=step_benchmark.KINDS[:1])
    lines = tables.to_text(table).splitlines()
    rows = [line.split() for line in lines if line.startswith('cross-entropy')]
    assert [row[1:3] for row in rows] == [['on', 'on'], ['on', 'off'], ['off', 'on'],
                                          ['off', 'off']]
    assert all(float(value) > 0 for row in rows for value in row[3:])
    assert any('medians of 1 processes' in line for line in lines)
