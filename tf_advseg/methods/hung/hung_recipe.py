"""What the package asks of Hung et al.'s method: how it is put together, measured and shown."""
from tf_advseg.adversaries import fully_convolutional
from tf_advseg.adversaries import label_maps
from tf_advseg.core import errors
from tf_advseg.evaluation import confidence_counts
from tf_advseg.methods import recipe
from tf_advseg.methods.hung import confidence_maps
from tf_advseg.methods.hung import discriminator_folders
from tf_advseg.methods.hung import hung
from tf_advseg.methods.hung import hung_settings
from tf_advseg.reporting.paper_figures import confidence_tables
from tf_advseg.run import shown_images
from tf_advseg.run import stage_optimizers
from tf_advseg.training import alternation
from tf_advseg.training import compilation


def _plan(steps):
    """The steps of the segmentor in periods: labelled images alone, then with unlabelled ones.

    Raises:
      UserError: unlabelled images would never come in.
    """
    settings = hung_settings.hung()
    periods = {0: (hung.SUPERVISED, alternation.SEGMENTOR)}
    adversarial_start, semi_start = settings.starts(steps)
    if settings.terms == 'adv+semi' and adversarial_start < semi_start:
        periods[adversarial_start] = hung.ADVERSARIAL, alternation.UNLABELLED
    if settings.needs_unlabelled:
        if semi_start >= steps:
            raise errors.UserError(
                f'hung.semi_start = {semi_start}, and the stage has {steps} steps: unlabelled '
                "images would never come in; lower it, or set hung.terms = 'adv'")
        periods[semi_start] = hung.SEMI, alternation.UNLABELLED
    return alternation.Joint(steps, tuple((start, *periods[start]) for start in sorted(periods)))


def _build(context, segmentor, plan):
    """See `recipe.Recipe.build`."""
    settings = hung_settings.hung()
    encoding = label_maps.label_maps(segmentor.num_classes, segmentor)
    require_encoding(encoding, settings)
    if settings.separate_passes and compilation.compilation().jit_compile:
        raise errors.UserError('compilation.jit_compile = True with hung.separate_passes: how many '
                               'images a pass has is not known to XLA; set one of the two to False')
    discriminator = optimizer = None
    if settings.needs_discriminator:
        discriminator = build_judge(context, segmentor, settings.map_stride,
                                    settings.terms != 'adv', f"hung.terms = '{settings.terms}'",
                                    "terms 'adv'")
        optimizer = stage_optimizers.discriminator_optimizer(max(1, plan.discriminator_steps))
    return hung.Hung(segmentor, discriminator,
                     stage_optimizers.segmentor_optimizer(plan.segmentor_steps), optimizer,
                     encoding, settings, plan.segmentor_steps)


def require_encoding(encoding, settings):
    """UserError for maps that this discriminator cannot be shown."""
    if encoding.kind in ('product', 'concat'):
        raise errors.UserError(f'label_maps.kind = {encoding.kind!r}: the discriminator of Hung et '
                               "al. sees no image; take 'basic', or 'scaling' for diffused "
                               'truths')
    if encoding.kind in label_maps.BY_PREDICTION and settings.independent_ground_truth:
        raise errors.UserError(f'label_maps.kind = {encoding.kind!r} makes a truth of the '
                               'prediction of the same image, and hung.independent_ground_truth '
                               'takes truths of others; leave one of the two')


def build_judge(context, segmentor, map_stride, selects, where, otherwise):
    """The discriminator, of the size of the crop's maps.

    Args:
      context, segmentor: see `recipe.Recipe.build`.
      map_stride: pixels from one point of its maps to the next.
      selects: whether points are selected by its decisions.
      where, otherwise: the setting that says so, and what does not, for the message.

    Raises:
      UserError: it is to select points, and decides once for an image.
    """
    size = tuple((side - 1) // map_stride + 1 for side in context.crop_size)
    discriminator = fully_convolutional.build_fc_discriminator(
        num_classes=segmentor.num_classes, seed=context.streams.seed_value, map_size=size)
    discriminator.require_size(size)
    if discriminator.decides == fully_convolutional.IMAGE and selects:
        raise errors.UserError(
            "build_fc_discriminator.kind = 'image' has no confidence map to select points "
            f"by; {where} needs one: take kind 'pixel', or {otherwise}")
    return discriminator


def bundles(method):
    """The discriminator, where its map is a confidence at every point (Fig. 3)."""
    if not method.judges_points:
        return {}
    settings, discriminator = method.settings, method.discriminator
    description = discriminator_folders.describe(discriminator, settings.map_stride,
                                                 settings.threshold, settings.mask_predictions)
    return {discriminator_folders.FOLDER: recipe.Bundle(
        lambda folder, chief: discriminator_folders.save(folder, discriminator, description, chief),
        lambda folder: discriminator_folders.restore(folder.parent, discriminator))}


def monitors(context, method, board, segmentor=None):
    """Follows the confidence of the discriminator on the hold-out (Table 7).

    Args:
      context, method, board: see `recipe.Recipe.monitors`.
      segmentor: whose maps it judges; None for the method's.
    """
    if not method.judges_points:
        return ()
    settings = method.settings
    return (confidence_maps.Monitor(
        context, segmentor or method.segmentor, method.discriminator, settings.map_stride,
        {*confidence_counts.THRESHOLDS, settings.threshold}, settings.threshold, board,
        settings.mask_predictions),)


def report_parts(inputs):
    """Table 7 of the last evaluation, its course, and Fig. 3 of the run's test images."""
    parts = []
    line = confidence_tables.last_line(inputs.metrics, inputs.stage)
    if line is not None:
        step = line.get('segmentor_step')
        at = '' if step is None else f' after {step} step{"" if step == 1 else "s"}'
        parts.append(recipe.ReportPart('table', confidence_tables.selection_table(
            line, f'What the discriminator selects (as Hung et al., Table 7), hold-out{at}')))
        parts.append(recipe.ReportPart('figure', confidence_tables.selection_curves(
            inputs.metrics, inputs.stage),
            'The discriminator\'s confidence on the hold-out over training: what it selects, how '
            'often that is right, beside as many points that the softmax is surest of; and how '
            'well either separates right from wrong points.'))
    for panel in filter(lambda found: found is not None, inputs.observed.values()):
        parts.append(recipe.ReportPart('panel', panel, (
            'What the discriminator takes for truth (as Hung et al., Fig. 3) beside the largest '
            'softmax probability, black 0 and white 1; what it selects, and where errors are.'),
            'confidence.png'))
    return parts


def observe(context, segmentor, name):
    """Fig. 3 of the run's test images, uint8 [H, W, 3]; None where no discriminator was kept."""
    return confidence_panel(context, segmentor, name) if name in ('last', 'best') else None


def confidence_panel(context, segmentor, name):
    """Fig. 3 with the discriminator that is kept in a folder below checkpoints/; None without."""
    folder = context.run.checkpoints / name / discriminator_folders.FOLDER
    if not discriminator_folders.is_folder(folder):
        return None
    discriminator, description = discriminator_folders.load(folder, segmentor.num_classes)
    judge = confidence_maps.Judge(segmentor, discriminator, description['map_stride'],
                                  context.crop_size,
                                  mask_predictions=description['mask_predictions'])
    return confidence_maps.panel(judge, context.data.records, shown_images.test_ids(context),
                                 description['threshold'])


recipe.register(recipe.Recipe(
    'hung', 'Hung', lambda context: hung_settings.hung().pixel_loss, _build, _plan,
    method_only=(*(f'hung.{name}' for name in hung_settings.OF_THE_METHOD_ALONE),
                 'build_fc_discriminator', 'label_maps', 'discriminator_optimizer'),
    needs_unlabelled="set semi_supervised.fraction below 1, or semi_supervised.unlabelled_dir, or "
                     "hung.terms = 'adv', which needs none",
    bundles=bundles, monitors=monitors, observe=observe, report_parts=report_parts,
    encodings=(
        recipe.ShownAs('every 4th pixel', ('hung.map_stride = 4',)),
        recipe.ShownAs('every 4th pixel, scaling',
                       ('hung.map_stride = 4', "label_maps.kind = 'scaling'")),
        recipe.ShownAs('every 4th pixel, bottleneck',
                       ('hung.map_stride = 4', "label_maps.truth = 'bottleneck'"), True),
        recipe.ShownAs("the logits' grid, scaling",
                       ('hung.map_stride = 16', "label_maps.kind = 'scaling'"), True)),
    small=('build_fc_discriminator.widths = (8, 16)', 'hung.map_stride = 2',
           'hung.semi_start = 2', 'semi_supervised.fraction = 0.5'),
    silent=('hung.adversarial_weight = 0.0', 'hung.unlabelled_adversarial_weight = 0.0',
            'hung.semi_weight = 0.0')))
