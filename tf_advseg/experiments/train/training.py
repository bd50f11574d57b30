"""A training run from images to report: Stage 1, the method, its control, the scores."""
import contextlib
import pathlib
import tempfile

import gin

from tf_advseg.core import arguments
from tf_advseg.core import configuration
from tf_advseg.core import errors
from tf_advseg.core import random_streams
from tf_advseg.core import run_directory
from tf_advseg.experiments import recipe_registry as recipes
from tf_advseg.experiments.train import dry_run as dry_runs
from tf_advseg.experiments.train import idle_settings
from tf_advseg.experiments.train import run_results
from tf_advseg.experiments.train import run_stages
from tf_advseg.experiments.train import shared_control
from tf_advseg.experiments.train import starting_weights
from tf_advseg.reporting import tables
from tf_advseg.run import context as contexts
from tf_advseg.run import dataset as datasets
from tf_advseg.run import networks
from tf_advseg.run import semi_supervised
from tf_advseg.run import stage_optimizers
from tf_advseg.run import tracking
from tf_advseg.training import strategy as strategies

configuration.renamed(experiment__max_propagations='controller.max_propagations')
# A run may go on under other caps, logging and strategy; everything else is another run.
MAY_CHANGE = ('max_propagations', 'max_total_cycles', 'max_cycles', 'diagnostics_every',
              'durable_every', 'control', 'limit_bytes', 'max_hours', 'non_finite_limit',
              'diagnose_every', 'only_control', 'paper_rows', 'holds_for', 'control_from',
              'rare_below', 'only', 'tracking.to', 'default_checkpoint', 'jit_compile')


@gin.configurable(denylist=['workdir', 'strategy', 'dry_run', 'instead', 'given'])
def experiment(workdir, strategy, dry_run=False, seed=0, method='load', control=True,
               data_dir=None, checkpoint=None, network='deeplab_mobilenet_v2', crop_size=321,
               backbone_only=False, control_from=None, default_checkpoint=None, instead=None,
               given=()):
    """Runs an experiment, or goes on with one that was stopped.

    Args:
      workdir: the run directory.
      strategy: tf.distribute.Strategy.
      dry_run: build everything, read the weights, take no step, print what it will take.
      instead: function(context, segmentor, recipe) that takes the place of all stages, or None;
        like a dry run it leaves nothing in the run directory.
      seed: of everything drawn in this run but the splits; recorded in the run.
      method: a recipe's name (methods/recipe.py), or 'cross_entropy' for Stage 1 alone.
      control: whether the control runs too, with as many steps of the segmentor.
      data_dir: see `datasets.dataset`.
      checkpoint: the weights to start from (a run, a model folder, a file of the model zoo: see
        `networks.load_weights`), or None.
      network: one of networks.NETWORKS.
      crop_size: side of the crop in pixels, or (h, w); k * output_stride + 1.
      backbone_only: of `checkpoint`, take the backbone and let the head start anew, whatever head
        it has.
      control_from: a run directory whose finished control is taken over, if it is the same
        training, whichever method that run is of.
      default_checkpoint: 'zoo:NAME': the weights to start from where `checkpoint` is None. Where
        they cannot be downloaded or are of another network, the run starts from random ones, with
        a warning.
      given: gin bindings of the command line; one that nothing in a new run reads is an error.

    Returns:
      dict of the results, as in results.json; None for a dry run, with `instead`, and where a
      stage before Stage 1 ends the run.

    Raises:
      UserError: a setting out of range, or one that has no effect in this run.
    """
    recipe = recipes.find(method)
    idle_settings.require_of_method(recipe)
    for argument, path in (('data_dir', data_dir), ('checkpoint', checkpoint),
                           ('control_from', control_from)):
        arguments.require_path('experiment', argument, path)
    crop_size, found = _checked(recipe, control, seed, crop_size, checkpoint, backbone_only)
    with contextlib.ExitStack() as stack:
        # Neither leaves anything behind, nor a configuration that another run is held to.
        if dry_run or instead:
            workdir = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory())) / 'run'
        run, data = stack.enter_context(opened(workdir, strategy, data_dir, seed))
        semi_supervised.require_unseen(found, data)
        with strategy.scope():
            description = networks.describe(network, num_classes=data.spec.num_classes,
                                            crop_size=crop_size, seed=seed)
            segmentor = networks.build(description)
        context = contexts.Context(run, data, strategy, random_streams.RandomStreams(seed),
                                   crop_size, description)
        start, random = starting_weights.read(context, segmentor, checkpoint, default_checkpoint,
                                              backbone_only)
        if dry_run:
            dry_runs.describe(context, segmentor, recipe, control, control_from, given)
            return None
        if instead:
            instead(context, segmentor, recipe)
            return None
        names = tracking.tracking()
        context.trackers = stack.enter_context(
            tracking.Trackers(names if context.chief else (), run.path))
        resumed = run.stages.is_dir() and any(run.stages.iterdir())
        # A run that goes on read the settings of what is done when it was done.
        results = run_stages.Run(context, segmentor, recipe, control, control_from,
                                 () if resumed else given).run(start, random)
        if not resumed:
            idle_settings.warn(network)
        return results


def _checked(recipe, control, seed, crop_size, checkpoint, backbone_only):
    """UserError for a setting of `experiment` that is out of range.

    Weights are looked for here: before the data, whose conversion may take minutes.

    Returns:
      ((h, w) of the crop; where the weights of `checkpoint` are, or None).
    """
    if recipe.trains:
        stage_optimizers.check()
        recipe.pixel_loss(shared_control.NoData())  # its settings check themselves
    arguments.require_flag('experiment', 'control', control)
    arguments.require_number('experiment', 'seed', seed, least=0, whole=True)
    crop_size = arguments.as_pair('experiment', crop_size)
    if crop_size is None:
        raise errors.UserError('experiment.crop_size = None: expected pixels, or (height, width)')
    if backbone_only and not checkpoint:
        raise errors.UserError('experiment.backbone_only takes the backbone of a checkpoint, and '
                               'none was given; add --checkpoint=PATH')
    return crop_size, networks.find_weights(checkpoint) if checkpoint else None


@contextlib.contextmanager
def opened(workdir, strategy, data_dir, seed=0):
    """Opens a run directory and its data on every worker; the chief alone writes.

    A new run that fails before its first stage is withdrawn: the corrected command finds no
    configuration that it would be refused for.

    Args:
      workdir: the run directory.
      strategy: tf.distribute.Strategy.
      data_dir: see `datasets.dataset`.
      seed: the run's.

    Yields:
      (RunDirectory, ExperimentData).

    Raises:
      UserError: see `RunDirectory.open` and `datasets.dataset`; fewer than two classes.
    """
    with run_directory.RunDirectory(workdir) as run:
        try:
            chief = strategies.is_chief(strategy)
            if chief:
                run.open(configuration.config_text(), may_change=MAY_CHANGE)
                data = datasets.dataset(run.path, data_dir, run_seed=seed)
            strategies.barrier(strategy)
            if not chief:
                data = datasets.dataset(run.path, data_dir, chief_writes=False, run_seed=seed)
            datasets.require_classes(data)
            if data.unlabelled:
                print(f'training images: {len(data.train)} labelled, {len(data.unlabelled)} '
                      'unlabelled', flush=True)
            yield run, data
        except Exception:  # not Ctrl-C: the same command goes on
            run.withdraw()
            raise


def print_summary(results, workdir):
    """Prints the tables of a run and where its report is."""
    for split in ('holdout', 'test'):
        if run_results.by_split(results, split):
            print()
            print(tables.to_text(run_results.table(results, split)))
    for sentence in run_results.one_class_sentences(results):
        print(f'\n{sentence}')
    print(f'\nreport: {workdir}/report.html')
