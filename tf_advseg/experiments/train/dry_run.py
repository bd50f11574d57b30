"""What a run will take: what `train --dry_run` prints."""
import numpy as np

from tf_advseg.core import files
from tf_advseg.experiments.train import method_stage
from tf_advseg.experiments.train import run_stages
from tf_advseg.experiments.train import shared_control
from tf_advseg.experiments.train import stage_one
from tf_advseg.methods import recipe as recipes
from tf_advseg.models import segmentor as segmentors
from tf_advseg.run import costs
from tf_advseg.training import stages


def describe(context, segmentor, recipe, control=True, control_from=None, given=()):
    """Prints parameters, memory, disk and a guess of the time of every stage; takes no step.

    Args:
      context: run.context.Context.
      segmentor: built in the strategy's scope.
      recipe: methods.recipe.Recipe.
      control, control_from, given: see `training.experiment`.

    Raises:
      UserError: a setting out of range, or there is no run at `control_from`.
    """
    total, trainable = segmentors.parameter_count(segmentor)
    data = context.data
    print(f'segmentor: {total:,} parameters, {trainable:,} trainable, '
          f'{4 * total / 2 ** 20:.1f} MiB as float32')
    without = f' and {len(data.unlabelled)} without labels' if data.unlabelled else ''
    print(f'images: train {len(data.train)}{without}, hold-out {len(data.holdout)}, rest of val '
          f'{len(data.rest)}, test {len(data.test)}; crop {context.crop_size}')
    height, width = context.crop_size
    print(f'hold-out in memory: {4 * len(data.holdout) * height * width / 2 ** 20:.0f} MiB')
    found = list(stage_costs(context, segmentor, recipe, control, control_from, given))
    for cost in found:
        seconds = '' if cost.seconds is None else f': about {duration(cost.seconds)}'
        print(f'{cost.stage}{seconds} ({cost.text})')
    known = [cost.seconds for cost in found if cost.seconds is not None]
    print(f'together: about {duration(sum(known))}, guessed from forward passes, evaluations not '
          f'counted; on disk about {4 * sum(cost.weights for cost in found) / 1e6:.0f} MB')


def stage_costs(context, segmentor, recipe, control=True, control_from=None, given=()):
    """The `methods.recipe.Cost` of every stage that the run will have, in their order.

    Args:
      context, segmentor, recipe, control, control_from, given: see `describe`.
    """
    run = run_stages.Run(context, segmentor, recipe, control, control_from, given)
    run.check()
    arms = run.arms() if recipe.trains else ()
    if recipes.Arm.METHOD in arms:
        for stage in recipe.stages_before(context):
            yield from stage.costs()
    image = _image_seconds(context, segmentor)
    yield stage_one.cost(context, segmentor, image)
    for arm in arms:
        stage = run.stage(arm)
        size = method_stage.adversarial_stage().batch_size
        if arm is recipes.Arm.CONTROL and control_from:
            yield _taken_over(stage, control_from, image * size)
        else:
            yield stage.cost(image * size)


def _taken_over(stage, control_from, forward):
    """The Cost of a control that another run may have trained."""
    path = shared_control.require(control_from)
    marker = path / 'stages' / shared_control.STAGE / stages.DONE
    changed = ['it has no finished control']
    if marker.is_file():
        with files.as_written(marker):
            was = dict(files.read_json(marker).get('settings', {}))
        changed = shared_control.differences(was, stage.identity())
    if changed:
        cost = stage.cost(forward)
        return recipes.Cost(cost.stage, f'trained here, not taken over from {path}: '
                            f'{", ".join(changed)}; {cost.text}', cost.seconds, cost.weights)
    return recipes.Cost('control', f'taken over from {path}, if its start and its images are the '
                        'same', 0.0)


def _image_seconds(context, segmentor):
    """Seconds of a forward pass on one image, of a batch of a few."""
    images = np.zeros((costs.TRIED, *context.crop_size, 3), np.float32)
    return costs.seconds_of(segmentor, images) / costs.TRIED


def duration(seconds):
    """'40 s', '12 min', '3.5 h'.

    Args:
      seconds: how many.
    """
    if seconds < 90:
        return f'{seconds:.0f} s'
    return f'{seconds / 60:.0f} min' if seconds < 5400 else f'{seconds / 3600:.1f} h'
