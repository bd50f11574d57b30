"""Averaged weights: eq. 7 replayed, rewinds and resumes to the bit, tfa's difference."""
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tf_advseg.core import configuration, journal, random_streams
from tf_advseg.core.errors import UserError
from tf_advseg.models import layers
from tf_advseg.training import alternation, averaging, checkpoints, loop

SINGLE = tf.distribute.OneDeviceStrategy('/cpu:0')


@pytest.fixture(params=['one device', 'two replicas'])
def strategy(request, two_replicas):
    """Both in turn."""
    return SINGLE if request.param == 'one device' else two_replicas


def network_of(live=False, norm=layers.Norm(1e-3, 0.9)):
    """The least that is asked of a segmentor here: a convolution that says how it is trained."""
    network = layers.Convolution('only', 3, 4, norm=norm, seed=1)
    network.fine_tune_batch_norm = live
    return network


def walked(average, variables, steps, seed=0):
    """Moves variables at random, one call a step; their float32 values after each step, from 0."""
    generator, seen = np.random.default_rng(seed), [[v.numpy() for v in variables]]
    for _ in range(steps):
        for variable in variables:
            variable.assign_add(generator.normal(size=variable.shape).astype(np.float32))
        average.after_step()
        seen.append([v.numpy() for v in variables])
    return seen


def replayed(seen, every, constant, reading, start, kind=np.float64):
    """Eq. 7 over saved snapshots; in float32 in the order of operations that keeps it fixed."""
    theta = [value.astype(kind) for value in seen[start]]
    models = 1
    for step in range(start + 1, len(seen)):
        if step % every == 0:
            n = kind(constant if reading == 'constant' else models)
            if kind is np.float64:
                theta = [(swa * n + v) / (n + 1) for swa, v in zip(theta, seen[step])]
            else:
                theta = [swa + (v - swa) / (n + kind(1)) for swa, v in zip(theta, seen[step])]
            models += 1
    return theta, models


def some_variables(strategy=SINGLE, seed=3):
    generator = np.random.default_rng(seed)
    with strategy.scope():
        return [tf.Variable(generator.normal(size=shape).astype(np.float32))
                for shape in ((3, 2), (5,), ())]


@pytest.mark.parametrize('reading, constant, start', [
    ('constant', None, 0), ('constant', 7.5, 4), ('models', None, 0), ('models', None, 5)])
def test_it_is_equation_7_over_the_snapshots(reading, constant, start, strategy):
    variables = some_variables(strategy)
    with strategy.scope():
        average = averaging.WeightAverage(variables, 3, constant, reading, start)
    seen = walked(average, variables, 20)
    exact, models = replayed(seen, 3, constant or 3, reading, start)
    same, _ = replayed(seen, 3, constant or 3, reading, start, np.float32)
    for variable, expected, to_the_bit in zip(average.averages, exact, same):
        for replica in strategy.experimental_local_results(variable):
            np.testing.assert_allclose(replica.numpy(), expected, rtol=1e-5, atol=1e-6)
            np.testing.assert_array_equal(replica.numpy(), to_the_bit)
    assert average.description() == {
        'models': models, 'every': 3, 'reading': reading, 'start': start,
        'constant': None if reading == 'models' else constant or 3.0}


def test_the_reading_models_is_the_mean_and_still_weights_stay_to_the_bit():
    variables = some_variables()
    average = averaging.WeightAverage(variables, 4, reading='models')
    seen = walked(average, variables, 21)
    for place, variable in enumerate(average.averages):
        mean = np.mean([np.float64(values[place]) for values in seen[::4]], axis=0)
        np.testing.assert_allclose(variable.numpy(), mean, rtol=1e-5, atol=1e-6)
    for reading in averaging.READINGS:
        still = averaging.WeightAverage(variables, 1, 100, reading)
        for _ in range(30):
            still.after_step()
        for variable, weights in zip(still.averages, variables):
            np.testing.assert_array_equal(variable, weights)


@pytest.mark.parametrize('updates, remains', [(10, 0.905), (200, 0.137)])
def test_what_remains_of_the_weights_at_the_start_is_what_the_header_says(updates, remains):
    variable = tf.Variable([1.0])
    average = averaging.WeightAverage([variable], 1, 100)
    variable.assign([0.0])
    for _ in range(updates):
        average.after_step()
    assert float(average.averages[0][0]) == pytest.approx(remains, abs=5e-4)
    assert str(remains) in averaging.swa.__doc__


def test_before_the_threshold_it_is_the_network_itself_and_at_it_a_copy():
    network = network_of()
    kernel = network.kernel
    average = averaging.WeightAverage(network.trainable_variables, 2, start=3)
    for step in range(1, 4):
        kernel.assign(tf.fill(kernel.shape, float(step)))
        average.after_step()
        assert average.started == (step == 3)
        with average.swapped(network):
            np.testing.assert_array_equal(kernel, np.full(kernel.shape, step))
    kernel.assign(tf.zeros(kernel.shape))
    average.after_step()  # step 4: (3 * 2 + 0) / 3
    with average.swapped(network):
        np.testing.assert_allclose(kernel, np.full(kernel.shape, 2.0), rtol=1e-6)
    average.begin()
    assert not average.started and int(average.steps) == 0


def local_values(strategy, variables):
    return [one.numpy() for v in variables for one in strategy.experimental_local_results(v)]


def test_what_was_in_the_network_comes_back_after_an_exception_too(strategy):
    with strategy.scope():
        network = network_of()
        average = averaging.WeightAverage(network.trainable_variables, 1, 1)
    network.kernel.assign_add(tf.ones(network.kernel.shape))
    average.after_step()
    mean = network.norm.moving_mean
    for place, one in enumerate(strategy.experimental_local_results(mean)):
        one.assign(tf.fill([4], 1.0 + place))  # each replica has its own
    before = local_values(strategy, network.variables)
    with pytest.raises(RuntimeError, match='in the midst'):
        with average.swapped(network):
            inside = local_values(strategy, network.trainable_variables)
            for found, expected in zip(inside, local_values(strategy, average.averages)):
                np.testing.assert_array_equal(found, expected)
            mean.assign(tf.zeros([4]))
            raise RuntimeError('in the midst')
    for found, expected in zip(local_values(strategy, network.variables), before):
        np.testing.assert_array_equal(found, expected)
    assert np.abs(before[0] - inside[0]).min() == pytest.approx(0.5)


def test_a_state_holds_the_averages_alone_and_goes_to_another_strategy(tmp_path, two_replicas):
    variables, ours = some_variables(), some_variables(two_replicas, seed=9)
    average = averaging.WeightAverage(variables, 2)
    walked(average, variables, 5)
    checkpoints.write_state(tmp_path / 'state', average=average)
    assert sorted(checkpoints.saved_shapes(tmp_path / 'state', 'average')) == [
        (), (), (), (3, 2), (5,)]  # the steps, the models, and one of each variable
    with two_replicas.scope():
        other = averaging.WeightAverage(ours, 2)
    checkpoints.read_state(tmp_path / 'state', average=other)
    for found, expected in zip(other.averages, average.averages):
        for replica in two_replicas.experimental_local_results(found):
            np.testing.assert_array_equal(replica, expected)
    checkpoints.assign(ours, [v.numpy() for v in variables])
    for one, its in ((average, variables), (other, ours)):
        walked(one, its, 4, seed=1)
    for found, expected in zip(other.averages, average.averages):
        np.testing.assert_array_equal(found.numpy(), expected.numpy())


class Walk(tf.Module):
    """A method of two phases: each moves its own weight by what the batch says."""

    step_name = 'segmentor_step'

    def __init__(self):
        super().__init__()
        self.segmentor, self.discriminator = tf.Module(), tf.Module()
        self.segmentor.weight = tf.Variable([0.5, -1.0])
        self.discriminator.weight = tf.Variable([0.0, 0.0])
        self.state = {'segmentor': self.segmentor, 'discriminator': self.discriminator}
        self.phases = {'segmentor': self._segmentor, 'discriminator': self._adversary}

    def _segmentor(self, batch, seed):
        del seed
        self.segmentor.weight.assign(self.segmentor.weight * 0.9 + batch['image'])
        return {'loss/ce': tf.reduce_sum(batch['image'])}

    def _adversary(self, batch, seed):
        del seed
        self.discriminator.weight.assign_add(batch['image'])
        return {'loss/disc': tf.reduce_sum(batch['image'])}


def trained(folder, stop_at=None):
    """(seen, average) of a training in turns; killed inside a step, and gone on with."""
    seen = []
    numbers = np.random.default_rng(2).normal(size=(2, 40, 2)).astype(np.float32)

    def batches(stream, first):
        return tf.data.Dataset.from_tensor_slices(
            {'image': numbers[int(stream == 'discriminator'), first:]})

    def go(stop):
        method = Walk()
        average = averaging.WeightAverage([method.segmentor.weight], 3, start=4)
        stepper, taken = loop.Stepper(method, tf.distribute.get_strategy()), []

        def step(phase, batch, seed):
            if len(taken) == stop:
                raise KeyboardInterrupt
            taken.append(phase)
            found = stepper(phase, batch, seed)
            if phase == 'segmentor':
                seen.append([method.segmentor.weight.numpy()])
            return found
        loop.train(step, method, batches, alternation.Alternation(20, 2), folder,
                   tf.distribute.get_strategy(), random_streams.RandomStreams(0),
                   journal.Journal(folder / 'metrics.jsonl'), 'walk', checkpoint_every=5,
                   average=average)
        return average

    if stop_at is not None:
        with pytest.raises(KeyboardInterrupt):
            go(stop_at)
    return seen, go(None)


def test_a_training_in_turns_gives_the_same_average_however_often_it_is_stopped(tmp_path):
    (tmp_path / 'whole').mkdir()
    seen, average = trained(tmp_path / 'whole')
    start = [np.array([0.5, -1.0], np.float32)]
    expected, models = replayed([start, *seen], 3, 3, 'constant', 4, np.float32)
    np.testing.assert_array_equal(average.averages[0], expected[0])
    assert models == 6 and average.description()['models'] == 6  # after 4, then 6, 9, 12, 15, 18
    for stop in (1, 9, 23, 39):  # before any durable state, before and after the threshold
        folder = tmp_path / f'stopped-{stop}'
        folder.mkdir()
        _, again = trained(folder, stop)
        for one, other in zip([*again.averages, again.steps, again.models],
                              [*average.averages, average.steps, average.models]):
            np.testing.assert_array_equal(one, other)


def test_a_training_counts_from_the_weights_that_it_begins_with(tmp_path):
    """An average that was built before the weights were loaded takes them as they are then."""
    method = Walk()
    average = averaging.WeightAverage([method.segmentor.weight], 2)
    method.segmentor.weight.assign([7.0, 8.0])
    average.after_step()  # of something else, before

    def batches(stream, first):
        return tf.data.Dataset.from_tensor_slices({'image': np.zeros([4, 2], np.float32)[first:]})
    loop.train(loop.Stepper(method, tf.distribute.get_strategy()), method, batches,
               alternation.Sequence(2, lambda step: 'segmentor'), tmp_path,
               tf.distribute.get_strategy(), random_streams.RandomStreams(0),
               journal.Journal(tmp_path / 'metrics.jsonl'), 'walk', average=average)
    last = np.array([7.0, 8.0]) * 0.81
    np.testing.assert_allclose(average.averages[0], (2 * np.array([7.0, 8.0]) + last) / 3,
                               rtol=1e-6)


def test_what_tfa_does_otherwise(tfa):
    with pytest.raises(TypeError, match='[lL]egacy'):
        tfa.optimizers.SWA(tf.keras.optimizers.SGD(0.5))
    period, ours, theirs = 4, tf.Variable([2.0, -1.0]), tf.Variable([2.0, -1.0])
    norm = tf.keras.layers.BatchNormalization()
    norm.build([None, 2])
    average = averaging.WeightAverage([ours], period, reading='models', start=period)
    swa = tfa.optimizers.SWA(tf.keras.optimizers.legacy.SGD(0.5), start_averaging=period - 1,
                             average_period=period)
    for step in range(1, 15):
        gradient = tf.constant([0.1 * step, -0.3])
        swa.apply_gradients([(gradient, theirs)])
        ours.assign(theirs)
        average.after_step()
        assert ours.shape == average.averages[0].shape
        slot = swa.get_slot(theirs, 'average')
        if step < period:  # no snapshot yet: theirs would write zeros, ours leaves the weights
            np.testing.assert_array_equal(slot, [0.0, 0.0])
            assert not average.started and np.all(ours.numpy() != 0.0)
        else:  # from the first, which coincides, a plain mean in both
            np.testing.assert_allclose(average.averages[0], slot, rtol=1e-6)
    swa.assign_average_vars([theirs])
    np.testing.assert_allclose(theirs, average.averages[0], rtol=1e-6)
    swa.apply_gradients([(tf.ones([2]), norm.gamma)])
    assert 'average' in swa.get_slot_names()
    with pytest.raises(KeyError):  # statistics have no average of theirs
        swa.get_slot(norm.moving_mean, 'average')


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.floats(0, 1))
def test_a_stage_is_averaged_or_refused(steps, every, start):
    made = averaging.swa(enabled=True, every=every, start=start)
    network = network_of()
    first = round(start * steps)
    due = [step for step in range(first + 1, steps + 1) if step % every == 0]
    if not due:
        with pytest.raises(UserError, match=f'this stage has {steps} steps'):
            made.build(network, steps)
        return
    average = made.build(network, steps)
    for _ in range(steps):
        average.after_step()
    assert average.description()['models'] == 1 + len(due)


def test_batch_norm_is_re_estimated_where_training_moved_it_unless_told():
    live, frozen = network_of(live=True), network_of()
    by_default = averaging.swa(enabled=True)
    assert by_default.reestimates(live) and not by_default.reestimates(frozen)
    assert by_default.reestimates(frozen, live=True)  # a stage may decide otherwise
    assert not averaging.swa(enabled=True, reestimate_batch_norm=False).reestimates(live)
    asked = averaging.swa(enabled=True, reestimate_batch_norm=True)
    assert asked.reestimates(live)
    with pytest.raises(UserError, match='is frozen .fine_tune_batch_norm = False'):
        asked.build(frozen, 1000)
    with pytest.raises(UserError, match='folded or absent'):
        asked.build(network_of(live=True, norm=None), 1000)
    assert averaging.swa(reestimate_batch_norm=True).build(frozen) is None


@pytest.mark.parametrize('binding, message', [
    ("reading = 'model'", 'Did you mean "models"'), ('every = 0', 'a whole number of at least 1'),
    ('every = 2.5', 'a whole number'), ('constant = 0', 'a number above 0'),
    ('start = 1.5', 'at most 1'), ('enabled = 1', 'expected True or False'),
    ('batch_norm_batches = 0', 'at least 1'), ('reestimate_batch_norm = 3', 'True or False')])
def test_settings_out_of_range_are_one_line(binding, message):
    configuration.parse([], [f'swa.{binding}'])
    with pytest.raises(UserError, match=message) as caught:
        averaging.swa()
    assert '\n' not in str(caught.value) and f'swa.{binding.split()[0]}' in str(caught.value)


def test_settings_that_contradict_each_other_are_one_line():
    with pytest.raises(UserError, match='which counts the models instead'):
        averaging.swa(reading='models', constant=3)
    with pytest.raises(UserError, match='there will be nobody knows'):
        averaging.swa(enabled=True, start=0.5).build(network_of())
