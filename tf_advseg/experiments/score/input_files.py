"""Which images a command line means: files, folders, patterns; and what is made of them."""
import collections
import hashlib
import os
import pathlib
import re

from tf_advseg.core import errors
from tf_advseg.core import files
from tf_advseg.core import walking
from tf_advseg.data.readers import base

IMAGES = base.IMAGES
LONGEST = 224  # bytes of a name without what is put behind it; file systems have room for 255
OVERLAY, CONFIDENCE = '_overlay', '_confidence'


def natural_key(path):
    """Sorts frame_2 before frame_10: text and whole numbers in turn."""
    parts = re.split('([0-9]+)', pathlib.Path(path).as_posix())
    return [int(part) if number % 2 else part for number, part in enumerate(parts)], str(path)


def find_images(source, outside=None):
    """The images that a word means: a file, those of a folder and below, or of a pattern.

    Args:
      source: path, or a pattern such as frames/*.png (** for any depth).
      outside: a folder whose images do not count where it lies inside the searched one (earlier
        results), or None.

    Returns:
      (folder that names are relative to, list of Paths in natural order).

    Raises:
      UserError: there is nothing, or nothing that is called like an image.
    """
    path = pathlib.Path(source).expanduser()
    with files.disk_errors(path):
        if path.is_file():
            return path.parent, [path]
        root, pattern = walking.split_pattern(path)
        if pattern:
            found = walking.matching(path)
            nothing = f'{source}: no image ({", ".join(IMAGES)}) matches this pattern'
        else:
            root = base.require_folder(path, 'an image, a folder of images or a pattern '
                                       '(--input)')
            found = walking.files_below(root)
            base.warn_of_unread(root, found)
            nothing = f'{root}: no image ({", ".join(IMAGES)}) in this folder'
        inside = pathlib.Path(outside).resolve() if outside else None
        if inside is not None and root.resolve() not in inside.parents:
            inside = None
        # A link to nothing is named as a broken image later on, not passed over.
        images = sorted((p for p in found if p.suffix.lower() in IMAGES
                         and (p.is_file() or p.is_symlink() and not p.exists())
                         and (inside is None or inside not in _folders(p))), key=natural_key)
    if not images:
        raise errors.UserError(nothing)
    return root, images


def _folders(path):
    """The folders that a file really lies in."""
    return pathlib.Path(os.path.realpath(path)).parents  # resolve() fails on links in a ring


def find_all(sources, outside=None):
    """`find_images` of several words, in their order; an image counts once.

    Returns:
      (folder that names are relative to, list of Paths): of several, the folder above all.
    """
    found = [find_images(source, outside) for source in sources]
    roots = [root for root, _ in found]
    root = roots[0] if len(set(roots)) == 1 else pathlib.Path(os.path.commonpath(
        [os.path.abspath(root) for root in roots]))
    images = {}
    for _, paths in found:
        for path in paths:
            images.setdefault(os.path.abspath(path), path)
    if len(set(roots)) > 1:
        return root, [pathlib.Path(path) for path in images]
    return root, list(images.values())


def output_names(root, images):
    """Where each image's files go, relative to the output folder, without '.png'.

    `<stem>` (of a long one its beginning and a digest), or `<stem>_<suffix>` where another image
    of the folder has the same stem or is called like what is made of one; with a number behind it,
    from 2, where that is taken too. No two images share a file, and none of the files is called as
    a folder that is needed.
    """
    stems = [_short(path.relative_to(root).with_suffix('')) for path in images]
    claims = collections.Counter(made for stem in stems for made in _made(stem))
    unique = [all(claims[made] == 1 for made in _made(stem)) for stem in stems]
    # Names that nobody else wants are given first: a clash of others does not change them.
    taken = {made for stem, alone in zip(stems, unique) if alone for made in _made(stem)}
    folders = {folder.as_posix() for stem in stems for folder in stem.parents}
    names = []
    for path, stem, alone in zip(images, stems, unique):
        name = stem if alone else stem.with_name(f'{stem.name}_{path.suffix[1:]}')
        first, number = name, 1
        while (number > 1 or not alone) and not taken.isdisjoint(_made(name)) or (
                not folders.isdisjoint(_made(name))):
            number += 1
            name = first.with_name(f'{first.name}_{number}')
        taken.update(_made(name))
        names.append(name)
    return names


def _short(stem):
    """A stem with room for an ending; the end of a long one gives way to a digest of the whole."""
    if len(os.fsencode(stem.name)) <= LONGEST:
        return stem
    digest = hashlib.sha256(os.fsencode(stem.name)).hexdigest()[:8]
    return stem.with_name(f'{files.beginning(stem.name, LONGEST - 9)}~{digest}')


def _made(name):
    """The files that are made of an image at most, with confidence and without."""
    return [f'{name.as_posix()}{end}.png' for end in ('', OVERLAY, CONFIDENCE)]
