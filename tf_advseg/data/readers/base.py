"""What every reader gives, and the careful opening of image and label files."""
import abc
import os
import pathlib
import re
import struct
import unicodedata
import warnings
import zlib

import numpy as np
from absl import logging
from PIL import Image

from tf_advseg.core import walking
from tf_advseg.core.errors import UserError, spelled
from tf_advseg.data.spec import IGNORE_LABEL

# Endings of files that are read: images, and labels, which need a format that changes no value.
IMAGES = ('.jpg', '.jpeg', '.jpe', '.jfif', '.png', '.bmp', '.tif', '.tiff', '.webp', '.gif')
LABELS = ('.png', '.bmp', '.tif', '.tiff')  # not GIF, whose writers number colours anew
# Endings of images that are not read, and are told where they lie among others.
UNREAD = ('.heic', '.heif', '.avif', '.jp2', '.j2k', '.jxl', '.psd', '.raw', '.dng', '.cr2', '.cr3',
          '.nef', '.arw', '.exr', '.hdr', '.tga', '.ppm', '.pgm', '.pnm', '.svg', '.npy', '.pdf')
JUNK = ('__MACOSX',)  # folders that archivers add
_DAMAGED = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error,
            Image.DecompressionBombError)
NOT_UTF8 = ('the name is not UTF-8 but of an older encoding; rename it (a whole folder: convmv -r '
            '-f latin1 -t utf8 --notest FOLDER)')
# Large images are no attack here, and what is too large is refused in a line of ours.
warnings.filterwarnings('ignore', category=Image.DecompressionBombWarning)
_PNG_SIGNATURE = b'\x89PNG\r\n\x1a\n'


class Reader(abc.ABC):
    """A data set in its official layout.

    Attributes:
      spec: the `DatasetSpec`; a plain attribute or a property.
      description: dict of what made this reader (its name and options; of one's own reader its
        class, its file's SHA-256 and options); part of what makes two sets of records the same.
        `make_reader` fills it in.
      copies: pairs of ids that show one scene: a draw of folds keeps them together.
    """
    description = {}
    copies = ()

    @abc.abstractmethod
    def splits(self):
        """dict split name -> list of image ids; no split is empty."""

    @abc.abstractmethod
    def load(self, image_id):
        """(image uint8 [H, W, 3] RGB, label uint8 [H, W] of train ids, 255 = ignore).

        UserError, one line naming the file, for whatever is wrong with either.
        """

    def instances(self, image_id):
        """The image's objects: integers [H, W] in the data set's own coding, or None.

        The coding is Cityscapes': `official id * 1000 + k` for pixels of the k-th object of an
        instance class, the official id alone where objects are not separated; at most 65535.
        """
        del image_id
        return None

    def encoded_image(self, image_id):
        """The image's own JPEG or PNG bytes where they are 8-bit RGB, else None."""
        del image_id
        return None

    def files(self, image_id):
        """The files an image and its label come from; () for generated data."""
        del image_id
        return ()


class FileReader(Reader):
    """A data set with one image file and one label file per image id."""

    @abc.abstractmethod
    def image_path(self, image_id):
        """The image's file."""

    @abc.abstractmethod
    def label_path(self, image_id):
        """The label's file."""

    @abc.abstractmethod
    def read_label(self, image_id):
        """uint8 [H, W] of train ids, 255 = ignore."""

    def load(self, image_id):
        """See `Reader.load`; refuses a label whose size is not its image's."""
        image = read_image(self.image_path(image_id))
        label = self.read_label(image_id)
        if label.shape != image.shape[:2]:
            raise UserError(
                f'{self.label_path(image_id)}: label is {label.shape[1]}x{label.shape[0]}, but '
                f'its image {self.image_path(image_id).name} is '
                f'{image.shape[1]}x{image.shape[0]}; both need the same width and height')
        return image, label

    def encoded_image(self, image_id):
        """See `Reader.encoded_image`."""
        return usable_bytes(self.image_path(image_id))

    def files(self, image_id):
        """See `Reader.files`."""
        return self.image_path(image_id), self.label_path(image_id)


def require_folder(path, what):
    """`path` as a Path if it is a folder that can be listed, else a UserError saying `what`."""
    if path is None or str(path) == '':
        raise UserError(f'no folder was given for {what}')
    if not isinstance(path, (str, os.PathLike)):
        raise UserError(f'{path!r} is no path of a folder; expected {what} (a folder whose name is '
                        'a number is given as ./NUMBER)')
    path = pathlib.Path(path)
    if not path.exists():
        raise UserError(f'{path}: no such folder; expected {what}')
    if not path.is_dir():
        raise UserError(f'{path}: is a file, not a folder; expected {what}')
    if not os.access(path, os.R_OK | os.X_OK):
        raise UserError(f'{path}: the folder cannot be read (permissions)')
    return path


def find_root(source, parts, what, depth=3, skip=()):
    """The folder at `source`, or up to `depth` levels below it, that holds the folders `parts`.

    The nearest one, by name where there are several; folders named as one of `skip` are not looked
    into. UserError, which says `what` was expected, where there is none.
    """
    level = [require_folder(source, what)]
    for _ in range(depth + 1):
        for folder in level:
            if all((folder / part).is_dir() for part in parts):
                return folder
        level = [pathlib.Path(entry.path) for folder in level for entry in
                 sorted(os.scandir(folder), key=lambda entry: entry.name)
                 if walking.is_folder(entry) and not entry.name.startswith('.')
                 and entry.name not in (*skip, *JUNK)
                 and os.access(entry.path, os.R_OK | os.X_OK)]
    raise UserError(f'{source}: no folder {" and ".join(parts)} in it or below; expected {what}')


def files_by_stem(folder, suffixes, recursive=False):
    """The files of a folder by their names without suffix.

    Args:
      folder: a Path.
      suffixes: endings that count, in lower case; a name's own may be in either case.
      recursive: also below the folder; a stem is then the path from the folder on, with slashes.

    Returns:
      dict stem -> Path, in the order of the paths; stems are in Unicode's form NFC, as macOS
      writes names in another than its keyboards give. Hidden files (macOS leaves `._a.jpg` beside
      `a.jpg`) and what lies in hidden folders are left out; links to folders are followed.
      UserError where two files have one stem.
    """
    found = {}
    for path in walking.files_below(folder) if recursive else sorted(folder.iterdir()):
        name = path.relative_to(folder).as_posix()
        suffix = next((s for s in suffixes if name.lower().endswith(s)), None)
        if suffix is None or any(part.startswith('.') for part in name.split('/')):
            continue
        require_utf8(name, path)
        stem = unicodedata.normalize('NFC', name[:-len(suffix)])
        if stem in found:
            form = ' in another Unicode form' if found[stem].stem != path.stem else ''
            raise UserError(f'{path}: has the same name as {found[stem].name}{form}; keep one of '
                            'them')
        found[stem] = path
    return found


def warn_of_unread(folder, paths):
    """Logs how many of the paths in a folder are images of kinds that are not read."""
    left_out = [path for path in paths if path.suffix.lower() in UNREAD]
    if left_out:
        logging.warning('%s: %d files are left out, as %s: they are of kinds that are not read; '
                        'convert them to PNG or JPEG', spelled(folder), len(left_out),
                        spelled(left_out[0].name))


def require_utf8(name, path):
    """UserError, which names `path`, unless the name that an image id is made of is text."""
    if not is_utf8(name):
        raise UserError(f'{path}: {NOT_UTF8}')


def is_utf8(name):
    """Whether a file's name is text."""
    try:
        name.encode('utf-8')
    except UnicodeEncodeError:
        return False
    return True


def folder_name(folder):
    """A folder's own name, as text also where it is none on disk."""
    return spelled(folder.resolve().name)


def pair_up(images, labels, image_of, label_of):
    """UserError, naming the file, unless the two sets of ids are the same.

    Args:
      images, labels: collections of image ids.
      image_of, label_of: functions id -> the file that belongs there.
    """
    for image_id in sorted(set(images) - set(labels)):
        raise UserError(f'{image_of(image_id)}: image without label; expected '
                        f'{label_of(image_id)}')
    for image_id in sorted(set(labels) - set(images)):
        raise UserError(f'{label_of(image_id)}: label without image; expected '
                        f'{image_of(image_id)}')


def read_image(path):
    """An image as uint8 [H, W, 3] RGB, decoded whole; EXIF orientation is not applied.

    (TensorFlow's decoders ignore the orientation too, and labels are drawn on stored pixels.)
    UserError for a file that is missing, truncated, no image, or not 8-bit.
    """
    with _open(path, 'image') as image:
        if image.mode.startswith(('I', 'F')):
            raise UserError(f'{path}: pixels are of type {image.mode}, expected an 8-bit '
                            'image; convert it to 8-bit RGB')
        try:
            image.load()
            pixels = np.array(image.convert('RGB'), np.uint8)
        except _DAMAGED as error:
            raise UserError(f'{path}: truncated or damaged image ({_line(error)}); '
                            'fetch the file again') from None
    return pixels


def usable_bytes(path):
    """The file's bytes if it is an 8-bit RGB JPEG or PNG, else None (it has to be encoded)."""
    with _open(path, 'image') as image:
        usable = image.mode == 'RGB' and image.format in ('JPEG', 'MPO', 'PNG')
    return pathlib.Path(path).read_bytes() if usable else None


def read_id_png(path, formats=('PNG',)):
    """A label image's ids as uint8 [H, W]: grey values, or a palette image's indices.

    Args:
      path: the file.
      formats: Pillow's names of those that it may be of.

    UserError for a missing or damaged file, or one that holds colours instead of ids.
    """
    with _open(path, 'label') as image:
        if image.format not in formats or image.info.get('compression') in ('jpeg', 'tiff_jpeg'):
            raise UserError(f'{path}: a {image.format} file, expected a PNG of class ids '
                            '(lossy formats change ids); export the labels anew as PNG')
        if image.mode not in ('L', 'P', '1'):
            kind, how = _no_ids(image)
            raise UserError(f'{path}: {kind} where class ids are expected; save the label as an '
                            f'8-bit grey or palette PNG whose values are the ids{how}')
        try:
            image.load()
            ids = np.array(image).astype(np.uint8)
        except _DAMAGED as error:
            raise UserError(f'{path}: truncated or damaged label ({_line(error)}); '
                            'fetch the file again') from None
        grey = image.mode == 'L'
    return ids // _grey_scale(path) if grey else ids


LOSSLESS = ('PNG', 'BMP', 'TIFF')  # Pillow's names of formats that keep ids


def _no_ids(image):
    """What a label that holds no 8-bit ids is, and how the ids are got out of it."""
    if image.mode in ('RGB', 'RGBA', 'CMYK', 'YCbCr'):
        return f'a colour {image.format}', (': to each colour the id of its class (of three equal '
                                            'channels keep one, Image.open(f).getchannel(0))')
    if image.mode in ('LA', 'PA', 'La'):
        return (f'mode {image.mode}, grey with transparency,',
                ', without the transparency: Image.open(f).getchannel(0)')
    return (f'mode {image.mode}, more than 8 bits a pixel,',
            ', without scaling them: Image.fromarray(np.array(Image.open(f)).astype(np.uint8))')


def read_instance_png(path):
    """The numbers of a grey PNG of 16 or 8 bits as int32 [H, W].

    UserError for a missing or damaged file, or one that is no grey PNG.
    """
    with _open(path, 'instance') as image:
        if image.format != 'PNG' or not (image.mode == 'L' or image.mode.startswith('I')):
            raise UserError(f'{path}: a {image.format} of mode {image.mode}, expected a 16-bit '
                            'grey PNG of instance ids')
        try:
            image.load()
            return np.array(image).astype(np.int32)
        except _DAMAGED as error:
            raise UserError(f'{path}: truncated or damaged instance file ({_line(error)}); '
                            'fetch the file again') from None


def as_train_ids(ids, path, spec):
    """The data set's own ids as train ids uint8; UserError naming the file for an unknown one."""
    try:
        return spec.from_official(ids)
    except UserError as error:
        raise UserError(f'{path}: {error}') from None


def check_ids(ids, path, num_classes, ignore_label):
    """`ids` as train ids uint8 with `ignore_label` turned to 255; UserError if one is outside."""
    train_ids = ids.copy()
    train_ids[ids == ignore_label] = IGNORE_LABEL
    outside = np.unique(ids[(ids >= num_classes) & (ids != ignore_label)])
    if outside.size:
        raise UserError(f'{path}: label id {outside[0]} is out of range; expected 0 to '
                        f'{num_classes - 1}, or {ignore_label} for pixels to ignore')
    return train_ids


def _grey_scale(path):
    """By how much Pillow stretched a grey PNG's values (2- and 4-bit ones are spread to 0..255)."""
    with open(path, 'rb') as file:
        header = file.read(26)
    depth = header[24] if header[:8] == _PNG_SIGNATURE and len(header) == 26 else 8
    return {2: 85, 4: 17}.get(depth, 1)


def _open(path, what):
    """`Image.open` with every failure as a UserError."""
    try:
        return Image.open(path)
    except FileNotFoundError:
        raise UserError(f'{path}: no such {what} file') from None
    except PermissionError:
        raise UserError(f'{path}: the {what} cannot be read (permissions)') from None
    except Image.DecompressionBombError as error:
        raise UserError(f'{path}: {_too_large(error)}') from None
    except _DAMAGED as error:
        raise UserError(f'{path}: not a readable {what} ({_line(error)}); expected a JPEG or PNG '
                        'file, fetch it again') from None


def _too_large(error):
    """What Pillow's refusal of a very large image means."""
    sizes = [f'{int(number) / 1e6:.0f}' for number in re.findall(r'(\d{4,}) pixels', str(error))]
    has, most = sizes if len(sizes) == 2 else ('too many', 'some 179')
    return (f'{has} megapixels, and images of up to {most} are read; cut it into tiles or shrink '
            'it')


def _line(error):
    """The error's message on one line, without the path Pillow may repeat in it."""
    text = ' '.join(str(error).split()) or type(error).__name__
    return 'unknown format' if text.startswith('cannot identify image file') else text
