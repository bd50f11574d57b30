"""The objective: the segmentor's step, the control's and the diagnostics are of one template."""
import numpy as np
import one_layer
import pytest
import steps
import tensorflow as tf

from tf_advseg.adversaries import encoder_decoder, field_of_view, label_maps
from tf_advseg.core.errors import UserError
from tf_advseg.experiments import small_methods
from tf_advseg.experiments.benchmarks import device_steps
from tf_advseg.methods import durall, luc, objective
from tf_advseg.methods import step_parts
from tf_advseg.models import farabet
from tf_advseg.training import optimizers

CLASSES, SIDE, RATE = 3, 17, 0.5
SINGLE = tf.distribute.OneDeviceStrategy('/cpu:0')
SEED = np.array([1, 2], np.int32)


class TwoTerms(objective.Objective):
    """Cross-entropy and two terms of the logits: the mean square, and the mean."""

    weights = (0.3, -2.0)

    @property
    def phases(self):
        return {'segmentor': self.segmentor_step}

    def terms(self, batch, logits, seed, scale=1.0):
        share = 1.0 / step_parts.global_sum(tf.cast(tf.size(logits), tf.float32))
        return ({'square': (scale * self.weights[0], share * tf.reduce_sum(tf.square(logits))),
                 'mean': (self.weights[1], share * tf.reduce_sum(logits))},
                {'extra': step_parts.share(7.0)})


def build(strategy=SINGLE, l2_weight=0.1):
    with strategy.scope():
        segmentor = one_layer.OneLayer(CLASSES)
        random = np.random.default_rng(5)
        for variable in segmentor.trainable_variables:
            variable.assign(random.normal(size=variable.shape))
        return TwoTerms(segmentor, optimizers.make_optimizer('sgd', RATE),
                        objective.PixelLoss(l2_weight=l2_weight), 'two_terms')


def images(size=5):
    random = np.random.default_rng(7)
    label = random.integers(0, CLASSES, (size, SIDE, SIDE)).astype(np.int32)
    for row in range(size):
        label[row, :2 * row] = 255
    return {'image': random.uniform(0, 255, (size, SIDE, SIDE, 3)).astype(np.float32),
            'label': label}


def tensors(batch):
    return {name: tf.constant(value) for name, value in batch.items()}


def gradient(method, batch, weights):
    """Of CE and the terms by `weights`, with two plain tapes; the decay by hand."""
    variables = method.segmentor.trainable_variables
    with tf.GradientTape() as tape:
        logits = method.logits(batch, SEED)
        terms, _ = method.terms(batch, logits, SEED)
        loss = method.cross_entropy(logits, batch, SEED) + sum(
            weight * terms[name][1] for name, weight in weights.items())
    found = tape.gradient(loss, variables)
    return [g + method.pixel_loss.l2_weight * v if len(v.shape) == 4 else g
            for g, v in zip(found, variables)]


@pytest.mark.parametrize('phase, weights', [
    ('segmentor_step', {'square': 0.3, 'mean': -2.0}), ('cross_entropy_step', {})])
@pytest.mark.parametrize('multipliers', [None, [3.0, 0.0]])
def test_a_step_goes_down_the_whole_objective_by_its_multipliers(phase, weights, multipliers):
    method, batch = build(), tensors(images())
    method.multipliers = multipliers
    variables = method.segmentor.trainable_variables
    before, expected = [v.numpy() for v in variables], gradient(method, batch, weights)
    logs = getattr(method, phase)(batch, SEED)
    for start, variable, slope, factor in zip(before, variables, expected, multipliers or [1, 1]):
        np.testing.assert_allclose(variable, start - RATE * factor * slope, rtol=1e-5, atol=1e-6)
    terms = {f'loss/{name}' for name in weights}
    assert set(logs) == {'loss/ce', 'loss/total', 'weights/norm', *terms,
                         *(['extra'] if weights else [])}
    kernel = [v for v in before if v.ndim == 4][0]
    total = float(logs['loss/ce']) + sum(
        weight * float(logs[f'loss/{name}']) for name, weight in weights.items())
    assert float(logs['loss/total']) == pytest.approx(
        total + 0.05 * np.square(kernel).sum(), rel=1e-5)


def test_what_a_step_is_handed_reaches_the_terms_and_not_the_controls_step():
    batch = tensors(images())
    ends = []
    for scale in (0.0, 1.0):
        method = build()
        method.segmentor_step(batch, SEED, scale=tf.constant(scale))
        control = build()
        control.cross_entropy_step(batch, SEED, scale=tf.constant(scale))
        ends.append([m.segmentor.trainable_variables[0].numpy() for m in (method, control)])
    assert np.abs(ends[0][0] - ends[1][0]).max() > 1e-3
    np.testing.assert_array_equal(ends[0][1], ends[1][1])


def test_every_term_is_compared_with_cross_entropy_without_its_weight():
    method, batch = build(l2_weight=0.0), tensors(images())
    found = {name: float(value) for name, value in method.gradient_balance(batch, SEED).items()}
    ce = gradient(method, batch, {})
    for term in ('square', 'mean'):
        both = gradient(method, batch, {term: 1.0})
        alone = np.concatenate([(b - c).numpy().ravel() for b, c in zip(both, ce)])
        flat = np.concatenate([c.numpy().ravel() for c in ce])
        assert found[f'grad/{term}'] == pytest.approx(np.linalg.norm(alone), rel=1e-4)
        assert found[f'grad_ratio/{term}_ce'] == pytest.approx(
            np.linalg.norm(alone) / np.linalg.norm(flat), rel=1e-4)
        assert found[f'grad_cosine/{term}_ce'] == pytest.approx(
            alone @ flat / np.linalg.norm(alone) / np.linalg.norm(flat), abs=1e-4)
    assert found['grad/ce'] == pytest.approx(np.linalg.norm(flat), rel=1e-4)


def test_two_replicas_equal_one_device(two_replicas):
    """Five images: the replicas' shares differ in size and in labelled pixels."""
    ends = []
    for strategy in (SINGLE, two_replicas):
        method = build(strategy)
        logs, = steps.take(method, strategy, images(), ['segmentor'], scale=2.0)
        ends.append((logs, [v.numpy() for v in method.segmentor.trainable_variables]))
    (one, ours), (two, theirs) = ends
    assert one == pytest.approx(two, rel=1e-5)
    for a, b in zip(ours, theirs):
        np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.parametrize('name', ['luc', 'durall'])
def test_the_papers_steps_apply_the_multipliers_that_the_controls_apply(name):
    """A multiplier of 0 holds the last layer in both; only in the control's it once did."""
    def made(controls):
        segmentor, maps = farabet.farabet(CLASSES, hidden=4, seed=1), label_maps.LabelMaps(CLASSES)
        own, other = (optimizers.make_optimizer('sgd', 0.1) for _ in range(2))
        if name == 'luc':
            judge = field_of_view.build_fov_discriminator('small_fov_light', CLASSES, CLASSES,
                                                          seed=2)
            method = luc.Luc(segmentor, judge, own, other, maps)
        else:
            judge = encoder_decoder.build_pixel_discriminator(CLASSES, 'pixel', seed=2,
                                                              widths=(4, 8))
            method = durall.Durall(segmentor, judge, own, other)
        if controls:
            method = objective.Control(segmentor, own, method.pixel_loss)
        method.multipliers = [0.0 if 'logits' in v.name else 1.0
                              for v in segmentor.trainable_variables]
        return method

    for controls, phase in ((False, 'segmentor'), (True, 'cross_entropy')):
        method = made(controls)
        variables = method.segmentor.trainable_variables
        before = [v.numpy() for v in variables]
        method.phases[phase](tensors(images()), SEED)
        for start, variable, factor in zip(before, variables, method.multipliers):
            assert np.array_equal(start, variable) == (factor == 0.0), variable.name
        assert 0.0 in method.multipliers and 1.0 in method.multipliers


@pytest.mark.parametrize('given', [
    {'dice': 0.5}, {'lovasz': 0.7}, {'focal': 2.0, 'focal_gamma': 1.5},
    {'cross_entropy': 0.0, 'dice': 1.0, 'lovasz': 1.0, 'focal': 1.0}])
def test_further_losses_are_of_the_global_batch(two_replicas, given):
    """A step of every method and of the control has them, whatever the replicas' shares are."""
    bindings = [f'further_losses.{name} = {value}' for name, value in given.items()]
    ends = []
    for strategy in (tf.distribute.OneDeviceStrategy('/cpu:0'), two_replicas):
        with strategy.scope(), small_methods.bound(bindings):
            control = objective.Control(
                device_steps.NETWORKS['farabet'](), optimizers.make_optimizer('sgd', 0.1),
                objective.PixelLoss())
        batch = small_methods.images(device_steps.CLASSES, device_steps.SIDE, 5)
        batch['label'][3] = 255  # an image without labels counts for nothing
        found, = steps.take(control, strategy, batch, ['cross_entropy'])
        ends.append((found, [v.numpy() for v in control.segmentor.trainable_variables]))
    (one, ours), (two, theirs) = ends
    names = {f'loss/{name}' for name in ('dice', 'lovasz', 'focal') if given.get(name)}
    assert names <= set(one) == set(two)
    total = given.get('cross_entropy', 1.0) * one['loss/ce'] + sum(
        given[name[5:]] * one[name] for name in names)
    assert one['loss/total'] == pytest.approx(total, rel=1e-4)
    for name, value in one.items():
        assert value == pytest.approx(two[name], rel=1e-4, abs=1e-6), name
    for mine, its in zip(ours, theirs):
        np.testing.assert_allclose(mine, its, rtol=1e-3, atol=1e-5)


def test_gradients_are_compared_with_all_that_is_learnt_from_labels():
    """Of which a balanced lambda is made: with Dice alone it is Dice's gradient."""
    batch = {k: tf.constant(v) for k, v in small_methods.images(3, SIDE, 2).items()}
    found = []
    for bindings in ((), ('further_losses.cross_entropy = 0.5',),
                     ('further_losses.cross_entropy = 0.0', 'further_losses.dice = 1.0')):
        with small_methods.bound(bindings):
            method = TwoTerms(one_layer.OneLayer(CLASSES), optimizers.make_optimizer('sgd', 0.1),
                              objective.PixelLoss(), 'two')
        found.append(float(method.gradient_balance(batch, SEED)['grad/ce']))
    assert found[1] == pytest.approx(0.5 * found[0], rel=1e-4)
    assert found[2] != pytest.approx(found[0], rel=0.05) and found[2] > 0


@pytest.mark.parametrize('loss', [{'reduction': 'sum'}, {'reduction': 'mean_of_sums'},
                                  {'pixels_per_image': 5}])
def test_further_losses_beside_a_sum_are_refused(loss):
    with small_methods.bound(('further_losses.dice = 1.0',)):
        with pytest.raises(UserError, match='means over images or pixels'):
            objective.Control(one_layer.OneLayer(CLASSES), optimizers.make_optimizer('sgd', 0.1),
                              objective.PixelLoss(**loss))


def test_without_further_losses_nothing_says_that_there_are_any():
    assert objective.FurtherLosses().identity == {}
    assert objective.FurtherLosses(dice=1.0).identity['further_losses']['dice'] == 1.0


@pytest.mark.parametrize('given, words', [
    ({'dice': -1}, 'further_losses.dice'), ({'cross_entropy': 0}, 'all weights are 0'),
    ({'focal_gamma': 1.0}, 'has no effect'), ({'focal': 'much'}, 'further_losses.focal')])
def test_further_losses_out_of_range_are_one_line(given, words):
    with pytest.raises(UserError, match=words):
        objective.FurtherLosses(**given)
