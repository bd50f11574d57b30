"""Asks TensorFlow Serving for the class map of an image; see docs/serving.md.

The file stands alone: Python's standard library, NumPy and Pillow. Written are a palette PNG whose
pixel values are class ids, and the image under its classes, as tools/predict.py has them.

Example:
  python docs/serving/client.py street.jpg --classes=runs/exported/model.json --output=street.png
"""
import argparse
import base64
import binascii
import io
import json
import os
import pathlib
import sys
import urllib.error
import urllib.parse
import urllib.request

import numpy as np
from PIL import Image

URL, MODEL = 'http://localhost:8501', 'segmentor'
SIGNATURE, INPUT = 'encoded', 'image_bytes'
SECONDS = 60.0


class ServingError(Exception):
    """What went wrong, in one line."""

    def __init__(self, message):
        super().__init__(' '.join(str(message).split()))


def class_map(image, url=URL, model=MODEL, seconds=SECONDS):
    """The class map of an image.

    Args:
      image: uint8 [H, W, 3] RGB.
      url: of the server's REST interface.
      model: its name there.
      seconds: to wait for an answer.

    Returns:
      uint8 [H, W], class ids.

    Raises:
      ServingError: no server, no such model, an answer that is none, or of another size.
    """
    # A PNG has every pixel as it is: the map is the one that the pixels have elsewhere.
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, 'PNG', compress_level=1)
    content = {'b64': base64.b64encode(stream.getvalue()).decode('ascii')}
    answer = _posted(url, model, {'signature_name': SIGNATURE, 'instances': [{INPUT: content}]},
                     seconds)
    try:
        encoded = answer['predictions'][0]['b64']
        ids = np.array(Image.open(io.BytesIO(base64.b64decode(encoded))))
    except (KeyError, IndexError, TypeError, OSError, binascii.Error) as error:
        raise ServingError(f'{url}: the answer holds no class map ({type(error).__name__}); is '
                           f'"{model}" a model of export --format=saved_model?') from error
    if ids.shape != image.shape[:2]:
        raise ServingError(f'{url}: the class map has the size {_size(ids)}, the image '
                           f'{_size(image)}')
    return ids


def _size(array):
    return f'{array.shape[1]}x{array.shape[0]}'


def _posted(url, model, request, seconds):
    """The answer to a request, decoded JSON."""
    address = f'{url.rstrip("/")}/v1/models/{urllib.parse.quote(model, safe="")}:predict'
    try:
        with urllib.request.urlopen(urllib.request.Request(
                address, json.dumps(request).encode(), {'Content-Type': 'application/json'}),
                timeout=seconds) as response:
            return json.loads(response.read())
    except urllib.error.HTTPError as error:
        said = _said(error)
        if error.code == 404:
            raise ServingError(f'{url}: the server has no model "{model}" (404: {said}); see '
                               f'MODEL_NAME in the Dockerfile and --model') from error
        raise ServingError(f'{url}: the server refuses the image ({error.code}: {said})'
                           ) from error
    except (urllib.error.URLError, OSError) as error:
        reason = getattr(error, 'reason', error)
        raise ServingError(f'{url}: no server answers there ({reason}); is the container running, '
                           'with -p 8501:8501?') from error
    except ValueError as error:  # of the address, or of JSON
        raise ServingError(f'{url}: this is no TensorFlow Serving ({error})') from error


def _said(error):
    """What the server says of its error: its JSON's text, or the beginning of what it sends."""
    text = error.read(2000).decode('utf-8', 'replace')
    try:
        return json.loads(text)['error']
    except (ValueError, KeyError, TypeError):
        return text[:200] or error.reason


def colours(path=None):
    """uint8 [256, 3]: the colour of each class id.

    Args:
      path: model.json of an exported folder, which has the classes' own; None: PASCAL VOC's rule.

    Raises:
      ServingError: no such file.
    """
    table = np.zeros((256, 3), np.uint8)
    if path is None:
        ids = np.arange(256)
        for bit in range(8):  # of eight; a channel takes every third bit of the id
            for channel in range(3):
                table[:, channel] |= (((ids >> channel) & 1) << (7 - bit)).astype(np.uint8)
            ids = ids >> 3
        return table
    try:
        own = json.loads(pathlib.Path(path).read_text(encoding='utf-8'))['dataset']['palette']
        table[:len(own)] = own
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ServingError(f'{path}: is no model.json of an exported folder ({error})') from error
    return table


def write(output, image, ids, table):
    """Writes the palette PNG, and beside it <stem>_overlay.png; returns both Paths."""
    output = pathlib.Path(output)
    palette = Image.fromarray(ids)
    palette.putpalette(table.tobytes())
    mixed = Image.fromarray(((image.astype(np.uint16) + table[ids] + 1) >> 1).astype(np.uint8))
    paths = output, output.with_name(f'{output.stem}_overlay.png')
    for path, picture in zip(paths, (palette, mixed)):
        temporary = path.with_name(f'.tmp-{path.name}-{os.getpid()}')
        try:
            picture.save(temporary, 'PNG')
            os.replace(temporary, path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise ServingError(f'{path}: cannot be written ({error.strerror})') from error
    return paths


def main(words=None):
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('image', help='an image file')
    parser.add_argument('--output', default='class_map.png', help='PNG to be written')
    parser.add_argument('--url', default=URL, help='of the server (%(default)s)')
    parser.add_argument('--model', default=MODEL, help='its name (%(default)s)')
    parser.add_argument('--classes', help='model.json of the exported folder, for its colours')
    parser.add_argument('--seconds', type=float, default=SECONDS, help='to wait (%(default)s)')
    given = parser.parse_args(words)
    try:
        table = colours(given.classes)
        try:
            with Image.open(given.image) as opened:
                image = np.array(opened.convert('RGB'))
        except OSError as error:
            raise ServingError(f'{given.image}: is no image that can be read ({error})') from error
        ids = class_map(image, given.url, given.model, given.seconds)
        for path in write(given.output, image, ids, table):
            print(path)
    except ServingError as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
