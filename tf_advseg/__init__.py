"""tf_advseg: adversarial training of semantic segmentation in TensorFlow 2 / Keras."""
import typing as _typing

from tf_advseg.core import lanes as _lanes

if _typing.TYPE_CHECKING:  # what checkers see of what is imported when it is asked for
    from tf_advseg.api import Model, Prediction, load

__version__ = '0.1.0'

# Every subpackage imports this file first, so TensorFlow finds what is set here whoever imports it.
_lanes.prepare_environment()

_LAZY = ('load', 'Model', 'Prediction')  # of tf_advseg.api: `import tf_advseg` stays light


def __getattr__(name):
    """Imports the Python interface when it is first asked for."""
    if name in _LAZY:
        from tf_advseg import api
        return getattr(api, name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def __dir__():
    return sorted([*globals(), *_LAZY])
