"""gin/methods/ema.gin against TensorFlow's own exponential moving average."""
import numpy as np
import pytest
import tensorflow as tf

from tf_advseg.core import configuration
from tf_advseg.models import layers
from tf_advseg.training import averaging, checkpoints

SINGLE = tf.distribute.OneDeviceStrategy('/cpu:0')


def walk(network, generator):
    """A step of some training."""
    for variable in network.trainable_variables:
        variable.assign_add(generator.normal(size=variable.shape).astype(np.float32))


@pytest.fixture(params=['one device', 'two replicas'])
def strategy(request, two_replicas):
    """Both in turn."""
    return SINGLE if request.param == 'one device' else two_replicas


@pytest.mark.parametrize('bindings, decay', [([], 0.99), (['swa.constant = 3'], 0.75)])
def test_the_piece_is_an_exponential_moving_average(tmp_path, strategy, bindings, decay):
    """Kept over a restore after step 4, as on a resume; both begin with the start's weights."""
    configuration.parse(['gin/methods/ema.gin'], bindings)
    with strategy.scope():
        network = layers.Convolution('only', 3, 4, seed=1)
        network.fine_tune_batch_norm = False
        average = averaging.swa().build(network, 12)
        again = averaging.swa().build(network, 12)
    reference = [tf.Variable(v.read_value()) for v in network.trainable_variables]
    moving = tf.train.ExponentialMovingAverage(decay)
    moving.apply(reference)
    average.begin()
    generator = np.random.default_rng(0)
    for step in range(12):
        if step == 4:
            checkpoints.write_state(tmp_path / 'state', average=average)
            average = again
            average.begin()
            checkpoints.read_state(tmp_path / 'state', average=average)
        walk(network, generator)
        average.after_step()
        for own, variable in zip(reference, network.trainable_variables):
            own.assign(variable.read_value())
        moving.apply(reference)
    for found, own in zip(average.averages, reference):
        expected = moving.average(own).numpy()
        assert np.abs(expected - own.numpy()).max() > 0.1  # it is not the weights themselves
        for replica in strategy.experimental_local_results(found):
            np.testing.assert_allclose(replica.numpy(), expected, rtol=1e-5, atol=1e-5)
    assert average.description()['models'] == 13
