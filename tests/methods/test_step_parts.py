"""Gradient multipliers against the official DeepLab code's; mining; labels at the logits' size."""
import json

import numpy as np
import pytest
import tensorflow as tf
import variable_groups

from tf_advseg.core.errors import UserError
from tf_advseg.losses import pixel
from tf_advseg.methods import step_parts
from tf_advseg.models import deeplab, dilated8, layers, segmentor
from tf_advseg.training import optimizers

RANDOM = np.random.default_rng(5)
LOGITS = RANDOM.normal(size=(2, 5, 5, 3)).astype(np.float32)
LABELS = RANDOM.choice([0, 1, 2, 255], (2, 17, 17)).astype(np.int32)


@pytest.fixture(scope='module')
def network():
    return deeplab.deeplab_mobilenet_v2(4, depth_multiplier=0.25, crop_size=65, decoder=True,
                                        atrous_rates=(6,))


def test_multipliers_are_the_official_ones(official):
    listed = json.loads(official.path('train_schedules.json').read_text())
    names = layers.official_variables(deeplab.deeplab_mobilenet_v2(21))
    assert list(step_parts.LAST_LAYERS) == listed['extra_layer_scopes']
    assert step_parts.official_multipliers(names, 10.0) == listed[
        'gradient_multipliers_10x_all_last_layers']
    assert step_parts.official_multipliers(
        names, 10.0, last_layers=step_parts.LOGITS_ONLY) == listed[
            'gradient_multipliers_10x_logits_only']


def test_multipliers_go_to_their_variables(network):
    assert step_parts.gradient_multipliers(network) is None
    multipliers = step_parts.gradient_multipliers(network, 3.0, 2.0)
    groups = variable_groups.variable_groups(network)
    last = {id(v) for v in groups['head'] + groups['logits']}
    for variable, value in zip(network.trainable_variables, multipliers):
        bias = variable.name.endswith('biases:0')
        assert value == (3.0 if id(variable) in last else 1.0) * (2.0 if bias else 1.0)
    only_biases = step_parts.gradient_multipliers(network, bias=2.0)
    assert sorted(only_biases)[-2:] == [1.0, 2.0]


def test_a_network_without_such_layers_is_refused():
    inputs = tf.keras.Input([None, None, 3])
    foreign = segmentor.as_segmentor(
        tf.keras.Model(inputs, tf.keras.layers.Conv2D(3, 1, 4)(inputs)), 3)
    assert step_parts.gradient_multipliers(foreign) is None
    with pytest.raises(UserError, match='set both to 1'):
        step_parts.gradient_multipliers(foreign, 10.0)


def test_last_layers_that_a_network_does_not_have_are_refused():
    network = dilated8.dilated8(3, 'basic', fc_channels=2)
    assert max(step_parts.gradient_multipliers(network, bias=2.0)) == 2.0  # it has biases
    with pytest.raises(UserError, match='last_layers') as error:
        step_parts.gradient_multipliers(network, 10.0, 2.0)
    assert '\n' not in str(error.value) and 'dilated8' in str(error.value)
    multipliers = step_parts.gradient_multipliers(network, 10.0, 2.0, ('fc-final', 'ct_'))
    of_logits = {id(v) for v in network.logits.trainable_variables}
    assert {id(v) for v, value in zip(network.trainable_variables, multipliers)
            if value >= 10.0} == of_logits


def test_multiplied_gradients_are_applied():
    variables = [tf.Variable(1.0), tf.Variable(1.0), tf.Variable(1.0)]
    optimizer = optimizers.make_optimizer('sgd', 0.1)
    optimizer.build(variables)
    step_parts.apply_gradients(optimizer, [tf.constant(1.0), tf.constant(2.0), None], variables,
                               [10.0, 1.0, 5.0])
    assert [float(v) for v in variables] == pytest.approx([0.0, 0.8, 1.0], abs=1e-6)


def test_labels_brought_to_the_logits_size():
    small = LABELS[:, ::4, ::4]
    sums, counts = pixel.cross_entropy(LOGITS, small)
    ours = step_parts.pixel_loss(LOGITS, LABELS, upsample=False)
    assert float(ours) == pytest.approx(float(tf.reduce_sum(sums) / tf.reduce_sum(counts)))
    weights = RANDOM.uniform(0.1, 2.0, LABELS.shape).astype(np.float32)
    sums, _ = pixel.cross_entropy(LOGITS, small, pixel_weights=weights[:, ::4, ::4])
    weighted = step_parts.pixel_loss(LOGITS, LABELS, pixel_weights=weights, upsample=False)
    assert float(weighted) == pytest.approx(float(tf.reduce_sum(sums) / tf.reduce_sum(counts)))


def test_mining_on_replicas_is_the_mean_of_their_own(two_replicas):
    def share(logits, labels):
        return step_parts.pixel_loss(logits, labels, hard_fraction=0.25)

    def of_replica(array):
        return two_replicas.experimental_distribute_values_from_function(
            lambda context: tf.constant(array[context.replica_id_in_sync_group][None]))

    shares = two_replicas.run(share, [of_replica(LOGITS), of_replica(LABELS)])
    total = two_replicas.reduce('sum', shares, axis=None)
    alone = [float(share(LOGITS[i:i + 1], LABELS[i:i + 1])) for i in range(2)]
    assert float(total) == pytest.approx(np.mean(alone), rel=1e-6)
