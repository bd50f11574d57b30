"""Features of a backbone that stands still, whatever becomes of the segmentor."""
import numpy as np
import pytest
import tensorflow as tf

from tf_advseg.adversaries import discriminators
from tf_advseg.adversaries import encodings
from tf_advseg.core.errors import UserError
from tf_advseg.lookahead import frozen_features
from tf_advseg.methods import load
from tf_advseg.models import segmentor as segmentors
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


def test_what_the_backbone_made_already_gives_the_same():
    """Of a live input too: features of the kept maps and of the image are one."""
    description = networks.describe('deeplab_mobilenet_v2', num_classes=3, seed=2,
                                    depth_multiplier=0.25, crop_size=(49, 65))
    segmentor = networks.build(description)
    whole = {id(v) for v in segmentors.decayed_kernels(segmentor)}
    segmentor.backbone.trainable = False
    left = {id(v) for v in segmentors.decayed_kernels(segmentor)}
    assert left and left < whole  # frozen kernels do not decay
    encoding = encodings.Encoding(3, (4, 5), 'concat', stride=16, grid=(4, 5))
    features = frozen_features.FrozenBackbone(description, segmentor, encoding.points)
    discriminator = discriminators.build_discriminator(
        'patch', channels=encoding.channels + features.channels, size=encoding.points, seed=1)
    method = load.LoAd(segmentor, discriminator, *(tf.keras.optimizers.SGD(1e-3) for _ in range(2)),
                       encoding, load.Settings(map_kind='hard', backbone_features=True), features)
    image = tf.random.stateless_uniform([2, 49, 65, 3], [1, 2], 0.0, 255.0)
    labels = tf.random.stateless_uniform([2, 49, 65], [3, 4], 0, 3, tf.int32)
    maps = segmentor.backbone(segmentor.normalisation(image))
    np.testing.assert_allclose(features.of_maps(maps['features']), features(image), atol=1e-5)
    logits = segmentor.head(maps)
    known = method.live_input(image, labels, logits, maps['features']).numpy()
    anew = method.live_input(image, labels, logits).numpy()
    np.testing.assert_allclose(known, anew, atol=1e-5)
    other = method.live_input(image, labels, logits, maps['features'][::-1]).numpy()
    assert np.abs(other - anew)[..., -features.channels:].max() > 1e-3  # it is what is handed over
    np.testing.assert_array_equal(other[..., :-features.channels], anew[..., :-features.channels])


def test_a_network_without_a_backbone_is_one_line():
    with pytest.raises(UserError, match='load.backbone_features = True'):
        frozen_features.FrozenBackbone(None, tf.keras.Sequential(), (3, 3))
