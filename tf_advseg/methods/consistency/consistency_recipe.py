"""What the package asks of the method `consistency`: how it is put together, measured and shown."""
import numpy as np

from tf_advseg.adversaries import label_maps
from tf_advseg.core import errors
from tf_advseg.evaluation import metrics as figures
from tf_advseg.methods import recipe
from tf_advseg.methods.consistency import consistency
from tf_advseg.methods.consistency import consistency_panels
from tf_advseg.methods.consistency import consistency_settings
from tf_advseg.methods.hung import hung
from tf_advseg.methods.hung import hung_recipe
from tf_advseg.models import segmentor as segmentors
from tf_advseg.run import costs
from tf_advseg.run import networks
from tf_advseg.run import stage_optimizers
from tf_advseg.training import alternation

TEACHER = 'teacher'  # a model folder in that of the student


def _plan(steps):
    """Steps on labelled images alone, then with unlabelled ones.

    Raises:
      UserError: unlabelled images would never come in.
    """
    settings = consistency_settings.consistency()
    start, rise = (settings.in_steps(name, steps) for name in ('start', 'ramp_up'))
    if start < steps < start + rise:
        raise errors.UserError(f'consistency.ramp_up = {rise} steps from step {start} on, and the '
                               f'stage has {steps}: the weight would never be reached; lower it')
    if start >= steps:
        raise errors.UserError(f'consistency.start = {start}, and the stage has {steps} steps: '
                               'unlabelled images would never come in; lower it')
    alone = ((0, hung.SUPERVISED, alternation.SEGMENTOR),) if start else ()
    return alternation.Joint(steps, (*alone, (start, hung.SEMI, alternation.UNLABELLED)))


def _build(context, segmentor, plan):
    """See `recipe.Recipe.build`."""
    settings = consistency_settings.consistency()
    encoding = discriminator = optimizer = None
    if settings.needs_discriminator:
        encoding = label_maps.label_maps(segmentor.num_classes, segmentor)
        hung_recipe.require_encoding(encoding, settings.of_hung)
        discriminator = hung_recipe.build_judge(context, segmentor, settings.map_stride,
                                                settings.by_discriminator,
                                                f'consistency.selection = {settings.selection!r}',
                                                "selection 'softmax'")
        optimizer = stage_optimizers.discriminator_optimizer(max(1, plan.discriminator_steps))
    method = consistency.Consistency(
        segmentor, networks.twin(segmentor), discriminator,
        stage_optimizers.segmentor_optimizer(plan.segmentor_steps), optimizer, encoding, settings,
        plan.segmentor_steps)
    method.context = context
    return method


def _bundles(method):
    """The teacher as a model folder of its own, and the discriminator."""
    context, teacher = method.context, method.teacher.network

    def save(folder, chief):
        networks.save(folder, teacher, context.description, context.data.spec, chief,
                      label='teacher')
    return {TEACHER: recipe.Bundle(
        save, lambda folder: networks.load_weights(folder, teacher)),
        **hung_recipe.bundles(method)}


class TeacherMonitor:
    """Scores the teacher on the hold-out beside the student.

    Args:
      context: run.context.Context.
      method: `consistency.Consistency`.
      board: run.context.Board that panels of targets are written to, or None.
    """

    def __init__(self, context, method, board):
        self._context, self._method, self._board = context, method, board

    def lines(self, done):
        """See `recipe.Recipe.monitors`: event 'teacher' with 'miou' on the hold-out; [] without."""
        context = self._context
        if self._board is not None:
            self._board.image('targets', done, consistency_panels.panel(context, self._method))
        if not context.data.holdout:
            return []
        counts = context.holdout_counts(self._method.teacher.network)
        miou = figures.plain(figures.mean_iou(counts, context.data.spec.absent))
        return [{'event': 'teacher', 'split': 'holdout_teacher', 'miou': miou}]


def _monitors(context, method, board):
    """The teacher's score and targets; where the discriminator selects, its confidence in the
    teacher's maps."""
    found = (TeacherMonitor(context, method, board),)
    if not method.consistency.by_discriminator:
        return found
    return (*found, *hung_recipe.monitors(context, method, board, method.teacher.network))


def _observe(context, segmentor, name):
    """Fig. 3 of Hung et al. of the teacher's maps; None where no discriminator selects."""
    kept, _, folder = name.partition('/')
    if folder != TEACHER or not consistency_settings.consistency().by_discriminator:
        return None
    return hung_recipe.confidence_panel(context, segmentor, kept)


def _report_parts(inputs):
    """What was selected over the training, and the discriminator's parts where it selects."""
    parts = [recipe.ReportPart('sentence', (
        f'The teacher is checkpoints/{name}; evaluate, predict and export take that folder.'))
             for name in inputs.masks if name.endswith(f'/{TEACHER}')]
    lines = [line for line in inputs.metrics if line.get('stage') == inputs.stage
             and 'consistency/selected' in line]
    if lines:
        last = lines[-max(1, len(lines) // 10):]
        shares = np.array([line['consistency/selected'] for line in last])
        agreeing = shares * [line['consistency/agreement'] for line in last]
        selected = 100 * shares.mean()
        agreed = 100 * agreeing.sum() / max(shares.sum(), 1e-12)
        parts.append(recipe.ReportPart('sentence', _of_points(selected, agreed)))
        if inputs.control is not None:
            parts.append(recipe.ReportPart('sentence', _of_the_control(
                consistency_settings.consistency().adversarial)))
        parts.append(recipe.ReportPart('figure', consistency_panels.curve(
            inputs.metrics, inputs.stage), 'What was learnt from unlabelled images: the share of '
            'their points that was selected, and the share of those where student and teacher '
            'agree; hold-out mIoU of the teacher.'))
    settings = consistency_settings.consistency()
    if settings.by_discriminator:
        if settings.discriminator_share is not None or settings.selection != 'discriminator':
            parts.append(recipe.ReportPart('sentence', (
                'What the discriminator selects is shown by thresholds of its confidence alone, in '
                f'images by {settings.discriminator_threshold:g}; this run learnt from the '
                f'teacher\'s prediction {settings.where()}.')))
        parts += hung_recipe.report_parts(inputs)
    return parts


def _of_points(selected, agreed):
    """What the last tenth of the training learnt from; both in per cent of points."""
    if not selected:
        return ('No point of an unlabelled image was learnt from in the last tenth of the '
                'training: the unlabelled images taught nothing there. Train longer, lower the '
                "threshold, or choose by a share (consistency.selection = 'share', or "
                'consistency.discriminator_share), which takes points however sure the teacher is.')
    share = f'{selected:.0f}' if selected >= 1 else f'{selected:.2g}'
    return (f'Of the points of unlabelled images {share} % were learnt from in the last tenth of '
            f'the training; at {agreed:.0f} % of these the student named the teacher\'s class.')


def _of_the_control(adversarial):
    """What the difference from the control is the worth of."""
    besides = ' and L_adv' if adversarial else ''
    return ('control (CE) learns from the same labelled images, in as many steps and with the same '
            'augmentation, and sees no others: the difference from it is what the unlabelled images'
            f'{besides} brought.')


def _cost(context, segmentor, stage, forward):
    """The student on every image, its gradient, the teacher on unlabelled ones, and D."""
    size, steps = stage.settings.batch_size, stage.steps
    more = stage.images_of_a_step / size - 1.0
    passes = stage.method.accumulate.passes
    seconds, weights = passes * forward * (1 + more) + forward * more, 4
    text = f'{steps} steps of the segmentor with {stage.images_of_a_step:g} images, and a teacher'
    discriminator = stage.method.discriminator
    total = weights * segmentors.parameter_count(segmentor)[0]
    if discriminator is not None:
        shape = [(side - 1) // stage.method.map_stride + 1 for side in context.crop_size]
        tried = min(size, costs.TRIED)
        judged = costs.seconds_of(discriminator, np.zeros(
            (tried, *shape, segmentor.num_classes), np.float32)) * size / tried
        seconds += 6 * judged * (1 + more)
        parameters, _ = segmentors.parameter_count(discriminator)
        text += f', a discriminator ({parameters:,} parameters)'
        total += 2 * parameters
    return recipe.Cost('Consistency', text, steps * seconds, total)


recipe.register(recipe.Recipe(
    'consistency', 'Consistency', lambda context: consistency_settings.consistency().pixel_loss,
    _build, _plan,
    method_only=(*(f'consistency.{name}' for name in consistency_settings.OF_THE_METHOD_ALONE),
                 'build_fc_discriminator', 'label_maps', 'discriminator_optimizer'),
    needs_unlabelled='set semi_supervised.fraction below 1, or semi_supervised.unlabelled_dir',
    companions={TEACHER: 'teacher'}, bundles=_bundles, monitors=_monitors, observe=_observe,
    report_parts=_report_parts, cost=_cost,
    encodings=tuple(recipe.ShownAs(text, (
        "consistency.selection = 'discriminator'", *bindings), good) for text, bindings, good in (
            ('every 4th pixel', ('consistency.map_stride = 4',), False),
            ('every 4th pixel, bottleneck',
             ('consistency.map_stride = 4', "label_maps.truth = 'bottleneck'"), True),
            ("the logits' grid, scaling",
             ('consistency.map_stride = 16', "label_maps.kind = 'scaling'"), True))),
    small=('build_fc_discriminator.widths = (8, 16)', 'consistency.map_stride = 2',
           "consistency.selection = 'discriminator'",
           'consistency.start = 2', 'semi_supervised.fraction = 0.5'),
    silent=('consistency.weight = 0.0',)))
