"""Archives of data sets, unpacked safely: nothing outside the folder, nothing larger than the disk.

Archives come from anywhere: the libraries that read them raise whatever a damaged byte leads them
to, and write wherever a name says.
"""
import errno
import lzma
import pathlib
import re
import shutil
import struct
import tarfile
import zipfile
import zlib

from tf_advseg.core import files
from tf_advseg.core.errors import UserError

ENDINGS = ('.tar', '.tar.gz', '.tgz', '.tar.xz', '.zip')
# What the libraries raise for bytes that no archiver wrote. RuntimeError: a password;
# NotImplementedError below it: a compression they lack.
_DAMAGE = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError,
           OSError, RuntimeError, ArithmeticError, ValueError, LookupError, TypeError,
           AttributeError)
# Errors of the place that is unpacked to; all others are the archive's.
_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE, errno.EMFILE,
                errno.ENFILE)


def unpack(archive, folder):
    """Unpacks an archive into a folder.

    Args:
      archive: path that ends in one of ENDINGS.
      folder: Path, empty; what is in it after an error is the caller's to delete.

    Raises:
      UserError: the archive is damaged or unsafe (a path, link or device that leads outside), a
        .zip has two files of one name, the disk has no room for what the archive says to hold.
    """
    room = shutil.disk_usage(folder).free
    try:
        if str(archive).endswith('.zip'):
            _unzip(archive, folder, room)
        else:
            _untar(archive, folder, room)
    except _DAMAGE as error:
        if getattr(error, 'errno', None) in _OF_THE_DISK:
            raise UserError(f'{archive}: cannot be unpacked in {folder.parent}: '
                            f'{files.disk_reason(error)}') from error
        raise UserError(f'{archive}: cannot be unpacked ({str(error) or type(error).__name__}); is '
                        'it whole?') from error


def _unzip(archive, folder, room):
    with zipfile.ZipFile(archive) as file:
        seen = set()
        for entry in file.infolist():
            _require_inside(archive, entry.filename)
            if entry.filename in seen:
                raise UserError(f'{archive}: cannot be unpacked: two files in it are called '
                                f'{entry.filename}')
            seen.add(entry.filename)
        _require_room(archive, sum(entry.file_size for entry in file.infolist()), room)
        file.extractall(folder)


def _untar(archive, folder, room):
    filters = hasattr(tarfile, 'data_filter')  # old patch releases of Python 3.9-3.11 have none
    size = 0
    with tarfile.open(archive) as file:
        for member in file:
            _require_inside(archive, member.name)
            size += member.size
            _require_room(archive, size, room)
            if filters:
                file.extract(member, folder, filter='data')
            elif member.isfile() or member.isdir():
                file.extract(member, folder)
            else:
                raise UserError(f'{archive}: cannot be unpacked: {member.name} is a link or a '
                                'device')


def _require_inside(archive, name):
    """UserError for a name that is no path below the folder; Python would rename some."""
    parts = re.split(r'[/\\]', name)
    if '..' in parts or name.startswith(('/', '\\')) or re.match(r'[A-Za-z]:[/\\]', name):
        raise UserError(f'{archive}: cannot be unpacked: the entry {name} would be written outside '
                        'the folder')


def _require_room(archive, size, room):
    """UserError for more bytes than there is room for: a few kilobytes can say any number."""
    if size > room:
        raise UserError(f'{archive}: cannot be unpacked: it says to hold {size / 1e9:.1f} GB or '
                        f'more, and there are {room / 1e9:.1f} GB free')


def top_folder(folder, junk=()):
    """The only folder in an unpacked folder, or that one; hidden names and `junk` do not count."""
    entries = [entry for entry in pathlib.Path(folder).iterdir()
               if not entry.name.startswith('.') and entry.name not in junk]
    return entries[0] if len(entries) == 1 and entries[0].is_dir() else folder
