"""A segmentor as a SavedModel: uint8 RGB images of any size in, class map and probabilities out.

Signatures: `serving_default`: `image` uint8 [B, H, W, 3] -> `class_map` uint8 [B, H, W] and
`probabilities` float32 [B, H, W, C]; `class_map`: the map alone, which is much cheaper; `encoded`:
`image_bytes`, files of JPEG, PNG, GIF or BMP [B] -> `class_map_bytes`, PNGs of class ids [B], for
servers whose requests are JSON. All weights are constants of one function that all call, named by
official scopes, so that `load_saved_model` finds them again. No discriminator, no optimizer, no
variable is in it.
"""
import dataclasses
import pathlib
import re

import numpy as np
import tensorflow as tf
from google.protobuf import message
from tensorflow.core.protobuf import saved_model_pb2

from tf_advseg.core import files
from tf_advseg.core import tensorflow_paths
from tf_advseg.core.errors import UserError
from tf_advseg.data.augmentation.official_preprocessing import SizeRange
from tf_advseg.models import inference
from tf_advseg.models import segmentor as segmentors
from tf_advseg.models.resize import resize_bilinear, resize_nearest
from tf_advseg.models.zoo import assignment

KIND = 'SavedModel of tf_advseg'
FILE = 'saved_model.pb'
SERVING, CLASS_MAP, PROBABILITIES = 'serving_default', 'class_map', 'probabilities'
# TensorFlow Serving sends what is called …_bytes as {"b64": …}.
ENCODED, IMAGE_BYTES, CLASS_MAP_BYTES = 'encoded', 'image_bytes', 'class_map_bytes'
MAX_CLASSES = 256  # of a uint8 map
_CONSTANT = re.compile(rf'^(.+)/({inference.KERNEL}|{inference.BIAS})(?:_(\d+))?$')


@dataclasses.dataclass(frozen=True)
class Sizes:
    """What becomes of images that are not of the crop's size.

    A side that fits the crop is padded to it at the bottom and the right, with what normalisation
    makes 0; a longer one to the next k * output_stride + 1. Image pooling keeps the window that
    the crop gives it, slides over a larger map (VALID), and is resized: as the official
    evaluation. Of the padding nothing is left in what comes out.

    Attributes:
      resized: None, or the `SizeRange` that every image is resized to beforehand (bilinear,
        aligned corners), as the official export does where it is given sizes. The class map is
        enlarged again by nearest neighbours, the probabilities bilinearly.
    """
    resized: SizeRange = None


class ExportedSegmentor(tf.Module):
    """The functions of the SavedModel.

    Args:
      segmentor: see `models.segmentor`; its weights of this moment are taken.
      sizes: `Sizes`.
      tuned: see `inference.InferenceNetwork`.

    Attributes:
      num_classes: int.
    """

    def __init__(self, segmentor, sizes=Sizes(), tuned=True):
        super().__init__(name='segmentor')
        self.num_classes = int(segmentor.num_classes)
        if self.num_classes > MAX_CLASSES:
            raise UserError(f'{segmentor.name}: {self.num_classes} classes do not fit into a uint8 '
                            f'class map; at most {MAX_CLASSES} can be exported')
        self._stride = getattr(segmentor, 'output_stride', None) or 16
        crop = segmentor.crop_size or (1, 1)
        self._crop = (crop, crop) if isinstance(crop, int) else tuple(crop)
        self._colour = segmentors.padding_colour(segmentor)
        self._resized = sizes.resized
        exact = all((side - 1) % self._stride == 0 for side in self._crop)
        network = inference.InferenceNetwork(segmentor, tuned, exact_sizes=exact)
        # One function for all signatures: the constants are in the file once.
        self._logits = tf.function(network.logits, autograph=False, input_signature=[
            tf.TensorSpec([None, None, None, 3], tf.float32, 'image')])

    @property
    def signatures(self):
        """{name: concrete function}, traced anew."""
        image = tf.TensorSpec([None, None, None, 3], tf.uint8, 'image')
        encoded = tf.TensorSpec([None], tf.string, IMAGE_BYTES)
        return {SERVING: self._signature(self._serve, image),
                CLASS_MAP: self._signature(self.class_map, image),
                ENCODED: self._signature(self.encoded, encoded)}

    def _signature(self, function, spec):
        return tf.function(function, autograph=False,
                           input_signature=[spec]).get_concrete_function()

    def _serve(self, image):
        logits = self._upsampled(image)
        probabilities = tf.nn.softmax(logits[..., :self.num_classes])
        return {CLASS_MAP: self._original(inference.class_ids(logits), image),
                PROBABILITIES: resize_bilinear(probabilities, tf.shape(image)[1:3])
                if self._resized else probabilities}

    def class_map(self, image):
        """uint8 [B, H, W, 3] -> {'class_map': uint8 [B, H, W]}."""
        return {CLASS_MAP: self._original(inference.class_ids(self._upsampled(image)), image)}

    def encoded(self, image_bytes):
        """string [B] of encoded images, of any sizes -> {'class_map_bytes': string [B] of PNGs}."""
        def one(content):
            image = tf.io.decode_image(content, 3, expand_animations=False)
            ids = self.class_map(tf.ensure_shape(image, [None, None, 3])[None])[CLASS_MAP]
            return tf.io.encode_png(ids[0][..., None])

        # One after another: each uses all cores, and the memory of a batch is that of an image.
        return {CLASS_MAP_BYTES: tf.map_fn(one, image_bytes, parallel_iterations=1,
                                           fn_output_signature=tf.string)}

    def _upsampled(self, image):
        """Logits of the (resized) image at its own size; classes that never win at the end."""
        image = tf.cast(image, tf.float32)
        if self._resized is not None:
            image = resize_bilinear(image, self._resized.size(*tf.unstack(tf.shape(image)[1:3])))
        size = tf.shape(image)[1:3]
        # For ONNX: its division of a number below 0 rounds to 0, and ONNX Runtime cannot follow a
        # size through `where`, hence the image's shape below.
        padded = tf.where(size <= self._crop, self._crop,
                          (size + self._stride - 2) // self._stride * self._stride + 1)
        image = self._padded(image, padded - size)
        logits = tf.ensure_shape(self._logits(image), [None, None, None, self.num_classes])
        return inference.upsampled(logits, tf.shape(image)[1:3])[:, :size[0], :size[1]]

    def _padded(self, image, missing):
        margins = [[0, 0], [0, missing[0]], [0, missing[1]], [0, 0]]
        if len(set(self._colour)) == 1:  # an image that needs none is not copied
            return tf.pad(image, margins, constant_values=self._colour[0])
        return tf.pad(image - self._colour, margins) + self._colour

    def _original(self, class_map, image):
        if self._resized is None:
            return class_map
        return resize_nearest(class_map[..., None], tf.shape(image)[1:3])[..., 0]


def write(folder, segmentor, sizes=Sizes()):
    """Writes the SavedModel of a segmentor.

    Args:
      folder: an existing folder, which may hold other files.
      segmentor: see `models.segmentor`.
      sizes: `Sizes`.

    Raises:
      UserError: more classes than a uint8 map can hold, a full disk.
    """
    exported = ExportedSegmentor(segmentor, sizes)
    with files.disk_errors(folder):
        tf.saved_model.save(tf.Module(), tensorflow_paths.plain_folder(folder),
                            exported.signatures)


def load_saved_model(path, segmentor, backbone_only=False):
    """Reads the weights of a SavedModel that `write` wrote into a network.

    Its batch norms are folded: they come back as gamma 1, beta = bias, mean 0 and variance
    1 - epsilon. A bias that was moved on into the next 1x1 convolution stays there.

    Args:
      path: the SavedModel's folder.
      segmentor: a network of `tf_advseg.models`; output stride and crop size may differ.
      backbone_only: see `zoo.read`.

    Returns:
      ImportReport.

    Raises:
      UserError: no SavedModel, a damaged or foreign one, or of another network; nothing has been
        assigned then.
    """
    path = pathlib.Path(path)
    return assignment.assign(path, segmentor, read(path, segmentor), backbone_only)


def read(path, segmentor):
    """The weights of a SavedModel as `assignment.Found`; see `load_saved_model`."""
    ours = assignment.official_layers(path, segmentor)
    constants = {}
    for node in _nodes(path / FILE):
        match = _CONSTANT.match(node.name) if node.op == 'Const' else None
        if match:
            scope, leaf, part = match[1], match[2], int(match[3] or 0)
            constants.setdefault(scope, {}).setdefault(leaf, {})[part] = _array(path, node)
    if not set(constants) & set(ours):
        raise UserError(f'{path}: a SavedModel, but its weights are not constants under the names '
                        f'of {segmentor.name}: it is foreign, or of another network')
    arrays, origins = {}, {}
    for scope, leaves in constants.items():
        if inference.KERNEL not in leaves:
            raise UserError(f'{path}: has a bias for {scope} and no kernel: a damaged SavedModel')
        parts = leaves[inference.KERNEL]
        kernel = np.concatenate([parts[i] for i in sorted(parts)], 2)
        if scope not in ours:
            arrays[f'{scope}/weights'] = kernel
            continue
        layer = ours[scope]
        width = kernel.shape[2 if layer.depthwise else 3]
        bias = leaves.get(inference.BIAS, {0: np.zeros(width, np.float32)})[0]
        arrays.update(assignment.unfolded(layer, kernel, bias))
        origins.update({name: f'{scope}/{inference.KERNEL}' for name in list(
            layer.official_variables())[:1]})
    return assignment.Found(KIND, arrays, origins)


def _nodes(path):
    """The nodes of all functions of a SavedModel."""
    if not path.is_file():
        raise UserError(f'{path.parent}: is no SavedModel, it has no {FILE}')
    contents = saved_model_pb2.SavedModel()
    try:
        contents.ParseFromString(path.read_bytes())
    except (message.DecodeError, RuntimeError) as error:
        raise UserError(f'{path}: damaged or truncated ({error})') from error
    except OSError as error:
        raise UserError(f'{path}: cannot be read: {error.strerror}') from error
    for graph in contents.meta_graphs:
        for function in graph.graph_def.library.function:
            yield from function.node_def


def _array(path, node):
    try:
        return tf.make_ndarray(node.attr['value'].tensor)
    except (ValueError, TypeError) as error:
        raise UserError(f'{path}: {node.name} cannot be read: a damaged SavedModel') from error
