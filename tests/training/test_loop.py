"""The training loop: what it fetches and when, and what becomes of a loss that is no number."""
import json
import sys

import numpy as np
import pytest
import tensorflow as tf

from tf_advseg.core import files, journal, random_streams
from tf_advseg.core.errors import UserError
from tf_advseg.data.records import record_set
from tf_advseg.methods import step_parts
from tf_advseg.training import alternation, averaging, checkpoints, health, loop


class Counted:
    """A scalar as a step returns it; counts how often somebody waits for its value."""

    def __init__(self, value, fetched):
        self._value, self._fetched = value, fetched

    def __float__(self):
        self._fetched.append(self._value)
        return float(self._value)


class Descent(step_parts.Method):
    """w moves by -0.25 a step; its loss is w, or no number from a given step on."""

    def __init__(self):
        super().__init__(tf.keras.Sequential([tf.keras.layers.Dense(1, use_bias=False)]))
        self.segmentor.build([None, 1])
        self.segmentor.weights[0].assign([[8.0]])
        self.optimizer = tf.keras.optimizers.SGD(0.25)
        self.optimizer.build(self.segmentor.trainable_variables)

    @property
    def phases(self):
        return {'segmentor': self._step}

    def _step(self, batch, seed):
        weight = self.segmentor.trainable_variables[0]
        loss = tf.reduce_sum(weight)
        step_parts.apply_gradients(self.optimizer, [tf.ones_like(weight)], [weight])
        return {'loss/ce': loss + 0.0 * tf.reduce_sum(batch['image'])}


def trained(folder, method, steps, stepper=None, **options):
    strategy = tf.distribute.get_strategy()

    def batches(stream, first):
        return tf.data.Dataset.from_tensor_slices(
            {'image': np.zeros([steps, 2], np.float32)[first:]})

    return loop.train(stepper or loop.Stepper(method, strategy), method, batches,
                      alternation.Sequence(steps, lambda step: 'segmentor'), folder, strategy,
                      random_streams.RandomStreams(0), journal.Journal(folder / 'metrics.jsonl'),
                      'descent', **options)


def lines(folder):
    path = folder / 'metrics.jsonl'
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def pretended(values, fetched):
    """A stepper whose steps cost nothing; its scalars count who fetches them."""
    remaining = iter(values)
    return lambda phase, batch, seed: loop.Scalars({'loss/ce': Counted(next(remaining), fetched)})


def test_scalars_are_fetched_together_and_once():
    fetched = []
    scalars = loop.Scalars({'a': Counted(1.0, fetched), 'b': Counted(2.0, fetched)})
    assert list(scalars) == ['a', 'b'] and len(scalars) == 2 and 'c' not in scalars
    assert scalars['b'] == 2.0 and scalars.get('c') is None
    assert dict(scalars) == {'a': 1.0, 'b': 2.0} == {**scalars}
    assert fetched == [1.0, 2.0]


def test_no_step_is_waited_for_between_the_lines_of_the_log(tmp_path):
    """What a step computes is fetched where it is logged, saved or evaluated, in one go."""
    fetched, seen = [], []
    stepper = pretended(range(1, 26), fetched)

    def watched(phase, batch, seed):
        seen.append(len(fetched))
        return stepper(phase, batch, seed)

    trained(tmp_path, Descent(), 25, watched, log_every=10)
    assert seen == [0] * 10 + [10] * 10 + [20] * 5
    assert fetched == list(range(1, 26))
    assert [(line['step'], line['loss/ce']) for line in lines(tmp_path)] == [
        (10, 10), (20, 20), (25, 25)]


def test_steps_that_nobody_logs_are_looked_at_now_and_then(tmp_path):
    values = iter([1.0] * 60 + [float('nan')] + [1.0] * 200)
    with pytest.raises(UserError, match='not finite at step 60 '):
        trained(tmp_path, Descent(), 250, pretended(values, []), log_every=1000)
    assert len(list(values)) == 261 - 100  # after 100 steps, not after the 200 of a durable state


@pytest.mark.parametrize('bad, saved', [(3, None), (4, 4), (7, 4), (11, 8)])
def test_a_loss_that_is_no_number_is_named_by_its_step_and_never_saved(tmp_path, bad, saved):
    values = [1.0] * bad + [float('inf')] + [1.0] * 20
    with pytest.raises(UserError) as error:
        trained(tmp_path, Descent(), 20, pretended(values, []), log_every=5, checkpoint_every=4)
    assert str(error.value).startswith(
        f'descent: the loss is not finite at step {bad} (segmentor)')
    state = files.read_json(tmp_path / loop.STATE)
    assert state['step'] == (saved or 0)
    assert all(np.isfinite(line['loss/ce']) for line in lines(tmp_path))


def test_gradients_are_not_measured_on_a_network_that_has_diverged(tmp_path):
    measured = []

    def diagnose(batch, seed):
        measured.append(1)
        return {'grad/ce': 1.0}

    with pytest.raises(UserError, match='at step 5 '):
        trained(tmp_path, Descent(), 20, pretended([1.0] * 5 + [float('nan')] * 20, []),
                log_every=100, diagnose_every=3, diagnose=diagnose)
    assert len(measured) == 2  # before steps 0 and 3, not before step 6


def test_an_evaluation_waits_for_the_steps_before_it(tmp_path):
    fetched = []
    counts = []
    trained(tmp_path, Descent(), 9, pretended(range(9), fetched), log_every=100, evaluate_every=3,
            evaluate=lambda taken: counts.append((taken, len(fetched))) or [])
    assert counts == [(3, 3), (6, 6), (9, 9)]


def test_the_loop_trains_and_logs_what_the_steps_return(tmp_path):
    method = Descent()
    trained(tmp_path, method, 6, log_every=2)
    assert float(method.segmentor.weights[0][0, 0]) == 8.0 - 6 * 0.25
    assert [line['loss/ce'] for line in lines(tmp_path)] == [7.75, 7.25, 6.75]


def test_means_are_of_all_steps():
    taken = [loop.Scalars({'a': tf.constant(value), 'b': tf.constant(1.0)})
             for value in (1.0, 2.0, 6.0)]
    assert loop.means(taken, 3) == pytest.approx({'a': 3.0, 'b': 1.0})


def test_the_first_bad_step_is_found():
    good, bad, worse = ({'a': 1.0}, {'a': 1.0, 'b': float('nan')}, {'a': float('inf')})
    assert health.first_bad([good, bad, worse]) is bad
    assert health.first_bad([good]) is None and health.first_bad([]) is None


def test_an_average_s_counter_follows_a_restore(tmp_path):
    """Its Python copy of the counter is what keeps a step from waiting; a rewind sets it back."""
    variable = tf.Variable([1.0])
    average = averaging.WeightAverage([variable], every=2, constant=1)
    average.begin()
    average.after_step()
    checkpoints.write_state(tmp_path / 'state', average=average)
    average.after_step()
    average.after_step()
    variable.assign([5.0])
    checkpoints.read_state(tmp_path / 'state', average=average)
    average.after_step()  # the second step again: the average moves
    np.testing.assert_array_equal(average.averages[0], [3.0])
    assert int(average.steps) == 2


def test_one_cpu_gets_the_data_set_itself_without_autotuning(two_replicas):
    batches = tf.data.Dataset.from_tensors(
        {'image': tf.zeros([4, 3]), 'image_id': tf.fill([4], 'a')})
    batches = batches.with_options(record_set.dataset_options())
    found = loop.distribute(batches, tf.distribute.OneDeviceStrategy('/cpu:0'))
    assert isinstance(found, tf.data.Dataset) and found.options().autotune.enabled is False
    assert {name: tuple(part.shape) for name, part in next(iter(found)).items()} == {
        'image': (4, 3)}
    shares = next(iter(loop.distribute(batches, two_replicas)))['image']
    assert [tuple(part.shape) for part in shares.values] == [(2, 3), (2, 3)]


def test_a_number_that_a_step_is_given_is_kept_by_nobody():
    def weighed(batch, weight):
        return {'loss/ce': weight * batch['image'][0]}

    stepper = loop.Stepper(Descent(), tf.distribute.get_strategy())
    batch, number = {'image': tf.ones([1])}, float('0.123456789')
    before = sys.getrefcount(number)
    assert stepper(weighed, batch, weight=number)['loss/ce'] == np.float32(number)
    assert sys.getrefcount(number) == before
