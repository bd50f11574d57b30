"""Scaled gradients: what they are, and what becomes of those that are no numbers."""
import numpy as np
import pytest
import tensorflow as tf

from tf_advseg.methods import step_parts
from tf_advseg.models import precision as precisions
from tf_advseg.training import checkpoints, loss_scale, optimizers

SINGLE = tf.distribute.OneDeviceStrategy('/cpu:0')
START = np.array([[1.0, -2.0], [3.0, 0.5]], np.float32)
GRADIENT = np.array([[0.25, 1.0], [-4.0, 0.125]], np.float32)


def half(**settings):
    return precisions.Precision(precisions.FLOAT16, **settings)


class Trial:
    """A variable and its optimizer on a strategy."""

    def __init__(self, strategy, precision, name='adamw'):
        self.strategy = strategy
        with strategy.scope():
            self.variable = tf.Variable(START)
            self.optimizer = optimizers.make_optimizer(name, 0.1, clip_norm=0.5)
            loss_scale.prepare(precision, self.optimizer)
            self.optimizer.build([self.variable])

        def applied(gradient):
            step_parts.apply_gradients(self.optimizer, [gradient], [self.variable])

        self._step = tf.function(lambda gradient: strategy.run(applied, (gradient,)))

    def step(self, *gradients):
        """Takes a step by a gradient of each replica."""
        self._step(self.strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(gradients[context.replica_id_in_sync_group])))

    def state(self):
        """What each replica remembers, the steps left out: arrays."""
        found = [v for v in loss_scale.variables(self.optimizer)
                 if v is not self.optimizer.iterations]
        return [[part.numpy() for part in self.strategy.experimental_local_results(v)]
                for v in (self.variable, *found)]

    @property
    def scale(self):
        return loss_scale.of(self.optimizer)


@pytest.fixture(params=['one', 'two'])
def strategy(request):
    """One device, or two replicas."""
    return SINGLE if request.param == 'one' else request.getfixturevalue('two_replicas')


def shares(strategy, total, bad=None):
    """Gradients that add up to `total`; of the last replica they are `bad`, where that is given."""
    count = strategy.num_replicas_in_sync
    found = [total / count] * count
    if bad is not None:
        found[-1] = np.full_like(total, bad)
    return found


@pytest.mark.parametrize('bad', [np.inf, np.nan])
def test_a_gradient_that_is_no_number_halves_the_scale_and_moves_nothing(strategy, bad):
    """On all replicas, though one alone has it."""
    trial = Trial(strategy, half())
    trial.step(*shares(strategy, GRADIENT))
    variable, *moments = trial.state()[:-2]
    trial.step(*shares(strategy, GRADIENT, bad))
    after = trial.state()
    for was, is_now in zip([variable, *moments], after):
        np.testing.assert_array_equal(was, is_now)
    assert np.abs(variable[0] - START).max() > 0.05
    for replica in range(strategy.num_replicas_in_sync):
        assert sorted(float(part[replica]) for part in after[-2:]) == [0.0, 2.0 ** 14]
        np.testing.assert_array_equal(after[0][replica], after[0][0])
    assert int(trial.optimizer.iterations.numpy()) == 2  # a schedule is over all steps


def test_finite_steps_are_the_optimizers_own(strategy):
    """Clipping, decay and slots included."""
    scaled, plain = (Trial(strategy, given) for given in (half(), precisions.Precision()))
    for factor in (1.0, -0.5, 2.0):
        for trial in (scaled, plain):
            trial.step(*shares(strategy, factor * GRADIENT))
    ours = scaled.state()
    for mine, its in zip(ours[:-2], plain.state()):
        np.testing.assert_allclose(mine, its, rtol=1e-6)
    assert len(ours) == len(plain.state()) + 2


def test_the_scale_doubles_after_enough_finite_steps_and_ends_at_one():
    trial = Trial(SINGLE, half(loss_scale=4.0, growth_steps=3), 'sgd')
    seen = []
    for bad in (None, None, None, None, np.inf, None, None, None, *[np.inf] * 4):
        trial.step(*shares(SINGLE, GRADIENT, bad))
        seen.append(float(trial.scale.value))
    assert seen == [4, 4, 8, 8, 4, 4, 4, 8, 4, 2, 1, 1]


def test_a_scale_that_has_no_number_above_it_stays():
    trial = Trial(SINGLE, half(loss_scale=2.0 ** 127, growth_steps=1), 'sgd')
    trial.step(GRADIENT)
    assert float(trial.scale.value) == 2.0 ** 127


def small_gradient(tape):
    """d/dx of a product in float16 whose gradient is below its numbers."""
    x = tf.Variable([1.0, 2.0])
    with tape:
        y = tf.cast(tf.cast(x, tf.float16) * tf.constant(1.0, tf.float16), tf.float32)
        loss = tf.reduce_sum(y) * 1e-9
    return tape.gradient(loss, x)


def test_gradients_that_float16_has_no_numbers_for_arrive():
    optimizer = optimizers.make_optimizer('sgd', 0.1)
    loss_scale.prepare(half(), optimizer)
    found = small_gradient(loss_scale.Tape(half(), optimizer))
    np.testing.assert_allclose(found, [1e-9, 1e-9], rtol=1e-3)
    assert not np.any(small_gradient(tf.GradientTape()))


def test_a_tape_gives_what_a_plain_one_gives():
    """Gradients from above are scaled on their way too, and what is not connected is None."""
    optimizer, x, other = optimizers.make_optimizer('sgd', 0.1), tf.Variable(START), tf.Variable(0.)
    loss_scale.prepare(half(loss_scale=8.0), optimizer)
    upstream, found = tf.constant(GRADIENT), []
    for tape in loss_scale.Tape(half(), optimizer), tf.GradientTape():
        with tape:
            y = x * x
        found.append(tape.gradient(y, [x, other], output_gradients=upstream))
    np.testing.assert_array_equal(found[0][0], found[1][0])
    assert found[0][1] is None and found[1][1] is None


def test_the_type_is_the_policys_within_a_tape_alone():
    given = precisions.Precision(precisions.BFLOAT16)
    with loss_scale.Tape(given, optimizers.make_optimizer('sgd', 0.1)):
        assert precisions.compute_dtype() == tf.bfloat16
        with loss_scale.Tape(given, optimizers.make_optimizer('sgd', 0.1)):
            pass
        assert precisions.compute_dtype() == tf.bfloat16
    assert precisions.compute_dtype() == tf.float32


def test_the_scale_is_written_down_with_its_optimizer(tmp_path):
    trial, other = (Trial(SINGLE, half(growth_steps=9)) for _ in range(2))
    for bad in (None, np.inf, None):
        trial.step(*shares(SINGLE, GRADIENT, bad))
    checkpoints.write_state(tmp_path / 'state', optimizer=trial.optimizer)
    checkpoints.read_state(tmp_path / 'state', optimizer=other.optimizer)
    assert float(other.scale.value) == 2.0 ** 14 and int(other.scale.finite_steps) == 1
    with pytest.raises(Exception, match='does not fit'):
        checkpoints.write_state(tmp_path / 'plain', optimizer=Trial(
            SINGLE, precisions.Precision()).optimizer)
        checkpoints.read_state(tmp_path / 'plain', optimizer=other.optimizer)
