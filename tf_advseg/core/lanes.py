"""The two lanes: which TensorFlow belongs to which Python, and what has to be set before its
import.

The reference lane (Python 3.9 to 3.11, TensorFlow 2.15, tensorflow-addons) is the one of the
published numbers. The current lane (Python 3.12 and 3.13, TensorFlow 2.21, tf-keras) runs the same
code on what today's distributions bring: there `tf.keras` would be Keras 3, which has neither the
optimizers nor the layers' behaviour that the numbers rest on, so tf-keras (Keras 2) takes its
place.
"""
import dataclasses
import os
import sys

from tf_advseg.core.errors import UserError


@dataclasses.dataclass(frozen=True)
class Lane:
    """One combination of packages.

    Attributes:
      name: 'reference' or 'current'.
      pythons: (first, last) version it installs on, each (major, minor).
      tensorflow: (major, minor) of its TensorFlow.
      constraint: the version that setup.py pins.
    """
    name: str
    pythons: tuple
    tensorflow: tuple
    constraint: str

    def has(self, version):
        """Whether a Python version, (major, minor), is one of this lane."""
        return self.pythons[0] <= tuple(version) <= self.pythons[1]

    @property
    def described(self):
        """'Python 3.9 to 3.11 and TensorFlow 2.15 (the reference lane)'."""
        first, last, tensorflow = ('.'.join(map(str, version))
                                   for version in (*self.pythons, self.tensorflow))
        return f'Python {first} to {last} and TensorFlow {tensorflow} (the {self.name} lane)'


REFERENCE = Lane('reference', ((3, 9), (3, 11)), (2, 15), '2.15.1')
CURRENT = Lane('current', ((3, 12), (3, 13)), (2, 21), '2.21.0')
LANES = (REFERENCE, CURRENT)
PYTHONS = 'Python 3.9 to 3.13'


def of_python(version=None):
    """The `Lane` of an interpreter.

    Args:
      version: (major, minor, ...); None means the running interpreter.

    Raises:
      UserError: no lane has this Python.
    """
    major_minor = tuple(version or sys.version_info)[:2]
    for lane in LANES:
        if lane.has(major_minor):
            return lane
    raise UserError(f'tf_advseg needs {PYTHONS}, this is {major_minor[0]}.{major_minor[1]} '
                    f'({sys.executable}); install one of these, 3.11 if you can choose')


def of_tensorflow(version):
    """The name of the lane that a TensorFlow version (text such as '2.15.1') belongs to.

    The boundary is Keras: from TensorFlow 2.16 on, Keras 2 is a package of its own.
    """
    numbers = tuple(int(part) for part in version.split('.')[:2])
    return REFERENCE.name if numbers < (2, 16) else CURRENT.name


def prepare_environment():
    """Sets what TensorFlow reads when it is imported; a value that the user has set stays.

    * TF_ENABLE_ONEDNN_OPTS=1: TensorFlow leaves oneDNN off on CPUs without AVX512-VNNI and the
      like; it is faster there too, and has the gradients of atrous convolutions (`models.atrous` is
      what serves without it).
    * TF_USE_LEGACY_KERAS=1, in the current lane: `tf.keras` is tf-keras, that is Keras 2.
    * KERAS_BACKEND=tensorflow: for the Keras 3 that keras-cv may bring along.

    Raises:
      UserError: Keras 3 has been taken for `tf.keras` already.
    """
    os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '1')
    os.environ.setdefault('KERAS_BACKEND', 'tensorflow')
    if sys.version_info >= CURRENT.pythons[0]:  # TensorFlow 2.15 has Keras 2 and fails with it
        os.environ.setdefault('TF_USE_LEGACY_KERAS', '1')
    if 'tensorflow' in sys.modules:
        require_keras_2(sys.modules['tensorflow'])


def require_keras_2(tf):
    """Raises a one-line UserError where `tf.keras` is Keras 3, or tf-keras is not installed."""
    if of_tensorflow(tf.__version__) == REFERENCE.name:
        return
    try:
        package = tf.keras.Model.__module__.split('.')[0]
    except ImportError as error:
        raise UserError(f'tf-keras is not installed for {sys.executable}, and TensorFlow '
                        f'{tf.__version__} has no Keras 2 of its own: pip install '
                        f'"tf-keras=={CURRENT.constraint}"') from error
    if package != 'tf_keras':
        value = os.environ.get('TF_USE_LEGACY_KERAS')
        if value not in ('1', 'true', 'True'):
            raise UserError(f'TF_USE_LEGACY_KERAS is set to {value!r}, and tf_advseg needs '
                            'Keras 2: unset it, or set it to 1')
        raise UserError(
            'TensorFlow was imported before tf_advseg and has taken Keras 3 for tf.keras; '
            'tf_advseg needs Keras 2: import tf_advseg first, or set TF_USE_LEGACY_KERAS=1 before '
            'you start Python')
