"""LoAd's discriminators: MobileNet-224 and its alternatives.

Those here are encoder -> global average -> dropout -> Dense(1), without a sigmoid: one logit an
image. 'patch' (adversaries/patch_discriminator.py) gives a map of them. The encoders have
their own file-free initialisation: every kernel is drawn from the discriminator's seed and the
kernel's place, so neither the global random state nor what was built before changes a weight.
"""
import inspect
import warnings

import gin
import numpy as np
import tensorflow as tf

from tf_advseg.adversaries import patch_discriminator
from tf_advseg.core import arguments
from tf_advseg.core.errors import UserError, require_one_of
from tf_advseg.models import precision
from tf_advseg.models.layers import StatelessDropout

NAMES = ('mobilenet', 'vgg16', 'small_cnn', 'patch')

# Keras' own architectures stop at an input of 32; four halvings need 16.
_SMALLEST = {'mobilenet': 32, 'vgg16': 32, 'small_cnn': 16, 'patch': 4}
_SMALL_CNN_WIDTHS = (32, 64, 128, 256)


class Discriminator(tf.keras.Model):
    """Encoder, dropout, Dense(1): encoded input [B,size,size,channels] -> logits float32 [B].

    Attributes:
      encoder: keras model giving features [B,F].
      has_batch_norm: whether `training=True` moves statistics (`reestimate_batch_norm` applies).
    """

    def __init__(self, encoder, dropout, name):
        super().__init__(name=name)
        self.encoder = encoder
        self.dropout = StatelessDropout(dropout)
        self.logits = tf.keras.layers.Dense(1, name='logits', dtype='float32')
        with tf.name_scope('logits'):
            self.logits.build(encoder.output_shape)
        self.has_batch_norm = bool(batch_norm_layers(encoder))
        self.built = True

    def call(self, x, training=False, dropout_seed=None):
        """Judges x float [B,size,size,channels].

        Args:
          training: python bool. True uses the batch's statistics in batch norm and moves the
            averages, and drops features; False is a fixed function of x.
          dropout_seed: int32 [2], needed where training is True and dropout is above 0.

        Returns:
          logits float32 [B]; large for "real".
        """
        features = self.encoder(x, training=training)
        if training and self.dropout.rate:
            features = self.dropout(features, training=True, seed=dropout_seed)
        return tf.squeeze(self.logits(tf.cast(features, tf.float32)), axis=-1)


def batch_norm_layers(model):
    """All Keras batch-norm layers inside a model, in the order it was built."""
    return [layer for layer in model._flatten_layers()
            if isinstance(layer, tf.keras.layers.BatchNormalization)]


def _mobilenet(channels, points, alpha, momentum):
    """Keras MobileNet v1 (Howard et al. 2017) with our momentum.

    Where it is built for several replicas its batch norm is the synchronised kind: the statistics
    are of the global batch, also when the shards are of unequal size.
    """
    several = tf.distribute.get_strategy().num_replicas_in_sync > 1

    def ours(layer):
        config = layer.get_config()
        if isinstance(layer, tf.keras.layers.BatchNormalization):
            config['momentum'] = momentum
            if several:
                return tf.keras.layers.BatchNormalization(synchronized=True, **config)
        return type(layer).from_config(config)

    with warnings.catch_warnings():  # "usually expects 1 or 3 input channels"
        warnings.simplefilter('ignore', UserWarning)
        stock = tf.keras.applications.MobileNet(
            input_shape=(*points, channels), alpha=alpha, include_top=False, pooling='avg',
            weights=None)
    return tf.keras.models.clone_model(stock, clone_function=ours)


def _vgg16(channels, points):
    """Keras VGG16 convolutions with global pooling and no dense top; it has no batch norm."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', UserWarning)
        return tf.keras.applications.VGG16(
            input_shape=(*points, channels), include_top=False, pooling='avg', weights=None)


def _small_cnn(channels, points, alpha):
    """Four 4x4 stride-2 convolutions with LeakyReLU(0.2), 32 to 256 wide (times alpha).

    No batch norm: in training and in use it is the same function, of each image alone, so it
    has no statistics to lag and is the same on any number of replicas.
    """
    inputs = x = tf.keras.Input((*points, channels))
    for index, width in enumerate(_SMALL_CNN_WIDTHS, 1):
        x = tf.keras.layers.Conv2D(max(1, int(width * alpha)), 4, strides=2, padding='same',
                                   name=f'conv{index}')(x)
        x = tf.keras.layers.LeakyReLU(0.2, name=f'conv{index}_leaky')(x)
    x = tf.keras.layers.GlobalAveragePooling2D(name='pool')(x)
    return tf.keras.Model(inputs, x, name='small_cnn')


def _initialise(model, seed, hidden):
    """Draws every kernel from (seed, its place); biases 0, batch norm as Keras leaves it.

    Args:
      hidden: initializer class for the encoder; the logits' kernel is Glorot uniform.
    """
    kernels = [v for v in model.trainable_variables if v.name.split('/')[-1].startswith(
        ('kernel', 'depthwise_kernel'))]
    for place, kernel in enumerate(kernels):
        state = np.random.SeedSequence([seed, place]).generate_state(1)
        draw = tf.keras.initializers.GlorotUniform if place == len(kernels) - 1 else hidden
        kernel.assign(draw(seed=int(state[0] & 0x7fffffff))(kernel.shape, dtype=kernel.dtype))


def _points(size):
    """(height, width) of a discriminator's input; UserError for what is no size."""
    points = (size, size) if isinstance(size, int) else size
    arguments.require('build_discriminator', isinstance(points, (list, tuple)) and len(points) == 2
                      and all(map(arguments.is_count, points)), 'size', size,
                      'a number of pixels, or (height, width)')
    return tuple(points)


def _require_rates(name, alpha, dropout, batch_norm_momentum):
    """UserError for a rate that is out of range, or that the discriminator has not."""
    for argument, value in (('alpha', alpha), ('dropout', dropout),
                            ('batch_norm_momentum', batch_norm_momentum)):
        arguments.require_number('build_discriminator', argument, value)
    if not 0.0 <= dropout < 1.0 or not 0.0 <= batch_norm_momentum < 1.0:
        raise UserError(f'discriminator dropout {dropout}, batch_norm_momentum '
                        f'{batch_norm_momentum}: both must be in [0, 1)')
    if not alpha > 0.0 or (name == 'vgg16' and alpha != 1.0):
        raise UserError(f'discriminator {name} with alpha {alpha}: '
                        + ('vgg16 has no width multiplier, leave alpha at 1' if name == 'vgg16'
                           else 'the width multiplier must be above 0'))
    if name != 'mobilenet' and batch_norm_momentum != 0.9:
        raise UserError(f'build_discriminator.batch_norm_momentum = {batch_norm_momentum} has no '
                        f'effect with name = {name!r}, which has no batch norm; leave it out')
    if name == 'patch' and dropout not in (0.0, 0.01):
        raise UserError(f"build_discriminator.dropout = {dropout} has no effect with name = "
                        "'patch', which has none; leave it out")


@gin.configurable
def build_discriminator(name='mobilenet', channels=None, size=224, alpha=1.0, dropout=0.01,
                        batch_norm_momentum=0.9, seed=0, spectral_norm=False):
    """Builds a discriminator; its variables exist on return.

    Defaults are LoAd's (section 4): MobileNet-224, alpha 1, dropout 0.01; the batch-norm momentum
    of 0.9 is ours (Keras' 0.99 lags for hundreds of steps, and early hold-out figures are then
    false). Kernels: Glorot uniform for mobilenet as Keras has it; He uniform for the others, in
    which no batch norm makes up for what a ReLU takes from the signal.

    Args:
      name: 'mobilenet', 'vgg16' (no batch norm, no alpha), 'small_cnn' (no batch norm), or 'patch'
        (no batch norm, no dropout): a map of decisions.
      channels: of its input, `encodings.input_channels(num_classes, kind)`.
      size: side of its input, or (height, width); any from 32 (small_cnn: 16, patch: 4).
      alpha: width multiplier. dropout: rate before the logits.
      seed: non-negative int; equal seeds give equal weights.
      spectral_norm: of 'patch' alone, see `patch_discriminator`.

    Returns:
      a `Discriminator` or `PatchDiscriminator`. Build it inside a strategy's scope to use it on
      replicas.

    Raises:
      UserError: unknown name, a size too small, no channels, alpha with vgg16, spectral_norm
        without patches, rates out of range or of what the discriminator has not.
    """
    require_one_of('discriminator', name, NAMES)
    if not channels or channels < 1:
        raise UserError(f'discriminator with {channels} input channels: give 3 x classes for kind '
                        '"product", the number of classes for kind "map"')
    points = _points(size)
    if min(points) < _SMALLEST[name]:
        raise UserError(f'discriminator {name} of size {size}: it needs at least '
                        f'{_SMALLEST[name]} (the paper uses 224)')
    _require_rates(name, alpha, dropout, batch_norm_momentum)
    if spectral_norm and name != 'patch':
        raise UserError(f'build_discriminator.spectral_norm = True with name = {name!r}: only '
                        "'patch' has it")
    with precision.precision().keras_layers():
        if name == 'patch':
            model = patch_discriminator.PatchDiscriminator(
                patch_discriminator.encoder(channels, points, alpha, spectral_norm), spectral_norm)
        else:
            if name == 'mobilenet':
                encoder = _mobilenet(channels, points, alpha, batch_norm_momentum)
            else:
                encoder = (_vgg16(channels, points) if name == 'vgg16'
                           else _small_cnn(channels, points, alpha))
            model = Discriminator(encoder, dropout, name=f'discriminator_{name}')
    _initialise(model, seed, tf.keras.initializers.GlorotUniform if name == 'mobilenet'
                else tf.keras.initializers.HeUniform)
    return model


def _batch_statistics_function(model, layers):
    """tf.function: inputs -> the batch's mean and variance of every layer, as one flat vector."""
    seed = {}
    if 'dropout_seed' in inspect.signature(model.call).parameters:
        seed['dropout_seed'] = tf.zeros([2], tf.int32)

    def statistics(x):
        momenta = [layer.momentum for layer in layers]
        try:
            # With momentum 0 a training-mode call leaves the batch's own statistics, unrounded,
            # where the moving ones were; the value is read while this is traced.
            for layer in layers:
                layer.momentum = 0.0
            model(x, training=True, **seed)
        finally:
            for layer, momentum in zip(layers, momenta):
                layer.momentum = momentum
        return tf.concat([tf.reshape(v, [-1]) for layer in layers
                          for v in (layer.moving_mean, layer.moving_variance)], axis=0)

    return tf.function(statistics, reduce_retracing=True)


def reestimate_batch_norm(model, batches):
    """Replaces every batch norm's moving statistics by their average over the given batches.

    Moving averages of a momentum lag behind the weights; Keras' MobileNet after one epoch gives
    one class for everything in inference mode. This is the exact average, weighted by the number
    of images a batch has (so a smaller last batch counts as it should), taken in float64.
    The same batches in the same order give the same bits. Trainable weights are not touched.

    One function is compiled for each model and kept with it. It runs on one device: variables of
    a MirroredStrategy are read from their first replica and written to all; call it outside
    `strategy.scope()` and `strategy.run`.

    Args:
      model: any Keras model with BatchNormalization layers (none: nothing is done).
      batches: iterable of inputs float [B,size,size,channels], in a seeded order.

    Raises:
      ValueError: no batches, or called inside a strategy's scope.
    """
    layers = batch_norm_layers(model)
    if not layers:
        return
    if tf.distribute.has_strategy():
        raise ValueError('reestimate_batch_norm runs on one device: call it outside the scope')
    function = model.__dict__.get('_batch_statistics')
    if function is None:
        function = _batch_statistics_function(model, layers)
        # Past Keras' __setattr__, which would make the function a part of the checkpoint.
        object.__setattr__(model, '_batch_statistics', function)
    total, count = 0.0, 0
    for batch in batches:
        batch = tf.convert_to_tensor(batch)
        total = total + np.asarray(function(batch), np.float64) * int(batch.shape[0])
        count += int(batch.shape[0])
    if not count:
        raise ValueError('reestimate_batch_norm needs at least one batch')
    _write_statistics(layers, total / count)


def _write_statistics(layers, flat):
    variables = [v for layer in layers for v in (layer.moving_mean, layer.moving_variance)]
    offsets = np.cumsum([0] + [int(np.prod(v.shape)) for v in variables])
    for variable, start, end in zip(variables, offsets, offsets[1:]):
        value = tf.constant(flat[start:end].reshape(variable.shape), variable.dtype)
        strategy = getattr(variable, 'distribute_strategy', None)
        if strategy is None:
            variable.assign(value)
        else:
            with strategy.scope():  # cross-replica: written to every replica
                variable.assign(value)
