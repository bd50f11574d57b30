"""The segmentor contract, and how any Keras model with per-pixel logits is made to keep it.

A segmentor is a `tf.keras.Model`: RGB float32 [B, h, w, 3] in 0..255 -> logits float32
[B, (h-1)//s+1, (w-1)//s+1, C]. It has the attributes `num_classes` (C), `logits_stride` (s),
`output_stride`, `crop_size` and `fine_tune_batch_norm`.
"""
import contextlib
import inspect

import tensorflow as tf

from tf_advseg.core.errors import UserError
from tf_advseg.models import layers
from tf_advseg.models.resize import resize_bilinear

PROBE_SIZE = (65, 65)
_HALF_RANGE = 127.5  # of 0..255
CONTRACT = ('num_classes', 'logits_stride', 'crop_size', 'fine_tune_batch_norm')
NORM_LAYERS = (tf.keras.layers.BatchNormalization, tf.keras.layers.LayerNormalization,
               tf.keras.layers.GroupNormalization, tf.keras.layers.UnitNormalization)


class WrappedSegmentor(tf.keras.Model):
    """Any Keras model under the segmentor contract; made by `as_segmentor`."""

    def __init__(self, model, normalise, pick, fine_tune_batch_norm):
        super().__init__(name=f'segmentor_{model.name}')
        self.model = model
        self.normalise = normalise
        self.pick = pick
        self.fine_tune_batch_norm = bool(fine_tune_batch_norm)
        self.num_classes = self.logits_stride = self.output_stride = self.crop_size = None
        self._parameters = _call_parameters(model)

    def build(self, input_shape=None):
        """Nothing to do: `as_segmentor` has run the model once."""
        self.built = True

    def call(self, image, training=False, dropout_seed=None):
        """Logits at (size-1)//logits_stride+1; see `as_segmentor` for `training`."""
        logits = self.raw_logits(image, training, dropout_seed)
        sizes = zip(tf.unstack(tf.shape(image)[1:3]), image.shape[1:3])
        size = [((dynamic if static is None else static) - 1) // self.logits_stride + 1
                for dynamic, static in sizes]
        return resize_bilinear(logits, size)

    def raw_logits(self, image, training=False, dropout_seed=None):
        """What the model itself returns, picked, as float32 [B, h', w', C]."""
        arguments = {}
        takes_seed = 'dropout_seed' in self._parameters
        if 'training' in self._parameters:
            arguments['training'] = bool(training) and (takes_seed or self.fine_tune_batch_norm)
        if takes_seed:
            arguments['dropout_seed'] = dropout_seed
        image = tf.cast(image, tf.float32)
        output = self.model(image if self.normalise is None else self.normalise(image),
                            **arguments)
        return _one_map(self.model.name, output, self.pick)


def as_segmentor(model, num_classes=None, logits_stride=None, normalise=None, pick=None,
                 fine_tune_batch_norm=False):
    """Makes any Keras model that gives per-pixel logits a segmentor.

    The model is run once, on a grey image of 65x65 (or of its own fixed input size), to build it
    and to read its classes and stride. Where its maps are not of (size-1)//s+1 (VALID padding,
    say) they are brought there by the one bilinear resize.

    Batch norm and dropout of a foreign model: by default it is always called with training=False.
    Then its batch norms use their moving statistics with gamma and beta trained, and Keras
    Dropout, whose draws no checkpoint can restore, does nothing. `fine_tune_batch_norm=True`
    passes `training` through. A model whose `call` takes `dropout_seed` is trusted to use
    stateless dropout: it gets `training` and the seed.

    Args:
      model: functional, sequential or subclassed tf.keras.Model, or a segmentor, which is returned
        as it is.
      num_classes: int or None; checked against the model's channels.
      logits_stride: int or None = found out.
      normalise: None, or a callable or layer from RGB 0..255 to what the model takes.
      pick: None, or a callable that takes the logits out of the model's output (a dict, say).
      fine_tune_batch_norm: bool, see above.

    Returns:
      A tf.keras.Model that keeps the contract.

    Raises:
      UserError: not a Keras model; its output is not one map [B, h', w', C]; C is not num_classes;
        the model ends in a softmax.
    """
    if not isinstance(model, tf.keras.Model):
        raise UserError(f'as_segmentor: got {type(model).__name__}, expected a tf.keras.Model')
    if all(hasattr(model, name) for name in CONTRACT):
        if num_classes not in (None, model.num_classes):
            raise UserError(f'as_segmentor: {model.name} has {model.num_classes} classes, '
                            f'num_classes is {num_classes}')
        return model
    segmentor = WrappedSegmentor(model, normalise, pick, fine_tune_batch_norm)
    segmentor.crop_size = _fixed_size(model)
    height, width = segmentor.crop_size or PROBE_SIZE
    try:
        logits = segmentor.raw_logits(tf.fill([1, height, width, 3], 127.5))
    except (ValueError, TypeError, tf.errors.InvalidArgumentError) as error:
        raise UserError(f'as_segmentor: {model.name} does not take an image '
                        f'[1, {height}, {width}, 3]: {_first_line(error)}') from error
    segmentor.num_classes = int(logits.shape[-1])
    if num_classes not in (None, segmentor.num_classes):
        raise UserError(f'as_segmentor: {model.name} gives {segmentor.num_classes} channels, '
                        f'expected num_classes = {num_classes} logits per pixel')
    _refuse_softmax(model, logits)
    segmentor.logits_stride = logits_stride or _nearest_stride(height, int(logits.shape[1]))
    segmentor.output_stride = segmentor.logits_stride
    segmentor.built = True
    return segmentor


def twin_of_wrapped(segmentor):
    """A second `WrappedSegmentor` around a copy of the model, with weights of its own.

    Raises:
      UserError: neither wrapped nor of a functional or sequential model.
    """
    if not isinstance(segmentor, WrappedSegmentor):
        raise UserError(f'{segmentor.name}: nobody knows how it was built, and this method needs a '
                        'second network like it; build it by one of the package\'s networks, or '
                        'give a functional or sequential Keras model')
    try:
        model = _cloned(segmentor.model)
    except (ValueError, TypeError, NotImplementedError) as error:
        raise UserError(f'{segmentor.model.name}: Keras cannot copy it ({_first_line(error)}), and '
                        'this method needs a second network like it; give a functional or '
                        'sequential Keras model') from error
    return as_segmentor(model, segmentor.num_classes, segmentor.logits_stride, segmentor.normalise,
                        segmentor.pick, segmentor.fine_tune_batch_norm)


def _cloned(model):
    """A Keras model made anew from its configuration."""
    if not isinstance(model, tf.keras.Sequential):
        return tf.keras.models.clone_model(model)
    # Where no input was declared, Keras would fix the copy's to the size first seen.
    return tf.keras.Sequential([layer.__class__.from_config(layer.get_config())
                                for layer in model.layers])


def apply(segmentor, image, training=False, dropout_seed=None):
    """Logits of a segmentor; the seed is passed only to one whose `call` takes it.

    Args and result: see `as_segmentor` and `deeplab.DeepLab.call`.
    """
    arguments = {'training': training}
    if 'dropout_seed' in _call_parameters(segmentor):
        arguments['dropout_seed'] = dropout_seed
    return segmentor(image, **arguments)


def decayed_kernels(segmentor):
    """The variables that weight decay applies to: trained kernels that are not depthwise (slim).

    Logits included; batch norms, biases, depthwise kernels and frozen layers excluded. In a foreign
    model these are the trainable variables of rank 2 and more outside depthwise and normalisation
    layers.
    """
    ours = layers.convolutions(segmentor)
    if ours:
        return [c.kernel for c in ours
                if not c.depthwise and c.trainable and c.kernel.trainable]
    skipped = {id(v) for layer in segmentor._flatten_layers() for v in _not_decayed(layer)}
    return [v for v in segmentor.trainable_variables
            if v.shape.rank >= 2 and id(v) not in skipped]


def padding_colour(segmentor):
    """What images are padded with for a network: three numbers.

    The mean colour where the first layer is `layers.MeanSubtraction` (official plain ResNets, those
    from caffe), so that padding is 0 behind it; (127.5,) * 3 for every other network, whatever a
    foreign one does to its images.
    """
    normalisation = getattr(segmentor, 'normalisation', None)
    if normalisation is None:
        normalisation = getattr(segmentor, 'normalise', None)
    if isinstance(normalisation, layers.MeanSubtraction):
        return normalisation.mean
    return (_HALF_RANGE,) * 3


def colour_scale(segmentor):
    """How many grey levels are 1 in what a network's first layer makes of an image.

    1 where that layer is `layers.MeanSubtraction`; 127.5, which takes 0..255 to -1..1, for every
    other network, whatever a foreign one does to its images.
    """
    normalisation = getattr(segmentor, 'normalisation', None)
    if normalisation is None:
        normalisation = getattr(segmentor, 'normalise', None)
    return 1.0 if isinstance(normalisation, layers.MeanSubtraction) else _HALF_RANGE


@contextlib.contextmanager
def with_crop_size(segmentor, crop_size):
    """Within, a segmentor has another crop size; None leaves it as it is.

    Args:
      segmentor: it reads its crop size while a function is traced.
      crop_size: (h, w) or None.
    """
    kept = getattr(segmentor, 'crop_size', None)
    if crop_size is None:
        yield
        return
    # Past Keras' __setattr__, which would track the pair.
    object.__setattr__(segmentor, 'crop_size', crop_size)
    try:
        yield
    finally:
        object.__setattr__(segmentor, 'crop_size', kept)


def parameter_count(segmentor):
    """(all, trainable): numbers of scalars in the variables."""
    def total(variables):
        return sum(v.shape.num_elements() for v in variables)

    return total(segmentor.variables), total(segmentor.trainable_variables)


def _not_decayed(layer):
    if isinstance(layer, (tf.keras.layers.DepthwiseConv2D,) + NORM_LAYERS):
        return layer.trainable_variables
    kernel = getattr(layer, 'depthwise_kernel', None)
    return [] if kernel is None else [kernel]


def _call_parameters(model):
    return inspect.signature(model.call).parameters


def _fixed_size(model):
    """(height, width) where the model was declared for one size only, else None."""
    try:
        shape = model.input_shape
    except (AttributeError, RuntimeError):
        return None
    if not isinstance(shape, tuple) or len(shape) != 4 or None in shape[1:3]:
        return None
    return tuple(shape[1:3])


def _one_map(name, output, pick):
    if pick is not None:
        output = pick(output)
    if not tf.is_tensor(output):
        keys = f' with keys {sorted(output)}' if isinstance(output, dict) else ''
        raise UserError(f'as_segmentor: {name} returns a {type(output).__name__}{keys}, expected '
                        'one tensor; give pick=, a function that takes the logits out of it')
    if output.shape.rank != 4:
        raise UserError(f'as_segmentor: {name} returns {output.shape}, expected per-pixel logits '
                        '[batch, height, width, classes]')
    return tf.cast(output, tf.float32)


def _refuse_softmax(model, logits):
    """Probabilities in the place of logits train, badly, and without a message."""
    sums = tf.reduce_sum(logits, -1)
    if (logits.shape[-1] > 1 and float(tf.reduce_min(logits)) >= 0.0
            and float(tf.reduce_max(tf.abs(sums - 1.0))) < 1e-4):
        raise UserError(f'as_segmentor: the outputs of {model.name} sum to 1 at every pixel: they '
                        'are probabilities; remove the final softmax, logits are expected')


def _nearest_stride(size, map_size):
    """The stride s whose map (size-1)//s+1 comes nearest to map_size."""
    return min(range(1, size + 1), key=lambda s: (abs((size - 1) // s + 1 - map_size), s))


def _first_line(error):
    return next((line.strip() for line in str(error).splitlines() if line.strip()),
                type(error).__name__)
