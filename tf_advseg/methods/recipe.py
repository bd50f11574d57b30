"""A method as one object: everything that the rest of the package may ask of it.

A method registers its `Recipe` in its own file (`register`), and experiments/recipe_registry.py
finds it. No other subpackage knows a method by name.
"""
import dataclasses
import enum
from typing import Any, Callable, Mapping, Optional, Tuple

from tf_advseg.core import errors
from tf_advseg.training import alternation

REGISTERED = {}  # {name: Recipe}


class Arm(enum.Enum):
    """What is trained from one start: a method, or the cross-entropy that it is compared with."""
    METHOD = 'method'
    CONTROL = 'control'


@dataclasses.dataclass(frozen=True)
class Bundle:
    """A network that is kept beside its segmentor, in a folder of the model's folder.

    Attributes:
      save: function(folder, chief): writes it; every worker takes part.
      restore: function(folder): reads it back into the network.
    """
    save: Callable
    restore: Callable


@dataclasses.dataclass(frozen=True)
class ReportPart:
    """One of a method's own parts of its report.

    Attributes:
      kind: 'sentence' (of the summary), 'table' (tables.Table), 'figure' (a matplotlib Figure) or
        'panel' (uint8 [H, W, 3]).
      content: see `kind`.
      caption: of a figure or a panel.
      file: name of a PNG in the run's figures/ that a panel is also written to, or None.
    """
    kind: str
    content: Any
    caption: str = ''
    file: Optional[str] = None


@dataclasses.dataclass(frozen=True)
class ReportInputs:
    """What a method's report is made of.

    Attributes:
      context: run.context.Context.
      metrics: lines of metrics.jsonl, the control's among them.
      probabilities: {folder below checkpoints/: [float [h, w, C]]}, of the panel's test images, of
        the models that the run has, Stage 1 left out.
      observed: {the same: what `Recipe.observe` gave of that model}.
      masks: {the same: [uint8 [h, w]]}, Stage 1's too.
      stage, control: the names that lines of the method and of its control bear; control may be
        None.
    """
    context: Any
    metrics: list
    probabilities: Mapping[str, list]
    observed: Mapping[str, Any]
    masks: Mapping[str, list]
    stage: str
    control: Optional[str]


@dataclasses.dataclass(frozen=True)
class Cost:
    """What a stage will take, for `train --dry_run`.

    Attributes:
      stage: its name for a reader.
      text: what it does: steps, parameters, in words without a stop.
      seconds: guessed from forward passes, or None where a stage cannot be guessed.
      weights: how many float32 numbers it writes down.
    """
    stage: str
    text: str
    seconds: Optional[float]
    weights: int = 0


@dataclasses.dataclass(frozen=True)
class ShownAs:
    """A way in which a method may show label maps to its other network.

    Attributes:
      text: what a reader is to know of it.
      bindings: gin bindings over the method's defaults.
      recommended: whether it leaves that network no cue (adversaries/cues.py) but structure.
      output_stride: of the segmentor.
    """
    text: str
    bindings: Tuple[str, ...] = ()
    recommended: bool = False
    output_stride: int = 16


def nothing(*_):
    """No further stages, monitors or parts of a report."""
    return ()


def none(_):
    """No network is kept beside the segmentor, or trained before it."""
    return {}


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What the package asks of a method.

    Attributes:
      name: in gin (`experiment.method`), of the stage's folder and of its lines in metrics.jsonl.
      title: for a reader, in tables and reports.
      pixel_loss: function(context) -> objective.PixelLoss that the method and its control minimise;
        None where nothing is trained after Stage 1.
      build: function(context, segmentor, plan) -> the Method, its optimizers and networks built.
        Called in the strategy's scope.
      methods_before: function(context) -> {name: Method} of the stages before Stage 1 that train
        networks.
      plan: function(steps of the segmentor) -> whose turn each step is, see training/alternation.
      stages_before: function(context) -> stages that come before Stage 1. Each has `name`,
        `check()`, `run()` -> {'seconds': ...}, `costs()` -> [Cost] and `ends_run`.
      arm_stage: function(context, segmentor, arm, results) -> the stage of an arm, for a method
        with a training loop of its own; `results` are those of the arms before it, by arm. None
        there means that the arm has nothing to do. None here is the ordinary loop for both arms.
      control_steps: function() -> how many steps the ordinary control has that a method with a loop
        of its own is compared with; None for the control of that loop.
      own_control: why the control of that loop is no other run's, and what to set instead.
      method_only: gin names that the control does not depend on: a configurable
        ('build_fov_discriminator') or a parameter of one ('luc.adversarial_weight').
      needs_unlabelled: what to set where a run has no unlabelled images and needs some.
      bundles: function(method) -> {folder's name: Bundle}, kept beside each saved segmentor.
      companions: {a bundle's folder: what a reader calls it}, of bundles that are segmentors
        themselves: they are scored beside the method's own model.
      monitors: function(context, method, board) -> objects with `lines(done)`, called at each
        evaluation, whose dicts go to metrics.jsonl.
      observe: function(context, segmentor, folder's name) -> anything: what the method's report
        wants of a model, called on every worker while its weights are in the segmentor.
      report_parts: function(ReportInputs) -> [ReportPart]. Called on every worker, since networks
        are run.
      report: function(ReportInputs, segmentor, results, fields) -> reporting's RunReport with
        `fields` set, for a method whose page is of its own kind; None takes the package's own.
      averages_are_the_result: whether averaged weights, where there are any, are the run's result.
      measures: names of `evaluation.measures` taken of every model on the test split.
      paper_row: function(rows) -> the row of `paper_figures.paper_rows` that is this run's method.
      cost: function(context, segmentor, stage, forward) -> Cost of the method's stage, `forward`
        being the seconds of the segmentor on a batch; None takes the package's own guess.
      encodings: [ShownAs], those that the cue audit looks at.
      small: gin bindings that make its networks as small as a test wants them.
      silent: gin bindings under which its further terms weigh nothing, so that it equals its
        control to the bit; `silent_scalars` are what its step is handed for that.
    """
    name: str
    title: str
    pixel_loss: Optional[Callable] = None
    build: Optional[Callable] = None
    plan: Callable = alternation.alternation
    stages_before: Callable = nothing
    methods_before: Callable = none
    arm_stage: Optional[Callable] = None
    control_steps: Callable = lambda: None
    own_control: str = ''
    method_only: Tuple[str, ...] = ()
    needs_unlabelled: str = ''
    bundles: Callable = none
    companions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    monitors: Callable = nothing
    observe: Callable = lambda *_: None
    report_parts: Callable = nothing
    report: Optional[Callable] = None
    averages_are_the_result: bool = True
    measures: Tuple[str, ...] = ('boundary', 'trimap', 'components')
    paper_row: Callable = lambda rows: list(rows)[-1]
    cost: Optional[Callable] = None
    encodings: Tuple[ShownAs, ...] = ()
    small: Tuple[str, ...] = ()
    silent: Tuple[str, ...] = ()
    silent_scalars: Mapping[str, float] = dataclasses.field(default_factory=dict)

    def own_parts(self, inputs):
        """[ReportPart] of a run, see `report_parts`."""
        return list(self.report_parts(inputs))

    @property
    def trains(self):
        """bool: whether anything is trained after Stage 1."""
        return self.build is not None

    @property
    def ordinary(self):
        """bool: whether the ordinary loop trains it."""
        return self.trains and self.arm_stage is None


def register(recipe):
    """Makes a recipe known by its name, and returns it.

    Raises:
      ValueError: there is another of that name, or it has no title.
    """
    if not recipe.title:
        raise ValueError(f'the recipe {recipe.name!r} has no title')
    if REGISTERED.setdefault(recipe.name, recipe) is not recipe:
        raise ValueError(f'there are two recipes called {recipe.name!r}')
    return recipe


def require(name):
    """The recipe of a name.

    Raises:
      UserError: there is none; the nearest name is in the message.
    """
    errors.require_one_of('method', name, REGISTERED)
    return REGISTERED[name]
