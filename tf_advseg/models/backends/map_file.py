"""A file that `export` wrote, as it is run elsewhere: an image in, its class map out."""
import threading

import numpy as np

from tf_advseg.core import errors
from tf_advseg.core import files
from tf_advseg.models.zoo import onnx_export
from tf_advseg.models.zoo import saved_model
from tf_advseg.models.zoo import tflite_runtime

TFLITE, ONNX = 'tflite', 'onnx'
SUFFIXES = {'.tflite': TFLITE, '.onnx': ONNX}


class MapFile:
    """A TFLite or ONNX file with the signature of `zoo.tflite_export` and `zoo.onnx_export`.

    Args:
      path: of the file.
      num_classes: of it.
      padding_colour: three numbers of 0..255 that its images are padded with.
      resized: whether images are resized before and class maps afterwards, as `saved_model.Sizes`
        says; a file of any size does so itself.

    Attributes:
      path, num_classes, padding_colour, resized: as they were given.
      runtime: what runs it, `TFLITE` or `ONNX`.
      size: (height, width) of the images that it takes; None: any.

    Raises:
      UserError: the file cannot be read, is damaged, is no such file, or its runtime is not
        installed.
    """

    def __init__(self, path, num_classes, padding_colour=(127.5,) * 3, resized=False):
        self.path, self.num_classes, self.size = path, num_classes, None
        self.padding_colour, self.resized = padding_colour, resized
        self.runtime = SUFFIXES[path.suffix.lower()]
        with files.disk_errors(path):
            content = path.read_bytes()
        self._lock = threading.Lock()  # the user's threads may predict side by side
        self._run = self._tflite(content) if self.runtime == TFLITE else self._onnx(content)

    def text(self):
        """One line: what runs it."""
        if self.runtime == ONNX:
            return f'{self.path}: computed by ONNX Runtime'
        return (f'{self.path}: images of {self.size[0]}x{self.size[1]}, computed by '
                f'{tflite_runtime.name()}')

    def __call__(self, image):
        """The class map of an image.

        Args:
          image: uint8 [H, W, 3] RGB, of `size`.

        Returns:
          uint8 [H, W].

        Raises:
          UserError: the runtime fails.
        """
        with self._lock:
            return self._run(np.ascontiguousarray(image)[None])[0]

    def _tflite(self, content):
        """A function of uint8 [1, H, W, 3]; it sets `size`."""
        try:
            interpreter = tflite_runtime.interpreter(content)
            if saved_model.CLASS_MAP not in interpreter.get_signature_list():
                raise ValueError(f'it has no signature "{saved_model.CLASS_MAP}"')
            described = interpreter.get_input_details()[0]
            if described['dtype'] != np.uint8 or len(described['shape']) != 4:
                raise ValueError('its image is not uint8 [1, H, W, 3]')
            runner = interpreter.get_signature_runner(saved_model.CLASS_MAP)
        except (RuntimeError, ValueError) as error:
            raise errors.UserError(f'{self.path}: cannot be run as a file of export: '
                                   f'{errors.first_line(error)}; export it anew') from error
        self.size = tuple(int(side) for side in described['shape'][1:3])

        def run(image):
            try:
                # A copy: the runner's own array is written over by the next image.
                return np.array(runner(image=image)[saved_model.CLASS_MAP])
            except (RuntimeError, ValueError) as error:
                raise errors.UserError(f'{self.path}: TensorFlow Lite cannot run it: '
                                       f'{errors.first_line(error)}') from error
        return run

    def _onnx(self, content):
        """A function of uint8 [1, H, W, 3]."""
        try:
            session = onnx_export.Session(content)
        except errors.UserError as error:
            raise errors.UserError(f'{self.path}: {error.message}') from error
        return session
