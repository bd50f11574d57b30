"""A training run from pictures to report: Stage 1, the method, its control, the scores."""
import contextlib
import pathlib
import tempfile

import gin

from tf_advseg.core import arguments
from tf_advseg.core import configuration
from tf_advseg.core import errors
from tf_advseg.core import files
from tf_advseg.core import random_streams
from tf_advseg.core import run_directory
from tf_advseg.experiments.train import dry_run as plans
from tf_advseg.experiments.train import method_results
from tf_advseg.experiments.train import method_stage
from tf_advseg.experiments.train import run_results
from tf_advseg.experiments.train import shared_control
from tf_advseg.experiments.train import stage_one
from tf_advseg.lookahead import load_stage
from tf_advseg.methods.zhu import reconstruction_stage
from tf_advseg.reporting import tables
from tf_advseg.run import context as contexts
from tf_advseg.run import dataset as datasets
from tf_advseg.run import networks
from tf_advseg.run import semi_supervised
from tf_advseg.training import stages
from tf_advseg.training import strategy as strategies

METHODS = ('load', *method_stage.METHODS, 'cross_entropy')
RESULTS = 'results.json'
# A run may go on under other caps, logging and strategy; everything else is another run.
MAY_CHANGE = ('max_propagations', 'max_total_cycles', 'max_cycles', 'diagnostics_every',
              'durable_every', 'control', 'limit_bytes', 'max_hours', 'non_finite_limit',
              'diagnose_every', 'only_control', 'paper_rows', 'control_from', 'rare_below', 'only')


@gin.configurable(denylist=['workdir', 'strategy', 'dry_run'])
def experiment(workdir, strategy, dry_run=False, seed=0, method='load', control=True,
               data_dir=None, checkpoint=None, network='deeplab_mobilenet_v2', crop_size=321,
               max_propagations=None, backbone_only=False, control_from=None):
    """Runs an experiment, or goes on with one that was stopped.

    Args:
      workdir: the run directory.
      strategy: tf.distribute.Strategy.
      dry_run: build everything, read the weights, take no step, print what it will take.
      seed: of everything drawn in this run but the splits; recorded in the run.
      method: 'load', 'luc', 'durall', 'hung', 'zhu', or 'cross_entropy' for Stage 1 alone.
      control: whether the CE-only control runs too, with as many steps of the segmentor.
      data_dir: see `datasets.dataset`.
      checkpoint: the weights to start from (a run, a model folder, a file of the model zoo: see
        `networks.load_weights`), or None.
      network: one of networks.NETWORKS.
      crop_size: side of the crop in pixels, or (h, w); k * output_stride + 1.
      max_propagations: cap on LoAd's propagations, or None for the controller's.
      backbone_only: of `checkpoint`, take the backbone and let the head start anew, whatever head
        it has.
      control_from: a run directory whose finished control is taken over, if it is the same
        training (of runs that differ in their adversaries alone). Not LoAd's, as long as LoAd.

    Returns:
      dict of the results, as in results.json; None for a dry run, and where
      `redrawing.redrawing_stage` ends the run after phase 1.
    """
    errors.require_one_of('method', method, METHODS)
    arguments.require_flag('experiment', 'control', control)
    arguments.require_number('experiment', 'seed', seed, least=0, whole=True)
    crop_size = arguments.as_pair('experiment', crop_size)
    if crop_size is None:
        raise errors.UserError('experiment.crop_size = None: expected pixels, or (height, width)')
    start = str(checkpoint)  # as given: the same from any directory
    if backbone_only and not checkpoint:
        raise errors.UserError('experiment.backbone_only takes the backbone of a checkpoint, and '
                               'none was given; add --checkpoint=PATH')
    if checkpoint:  # before the data, whose conversion may take minutes
        checkpoint = networks.find_weights(checkpoint)
    with contextlib.ExitStack() as stack:
        if dry_run:  # leaves nothing behind, and no configuration that another run is held to
            workdir = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory())) / 'run'
        run, data = stack.enter_context(opened(workdir, strategy, data_dir, seed))
        semi_supervised.require_unseen(checkpoint, data)
        with strategy.scope():
            description = networks.describe(network, num_classes=data.spec.num_classes,
                                            crop_size=crop_size, seed=seed)
            segmentor = networks.build(description)
        context = contexts.Context(run, data, strategy, random_streams.RandomStreams(seed),
                                   crop_size, description)
        random = checkpoint is None
        if checkpoint and not (run.stages / stage_one.NAME / stages.DONE).exists():
            started = networks.read_weights(checkpoint, segmentor, backbone_only=backbone_only)
            print(f'starting weights: {started.text()}', flush=True)
            random = bool(started.reinitialised)
        if dry_run:
            plans.describe(context, segmentor, method, control, control_from)
            return None
        return run_stages(context, segmentor, method, control, start, max_propagations,
                          control_from, random)


def run_stages(context, segmentor, method, control, start, max_propagations, control_from=None,
               random=False):
    """Stage 1, the method, its control, the scores and the report of an open experiment.

    Args:
      context: run.context.Context.
      segmentor: built in the strategy's scope; ends with the best weights.
      method, control, max_propagations, control_from: see `experiment`.
      start: JSON-able: what the weights are that it starts from.
      random: whether some of them are random, a new head's for one.

    Returns:
      dict of the results; None where the run ends after Zhu et al.'s phase 1.
    """
    seconds = _before_stage_one(context, segmentor, method, control_from)
    if seconds is None:
        return None
    first = stage_one.run(context, segmentor, start, average=method == 'cross_entropy',
                          random=random)
    print(f'Stage 1: {first["steps"]} steps, hold-out mIoU {100 * first["holdout_miou"]:.2f}',
          flush=True)
    averages = {}
    _averaged(run_results.START, first.get('averaged'), averages)
    _keep_operative_config(context)
    seconds['stage1'] = first.get('seconds', 0.0)
    if method in method_stage.METHODS:
        if start == str(None) and not first['steps']:
            method_stage.warn_of_frozen_statistics(segmentor)
        return _run_adversarial(context, segmentor, method, control, seconds, control_from,
                                first.get('random', False) and not first['steps'])
    loops = {}
    if method == 'load':
        panel = run_results.panel_maker(context, segmentor)
        result, loops['load'], average = load_stage.run(context, segmentor, max_propagations,
                                                        panel=panel)
        seconds['load'] = loops['load'].watch.total()
        print(f'LoAd: {result.propagations} propagations in {result.cycles} cycles, best '
              f'{result.label} with hold-out mIoU {100 * result.miou:.2f} ({result.stop_reason})',
              flush=True)
        _averaged(run_results.TITLES['load'], average, averages)
        if control and result.propagations:
            networks.load_weights(context.run.checkpoints / stage_one.NAME, segmentor)
            other, loops['control'], average = load_stage.run(
                context, segmentor, result.propagations, control=True)
            seconds['control'] = loops['control'].watch.total()
            print(f'control: {other.propagations} propagations, best {other.label} with hold-out '
                  f'mIoU {100 * other.miou:.2f}', flush=True)
            _averaged(run_results.CONTROL, average, averages)
    results = run_results.scores(context, segmentor, seconds, method)
    results['averaged'] = averages
    _keep_results(context, results)
    run_results.report(context, segmentor, results, loops['load'].controller if loops else None)
    last = 'best' if method == 'load' else stage_one.NAME
    networks.load_weights(context.run.checkpoints / last, segmentor)
    return results


def _before_stage_one(context, segmentor, method, control_from):
    """Tells of settings out of range, and runs Zhu et al.'s phase 1, which may be long.

    Returns:
      {stage: seconds}, or None where the run ends here.
    """
    if method not in method_stage.METHODS:
        return {}
    alone = method_stage.adversarial_stage()['only_control']
    method_stage.build(context, segmentor, method, control=alone)
    method_results.paper_figures()
    if control_from and not (context.run.stages / shared_control.STAGE).exists():
        shared_control.require(control_from)
    if method != 'zhu':
        return {}
    ends = reconstruction_stage.redrawing_stage()['only']
    if alone and ends:
        raise errors.UserError('redrawing_stage.only = True trains the GAN alone, and '
                               'adversarial_stage.only_control = True all but it; set one of them')
    if alone:
        return {}
    stage_one.check(context, segmentor)
    seconds = reconstruction_stage.run_and_tell(context)
    if ends:
        _keep_operative_config(context)
        return None
    return seconds


def _run_adversarial(context, segmentor, method, control, seconds, control_from, random):
    """What comes after Stage 1 where segmentor and adversary take turns; see `run_stages`.

    `random`: whether the start has random weights, and so is no model to compare with.
    """
    title, stage = run_results.TITLES[method], method_stage.adversarial_stage()
    names = ('control',) if stage['only_control'] else (method, 'control') if control else (method,)
    averages, taken_from, about = {}, None, None
    # A control that cannot be taken over is told before the method's training, which may be long;
    # but a method that goes on cuts metrics.jsonl back to where it stopped: then it comes after.
    turn = 'control' if (context.run.stages / method).exists() else names[0]
    for name in names:
        if name == turn and control_from and 'control' in names:
            method_stage.take_control(context, segmentor, method, control_from)
        networks.load_weights(context.run.checkpoints / stage_one.NAME, segmentor)
        result = method_stage.run(context, segmentor, method, name == 'control')
        seconds[name] = result['seconds']
        miou, told = result['holdout_miou'], title if name == method else 'control'
        print(f'{told}: {result["steps"]} steps, kept step {result["kept_step"]}' + (
            '' if miou is None else f' with hold-out mIoU {100 * miou:.2f}'), flush=True)
        _averaged(title if name == method else run_results.CONTROL, result.get('averaged'), averages)
        about = result.get('about') if name == method else about
        taken_from = result.get('taken_from')
        if taken_from:
            del seconds[name]  # the other run's
    results = method_results.scores(context, segmentor, seconds, method, random)
    results.update(averaged=averages, control_from=taken_from, about=about)
    _keep_results(context, results)
    method_results.report(context, segmentor, results, method, stage)
    networks.load_weights(context.run.checkpoints / (
        'control' if stage['only_control'] else stage['keep']), segmentor)
    return results


def _averaged(column, found, averages):
    """Prints what averaging a stage's weights came to (`averaged.save`), and keeps it by column."""
    if found:
        averages[column + run_results.AVERAGED] = found
        print(run_results.average_told(column + run_results.AVERAGED, found), flush=True)


def _keep_results(context, results):
    _keep_operative_config(context)
    if context.chief:
        # The report is of these results, or is not there yet: so a sweep knows what is done.
        context.run.report_path.unlink(missing_ok=True)
        files.write_json(context.run.path / RESULTS, results)


def _keep_operative_config(context):
    """Writes operative_config.gin unless an earlier start, which ran more stages, said more."""
    path = context.run.operative_config_path
    if context.chief and (not path.exists() or len(configuration.bindings(
            configuration.operative_text())) >= len(configuration.bindings(path.read_text()))):
        context.run.write_operative_config()


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
                print(f'training pictures: {len(data.train)} labelled, {len(data.unlabelled)} '
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
    print(f'\nreport: {workdir}/report.html')
