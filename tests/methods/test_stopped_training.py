"""A training that is stopped goes on to the same bits, with whatever its optimizer remembers."""
import numpy as np
import pytest
import tensorflow as tf
from one_layer import OneLayer

from tf_advseg.core import journal, random_streams
from tf_advseg.experiments import small_methods
from tf_advseg.methods import cross_entropy
from tf_advseg.training import alternation, loop, loss_scale, optimizers, schedules

SINGLE = tf.distribute.OneDeviceStrategy('/cpu:0')
TOTAL, STOPPED = 7, 4
LOSSES = ('further_losses.dice = 0.5', 'further_losses.lovasz = 0.5', 'further_losses.focal = 0.3')
SHORT = "precision.policy = 'mixed_bfloat16'",
# Too large a scale at first, and one that grows soon: skipped steps and a growth on either side.
HALF = ("precision.policy = 'mixed_float16'", 'precision.loss_scale = 2e6',
        'precision.growth_steps = 2')
TRAININGS = [LOSSES, SHORT, (*LOSSES, *HALF)]


def trained(folder, total, strategy, bindings):
    """(lines of the journal, all that the method remembers) after a start that ends at `total`."""
    folder.mkdir(exist_ok=True)
    random = np.random.default_rng(4)
    images = {'image': random.uniform(0, 255, (5, 9, 9, 3)).astype(np.float32),
              'label': random.integers(0, 3, (5, 9, 9)).astype(np.int32)}
    with strategy.scope(), small_methods.bound((
            *bindings, 'cosine_decay.slow_start_steps = 2')):
        rate = schedules.make_schedule('cosine', 0.1, TOTAL)
        method = cross_entropy.CrossEntropy(
            OneLayer(3), optimizers.make_optimizer('adamw', rate, clip_norm=0.05,
                                                   weight_decay=0.1), l2_weight=0.01)
    metrics = journal.Journal(folder / 'metrics.jsonl')
    loop.train(loop.Stepper(method, strategy), method,
               lambda stream, first: tf.data.Dataset.from_tensors(images).repeat(TOTAL),
               alternation.Sequence(total, lambda step: 'segmentor'), folder, strategy,
               random_streams.RandomStreams(0), metrics, 'stage', checkpoint_every=2, log_every=1)
    remembered = [*method.segmentor.variables, *loss_scale.variables(method.optimizer)]
    lines = [{key: value for key, value in line.items() if key != 'time'}
             for line in journal.Journal.read(folder / 'metrics.jsonl')]
    return (lines,
            [part.numpy() for v in remembered for part in strategy.experimental_local_results(v)])


@pytest.mark.parametrize('replicas, bindings', [
    *(('one', bindings) for bindings in TRAININGS),
    pytest.param('two', TRAININGS[-1], marks=pytest.mark.slow)])  # traces on two replicas
def test_adamw_cosine_clipping_further_losses_and_mixed_precision(tmp_path, replicas, bindings,
                                                                  request):
    strategy = SINGLE if replicas == 'one' else request.getfixturevalue('two_replicas')
    _, part = trained(tmp_path / 'stopped', STOPPED, strategy, bindings)
    lines, rest = trained(tmp_path / 'stopped', TOTAL, strategy, bindings)
    straight, whole = trained(tmp_path / 'whole', TOTAL, strategy, bindings)
    assert len(rest) == len(whole)
    for one, two in zip(rest, whole):
        np.testing.assert_array_equal(one, two)
    assert lines == straight and [line['step'] for line in lines] == list(range(1, TOTAL + 1))
    assert np.abs(part[0] - whole[0]).max() > 1e-4
    if 'loss/scale' in lines[0]:  # it has shrunk and grown
        changes = np.diff([2e6, *(line['loss/scale'] for line in lines)])
        assert (changes < 0).any() and (changes > 0).any()
