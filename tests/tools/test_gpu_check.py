"""tools/gpu_check.py: a check of CPU against CPU, and what it says without a GPU."""
import pytest
import tensorflow as tf

from tf_advseg.core.errors import UserError
from tf_advseg.experiments.benchmarks import gpu_comparison


@pytest.mark.slow
def test_a_check_of_one_step_prints_what_can_be_pasted(call, capsys):
    call('gpu_check', '--device=cpu', '--step=LoAd: discriminator', '--repeats=1')
    lines = capsys.readouterr().out.splitlines()
    assert f'TensorFlow {tf.__version__}' in lines[0] and 'CUDA' in lines[1]
    row = next(line for line in lines if line.startswith('LoAd: discriminator'))
    assert row.split()[-1] == 'works' and row.count('equal') == 2
    assert lines[-1].startswith('1 of 1 steps are equal; 1 of 1 give the same bits twice')


def test_a_step_that_differs_is_an_error_below_the_table(call, capsys, monkeypatch):
    def measured(devices, cases, side, repeats):
        return [gpu_comparison.Line(case, gpu_comparison.device_steps.Difference(1.0, 1.0),
                                    (1.0, 1.0))
                for case in cases]
    monkeypatch.setattr(gpu_comparison, 'measure', measured)
    with pytest.raises(UserError, match='differs from the CPU'):
        call('gpu_check', '--device=cpu')
    assert 'DIFFERENT' in capsys.readouterr().out


def test_without_a_gpu_it_is_one_line(call, monkeypatch):
    listed = tf.config.list_physical_devices
    monkeypatch.setattr(tf.config, 'list_physical_devices',
                        lambda kind=None: [] if kind == 'GPU' else listed(kind))
    with pytest.raises(UserError, match=r'finds no GPU.*\[gpu\]'):
        call('gpu_check')
