"""Settings that are given and that nothing in a run reads: an error, or a warning."""
from absl import logging

from tf_advseg.core import configuration
from tf_advseg.core import errors
from tf_advseg.experiments import recipe_registry as recipes
from tf_advseg.experiments.train import shared_control

# Read by a run, but not yet when its stages have been put together (`require_read`).
_READ_LATER = ('compilation', 'tracking', 'swa', 'adversarial_stage')
# The same, where a method has a loop of its own that is put together when its turn comes.
_READ_BY_LOOPS = ('accumulate', 'further_losses', 'precision')
_MODULES_READ_BY_LOOPS = ('tf_advseg.data.', 'tf_advseg.training.schedules.')


def of_other_methods(recipe):
    """{a setting that gin binds and this method does not read: the method that reads it}."""
    if not recipe.trains:
        return {}
    others = {name: other.name for other in recipes.load_all().values()
              for name in (*other.method_only, other.name)
              if other.trains and name not in (*recipe.method_only, recipe.name)}
    return {shared_control.selectors(name)[0]: others[part]
            for name in configuration.bindings(configuration.config_text())
            for part in shared_control.selectors(name)
            if part in others and not any(own.startswith(part) for own in recipe.method_only)}


def require_of_method(recipe):
    """UserError for a setting that another method reads, and this one does not.

    Stage 1 alone reads none, so a recipe's file serves for it.
    """
    for name, reader in of_other_methods(recipe).items():
        raise errors.UserError(
            f'{name} has no effect on experiment.method = {recipe.name!r}: it is read by '
            f'{reader!r}; leave it out, or choose that method')


def require_read(given, recipe, network):
    """UserError for a setting of the command line that nothing in this run reads.

    Call it when the stages have been put together. It is not asked of settings in files: a file may
    build on that of another network or of another selection. `warn` names these when the run ends.

    Args:
      given: gin bindings of the command line, texts.
      recipe: methods.recipe.Recipe.
      network: name of the segmentor in gin.
    """
    later, modules = {network, *_READ_LATER}, ()
    if recipe.arm_stage is not None:
        later |= {*_READ_BY_LOOPS, *(name.split('.')[0] for name in recipe.method_only)}
        modules = _MODULES_READ_BY_LOOPS
    ours = configuration.bindings('\n'.join(given))
    idle = [_short(name) for name in configuration.unread()
            if name in ours and _configurable(name) not in later
            and not name.rsplit('/', 1)[-1].startswith(modules)]
    if idle:
        raise errors.UserError(
            f'--gin_param: {", ".join(idle)} {"has" if len(idle) == 1 else "have"} no effect on '
            'this run: the part that reads it is not in use; leave it out, or choose that part')


def warn(network):
    """Logs the settings that nothing in a run has read, in one line; call it when it has ended.

    Args:
      network: name of the segmentor in gin. It is built from its description, past gin.
    """
    idle = [_short(name) for name in configuration.unread() if _configurable(name) != network]
    if idle:
        logging.warning('settings that had no effect on this run: %s', ', '.join(idle))


def _configurable(name):
    """'rotation' of 'scope/tf_advseg.data.rotation.degrees'."""
    return name.rsplit('/', 1)[-1].split('.')[-2]


def _short(name):
    """'rotation.degrees' of the same."""
    return '.'.join(name.split('.')[-2:])
