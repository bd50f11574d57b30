"""What the GPU check tells: verdicts, notes, one line where there is no GPU or no kernel."""
import json

import pytest
import tensorflow as tf

from tf_advseg.core.errors import UserError
from tf_advseg.experiments.benchmarks import device_steps
from tf_advseg.experiments.benchmarks import gpu_comparison
from tf_advseg.training import loop

CASE = device_steps.Case('LoAd: discriminator', 'farabet')
NEAR, FAR = device_steps.Difference(2e-7, 3e-5, 'w'), device_steps.Difference(2e-7, 0.5, 'w')
CPUS = gpu_comparison.find_devices('cpu')


def unsupported(name):
    """What TensorFlow raises on a GPU."""
    return tf.errors.UnimplementedError(None, None, (
        'Graph execution error:\n\nDetected at node x defined at (most recent call last):\n'
        f'  File "a.py", line 3, in <module>\n\n{name}\n\t [[{{{{node x}}}}]] [Op:__inference_1]'))


def test_the_table_has_a_verdict_for_each_comparison_and_each_note_once():
    lines = [gpu_comparison.Line(CASE, NEAR, (30.0, 4.0), NEAR, gpu_comparison.WORKS),
             gpu_comparison.Line(CASE, NEAR, (30.0, 4.0), FAR, 'no kernel for A'),
             gpu_comparison.Line(CASE, FAR, (30.0, 4.0), None, 'no kernel for A'),
             gpu_comparison.Line(CASE, None, (30.0, None), None, gpu_comparison.DIFFERS,
                                 'Unknown: broken')]
    assert [line.equal for line in lines] == [True, False, False, False]
    table, notes = gpu_comparison.table(lines)
    assert notes == ['(1) no kernel for A', '(2) Unknown: broken']
    rows = table.texts()[1:]
    assert [row[4:6] for row in rows] == [['equal', 'equal'], ['equal', 'DIFFERENT'],
                                          ['DIFFERENT', 'not here'], ['(2)', '–']]
    assert [row[8] for row in rows] == ['works', '(1)', '(1)', 'two runs differ']
    assert rows[0][2:4] == ['2e-07', '3e-05'] and rows[3][6:8] == ['30.0', '–']
    text = gpu_comparison.text(CPUS, lines)
    assert text.splitlines()[-1] == (
        '1 of 4 steps are equal; 1 of 4 give the same bits twice with deterministic operations')
    assert f'TensorFlow {tf.__version__}' in text and 'cuDNN' in text and 'lane: ' in text


def test_without_a_gpu_one_line_says_what_is_missing(monkeypatch):
    monkeypatch.setattr(tf.config, 'list_physical_devices', lambda kind: [])
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '-1')
    with pytest.raises(UserError) as caught:
        gpu_comparison.find_devices('gpu')
    text = str(caught.value)
    assert 'finds no GPU' in text and "'.[gpu]'" in text and '"-1", which may hide it' in text
    monkeypatch.setattr(tf.config, 'list_physical_devices', lambda kind: ['one', 'two'])
    assert gpu_comparison.find_devices('gpu').pair == ('/gpu:0', '/gpu:1')


def test_what_is_checked_by_default_and_by_name():
    everything = gpu_comparison.chosen('gpu')
    assert {case.step for case in everything} == set(device_steps.steps())
    assert {case.network for case in everything} == set(device_steps.NETWORKS)
    assert [case.step for case in gpu_comparison.chosen('cpu')] == list(gpu_comparison.BRIEF)
    named = gpu_comparison.chosen('gpu', ['Hung: unlabelled', 'Stage 1: segmentor'],
                                  ['dilated8', 'farabet'])
    assert [str(case) for case in named] == [
        'Hung: unlabelled on dilated8', 'Stage 1: segmentor on dilated8',
        'Hung: unlabelled on farabet', 'Stage 1: segmentor on farabet']
    for words, text in (((['Hung: unlabeled'],), 'Did you mean "Hung: unlabelled"'),
                        (([], ['farbet']), 'Did you mean "farabet"')):
        with pytest.raises(UserError, match=text):
            gpu_comparison.chosen('gpu', *words)
    with pytest.raises(UserError, match='--side=320: expected 16 k'):
        gpu_comparison.checked_side(320)
    assert gpu_comparison.checked_side(321) == 321


@pytest.fixture
def broken_steps(monkeypatch):
    """Function(error): every step raises it."""
    def breaks(error):
        def raises(*arguments, **words):
            raise error
        monkeypatch.setattr(loop.Stepper, '__call__', raises)
    return breaks


def test_the_process_with_deterministic_operations_names_what_has_none(broken_steps, capsys,
                                                                       monkeypatch):
    monkeypatch.setattr(gpu_comparison.runtime, 'configure', lambda **_: None)  # it is for good
    words = json.dumps([[CASE.step, CASE.network]])
    broken_steps(unsupported('Determinism is not yet supported in GPU implementation of '
                             'DenseBincount.'))
    gpu_comparison.child('/cpu:0', words, '33')
    text = json.loads(capsys.readouterr().out)
    assert text.startswith('TensorFlow has no deterministic GPU kernel for DenseBincount; ')
    broken_steps(unsupported('Nobody wrote this kernel.'))
    gpu_comparison.child('/cpu:0', words, '33')
    assert json.loads(capsys.readouterr().out) == 'UnimplementedError: Nobody wrote this kernel.'


def test_a_step_that_fails_on_the_device_is_a_line_and_on_the_cpu_an_error(monkeypatch):
    call = loop.Stepper.__call__

    def fails(self, *arguments, **words):
        if 'CPU:1' in self._strategy.extended.worker_devices[0].upper():
            raise unsupported('No such kernel.')
        return call(self, *arguments, **words)
    monkeypatch.setattr(loop.Stepper, '__call__', fails)
    line = gpu_comparison._line(CPUS, CASE, 33, 1)
    assert line.error == 'UnimplementedError: No such kernel.' and not line.equal
    assert line.milliseconds[0] > 0 and line.milliseconds[1] is None
    with pytest.raises(tf.errors.UnimplementedError):
        gpu_comparison._line(gpu_comparison.Devices('/cpu:1', '/cpu:0', ()), CASE, 33, 1)


def test_a_process_that_dies_leaves_the_rest_not_run(monkeypatch):
    monkeypatch.setattr(gpu_comparison.sys, 'executable', '/bin/false')
    text = gpu_comparison._deterministic('/cpu:0', [CASE, CASE], 33)
    assert text == ['the process ended with code 1: no output', gpu_comparison.NOT_RUN]
