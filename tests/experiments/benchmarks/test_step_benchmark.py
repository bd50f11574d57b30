"""The table of what a training step costs."""
import pytest

from tf_advseg.core.errors import UserError
from tf_advseg.experiments.benchmarks import step_benchmark
from tf_advseg.reporting import tables


@pytest.mark.slow  # a network of full width
def test_a_process_of_a_setting_tells_the_seconds_of_both_loops():
    kind = step_benchmark.KINDS[0]
    found = step_benchmark._in_child(True, True, 1, 33, [kind])
    assert found.keys() == {(kind.name, step_benchmark.EACH), (kind.name, step_benchmark.LOGGED)}
    assert min(found.values()) > 0


def test_the_rows_are_medians_an_image(monkeypatch):
    kind, asked = step_benchmark.KINDS[0], []

    def in_child(onednn, deterministic, steps, crop, kinds):
        asked.append((onednn, deterministic))
        seconds = (1.0 if onednn else 2.0) + 0.1 * len(asked)
        return {(kind.name, step_benchmark.EACH): seconds,
                (kind.name, step_benchmark.LOGGED): seconds / 2}
    monkeypatch.setattr(step_benchmark, '_in_child', in_child)
    lines = tables.to_text(step_benchmark.measure(processes=3, kinds=[kind])).splitlines()
    rows = [line.split() for line in lines if line.startswith(kind.name)]
    assert asked == asked[:4] * 3  # in turns, so that a slow minute slows all of them
    # Of the first setting's 1.1, 1.5 and 1.9 seconds for five images, in ms.
    assert rows[0][-3:] == ['300.0', '150.0', '0.500'] and float(rows[2][3]) > 400


@pytest.mark.slow
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
    assert [kind.phase for kind in step_benchmark.chosen(['LoAd, discriminator'])] == [
        'discriminator']
    with pytest.raises(UserError, match='cross-entropy'):
        step_benchmark.chosen(['cross-entrop'])
