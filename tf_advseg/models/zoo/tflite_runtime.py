"""TensorFlow Lite's interpreter: the fastest that is installed, with all cores, and quiet.

The interpreter of the `ai-edge-litert` package (extra `lite`) is preferred: it is the one that is
kept up, and has the newer kernels. Where it is not installed TensorFlow's own is taken.
"""
import tensorflow as tf

from tf_advseg.core import runtime
from tf_advseg.core.quiet import quiet

LITERT, OWN = 'ai-edge-litert', 'tf.lite'


def name():
    """`LITERT` or `OWN`: whose interpreter `interpreter` gives."""
    return LITERT if _litert() is not None else OWN


def interpreter(content, delegates=True):
    """An interpreter of a file, with its tensors allocated.

    Args:
      content: the file as bytes.
      delegates: False: TensorFlow Lite's own kernels alone, so that every tensor can be read.

    Returns:
      An object with the interface of tf.lite.Interpreter.

    Raises:
      RuntimeError, ValueError: of the library, where it cannot run the file.
    """
    litert, chosen = _litert(), {}
    module = tf.lite.experimental if litert is None else litert
    if not delegates:
        chosen['experimental_op_resolver_type'] = (
            module.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES)
    with quiet():
        made = (tf.lite.Interpreter if litert is None else litert.Interpreter)(
            model_content=content, num_threads=runtime.cores(), **chosen)
        made.allocate_tensors()
    return made


def _litert():
    """The module of ai-edge-litert, or None."""
    try:
        from ai_edge_litert import interpreter as module
    except ImportError:
        return None
    return module
