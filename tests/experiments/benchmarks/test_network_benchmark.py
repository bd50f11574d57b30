"""The table of what networks cost."""
import json
import subprocess
import types

import pytest

from tf_advseg.core.errors import UserError
from tf_advseg.experiments.benchmarks import network_benchmark
from tf_advseg.reporting import tables
from tf_advseg.run import networks

SMALLEST = 'MobileNetV2 of depth 0.5, stride 16'


def test_every_network_of_the_table_can_be_built():
    for builder, given in network_benchmark.NETWORKS.values():
        assert set(given) <= set(networks.describe(builder)['arguments'])


def test_a_row_has_what_its_process_says(monkeypatch):
    def run(command, **_):
        assert SMALLEST in command[2] and "'mixed_bfloat16', 65, 2, 5" in command[2]
        said = json.dumps({'parameters': 2500000, 'trained': 4.0, 'evaluated': 12.5,
                           'megabytes': 800.4})
        return types.SimpleNamespace(returncode=0, stdout=f'noise\n{said}\n', stderr='')
    monkeypatch.setattr(subprocess, 'run', run)
    text = tables.to_text(network_benchmark.measure([SMALLEST], ['mixed_bfloat16'], 65, 2, 5))
    row = next(line for line in text.splitlines() if line.startswith(SMALLEST))
    assert row.split()[-5:] == ['mixed_bfloat16', '2.50', '4.00', '12.50', '800']


@pytest.mark.parametrize('code, said, message', [
    (1, 'first\nOOM', 'failed .OOM.'), (-9, '', 'killed by signal 9, for want of memory')])
def test_a_process_that_fails_is_one_line(monkeypatch, code, said, message):
    monkeypatch.setattr(subprocess, 'run', lambda *_, **__: types.SimpleNamespace(
        returncode=code, stdout='', stderr=said))
    with pytest.raises(UserError, match=f'{SMALLEST}, float32: .*{message}'):
        network_benchmark.measure([SMALLEST])


def test_unknown_names_are_refused():
    with pytest.raises(UserError, match='unknown network'):
        network_benchmark.measure(['MobileNetV3'])
    with pytest.raises(UserError, match='unknown policy'):
        network_benchmark.measure([SMALLEST], ['float16'])


@pytest.mark.slow  # a process of its own
def test_a_process_measures_a_network():
    cost = network_benchmark._in_child(SMALLEST, 'mixed_bfloat16', 65, 2, 1)
    assert cost.parameters > 5e5 and cost.trained > 0 and cost.evaluated > 0
    assert 100 < cost.megabytes < 20000
