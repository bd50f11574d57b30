"""Features of a backbone that stands still, whatever becomes of the segmentor."""
import numpy as np
import pytest
import tensorflow as tf

from tf_advseg.core.errors import UserError
from tf_advseg.lookahead import frozen_features
from tf_advseg.run import networks


def test_they_are_of_the_weights_as_they_were_and_of_the_points_asked_for():
    description = networks.describe('deeplab_mobilenet_v2', num_classes=3, seed=2,
                                    depth_multiplier=0.25, crop_size=(33, 49))
    segmentor = networks.build(description)
    features = frozen_features.FrozenBackbone(description, segmentor, (3, 4))
    image = tf.random.stateless_uniform([2, 33, 49, 3], [1, 2], 0.0, 255.0)
    before = features(image).numpy()
    assert before.shape == (2, 3, 4, features.channels) and features.channels == 80
    lengths = np.sqrt(np.sum(np.square(before), -1))
    assert 0.5 < lengths.mean() and lengths.max() <= 1.0 + 1e-5  # between two points it is shorter
    for variable in segmentor.trainable_variables:
        variable.assign(variable * 1.5)
    np.testing.assert_array_equal(features(image), before)
    with tf.GradientTape() as tape:
        tape.watch(image)
        total = tf.reduce_sum(features(image))
    assert tape.gradient(total, image) is None


def test_a_network_without_a_backbone_is_one_line():
    with pytest.raises(UserError, match='load.backbone_features = True'):
        frozen_features.FrozenBackbone(None, tf.keras.Sequential(), (3, 3))
