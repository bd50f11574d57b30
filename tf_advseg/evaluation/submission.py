"""Predictions as the evaluation servers take them: where a file goes, how it is called and coded.

- Pascal VOC 2012 (devkit, section "Segmentation"): palette PNGs of the ids 0..20 in
  results/VOC2012/Segmentation/comp6_test_cls/<id>.png. comp6 is the competition for networks that
  saw other data too, ImageNet's weights among them; without any, rename the folder to
  comp5_test_cls before packing.
- Cityscapes (cityscapesscripts, evaluation/evalPixelLevelSemanticLabeling): grey PNGs of labelIds
  whose names begin with <city>_<sequence>_<frame>; all in one folder.
- ADE20K, SceneParse150 (MIT's sceneparsing): grey PNGs of 1..150 called as the image.
"""
import dataclasses
import io
import pathlib
import re

import numpy as np
from PIL import Image

from tf_advseg.core import files
from tf_advseg.core.errors import UserError, require_one_of
from tf_advseg.data import official_specs
from tf_advseg.evaluation import map_predictor


@dataclasses.dataclass(frozen=True)
class _Server:
    """folder and ending of the files, what an image's stem must match, and whether in colour."""
    folder: str
    ending: str
    pattern: str
    example: str
    palette: bool


_SERVERS = {
    'pascal_voc_2012': _Server('results/VOC2012/Segmentation/comp6_test_cls', '.png',
                               r'(\d{4}_\d{6})', '2008_000001', True),
    'cityscapes': _Server('', '_pred_labelIds.png',
                          r'([A-Za-z0-9-]+_\d{6}_\d{6})(?:_leftImg8bit)?',
                          'berlin_000000_000019_leftImg8bit', False),
    'ade20k': _Server('', '.png', r'(ADE_\w+)', 'ADE_test_00000001', False),
}
SERVERS = tuple(_SERVERS)


class Submission:
    """Files for one server.

    Attributes:
      spec: DatasetSpec whose train ids `encode` takes.
      translation: int [C] or None: how the network's classes are called there, for
        `predictions.MapPredictor` with `only_named`: a server takes its own classes only.

    Args:
      server: one of SERVERS.
      spec: the network's DatasetSpec.

    Raises:
      UserError: no such server, or the network has other classes.
    """

    def __init__(self, server, spec):
        require_one_of('submission', server, SERVERS)
        self.server = server
        self.spec = official_specs.SPECS[server]
        try:
            self.translation = map_predictor.translation(spec, self.spec, strict=True)
        except UserError:
            raise UserError(f'--submission={server}: the network was trained on {spec.name} '
                            f'({spec.num_classes} classes), the server expects the '
                            f'{self.spec.num_classes} of {server}') from None
        self._kind = _SERVERS[server]

    def path(self, stem, image=None):
        """Where the map of an image goes, relative to the submission's folder.

        Args:
          stem: the image's name without folder and suffix.
          image: the image's path, for the message; None: its stem.

        Raises:
          UserError: the server knows no image of such a name.
        """
        match = re.fullmatch(self._kind.pattern, stem)
        if match is None:
            raise UserError(f'{image or stem}: not the name of an image of {self.server}; '
                            f'expected one such as {self._kind.example}')
        return pathlib.PurePosixPath(self._kind.folder, match[1] + self._kind.ending)

    def encode(self, ids):
        """The PNG's bytes.

        Args:
          ids: uint8 [H, W], train ids of `spec`, none ignored.

        Raises:
          ValueError: an id that the data set has not.
        """
        ids = np.asarray(ids)
        if ids.size and ids.max() >= self.spec.num_classes:
            raise ValueError(f'class id {int(ids.max())} of {self.spec.num_classes} classes')
        official = self.spec.to_official(ids.astype(np.uint8))
        image = Image.fromarray(official, mode='P' if self._kind.palette else 'L')
        if self._kind.palette:
            image.putpalette(np.asarray(official_specs.pascal_voc_palette(256), np.uint8).tobytes())
        stream = io.BytesIO()
        image.save(stream, 'PNG')
        return stream.getvalue()

    def write(self, folder, stem, ids):
        """Writes an image's map below `folder`; returns its Path. See `path` and `encode`."""
        path = pathlib.Path(folder) / self.path(stem)
        with files.disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        with files.atomic_file(path) as file:
            file.write(self.encode(ids))
        return path
