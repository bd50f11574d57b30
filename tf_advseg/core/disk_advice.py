"""What to do about the errors that disks and their permissions give."""
import errno
import os

ADVICE = {
    errno.ENOSPC: 'the disk is full; free some space and start again',
    errno.EDQUOT: 'the disk quota is used up; free some space and start again',
    errno.EFBIG: 'the file is larger than the system allows',
    errno.EACCES: 'permission denied; change the permissions or choose another place',
    errno.EPERM: 'operation not permitted; choose another place',
    errno.EROFS: 'the file system is read-only; choose another place',
    errno.ENOTDIR: 'a part of this path is a file, not a folder',
    errno.EEXIST: 'something of that name is in the way; remove it or choose another place',
    errno.EBUSY: 'in use by the system (a mount point?); choose another place',
    errno.ENAMETOOLONG: 'a name or the whole path is longer than the file system allows; choose '
                        'shorter ones',
    errno.ELOOP: 'symbolic links that lead in a ring; mend them or choose another place',
    errno.EIO: 'the disk does not read or write it; look after the disk or choose another place',
    errno.ESTALE: 'the network file system has lost it; mount it again',
    errno.EMFILE: 'too many open files; raise the limit (`ulimit -n`)',
    errno.ENFILE: 'too many open files on this machine; close other programs',
}
# Those that TensorFlow hands on in its messages, by the words that the system has for them.
WORDS = {os.strerror(number).lower(): number for number in (
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EROFS, errno.ENAMETOOLONG,
    errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE)}
