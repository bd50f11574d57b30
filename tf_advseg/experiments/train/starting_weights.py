"""The weights that a run starts from: those it is given, the zoo's where they can be had, or none."""
from absl import logging

from tf_advseg.core import errors
from tf_advseg.core import files
from tf_advseg.experiments.train import stage_one
from tf_advseg.models.zoo import fetching
from tf_advseg.run import networks
from tf_advseg.training import stages

START = 'start.json'  # in the run directory: what became of `experiment.default_checkpoint`


def read(context, segmentor, checkpoint, default=None, backbone_only=False):
    """Fills a network with what its run starts from.

    Args:
      context: run.context.Context, of an open run.
      segmentor: built in the strategy's scope.
      checkpoint: what was asked for, or None.
      default: 'zoo:NAME', taken where nothing was asked for, if it can be had and fits; a run keeps
        to what it began with.
      backbone_only: see `networks.load_weights`.

    Returns:
      (str: what the weights are, as given, 'None' for random ones; whether some are random).

    Raises:
      UserError: `checkpoint` is damaged or of another network; `default` is no name of the zoo.
    """
    if checkpoint is not None:
        path = networks.find_weights(checkpoint)
        return str(checkpoint), _assigned(path, context, segmentor, backbone_only)
    if default is None:
        return str(None), True
    if not fetching.is_name(default):
        raise errors.UserError(f'experiment.default_checkpoint = {default!r}: expected a name of '
                               "the zoo, as 'zoo:mobilenetv2_coco_voc_trainaug'; other weights are "
                               'experiment.checkpoint')
    fetching.entry_of(default)  # a name that there is none of is a mistake, with a network and without
    return _default(context, segmentor, default, backbone_only)


def _default(context, segmentor, default, backbone_only):
    """`read` with the default alone, as the run began or, of a new run, as can be."""
    marker = context.run.path / START
    if marker.is_file():
        with files.as_written(marker):
            began = files.read_json(marker)['checkpoint']
            if not isinstance(began, (str, type(None))):
                raise TypeError(f'checkpoint is {began!r}')
    else:
        began = None if _older(context.run) else default
    if began is None:
        return str(None), True
    try:
        random = _assigned(networks.find_weights(began), context, segmentor, backbone_only)
        start, why = began, None
    except errors.UserError as error:
        if marker.is_file():
            raise
        logging.warning('this run starts from random weights, which need many images: %s', error)
        start, random, why = None, True, str(error)
    if context.chief:
        files.write_json(marker, {'checkpoint': start, 'why': why})
    return str(start), random


def _older(run):
    """Whether a run was begun before there was a default."""
    return run.resumed and 'default_checkpoint' not in run.config_path.read_text('utf-8')


def _assigned(path, context, segmentor, backbone_only):
    """Reads weights, unless Stage 1 has moved them already.

    Returns:
      Whether some of them are random: a layer that starts anew.
    """
    if (context.run.stages / stage_one.NAME / stages.DONE).exists():
        return False
    started = networks.read_weights(path, segmentor, backbone_only=backbone_only)
    print(f'starting weights: {started.text()}', flush=True)
    if started.reinitialised and not stage_one.stage_one().steps(len(context.data.train))[1]:
        logging.warning('the last layer starts anew (%s), and Stage 1 has no epochs: what comes '
                        'after it starts from random logits; raise stage_one.epochs',
                        started.reinitialised[0][1])
    return bool(started.reinitialised)
