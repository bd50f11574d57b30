"""The mean teacher: what it is after each step, on one device and on two replicas."""
import numpy as np
import pytest
import tensorflow as tf

from tf_advseg.core.errors import UserError
from tf_advseg.experiments.benchmarks import device_steps
from tf_advseg.models import segmentor as segmentors
from tf_advseg.run import networks
from tf_advseg.training import teacher as teachers


def followed(strategy, steps=4, decay=0.6):
    """([student's values at each step], the teacher's at the end)."""
    with strategy.scope():
        student = device_steps.NETWORKS['farabet']()
        follower = teachers.MeanTeacher(networks.twin(student), student, decay)
        for variable in follower.network.variables:  # as after another training
            variable.assign(variable * 0.0 + 5.0)

        @tf.function
        def step(number):
            def moved():
                follower.follow(number)
            strategy.run(moved)
    seen = []
    for number in range(steps):
        random = np.random.default_rng(number)
        for variable in student.variables:
            variable.assign(random.normal(size=variable.shape))
        step(tf.constant(number))
        seen.append([v.numpy() for v in student.variables])
    return seen, [v.numpy() for v in follower.network.variables]


def expected(seen, decay):
    mean = None
    for number, values in enumerate(seen):
        kept = min(decay, 1.0 - 1.0 / (number + 1))
        mean = values if mean is None else [kept * m + (1 - kept) * v
                                            for m, v in zip(mean, values)]
    return mean


@pytest.mark.parametrize('decay', [0.6, 0.0, 0.99])
def test_it_is_the_average_it_says(decay):
    seen, ends = followed(tf.distribute.OneDeviceStrategy('/cpu:0'), decay=decay)
    for ours, theirs in zip(ends, expected(seen, decay)):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_two_replicas(two_replicas):
    seen, ends = followed(two_replicas)
    for ours, theirs in zip(ends, expected(seen, 0.6)):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_statistics_of_batch_norm_follow_as_well():
    student = device_steps.NETWORKS['deeplab_mobilenet_v2']()
    follower = teachers.MeanTeacher(networks.twin(student), student, 0.5)
    pairs = [(mine, its) for mine, its in zip(follower.network.variables, student.variables)
             if 'moving_mean' in its.name]
    assert pairs
    for _, its in pairs:
        its.assign(its + 1.0)
    before = [mine.numpy() for mine, _ in pairs]
    follower.follow(5)
    for (mine, its), value in zip(pairs, before):
        np.testing.assert_allclose(mine, 0.5 * value + 0.5 * its.numpy(), rtol=1e-5)


def keras_batch_norm():
    layers = tf.keras.layers
    return segmentors.as_segmentor(tf.keras.Sequential([
        layers.Conv2D(4, 3, 2, 'same'), layers.BatchNormalization(), layers.Conv2D(3, 1)]),
        normalise=lambda x: x / 255.0)


@pytest.mark.parametrize('build', [device_steps.NETWORKS['deeplab_mobilenet_v2'],
                                   keras_batch_norm])
def test_statistics_that_differ_between_replicas_are_followed_by_their_mean(two_replicas, build):
    """Each replica's teacher has the same ones after it: those that are saved, too."""
    with two_replicas.scope():
        student = build()
        student(np.zeros([1, 33, 33, 3], np.float32))
        follower = teachers.MeanTeacher(networks.twin(student), student, 0.5)
    statistics = [(mine, its) for mine, its in zip(follower.network.variables, student.variables)
                  if 'moving' in its.name]
    before = [mine.numpy() for mine, _ in statistics]

    @tf.function
    def step():
        def moved():
            number = tf.distribute.get_replica_context().replica_id_in_sync_group
            for _, its in statistics:
                its.assign(tf.ones_like(its) * (2.0 + 4.0 * tf.cast(number, tf.float32)))
            follower.follow(5)
        two_replicas.run(moved)
    step()
    assert statistics
    for (mine, _), was in zip(statistics, before):
        for value in two_replicas.experimental_local_results(mine):
            np.testing.assert_allclose(value.numpy(), 0.5 * was + 0.5 * 4.0, rtol=1e-5)


def test_a_twin_is_the_same_function_with_weights_of_its_own():
    image = np.random.default_rng(1).uniform(0, 255, (1, 33, 33, 3)).astype(np.float32)
    layers = tf.keras.layers
    foreign = segmentors.as_segmentor(tf.keras.Sequential([
        layers.Conv2D(4, 3, 2, 'same'), layers.BatchNormalization(), layers.Conv2D(3, 1)]),
        normalise=lambda x: x / 255.0)
    for student in (device_steps.NETWORKS['deeplab_mobilenet_v2'](), foreign):
        twin = networks.twin(student)
        before = student(image).numpy()
        np.testing.assert_array_equal(twin(image), before)
        for variable in student.trainable_variables:
            variable.assign(variable * 1.5 + 0.1)
        np.testing.assert_array_equal(twin(image), before)
        assert np.abs(student(image).numpy() - before).max() > 1e-3


def test_a_network_that_cannot_be_copied_is_one_line():
    class Own(tf.keras.Model):
        def __init__(self, end):
            super().__init__()
            self.layer, self.end = tf.keras.layers.Conv2D(3, 1), end

        def call(self, x):
            return self.end(self.layer(x))
    with pytest.raises(UserError, match='second network like it'):
        networks.twin(segmentors.as_segmentor(Own(lambda x: x)))
