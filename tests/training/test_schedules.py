"""Learning rates against numbers that the official DeepLab code made."""
import json

import numpy as np
import pytest
import tensorflow as tf

from tf_advseg.core.errors import UserError
from tf_advseg.training import optimizers, schedules


@pytest.fixture(scope='module')
def listed(official):
    return json.loads(official.path('train_schedules.json').read_text())['schedules']


def built(arguments):
    """Our schedule of the official code's arguments."""
    return schedules.DeepLabSchedule(
        arguments['base_learning_rate'], arguments['training_number_of_steps'],
        arguments['learning_policy'], power=arguments['learning_power'],
        end=arguments.get('end_learning_rate', 0.0),
        decay_steps=arguments['learning_rate_decay_step'],
        factor=arguments['learning_rate_decay_factor'],
        slow_start_steps=arguments['slow_start_step'],
        slow_start_rate=arguments['slow_start_learning_rate'],
        burn_in=arguments.get('slow_start_burnin_type', 'none'))


@pytest.mark.parametrize('number', range(4))
def test_every_listed_rate_is_the_official_one(listed, number):
    assert len(listed) == 4
    schedule = built(listed[number]['args'])
    compiled = tf.function(schedule)  # as the optimizers call it in a step
    for step, rate in listed[number]['lr'].items():
        step = tf.constant(int(step), tf.int64)
        assert float(compiled(step)) == rate  # to the last bit of float32
        assert float(schedule(step)) == pytest.approx(rate, rel=1e-7)


def test_a_schedule_is_rebuilt_from_its_config(listed):
    for row in listed:
        schedule = built(row['args'])
        again = schedules.DeepLabSchedule.from_config(schedule.get_config())
        assert again.get_config() == schedule.get_config()
        assert float(again(700)) == float(schedule(700))


def test_the_names_that_gin_knows():
    assert schedules.make_schedule('constant', 0.1, 10) == 0.1
    poly = schedules.make_schedule('poly', 0.1, 10)
    keras = tf.keras.optimizers.schedules.PolynomialDecay(0.1, 10, 0.0, 0.9)
    assert [float(poly(t)) for t in range(12)] == [float(keras(t)) for t in range(12)]
    step = schedules.step_decay(0.1, 10, decay_steps=4, factor=0.5)
    assert [float(step(t)) for t in (0, 3, 4, 8)] == pytest.approx([0.1, 0.1, 0.05, 0.025])
    with pytest.raises(UserError, match='poly'):
        schedules.make_schedule('polly', 0.1, 10)


def test_a_poly_decay_may_end_before_or_after_the_training():
    def rates(**settings):
        schedule = schedules.polynomial_decay(0.1, 30, slow_start_steps=4, **settings)
        return [float(schedule(step)) for step in range(35)]

    keras = tf.keras.optimizers.schedules.PolynomialDecay(0.1, 10, 0.0, 0.9)
    assert rates(decay_steps=10)[4:] == [float(keras(step)) for step in range(31)]
    assert rates(decay_steps=10)[14:] == [0.0] * 21 and min(rates(decay_steps=100)) > 0.0
    assert rates(decay_steps=26) == rates() != rates(decay_steps=30)
    with pytest.raises(UserError, match='poly decay over -1'):
        rates(decay_steps=-1)


@pytest.mark.parametrize('bad, text', [
    ({'policy': 'cosinus'}, 'policy'), ({'burn_in': 'quadratic'}, 'slow start'),
    ({'slow_start_steps': 100}, 'fewer than'), ({'slow_start_steps': -1}, 'at least 0')])
def test_what_is_no_schedule_is_refused(bad, text):
    with pytest.raises(UserError, match=text):
        schedules.DeepLabSchedule(0.1, 100, **bad)


def test_an_optimizer_follows_a_schedule():
    rate = schedules.polynomial_decay(0.1, 4, power=1.0, slow_start_steps=2, slow_start_rate=0.01)
    optimizer = optimizers.make_optimizer('sgd', rate)
    variable = tf.Variable(0.0)
    optimizer.build([variable])
    moved = []
    for _ in range(5):
        before = float(variable)
        optimizer.apply_gradients([(tf.constant(1.0), variable)])
        moved.append(before - float(variable))
    assert moved == pytest.approx([0.01, 0.01, 0.1, 0.05, 0.0], abs=1e-7)


def test_half_a_cosine_after_a_warm_up():
    rate = schedules.cosine_decay(0.2, 12, end=0.02, slow_start_steps=4)
    found = [float(rate(step)) for step in range(14)]
    np.testing.assert_allclose(found[:4], 0.2 * np.arange(4) / 4, atol=1e-7)
    done = np.minimum(np.arange(10), 8) / 8
    np.testing.assert_allclose(found[4:], 0.18 * (1 + np.cos(np.pi * done)) / 2 + 0.02, rtol=1e-5)


@pytest.mark.parametrize('given', [0.01, 1.5, -0.1, -1, 'few'])
def test_a_slow_start_that_is_none_is_one_line(given):
    with pytest.raises(UserError, match='slow_start_steps'):
        schedules.cosine_decay(0.2, 40, slow_start_steps=given)


@pytest.mark.parametrize('make', [schedules.polynomial_decay, schedules.step_decay,
                                  schedules.cosine_decay])
def test_a_slow_start_may_be_a_share_of_the_steps(make):
    share, whole = (make(0.2, 40, slow_start_steps=steps, slow_start_rate=0.001)
                    for steps in (0.25, 10))
    assert [float(share(step)) for step in range(41)] == [float(whole(step)) for step in range(41)]
