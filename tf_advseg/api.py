"""A trained model in Python: load it, predict with it, score it.

    import tf_advseg
    model = tf_advseg.load('runs/mine')
    model.predict('street.jpg').overlay().save('overlay.png')

`import tf_advseg` alone stays light: TensorFlow is imported by `load`.
"""
import collections.abc
import dataclasses
import os
import pathlib
import types
from typing import Any, Dict, Iterable, Iterator, List, Optional, Sequence, Tuple, Union, overload

import numpy as np
from PIL import Image

from tf_advseg.core import errors
from tf_advseg.core import files
from tf_advseg.core import runtime
from tf_advseg.reporting import panels


PathLike = Union[str, 'os.PathLike[str]']
ImageLike = Union[PathLike, Image.Image, np.ndarray]
Source = Union[ImageLike, Iterable[ImageLike]]
BATCH_SIZE = 8
AHEAD = 4  # batches of a list or a folder that are read at once, to find images of one size


@dataclasses.dataclass(frozen=True, eq=False)
class Prediction:
    """What a model says of one image.

    Attributes:
      image: uint8 [H, W, 3] RGB, as it was given.
      ids: uint8 [H, W], the class of each pixel.
      names: of the classes, by id.
      palette: uint8 [classes, 3] RGB, their colours.
      probabilities: float32 [H, W, classes], or None where they were not asked for.
      path: of the image's file, or None.
    """
    image: np.ndarray
    ids: np.ndarray
    names: Tuple[str, ...]
    palette: np.ndarray
    probabilities: Optional[np.ndarray] = None
    path: Optional[pathlib.Path] = None

    @property
    def shares(self) -> Dict[str, float]:
        """{class name: share of the pixels}, of the classes that were found, largest first."""
        counts = np.bincount(self.ids.ravel(), minlength=len(self.names))
        found = {name: float(count) / self.ids.size
                 for name, count in zip(self.names, counts) if count}
        return dict(sorted(found.items(), key=lambda item: -item[1]))

    def mask(self, name: str) -> np.ndarray:
        """bool [H, W]: the pixels of a class.

        Args:
          name: one of `names`.

        Raises:
          UserError: there is no such class; the nearest name is in the message.
        """
        errors.require_one_of('class', name, self.names)
        return self.ids == self.names.index(name)

    def coloured(self) -> Image.Image:
        """The classes in their colours, a PIL image."""
        return Image.fromarray(panels.colourise(self.ids, self.palette))

    def overlay(self, alpha: float = 0.5) -> Image.Image:
        """The image under its classes, a PIL image; `alpha` 1 shows the classes alone."""
        return Image.fromarray(panels.overlay(self.image, self.ids, self.palette, alpha))

    def save(self, path: PathLike) -> None:
        """Writes the ids as a palette PNG: pixel values are the ids, shown in colour.

        Raises:
          UserError: the file cannot be written.
        """
        panels.write_palette_png(pathlib.Path(path).expanduser(), self.ids, self.palette)


class Model:
    """A segmentor with its classes, from `load`.

    Attributes:
      segmentor: the tf.keras.Model, RGB 0..255 [B, h, w, 3] -> logits [B, h', w', classes]. None
        where `load` was given a TFLite or ONNX file: it gives class maps alone.
      names: of the classes, by id.
      palette: uint8 [classes, 3] RGB.
      crop_size: (h, w) it was trained at, or None.
      path: where it was loaded from.
      backend: what computes its predictions: 'tensorflow', 'tflite' or 'onnx'. The last two have
        the weights that `segmentor` had when it was loaded, or are what the file is run by.
    """
    segmentor: Any
    names: Tuple[str, ...]
    palette: np.ndarray
    crop_size: Optional[Tuple[int, int]]
    path: pathlib.Path
    backend: str

    def __init__(self, segmentor, spec, content, path, backend='tensorflow'):
        from tf_advseg.experiments.score import evaluating
        from tf_advseg.experiments.score import predictors
        from tf_advseg.models import backends
        from tf_advseg.models.backends import map_file
        self.path = pathlib.Path(path).expanduser().absolute()
        if isinstance(segmentor, map_file.MapFile):
            predictors.require_backend(backend, segmentor)
            self.segmentor, self.backend, network = None, segmentor.runtime, segmentor
        else:
            chosen = backends.make(segmentor, backend)
            self.segmentor, self.backend, network = segmentor, chosen.name, chosen.network
        self._loaded, self._predictors = (network, spec, content), {}
        self.names = tuple(spec.class_names)
        self.palette = np.asarray(spec.palette, np.uint8).reshape(-1, 3)
        self.crop_size = evaluating.crop_size(content)

    def __repr__(self):
        return f'<tf_advseg model {self.path}: {len(self.names)} classes>'

    # For checkers. Of a path or an array only its value tells whether it is one image or many.
    @overload
    def predict(self, source: Image.Image, probabilities: bool = ..., scales: Sequence[float] = ...,
                flip: bool = ..., batch_size: int = ...) -> Prediction: ...

    @overload
    def predict(self, source: Union[List[Any], Tuple[Any, ...]], probabilities: bool = ...,
                scales: Sequence[float] = ..., flip: bool = ...,
                batch_size: int = ...) -> List[Prediction]: ...

    @overload
    def predict(self, source: Iterator[Any], probabilities: bool = ...,
                scales: Sequence[float] = ..., flip: bool = ...,
                batch_size: int = ...) -> Iterator[Prediction]: ...

    @overload
    def predict(self, source: Union[PathLike, np.ndarray], probabilities: bool = ...,
                scales: Sequence[float] = ..., flip: bool = ...,
                batch_size: int = ...) -> Any: ...

    def predict(self, source: Source, probabilities: bool = False, scales: Sequence[float] = (1.0,),
                flip: bool = False, batch_size: int = BATCH_SIZE
                ) -> Union[Prediction, List[Prediction], Iterator[Prediction]]:
        """The classes of an image, or of many.

        Args:
          source: an image: a file's path; a PIL image; an array [H, W, 3] (RGB), [H, W, 4] (its
            alpha is left out) or [H, W] (grey) of uint8. Or many: a folder or pattern, a list, an
            array [B, H, W, 3], a generator. Images may be of any size; EXIF orientation is not
            applied.
          probabilities: whether predictions have them.
          scales, flip: passes whose probabilities are averaged, as `evaluate --eval_scales`.
          batch_size: how many of many images are predicted at once at most; fewer where sizes
            differ or images are large. Of a generator so many are taken before the first is
            predicted: with 1 each is answered before the next is taken, as a camera needs it. With
            `probabilities` each is predicted by itself.

        Returns:
          `Prediction` of one image; of a list or an array of them a list; of a folder, a pattern or
          a generator a generator, so that they need not fit into memory.

        Raises:
          UserError: no image there, or none of these; naming the file. Of a TFLite or ONNX file:
            an image that is larger than it takes, and what needs probabilities.
        """
        scales = (scales,) if isinstance(scales, (int, float)) else tuple(scales)
        options = {'probabilities': probabilities, 'scales': scales, 'flip': flip}
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise errors.UserError(f'batch_size of {batch_size!r}: must be a whole number of at '
                                   'least 1')
        if isinstance(source, (str, os.PathLike)):
            if not str(source):
                raise errors.UserError('the path of an image is empty: give a file, a folder or a '
                                       'pattern')
            path = pathlib.Path(source).expanduser()
            with files.disk_errors(path):
                single = path.is_file()
            if single:
                return self._of_one(*self._read(path), **options)
            from tf_advseg.experiments.score import input_files
            return self._each(input_files.find_images(path)[1], options, AHEAD, batch_size)
        if isinstance(source, np.ndarray) and source.ndim == 4 or isinstance(source, (list, tuple)):
            return list(self._each(source, options, AHEAD, batch_size))
        if isinstance(source, (types.GeneratorType, collections.abc.Iterator)):
            return self._each(source, options, 1, batch_size)
        return self._of_one(*self._read(source), **options)

    def _each(self, sources, options, ahead, batch_size):
        """Yields the Predictions of many images, in order.

        Args:
          sources: iterable of images.
          options: probabilities, scales and flip.
          ahead: batches that are read before the first is predicted.
          batch_size: images of one at most.
        """
        from tf_advseg.evaluation import map_predictor
        if options['probabilities']:  # those of many images are too large to be held together
            ahead = batch_size = 1
        failed = []

        def readable():
            sources_ = iter(sources)
            while True:
                try:
                    found = self._read(next(sources_))
                except StopIteration:
                    return
                except Exception as error:  # raised below, behind what came before it
                    failed.append(error)
                    return
                yield found

        for chunk in map_predictor.chunks(readable(), lambda item: item[0][..., 0].size,
                                          ahead * batch_size):
            yield from self._of_chunk(chunk, options, batch_size)
        if failed:
            raise failed[0]

    def _of_chunk(self, chunk, options, batch_size):
        """Yields the Predictions of (image, path) pairs."""
        if batch_size == 1:
            for image, path in chunk:
                yield self._of_one(image, path, **options)
            return
        predictor = self._predictor(options['scales'], options['flip'], batch_size)
        found = predictor([image for image, _ in chunk])
        for (image, path), (ids, _) in zip(chunk, found):
            yield Prediction(image, ids, self.names, self.palette, None, path)

    def _read(self, source):
        """(image, its path or None); UserError where a file is too small for it."""
        image, path = _image(source)
        if self.segmentor is None:
            self._predictor((1.0,), False, 1).require_size(image.shape[:2], path or 'an image')
        return image, path

    def _predictor(self, scales, flip, batch_size):
        """What predicts many images, made once and kept."""
        from tf_advseg.evaluation import file_predictor
        from tf_advseg.evaluation import map_predictor
        key = scales, bool(flip), batch_size
        if key not in self._predictors:
            passes = {'scales': scales, 'flip': flip}
            self._predictors[key] = (
                file_predictor.FilePredictor(self._loaded[0], **passes) if self.segmentor is None
                else map_predictor.MapPredictor(self._loaded[0], self.crop_size,
                                                batch_size=batch_size, **passes))
        return self._predictors[key]

    def _of_one(self, image, path, probabilities, scales, flip):
        """The Prediction of one image."""
        if self.segmentor is None:
            from tf_advseg.evaluation import file_predictor
            if probabilities:
                file_predictor.FilePredictor(self._loaded[0], confidence=True)  # refuses
            ids, chances = self._predictor(scales, flip, 1)([image])[0]
        else:
            from tf_advseg.evaluation import prediction
            found = prediction.predict(self._loaded[0], image, self.crop_size, probabilities,
                                       scales, flip)
            ids, chances = found if probabilities else (found, None)
        return Prediction(image, ids, self.names, self.palette, chances, path)

    def evaluate(self, dataset: Optional[PathLike] = None, split: str = 'test',
                 measures: Sequence[str] = (), reader: Optional[str] = None,
                 damaged: str = 'refuse', **passes: Any) -> Dict[str, Any]:
        """Scores on labelled images, as `tools/evaluate.py` gives them.

        They are of the weights as they are, or, with another backend than TensorFlow, as they were
        loaded.

        Args:
          dataset: records, or a folder or archive of images and labels; None: the data of the run
            that the model is from.
          split: of the data.
          measures: beside IoU: 'boundary', 'trimap', 'components'.
          reader, damaged: see `evaluation_data.open_records`.
          **passes: scales, flip, padding, window, overlap of `map_predictor.MapPredictor`.

        Returns:
          dict: 'miou', 'pixel_accuracy', 'class_iou' {class: IoU or None} and others, as fractions.

        Raises:
          UserError: no such data, or its classes are not the model's.
        """
        from tf_advseg.experiments.score import evaluating
        return evaluating.evaluate_model(self._loaded, self.path, dataset, reader, split, measures,
                                         damaged, **passes)


def load(path: PathLike, which: Optional[str] = None, backend: str = 'tensorflow') -> 'Model':
    """A model from what `train`, `import_checkpoint` or `export` has written.

    Args:
      path: a run directory, a model folder, an exported SavedModel, or 'zoo:NAME' (see
        `import_checkpoint --list`), which is downloaded once. Or a TFLite or ONNX file that
        `export` wrote, with its export.json beside it: it is run as it is, and gives class
        maps alone.
      which: of a run: 'best', 'averaged', 'last', 'control', 'start'; None for its result.
      backend: what computes predictions: 'tensorflow'; 'tflite', which on a CPU is faster for many
        images of one size; 'onnx'; 'auto' measures which is the fastest here (docs/export.md).

    Returns:
      `Model`.

    Raises:
      UserError: there is no model; the backend's packages are not installed.
    """
    runtime.configure()
    from tf_advseg.experiments.convert import importing
    from tf_advseg.experiments.score import evaluating
    from tf_advseg.models import backends
    backends.require(backend)
    if not isinstance(path, (str, os.PathLike)) or not str(path):
        raise errors.UserError(f'a model of {path!r}: expected the path of a run directory or a '
                               "model folder, or 'zoo:NAME'")
    path = importing.resolved(path, which)
    segmentor, spec, content = evaluating.load(path, which, maps=True)
    return Model(segmentor, spec, content, path, backend)


def _image(source):
    """(uint8 [H, W, 3] of one image, its path or None).

    Raises:
      UserError: it is none.
    """
    if isinstance(source, (str, os.PathLike)):
        from tf_advseg.data.readers import base
        path = pathlib.Path(source).expanduser()
        return base.read_image(path), path
    if isinstance(source, Image.Image):
        return _of_pil(source), None
    image = np.asarray(source)
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or not image.size:
        hint = '; multiply by 255 and convert it to uint8' if image.dtype.kind == 'f' else ''
        raise errors.UserError(
            f'an image of shape {image.shape} and type {image.dtype}: expected a path, a PIL '
            f'image or uint8 [H, W, 3] RGB in 0..255{hint}')
    if image.ndim == 2:
        image = np.repeat(image[..., None], 3, -1)
    if image.shape[-1] not in (3, 4):
        raise errors.UserError(f'an image of shape {image.shape}: expected [H, W, 3] RGB, '
                               '[H, W, 4] or [H, W]')
    return np.array(image[..., :3]), None  # a copy: a video's reader writes over its frames


def _of_pil(image):
    """uint8 [H, W, 3] of a PIL image.

    Raises:
      UserError: of more than eight bits, which PIL would cut off; or broken.
    """
    if image.mode.startswith(('I', 'F')):
        raise errors.UserError(f'a PIL image of mode {image.mode}: expected eight bits a channel '
                               '(RGB, RGBA, L, P); scale it to 0..255 first')
    try:
        return np.array(image.convert('RGB'))
    except OSError as error:
        raise errors.UserError(f'a PIL image that cannot be read: {error}') from error
