"""Layers of the segmentors: convolution with batch norm, seeded dropout, image normalisation.

Every convolution and batch norm knows the scope it has in the official checkpoints (`.scope`), so
that weights are mapped by rule (`official_variables`) and initialised from it (`derived_seed`).
"""
import collections
import hashlib

import tensorflow as tf

from tf_advseg.models import atrous
from tf_advseg.models import precision

ACTIVATIONS = {None: tf.identity, 'relu': tf.nn.relu, 'relu6': tf.nn.relu6}

# What a batch norm does in a call: Python strings, settled when a function is traced.
INFERENCE = 'inference'  # moving statistics; the batch norm is multiplied into the kernel
FROZEN = 'frozen'        # moving statistics, by the fused op: the cheaper one to differentiate
LIVE = 'live'            # batch statistics, moving averages follow

# The mean colours (R, G, B) of ImageNet as official DeepLab and as caffe's models have them.
IMAGENET_MEAN = (123.15, 115.90, 103.06)
CAFFE_MEAN = (123.68, 116.779, 103.939)

SAME, FIXED, VALID = 'same', 'fixed', 'valid'  # paddings of a `Convolution`

Norm = collections.namedtuple('Norm', ('epsilon', 'momentum'))
Norm.__doc__ = 'Batch-norm settings: epsilon, and momentum = decay of the moving averages.'


def derived_seed(seed, scope):
    """An int31 that depends on (seed, scope) alone: not on the order in which layers are made."""
    digest = hashlib.sha256(f'{seed}:{scope}'.encode()).digest()
    return int.from_bytes(digest[:4], 'little') & 0x7fffffff


def official_variables(model):
    """Maps official checkpoint names to the model's variables.

    Args:
      model: a tf.keras model or layer that holds `Convolution`s.

    Returns:
      dict: 'MobilenetV2/Conv/weights' -> tf.Variable, in the network's order.
    """
    named = {}
    for layer in convolutions(model):
        named.update(layer.official_variables())
    return named


def convolutions(model):
    """All `Convolution`s of a model or layer, in the order in which they were made."""
    return [m for m in model._flatten_layers() if isinstance(m, Convolution)]


class Layer(tf.keras.layers.Layer):
    """A Keras layer that takes maps of any floating type as they are: Keras makes float32 of them.

    What it computes in is `precision.compute_dtype`'s affair.
    """

    def __init__(self, name=None):
        super().__init__(name=name, autocast=False)


class SymmetricNormalisation(Layer):
    """RGB 0..255 of any type -> float32 x * 2 / 255 - 1 (official MobileNetV2 and Xception)."""

    def call(self, image):
        """[B, h, w, 3] -> float32 of the same shape."""
        return tf.cast(image, tf.float32) * (2.0 / 255.0) - 1.0


class MeanSubtraction(Layer):
    """RGB 0..255 of any type -> float32 minus a mean colour, in RGB or in caffe's BGR order.

    Args:
      mean: three numbers, R, G, B: official DeepLab for the plain ResNets, or caffe's ImageNet
        mean for weights that caffe trained.
      bgr: reverse the channels after the subtraction (keras-applications ResNet-101, VGG-16).
    """

    def __init__(self, mean=IMAGENET_MEAN, bgr=False, name=None):
        super().__init__(name=name)
        self.mean = tuple(float(value) for value in mean)
        self.bgr = bool(bgr)

    def call(self, image):
        """[B, h, w, 3] -> float32 of the same shape."""
        x = tf.cast(image, tf.float32) - tf.constant(self.mean)
        return tf.reverse(x, [-1]) if self.bgr else x


class StatelessDropout(Layer):
    """Dropout whose mask is a function of an explicit seed, so that a resumed run repeats it.

    Keras Dropout keeps its generator's state out of checkpoints; here the caller derives the seed
    from (stream, budget step). The replica's id is folded in: replicas draw different masks.
    """

    def __init__(self, rate, name=None):
        super().__init__(name=name)
        self.rate = float(rate)
        if not 0.0 <= self.rate < 1.0:
            raise ValueError(f'dropout rate {rate}: expected 0 <= rate < 1')

    def call(self, x, training=False, seed=None):
        """Drops elements of x.

        Args:
          x: float tensor of any shape.
          training: Python bool; False returns x.
          seed: int32[2]; needed when training with a rate above 0.

        Raises:
          ValueError: training without a seed.
        """
        if not training or self.rate == 0.0:
            return x
        if seed is None:
            raise ValueError(f'{self.name}: training needs dropout_seed, an int32[2] '
                             '(or a dropout rate of 0)')
        context = tf.distribute.get_replica_context()
        replica = context.replica_id_in_sync_group if context else 0
        seed = tf.random.experimental.stateless_fold_in(tf.cast(seed, tf.int32), replica)
        return tf.nn.experimental.stateless_dropout(x, self.rate, seed, rng_alg='philox')


class BatchNorm(Layer):
    """Batch norm over all but the last axis, for fine-tuning with frozen statistics and without.

    FROZEN: the moving statistics normalise; gamma and beta are still trained. This is what the
    official DeepLab calls fine_tune_batch_norm=False (Keras `trainable=False` would freeze all
    four). LIVE: the statistics of the global batch normalise, synchronised over replicas, and the
    moving averages follow, the variance with Bessel's correction (TF's fused op). INFERENCE is the
    same function as FROZEN, folded.

    Args:
      scope: official scope, '<convolution>/BatchNorm'.
      channels: int.
      norm: `Norm`.
    """

    def __init__(self, scope, channels, norm):
        super().__init__(name=scope.replace('/', '_'))
        self.scope = scope
        self.epsilon = norm.epsilon
        self.momentum = norm.momentum
        statistics = dict(trainable=False, synchronization=tf.VariableSynchronization.ON_READ,
                          aggregation=tf.VariableAggregation.MEAN)

        def weight(leaf, initializer, **kwargs):
            return self.add_weight(name=f'{scope}/{leaf}', shape=[channels],
                                   initializer=initializer, **kwargs)

        self.gamma = weight('gamma', 'ones')
        self.beta = weight('beta', 'zeros')
        self.moving_mean = weight('moving_mean', 'zeros', **statistics)
        self.moving_variance = weight('moving_variance', 'ones', **statistics)
        self.built = True

    def scale_and_offset(self):
        """Inference as y = x * scale + offset: two float32 [channels]."""
        scale = self.gamma * tf.math.rsqrt(self.moving_variance + self.epsilon)
        return scale, self.beta - self.moving_mean * scale

    def call(self, x, mode=INFERENCE):
        """Normalises x [B, h, w, channels]; mode: INFERENCE, FROZEN or LIVE.

        Statistics are float32 whatever x is; what comes out is of x's type.
        """
        if mode == INFERENCE:
            scale, offset = self.scale_and_offset()
            return x * tf.cast(scale, x.dtype) + tf.cast(offset, x.dtype)
        if mode == FROZEN:
            return tf.compat.v1.nn.fused_batch_norm(
                x, self.gamma, self.beta, self.moving_mean, self.moving_variance,
                epsilon=self.epsilon, is_training=False)[0]
        context = tf.distribute.get_replica_context()
        if context is None or context.num_replicas_in_sync == 1:
            y, mean, variance = tf.compat.v1.nn.fused_batch_norm(
                x, self.gamma, self.beta, epsilon=self.epsilon, is_training=True)
        else:
            y, mean, variance = self._synchronised(x, context)
        self._follow(self.moving_mean, mean)
        self._follow(self.moving_variance, variance)
        return y

    def _synchronised(self, x, context):
        # One collective a layer, so one pass. E[x^2] - E[x]^2 would cancel; about the moving mean,
        # which every replica holds alike, it does not.
        given, x = x.dtype, precision.raised(x)
        shift = tf.stop_gradient(tf.identity(self.moving_mean))
        axes = list(range(x.shape.rank - 1))
        channels = x.shape[-1]
        count = tf.cast(tf.size(x) // channels, tf.float32)
        centred = x - shift
        sums = tf.reduce_sum(centred, axes), tf.reduce_sum(tf.square(centred), axes)
        total = context.all_reduce(tf.distribute.ReduceOp.SUM, tf.concat([*sums, count[None]], 0))
        count = tf.stop_gradient(total[-1])
        mean = total[:channels] / count
        variance = tf.nn.relu(total[channels:-1] / count - tf.square(mean))
        mean += shift
        y = tf.nn.batch_normalization(x, mean, variance, self.beta, self.gamma, self.epsilon)
        return tf.cast(y, given), mean, variance * count / tf.maximum(count - 1.0, 1.0)

    def _follow(self, moving, value):
        if not self.momentum:  # the batch's own, to the bit
            moving.assign(value)
            return
        moving.assign_sub((moving - tf.stop_gradient(value)) * (1.0 - self.momentum))


class Convolution(Layer):
    """Convolution, its batch norm (or bias) and activation: one scope of an official checkpoint.

    Args:
      scope: official scope, such as 'MobilenetV2/expanded_conv_3/expand'.
      in_channels: int.
      filters: int; None makes a depthwise convolution.
      kernel_size, stride, rate: int; stride and rate not both above 1.
      padding: SAME; FIXED, which pads (kernel_size - 1) // 2 zeros on every side whatever the
        image's size before a stride above 1 (slim's conv2d_same: Xception, ResNet); VALID.
      norm: `Norm`, or None for a bias.
      activation: None, 'relu' or 'relu6'.
      stddev: of the truncated normal that initialises the kernel; None is Glorot uniform.
      limit: None, or instead of that: kernel and bias are drawn evenly from -limit to limit.
      seed: int, see `derived_seed`.
    """

    computes_lowered = True  # see `precision.Precision.require_mixed`

    def __init__(self, scope, in_channels, filters, kernel_size=1, stride=1, rate=1, norm=None,
                 activation=None, stddev=None, seed=0, padding=SAME, limit=None):
        super().__init__(name=scope.replace('/', '_'))
        if stride > 1 and rate > 1:
            raise ValueError(f'{scope}: stride {stride} and rate {rate} are not both possible')
        self.scope = scope
        self.depthwise = filters is None
        self.stride, self.rate, self.activation = stride, rate, activation
        # With stride 1, symmetric padding is what SAME does.
        self.margin = (kernel_size - 1) // 2 if padding == FIXED and stride > 1 else 0
        self.padding = 'VALID' if padding == VALID or (padding == FIXED and stride > 1) else 'SAME'
        shape = [kernel_size, kernel_size, in_channels, 1 if self.depthwise else filters]
        self._initializer = _kernel_initializer(stddev, limit,
                                                derived_seed(seed, f'{scope}/weights'))
        self._bias_initializer = _bias_initializer(limit, derived_seed(seed, f'{scope}/biases'))
        leaf = 'depthwise_weights' if self.depthwise else 'weights'
        self.kernel = self.add_weight(name=f'{scope}/{leaf}', shape=shape,
                                      initializer=self._initializer)
        channels = in_channels if self.depthwise else filters
        self.bias = self.norm = None
        if norm is None:
            self.bias = self.add_weight(name=f'{scope}/biases', shape=[channels],
                                        initializer=self._bias_initializer)
        else:
            self.norm = BatchNorm(f'{scope}/BatchNorm', channels, norm)
        self.built = True

    def official_variables(self):
        """dict: official checkpoint name -> variable, of this scope."""
        variables = [self.kernel] + ([self.bias] if self.norm is None else [
            self.norm.gamma, self.norm.beta, self.norm.moving_mean, self.norm.moving_variance])
        leaves = ['depthwise_weights' if self.depthwise else 'weights'] + (
            ['biases'] if self.norm is None else
            ['BatchNorm/' + leaf for leaf in ('gamma', 'beta', 'moving_mean', 'moving_variance')])
        return {f'{self.scope}/{leaf}': v for leaf, v in zip(leaves, variables)}

    def reinitialise(self):
        """Gives kernel and bias (or batch norm) the values they had when they were made."""
        self.kernel.assign(self._initializer(self.kernel.shape, self.kernel.dtype))
        if self.norm is None:
            self.bias.assign(self._bias_initializer(self.bias.shape, self.bias.dtype))
            return
        for variable, value in ((self.norm.gamma, 1.0), (self.norm.beta, 0.0),
                                (self.norm.moving_mean, 0.0), (self.norm.moving_variance, 1.0)):
            variable.assign(tf.fill(variable.shape, value))

    def call(self, x, mode=INFERENCE):
        """Convolves x [B, h, w, in_channels]; mode: INFERENCE, FROZEN or LIVE.

        In `precision.compute_dtype`: float32, unless a training step says otherwise.
        """
        lowered = precision.lowered
        x = lowered(x)
        if self.norm is None:
            y = tf.nn.bias_add(self._convolve(x, lowered(self.kernel)), lowered(self.bias))
        elif mode == INFERENCE:
            scale, offset = self.norm.scale_and_offset()
            kernel = self.kernel * (scale[:, None] if self.depthwise else scale)
            y = tf.nn.bias_add(self._convolve(x, lowered(kernel)), lowered(offset))
        else:
            y = self.norm(self._convolve(x, lowered(self.kernel)), mode=mode)
        return ACTIVATIONS[self.activation](y)

    def _convolve(self, x, kernel, trained=True):
        """Pads as the scope wants it and convolves; `trained`: somebody may take gradients."""
        if self.margin:
            side = [self.margin, self.margin]
            x = tf.pad(x, [[0, 0], side, side, [0, 0]])
        if self.depthwise:
            return tf.nn.depthwise_conv2d(x, kernel, [1, self.stride, self.stride, 1],
                                          self.padding, dilations=[self.rate, self.rate])
        if self.rate > 1 and trained:
            return atrous.conv2d(x, kernel, self.rate, self.padding)
        return tf.nn.conv2d(x, kernel, self.stride, self.padding, dilations=self.rate)


def _kernel_initializer(stddev, limit, seed):
    if limit is not None:
        return tf.keras.initializers.RandomUniform(-limit, limit, seed=seed)
    if stddev is None:
        return tf.keras.initializers.GlorotUniform(seed=seed)
    return tf.keras.initializers.TruncatedNormal(stddev=stddev, seed=seed)


def _bias_initializer(limit, seed):
    if limit is None:
        return tf.keras.initializers.Zeros()
    return tf.keras.initializers.RandomUniform(-limit, limit, seed=seed)
