"""Published weights in: one reader per kind of file, chosen by what the file is.

A reader maps weights to variables by rule from each layer's official scope, assigns every variable
exactly once, and says of everything in the file whether it was used.
"""
import dataclasses
import pathlib

from tf_advseg.core.errors import UserError

TFLITE_MAGIC = b'TFL3'  # at byte 4
KINDS = 'a TFLite model (.tflite)'


@dataclasses.dataclass(frozen=True)
class ImportReport:
    """What an import did.

    Attributes:
      source: path of the file.
      assigned: official names of the variables that were given the file's values.
      reinitialised: (official name, reason) of the variables that start anew.
      unused: (name in the file, reason) of the constants that no variable took.
    """
    source: str
    assigned: tuple
    reinitialised: tuple = ()
    unused: tuple = ()

    def text(self):
        """A few lines for people: counts, then every exception with its reason."""
        lines = [f'{self.source}: {len(self.assigned)} variables assigned, '
                 f'{len(self.reinitialised)} re-initialised, '
                 f'{len(self.unused)} constants of the file not used']
        lines += [f'  re-initialised: {name}: {reason}' for name, reason in self.reinitialised]
        lines += [f'  not used: {name}: {reason}' for name, reason in self.unused]
        return '\n'.join(lines)


def read(path, segmentor, **options):
    """Reads published weights into a segmentor, by the kind of file.

    Args:
      path: a TFLite DeepLab on MobileNetV2, float or quantised.
      segmentor: a network of `tf_advseg.models`, built.
      **options: of the reader, see `tflite.load_tflite`.

    Returns:
      ImportReport.

    Raises:
      UserError: no such file, a foreign or damaged one, or one that does not fit the network.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        what = 'is a folder' if path.is_dir() else 'does not exist'
        raise UserError(f'{path}: {what}; expected {KINDS}')
    try:
        with open(path, 'rb') as file:
            head = file.read(8)
    except OSError as error:
        raise UserError(f'{path}: cannot be read: {error.strerror}') from error
    if head[4:8] != TFLITE_MAGIC:
        raise UserError(f'{path}: not a model file of a known kind; expected {KINDS}')
    from tf_advseg.models.zoo import tflite
    return tflite.load_tflite(path, segmentor, **options)
