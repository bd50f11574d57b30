"""The table of what a training step costs."""
import pytest

from tf_advseg.core.errors import UserError
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


def test_kinds_are_chosen_by_name():
    assert step_benchmark.chosen() == step_benchmark.KINDS
    assert [kind.phase for kind in step_benchmark.chosen(['LoAd, discriminator'])] == ['adversary']
    with pytest.raises(UserError, match='cross-entropy'):
        step_benchmark.chosen(['cross-entrop'])
