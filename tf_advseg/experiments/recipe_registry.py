"""Every method's recipe by its name: the one place where methods are looked up."""
import functools
import importlib
import pkgutil

from tf_advseg import lookahead
from tf_advseg import methods
from tf_advseg.methods import recipe


@functools.lru_cache(maxsize=None)
def load_all():
    """Imports every module in which a recipe may register itself; returns {name: Recipe}."""
    for package in (methods, lookahead):
        for found in pkgutil.walk_packages(package.__path__, package.__name__ + '.'):
            importlib.import_module(found.name)
    return dict(sorted(recipe.REGISTERED.items()))


def find(name):
    """The `methods.recipe.Recipe` of `experiment.method`.

    Raises:
      UserError: there is none of that name; the nearest name is in the message.
    """
    load_all()
    return recipe.require(name)


load_all()  # gin knows a method's settings once its module is imported
