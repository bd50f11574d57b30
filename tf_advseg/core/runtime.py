"""The one place that imports and sets up TensorFlow and keras-cv, without their chatter."""
import contextlib
import io
import logging
import os
import re
import sys
import tempfile
import warnings

from tf_advseg.core import lanes
from tf_advseg.core.errors import UserError

# How TensorFlow 2.15 and 2.21 say that an operation has no deterministic GPU kernel. There is no
# list of these operations to ask; the sentences were read out of its library.
_NO_DETERMINISTIC_KERNEL = tuple(map(re.compile, (
    r'Determinism is not yet supported (?:in GPU implementation of|for) (.+?)\.(?=\s|$)',
    r'[Dd]eterministic GPU implementation of (.+?) (?:is )?not (?:currently )?available',
    r'The GPU implementation of (\S+) that would have been executed is not deterministic')))


def silence_tensorflow():
    """Sets the environment so that TensorFlow's C++ side says nothing but fatal errors.

    Has effect before the first import only. A value the user has set stays.
    """
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
    os.environ.setdefault('TF_CPP_MAX_VLOG_LEVEL', '0')
    os.environ.setdefault('GRPC_VERBOSITY', 'ERROR')


def import_tensorflow():
    """Returns the tensorflow module, imported quietly.

    Raises:
      UserError: TensorFlow is not installed.
    """
    if 'tensorflow' in sys.modules:
        return sys.modules['tensorflow']
    silence_tensorflow()
    quiet = os.environ['TF_CPP_MIN_LOG_LEVEL'] == '3'
    try:
        with _stderr_held_back() if quiet and _talks_while_imported() else contextlib.nullcontext():
            import tensorflow as tf
    except ModuleNotFoundError as error:
        raise UserError(f'{error.name} is not installed for {sys.executable}; run `make setup` '
                        'and use .venv/bin/python, or pip install the package') from error
    lanes.require_keras_2(tf)
    if quiet:
        tf.get_logger().setLevel(logging.ERROR)
        # Parts of TensorFlow log through absl: where a SavedModel's fingerprint goes, for one.
        from absl import logging as absl_logging
        absl_logging.set_verbosity(absl_logging.WARNING)
        # A warning of ours is a line for a reader, not for a log's parser.
        absl_logging.get_absl_handler().python_handler.setFormatter(_PlainFormatter())
    return tf


def spare_tensors():
    """Makes what each eager tensor loses on Python 3.11 as small as it can be: 16 bytes, not 48.

    Python 3.11 gives every object of a class room for the attributes that its first few dozen
    objects were given, and TensorFlow 2.15 does not free that room with the tensor
    (github.com/tensorflow/tensorflow/issues/62551). So the first few dozen are made here, without
    attributes, before a variable's are. Python 3.13 with TensorFlow 2.21 loses nothing (measured).
    It touches the devices: to be called once they are set up.
    """
    if sys.version_info[:2] == (3, 11):
        tf = import_tensorflow()
        for _ in range(64):
            tf.constant([])


class _PlainFormatter(logging.Formatter):
    """'warning: what is to be said', without the time and the place."""

    def format(self, record):
        """See logging.Formatter."""
        return f'{record.levelname.lower()}: {record.getMessage()}'


def _talks_while_imported():
    """Whether TensorFlow logs while it is loaded, before it looks at its levels: from 2.16 on.

    Where the CPU has no AVX it ends the process there; then what it says must be seen.
    """
    try:
        with open('/proc/cpuinfo', encoding='utf-8') as file:
            has_avx = ' avx ' in file.read()
    except OSError:
        has_avx = False
    return has_avx and lanes.of_python() is lanes.CURRENT


@contextlib.contextmanager
def _stderr_held_back():
    """Holds back what native code writes to file descriptor 2; shows it if the block raises."""
    try:
        sys.stderr.flush()
        kept, held = os.dup(2), tempfile.TemporaryFile()
    except (OSError, AttributeError):  # no stderr (a service), no folder: nothing is held back
        yield
        return
    with held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(kept, held.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)


@contextlib.contextmanager
def _quiet():
    """Swallows warnings and what is printed while a module is imported; errors still raise."""
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()), \
            contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter('ignore')
        yield


def import_keras_cv():
    """Returns keras_cv, without its and keras-core's notices on the backend."""
    import_tensorflow()
    with _quiet():
        import keras_cv
    return keras_cv


def onednn_is_on():
    """Whether this process computes with oneDNN on the CPU (see `lanes.prepare_environment`)."""
    import_tensorflow()
    # TensorFlow has no public name for it.
    from tensorflow.python.util import _pywrap_util_port
    return bool(_pywrap_util_port.IsMklEnabled())


def operation_without_deterministic_kernel(error):
    """Which operation it was that cannot be done deterministically; TensorFlow is not imported.

    Args:
      error: any exception.

    Returns:
      The operation as TensorFlow calls it ('DenseBincount'); None where the error is another one.
    """
    if not any(kind.__name__ == 'UnimplementedError' and kind.__module__.startswith('tensorflow.')
               for kind in type(error).__mro__):
        return None
    text = ' '.join(str(error).split())
    found = (pattern.search(text) for pattern in _NO_DETERMINISTIC_KERNEL)
    return next((match[1].rstrip(',') for match in found if match), None)


def configure(deterministic=False, logical_cpus=1, threads=None, seed=0):
    """Sets TensorFlow up; call it before anything touches a device.

    A second call with the same or smaller wishes does nothing new, so that a tool can be
    called inside a process that is set up already.

    Args:
      deterministic: True makes every operation deterministic (or raise where TensorFlow has
        no deterministic kernel) and seeds Python's, NumPy's and TensorFlow's generators. Runs
        are bit-identical on one machine with one thread count.
      logical_cpus: as how many devices the CPU shall appear; 2 lets two replicas run on it.
      threads: number of inter- and intra-op threads each; None leaves TensorFlow's choice.
      seed: for the generators seeded when `deterministic`.

    Returns:
      The tensorflow module.

    Raises:
      UserError: TensorFlow is initialised already and cannot be changed any more.
    """
    tf = import_tensorflow()
    _set_logical_cpus(tf, logical_cpus)
    if threads is not None:
        _set_threads(tf, int(threads))
    if deterministic:
        tf.keras.utils.set_random_seed(seed)
        tf.config.experimental.enable_op_determinism()
    return tf


def _too_late(wish):
    return UserError(f'{wish} cannot be set: TensorFlow is initialised already; call '
                     'runtime.configure first')


def _set_logical_cpus(tf, number):
    """Splits the first CPU into `number` logical devices unless it has as many already."""
    cpu = tf.config.list_physical_devices('CPU')[0]
    have = tf.config.get_logical_device_configuration(cpu)
    if number <= (len(have) if have else 1):
        return
    try:
        tf.config.set_logical_device_configuration(
            cpu, [tf.config.LogicalDeviceConfiguration() for _ in range(number)])
    except RuntimeError as error:
        raise _too_late(f'{number} logical CPUs') from error


def _set_threads(tf, threads):
    """Sets both thread pools unless they have this size already."""
    threading = tf.config.threading
    if (threading.get_inter_op_parallelism_threads() == threads
            and threading.get_intra_op_parallelism_threads() == threads):
        return
    try:
        threading.set_inter_op_parallelism_threads(threads)
        threading.set_intra_op_parallelism_threads(threads)
    except RuntimeError as error:
        raise _too_late(f'{threads} threads') from error


def cores():
    """How many processor cores this process may use."""
    if hasattr(os, 'sched_getaffinity'):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1  # not Linux
