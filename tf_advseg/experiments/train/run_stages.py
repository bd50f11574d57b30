"""The stages of a run one after another: Stage 1, the method, its control, scores and report."""
import dataclasses
from typing import Any, Optional, Sequence

from tf_advseg.core import configuration
from tf_advseg.core import errors
from tf_advseg.core import files
from tf_advseg.experiments.train import best_model
from tf_advseg.experiments.train import idle_settings
from tf_advseg.experiments.train import method_stage
from tf_advseg.experiments.train import run_report
from tf_advseg.experiments.train import run_results
from tf_advseg.experiments.train import shared_control
from tf_advseg.experiments.train import stage_one
from tf_advseg.methods.recipe import Arm
from tf_advseg.run import hyperparameters
from tf_advseg.run import networks

RESULTS = 'results.json'


@dataclasses.dataclass
class Run:
    """An open experiment whose stages are run one after another.

    Attributes:
      context: run.context.Context.
      segmentor: built in the strategy's scope; ends with the best weights.
      recipe: methods.recipe.Recipe.
      control, control_from, given: see `experiment`.
    """
    context: Any
    segmentor: Any
    recipe: Any
    control: bool = True
    control_from: Optional[str] = None
    given: Sequence[str] = ()

    def run(self, start, random=False):
        """Stage 1, the method, its control, the scores and the report.

        Args:
          start: JSON-able: what the weights are that it starts from.
          random: whether some of them are random, a new head's for one.

        Returns:
          dict of the results; None where a stage before Stage 1 ends the run.
        """
        context, recipe, seconds, averages = self.context, self.recipe, {}, {}
        self.check()
        for stage in self._stages_before():
            found = stage.run()
            seconds.update({stage.name: found['seconds']} if 'seconds' in found else {})
            if stage.ends_run:
                _keep_operative_config(context)
                return None
        first = stage_one.run(context, self.segmentor, start, average=not recipe.trains,
                              random=random)
        miou = first['holdout_miou']
        print(f'Stage 1: {first["steps"]} steps' + (
            '' if miou is None else f', hold-out mIoU {100 * miou:.2f}'), flush=True)
        stopped = first.get('early_stopping')
        if stopped:
            print(best_model.sentence(run_results.START, stopped), flush=True)
        _averaged(run_results.START, first.get('averaged'), averages)
        _keep_operative_config(context)
        seconds['stage1'] = first.get('seconds', 0.0)
        if start == str(None) and not first['steps'] and recipe.ordinary:
            method_stage.warn_of_frozen_statistics(self.segmentor)
        done = self._run_arms(seconds, averages) if recipe.trains else {}
        random_start = bool(recipe.ordinary and first.get('random', False) and not first['steps'])
        results, shown = run_results.scores(context, self.segmentor, recipe, seconds, random_start)
        method, control = done.get(Arm.METHOD, {}), done.get(Arm.CONTROL, {})
        results.update(averaged=averages, control_from=control.get('taken_from'),
                       about=method.get('about'), **run_results.of_discriminator(context, recipe),
                       **({'early_stopping': stopped} if stopped else {}))
        _keep_results(context, results)
        hyperparameters.write(context, results)
        if context.trackers is not None:
            context.trackers.results(results)
        run_report.write(context, self.segmentor, recipe, results, shown)
        networks.load_weights(context.run.checkpoints / self._kept(), self.segmentor)
        return results

    def _kept(self):
        """The folder below checkpoints/ of the weights that the segmentor ends with."""
        folders = [method_stage.CONTROL] if self._only_control() else ['best', 'last']
        return next((name for name in folders if (
            self.context.run.checkpoints / name / networks.DESCRIPTION).exists()), stage_one.NAME)

    def _only_control(self):
        return self.recipe.ordinary and method_stage.adversarial_stage().only_control

    def _stages_before(self):
        return () if self._only_control() else self.recipe.stages_before(self.context)

    def check(self):
        """Raises UserError for settings out of range, before anything that takes long."""
        before = self.recipe.stages_before(self.context) if self.recipe.trains else ()
        if self._only_control() and any(stage.ends_run for stage in before):
            raise errors.UserError('adversarial_stage.only_control = True trains the control '
                                   f'alone, and the stage {before[0].name!r} is to end the run; '
                                   'set one of them')
        for stage in self._stages_before():
            stage.check()
        if self._stages_before():
            stage_one.check(self.context, self.segmentor)
        if self.recipe.ordinary:
            method_stage.build(self.context, self.segmentor, self.recipe,
                               Arm.CONTROL if self._only_control() else Arm.METHOD)
        elif self.recipe.trains:
            self.stage(Arm.METHOD)
            if method_stage.adversarial_stage().only_control:
                raise errors.UserError(
                    f'adversarial_stage.only_control = True: {self.recipe.own_control}, or leave '
                    'it out')
            if self.recipe.control_steps() is not None:
                self._require_batch_norm_of_the_control()
        run_report.paper_figures().shown()
        own = self.recipe.arm_stage is not None and self.recipe.control_steps() is None
        if self.control_from and own and Arm.CONTROL in self.arms():
            raise errors.UserError(
                f'experiment.control_from = {self.control_from!r}: {self.recipe.own_control}, or '
                'leave it out')
        if self.control_from and not (self.context.run.stages / shared_control.STAGE).exists():
            shared_control.require(self.control_from)
        if self.given:
            stage_one.cost(self.context, self.segmentor, 0.0)  # reads its settings
            idle_settings.require_read(self.given, self.recipe,
                                       self.context.description['network'])

    def _require_batch_norm_of_the_control(self):
        """UserError where a loop of its own would train batch norm otherwise than its control does.

        The loop goes by the network's own setting, the ordinary control by `adversarial_stage`'s.
        """
        live = method_stage.adversarial_stage().fine_tune_batch_norm
        own = self.segmentor.fine_tune_batch_norm
        if live not in (None, own) and Arm.CONTROL in self.arms() and any(
                'moving_mean' in v.name for v in self.segmentor.non_trainable_variables):
            network = self.context.description['network']
            raise errors.UserError(
                f'adversarial_stage.fine_tune_batch_norm = {live} is of the control alone, and '
                f'{self.recipe.title} would train with {own}: set {network}.fine_tune_batch_norm '
                f'= {live} as well, or leave it out')

    def arms(self):
        """The arms of the run, in their order."""
        if self._only_control():
            return (Arm.CONTROL,)
        return (Arm.METHOD, Arm.CONTROL) if self.control else (Arm.METHOD,)

    def stage(self, arm, results=None):
        """The stage of an arm: the ordinary one, or that of the method's own loop.

        Args:
          arm: `Arm`.
          results: {arm: result} of those before it; None while there are none.

        Returns:
          A stage with `run()` and `text(result)`; None where the arm has nothing to do.
        """
        given = self.context, self.segmentor
        steps = self.recipe.control_steps() if arm is Arm.CONTROL else None
        if self.recipe.arm_stage is not None and steps is None:
            return self.recipe.arm_stage(*given, arm, results)
        return method_stage.build(*given, self.recipe, arm, steps)

    def _run_arms(self, seconds, averages):
        """Runs the method and its control; returns {arm: result}, and fills the two dicts."""
        context, results, arms = self.context, {}, self.arms()
        # A control that cannot be taken over is reported before the method's training, which may be
        # long; but one that was begun is looked at when its turn comes.
        begun = [context.run.stages / self.recipe.name, context.run.lookahead / 'state.json']
        early = self.control_from and Arm.CONTROL in arms and not any(
            path.exists() for path in begun)
        if early:
            self._take_control()
        for arm in arms:
            if arm is Arm.CONTROL and self.control_from and not early:
                self._take_control()
            networks.load_weights(context.run.checkpoints / stage_one.NAME, self.segmentor)
            stage = self.stage(arm, results)
            if stage is None:
                continue
            found = results[arm] = stage.run()
            title, column = ((self.recipe.title, self.recipe.title) if arm is Arm.METHOD
                             else ('control', run_results.CONTROL))
            print(f'{title}: {stage.text(found)}', flush=True)
            _averaged(column, found.get('averaged'), averages)
            if not found.get('taken_from'):  # else the seconds are the other run's
                seconds[stage.name] = found['seconds']
        return results

    def _take_control(self):
        """Takes the control over from another run if it is the same, and prints what came of it."""
        stage = self.stage(Arm.CONTROL)
        text = shared_control.take_over(self.context, self.control_from, stage.identity()).text
        if text:
            print(text, flush=True)


def _averaged(column, found, averages):
    """Prints what averaging a stage's weights came to (`averaged.save`), and keeps it by column."""
    if found:
        averages[column + run_results.AVERAGED] = found
        print(run_results.average_sentence(column + run_results.AVERAGED, found), flush=True)


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
            configuration.operative_text())) >= len(configuration.bindings(
                configuration.read(path)))):
        context.run.write_operative_config()
