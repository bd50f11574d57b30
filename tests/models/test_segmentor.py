"""Any Keras model with per-pixel logits under the segmentor contract."""
import numpy as np
import pytest
import tensorflow as tf
import variable_groups

from tf_advseg.core.errors import UserError
from tf_advseg.models import deeplab, layers, segmentor

K = tf.keras.layers


def functional(classes=3, stride=2, size=(None, None), padding='same', activation=None):
    image = tf.keras.Input([*size, 3])
    x = K.Conv2D(4, 3, strides=stride, padding=padding)(image)
    x = K.BatchNormalization()(x)
    x = K.DepthwiseConv2D(3, padding='same')(K.ReLU()(x))
    x = K.Dropout(0.5)(x)
    return tf.keras.Model(image, K.Conv2D(classes, 1, activation=activation)(x))


class Subclassed(tf.keras.Model):
    """Returns a dict; its call takes no `training`."""

    def __init__(self):
        super().__init__()
        self.convolution = K.Conv2D(2, 3, strides=4, padding='same')

    def call(self, x):
        return {'logits': self.convolution(x), 'other': x}


class Seeded(tf.keras.Model):
    """Takes a dropout seed."""

    def __init__(self):
        super().__init__()
        self.convolution = K.Conv2D(2, 3, padding='same')
        self.dropout = layers.StatelessDropout(0.5)

    def call(self, x, training=False, dropout_seed=None):
        return self.convolution(self.dropout(x, training=training, seed=dropout_seed))


def make_image(height=33, width=50):
    return np.random.default_rng(0).uniform(0, 255, (2, height, width, 3)).astype(np.float32)


@pytest.mark.parametrize('stride', [1, 2, 3, 8])
def test_a_functional_model_keeps_the_contract(stride):
    model = segmentor.as_segmentor(functional(3, stride), num_classes=3)
    assert isinstance(model, tf.keras.Model)
    assert (model.num_classes, model.logits_stride, model.output_stride) == (3, stride, stride)
    assert model.crop_size is None and model.fine_tune_batch_norm is False
    logits = segmentor.apply(model, make_image(), training=True, dropout_seed=tf.constant([1, 2]))
    assert logits.shape.as_list() == [2, 32 // stride + 1, 49 // stride + 1, 3]
    assert logits.dtype == tf.float32


def test_the_weights_are_the_models_own_and_all_train():
    inner = functional()
    model = segmentor.as_segmentor(inner)
    assert [id(v) for v in model.trainable_variables] == [id(v) for v in inner.trainable_variables]
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(segmentor.apply(model, make_image(), training=True) ** 2)
    assert all(g is not None for g in tape.gradient(loss, model.trainable_variables))
    assert segmentor.parameter_count(model)[0] == inner.count_params()


def test_foreign_batch_norm_and_dropout_rest_unless_asked():
    inner = functional()
    model = segmentor.as_segmentor(inner)
    before = [v.numpy() for v in inner.non_trainable_variables]
    first = segmentor.apply(model, make_image(), training=True)
    np.testing.assert_array_equal(first, segmentor.apply(model, make_image(), training=False))
    for variable, value in zip(inner.non_trainable_variables, before):
        np.testing.assert_array_equal(variable, value)
    live = segmentor.as_segmentor(inner, fine_tune_batch_norm=True)
    segmentor.apply(live, make_image(), training=True)
    assert any(np.any(v.numpy() != b) for v, b in zip(inner.non_trainable_variables, before))


def test_sequential_two_classes_own_normalisation():
    inner = tf.keras.Sequential([K.Rescaling(1 / 255), K.Conv2D(2, 3, padding='same')])
    model = segmentor.as_segmentor(inner, num_classes=2)
    assert model.logits_stride == 1
    np.testing.assert_allclose(model(make_image()), inner(make_image()), atol=1e-6)


def test_only_a_mean_that_is_subtracted_from_the_image_is_a_padding_colour():
    mean = layers.MeanSubtraction(layers.CAFFE_MEAN, bgr=True)
    keras = K.Normalization(mean=[1.0, 2.0, 3.0], variance=[1.0, 1.0, 1.0])
    for normalise, colour in ((mean, layers.CAFFE_MEAN), (keras, (127.5,) * 3),
                              (None, (127.5,) * 3), (lambda x: x / 255, (127.5,) * 3)):
        model = segmentor.as_segmentor(functional(), normalise=normalise)
        assert segmentor.padding_colour(model) == colour
        model.normalisation = normalise
        assert segmentor.padding_colour(model) == colour


def test_normalise_and_pick_are_callables():
    inner = Subclassed()
    model = segmentor.as_segmentor(inner, normalise=lambda x: x / 127.5 - 1,
                                   pick=lambda output: output['logits'])
    assert (model.num_classes, model.logits_stride) == (2, 4)
    np.testing.assert_allclose(model(make_image()), inner(make_image() / 127.5 - 1)['logits'],
                               atol=1e-6)


def test_a_seed_is_passed_to_a_model_that_takes_one():
    model = segmentor.as_segmentor(Seeded())
    runs = [segmentor.apply(model, make_image(), training=True, dropout_seed=tf.constant([1, s]))
            for s in (1, 1, 2)]
    np.testing.assert_array_equal(runs[0], runs[1])
    assert np.any(runs[0].numpy() != runs[2].numpy())


def test_maps_of_valid_padding_are_brought_to_the_contracts_size():
    model = segmentor.as_segmentor(functional(3, 2, padding='valid'))
    assert model.logits_stride == 2
    assert model(make_image()).shape.as_list() == [2, 17, 25, 3]


def test_a_fixed_input_size_is_the_crop_size():
    model = segmentor.as_segmentor(functional(3, 4, size=(49, 33)))
    assert model.crop_size == (49, 33)
    assert model.logits_stride == 4


def test_works_inside_a_graph_of_any_size():
    model = segmentor.as_segmentor(functional())
    graph = tf.function(model, input_signature=[tf.TensorSpec([None, None, None, 3])])
    np.testing.assert_allclose(graph(make_image()), model(make_image()), atol=1e-5)


def test_a_segmentor_is_returned_as_it_is():
    ours = deeplab.deeplab_mobilenet_v2(2, depth_multiplier=0.25)
    wrapped = segmentor.as_segmentor(functional())
    assert segmentor.as_segmentor(ours) is ours
    assert segmentor.as_segmentor(wrapped) is wrapped
    with pytest.raises(UserError, match='2 classes'):
        segmentor.as_segmentor(ours, num_classes=3)


def test_decayed_kernels_of_a_foreign_model_exclude_depthwise_and_vectors():
    inner = functional()
    decayed = segmentor.decayed_kernels(segmentor.as_segmentor(inner))
    assert [v.name.split('/')[-1] for v in decayed] == ['kernel:0', 'kernel:0']
    groups = variable_groups.variable_groups(segmentor.as_segmentor(inner))
    assert len(groups['backbone']) == len(inner.trainable_variables)


@pytest.mark.parametrize('make, options, words', [
    (lambda: (lambda x: x), {}, 'tf.keras.Model'),
    (lambda: functional(3), {'num_classes': 5}, '3 channels, expected num_classes = 5'),
    (lambda: functional(3, activation='softmax'), {}, 'probabilities'),
    (Subclassed, {}, "keys \\['logits', 'other'\\]"),
    (lambda: tf.keras.Sequential([K.Conv2D(2, 3), K.GlobalAveragePooling2D()]), {}, 'per-pixel'),
    (lambda: tf.keras.Sequential([tf.keras.Input([None, None, 1]), K.Conv2D(2, 3)]), {},
     'does not take an image')])
def test_what_is_no_segmentor_is_refused_in_one_line(make, options, words):
    with pytest.raises(UserError, match=words) as error:
        segmentor.as_segmentor(make(), **options)
    assert '\n' not in str(error.value)
