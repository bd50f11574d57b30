"""Wasserstein losses: whose sign is whose, and the gradient penalty with its own gradient."""
import numpy as np
import pytest
import tensorflow as tf

from tf_advseg.adversaries import reconstruction_networks
from tf_advseg.losses import wasserstein

RANDOM = np.random.default_rng(0)
REAL, FAKE = (RANDOM.normal(size=(3, 6, 7, 3)).astype(np.float32) for _ in range(2))
MIX = np.array([0.0, 0.3, 1.0], np.float32)


def test_the_losses_are_differences_of_responses():
    real, fake = RANDOM.normal(size=(2, 4, 5)).astype(np.float32)
    np.testing.assert_array_equal(wasserstein.critic(real, fake), fake - real)
    np.testing.assert_array_equal(wasserstein.generator(fake), -fake)
    half = wasserstein.critic(tf.cast(real, tf.float16), tf.cast(fake, tf.float16))
    assert half.dtype == tf.float32 and half.shape == (4, 5)


def descent(loss, critic, generator, steps=20):
    """Scores of what is drawn, and of originals, after a critic's own steps down its loss."""
    weight = tf.Variable(0.0)
    for _ in range(steps):
        with tf.GradientTape() as tape:
            value = loss(weight * critic, weight * generator)
        weight.assign_sub(0.1 * tape.gradient(value, weight))
    return float(weight * critic), float(weight * generator)


def test_a_critic_learns_to_tell_originals_by_the_sign_of_its_own_paper():
    """Maximising E[D(real)] - E[D(fake)] sets them apart, and a generator pulls the other way."""
    real, fake = descent(wasserstein.critic, 2.0, -1.0)
    assert real > fake + 1.0
    with tf.GradientTape(persistent=True) as tape:
        response = tf.Variable(0.5)
        critic = wasserstein.critic(tf.constant(0.0), response)
        generator = wasserstein.generator(response)
    assert float(tape.gradient(critic, response)) == 1.0
    assert float(tape.gradient(generator, response)) == -1.0


def test_equation_8_as_printed_rewards_both():
    """D(real) - (1 - D(fake)), maximised: up with the response to a reconstruction, as eq. 6."""
    def printed(real, fake):
        return -(real - (1.0 - fake))
    with tf.GradientTape(persistent=True) as tape:
        real, fake = tf.Variable(0.2), tf.Variable(0.5)
        value, generator = printed(real, fake), wasserstein.generator(fake)
    assert float(tape.gradient(value, real)) == float(tape.gradient(value, fake)) == -1.0
    assert float(tape.gradient(value, fake)) == float(tape.gradient(generator, fake))
    # A critic of one weight by which originals and reconstructed ones are opposites learns nothing
    # of it.
    apart = [np.subtract(*descent(loss, 1.0, -1.0)) for loss in (wasserstein.critic, printed)]
    assert apart[0] > 1.0 and apart[1] == 0.0


@pytest.mark.parametrize('patches', [False, True])
def test_the_penalty_of_a_linear_critic_is_of_its_weights_norm(patches):
    """Between any two images the gradient of the mean response is w, or w by the patches."""
    w = RANDOM.normal(size=(6, 7, 3))

    def responses(x):
        each = tf.reduce_sum(x * tf.constant(w, tf.float32), axis=[1, 2, 3])
        # Four patches, of which one sees w, one twice of it and two nothing.
        return each[:, None, None] * tf.constant([[1.0, 2.0], [0.0, 0.0]]) if patches else each
    found = wasserstein.gradient_penalty(responses, REAL, FAKE, MIX)
    norm = np.linalg.norm(w) * (0.75 if patches else 1.0)
    assert found.shape == (3,) and found.dtype == tf.float32
    np.testing.assert_allclose(found, np.full(3, (norm - 1.0) ** 2), rtol=1e-5)


def test_the_penalty_looks_between_the_two_images():
    """D = sum x^3 / 3 has the gradient x^2: at mix 0 of the fake, at 1 of the real one."""
    found = wasserstein.gradient_penalty(
        lambda x: tf.reduce_sum(x ** 3, axis=[1, 2, 3]) / 3.0, REAL, FAKE, MIX)
    mix = MIX.astype(np.float64)[:, None, None, None]
    between = mix * REAL + (1 - mix) * FAKE
    expected = (np.sqrt((between ** 4).sum((1, 2, 3))) - 1) ** 2
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_allclose(np.sqrt((FAKE[0].astype(float) ** 4).sum()),
                               np.sqrt(expected[0]) + 1, rtol=1e-5)


def test_a_critic_that_says_nothing_has_a_penalty_of_1_and_a_finite_gradient():
    kernel = tf.Variable(tf.zeros([1, 1, 3, 1]))
    with tf.GradientTape() as tape:
        found = wasserstein.gradient_penalty(
            lambda x: tf.nn.conv2d(x, kernel, 1, 'SAME')[..., 0], REAL, FAKE, MIX)
        loss = tf.reduce_mean(found)
    np.testing.assert_allclose(found, np.ones(3), atol=1e-5)
    assert np.all(np.isfinite(tape.gradient(loss, kernel)))


@pytest.mark.parametrize('normalisation', ['none', 'instance'])
def test_the_penaltys_gradient_is_its_slope_through_the_real_discriminator(normalisation):
    """Gradients of gradients, against central differences along one direction a variable."""
    random = np.random.default_rng(3)
    judge = reconstruction_networks.build_patch_discriminator(2, seed=1, widths=(3, 4),
                                                              normalisation=normalisation)
    for variable in judge.trainable_variables:
        variable.assign(random.normal(size=variable.shape) * 0.4)
    real, fake = (random.uniform(-1, 1, (3, 17, 19, 3)).astype(np.float32) for _ in range(2))
    condition = random.uniform(size=(3, 17, 19, 2)).astype(np.float32)

    @tf.function
    def penalty():
        with tf.GradientTape() as tape:
            found = tf.reduce_mean(wasserstein.gradient_penalty(
                lambda x: judge(x, condition=condition, training=True), real, fake, MIX))
        return found, tape.gradient(found, judge.trainable_variables,
                                    unconnected_gradients=tf.UnconnectedGradients.ZERO)
    gradients, seen = penalty()[1], 0
    for variable, gradient in zip(judge.trainable_variables, gradients):
        length = float(tf.norm(gradient))
        if length < 1e-6:  # biases before a norm, for one, move no gradient
            continue
        before, ends = variable.numpy(), []
        for sign in (1, -1):  # along the gradient: its length is the slope
            variable.assign(before + sign * 1e-4 * gradient.numpy() / length)
            ends.append(float(penalty()[0]))
        variable.assign(before)
        assert (ends[0] - ends[1]) / 2e-4 == pytest.approx(length, rel=0.02), variable.name
        seen += 1
    # Without a norm no bias counts; with one the first kernel's and bias', the second kernel and
    # gamma, the last kernel. tf.nn.moments (in tensorflow-addons) gives the second bias one, too.
    assert seen == {'none': 3, 'instance': 5}[normalisation]
