"""What the package asks of Zhu et al.'s method: phase 1 before Stage 1, phase 2, their curves."""
from tf_advseg.methods import recipe
from tf_advseg.methods.zhu import gan_folders
from tf_advseg.methods.zhu import gan_panels
from tf_advseg.methods.zhu import reconstruction_stage
from tf_advseg.methods.zhu import zhu
from tf_advseg.methods.zhu import zhu_settings
from tf_advseg.models import segmentor as segmentors
from tf_advseg.reporting import curves
from tf_advseg.reporting.paper_figures import reconstruction_curves
from tf_advseg.run import costs
from tf_advseg.run import shown_images
from tf_advseg.run import stage_optimizers
from tf_advseg.training import alternation


def _build(context, segmentor, plan):
    """See `recipe.Recipe.build`: with the GAN of phase 1, which learns no more."""
    return zhu.Zhu(segmentor, reconstruction_stage.build(context),
                   stage_optimizers.segmentor_optimizer(plan.segmentor_steps), zhu_settings.zhu())


def _report_parts(inputs):
    """Steps of phase 1 and whether its generator reads masks; gloss and segloss; Fig. 3."""
    parts = [recipe.ReportPart('sentence', text) for text in phase_one_sentences(inputs.metrics)]
    taken_from = reconstruction_stage.taken_from(inputs.context)
    if taken_from:
        parts.append(recipe.ReportPart(
            'sentence', f'The GAN that reconstructs images was trained by {taken_from} and taken '
            'over.'))
    parts.append(recipe.ReportPart('figure', reconstruction_curves.reconstruction_curves(
        inputs.metrics, stage=inputs.stage, control=inputs.control),
        curves_caption(inputs.metrics, inputs.stage)))
    panel = _panel(inputs)
    if panel is not None:
        parts.append(recipe.ReportPart('panel', panel, (
            'Images and what the GAN\'s generator reconstructs of them (as Zhu et al., Fig. 3): '
            'from the truth, which stands beside them, and from what each model says. A generator '
            'that is given the image, too, may copy it: how much the mask is worth to it is shown '
            'by the content loss with another image\'s mask.'), 'reconstructed.png'))
    return parts


def phase_one_sentences(metrics):
    """What phase 1 took, and whether its generator reads masks: a list of sentences.

    Args:
      metrics: lines of metrics.jsonl.
    """
    own, discriminator = reconstruction_curves.gan_steps(metrics)
    if not own and not discriminator:
        return []
    found = [f'Phase 1, the GAN on true masks: {own} step{"" if own == 1 else "s"} of its '
             f'generator and {discriminator} of its discriminator.']
    lines = [m for m in reconstruction_curves.held_out(metrics)
             if all(curves.is_finite(m.get(f'content/{mask}')) for mask in ('own', 'other'))]
    if lines:
        last = lines[-1]
        steps = last['generator_step']
        found.append(f'Reconstructing the hold-out after {steps} '
                     f'step{"" if steps == 1 else "s"} of the generator, its content loss was '
                     f'{last["content/own"]:.4f} with the images\' own masks and '
                     f'{last["content/other"]:.4f} with those of others. '
                     'A generator that copies the image it is given has both alike: it does not '
                     'read the mask.')
    return found


def curves_caption(metrics, stage):
    """What `reconstruction_curves` shows, of the phases that have lines."""
    found = ['gloss and segloss (as Zhu et al., Figs 4, 6, 8, 9 and 10).']
    if reconstruction_curves.gan_steps(metrics)[0]:
        found.append('Phase 1: gloss is the generator\'s loss on true masks.')
    if reconstruction_curves.held_out(metrics):
        found.append('On the hold-out its content loss is also measured with another image\'s '
                     'mask: a generator that copies the image it is given has both alike.')
    if any(m.get('stage') == stage and 'loss/content' in m for m in metrics):
        found.append('Phase 2: segloss is the segmentor\'s cross-entropy, gloss the weighted terms '
                     'of the GAN, which is frozen.')
    return ' '.join(found)


def _panel(inputs):
    """uint8 [H, W, 3] of the run's test images, or None where there is no GAN."""
    context = inputs.context
    if not (context.run.checkpoints / gan_folders.FOLDER / gan_folders.DESCRIPTION).is_file():
        return None
    with context.strategy.scope():
        gan = reconstruction_stage.build(context)
    own = next((name for name in ('best', 'last') if name in inputs.probabilities), None)
    wanted = {'reconstructed from CE': 'control', 'reconstructed from Zhu': own}
    return gan_panels.panel(
        context, gan, shown_images.test_ids(context),
        {title: inputs.probabilities[name] for title, name in wanted.items()
         if name in inputs.probabilities})


def _cost(context, segmentor, stage, forward):
    """Phase 2: the segmentor's passes and two of the frozen GAN a step."""
    size = min(stage.settings.batch_size, costs.TRIED)
    reconstructed = reconstruction_stage.pass_seconds(context, stage.method.reconstruction, size)
    seconds = stage.steps * (stage.method.accumulate.passes * forward
                             + 2 * reconstructed * stage.settings.batch_size / size)
    return recipe.Cost('Zhu', f'{stage.steps} steps of the segmentor with the terms of the GAN, '
                       'which is frozen', seconds, 3 * segmentors.parameter_count(segmentor)[0])


recipe.register(recipe.Recipe(
    'zhu', 'Zhu', lambda context: zhu_settings.zhu().pixel_loss, _build, alternation.Alone,
    methods_before=lambda context: {'Zhu, phase 1': reconstruction_stage.method(context)},
    stages_before=lambda context: (reconstruction_stage.PhaseOne(context),),
    method_only=('zhu.content_weight', 'zhu.adversarial_weight', 'zhu.condition', 'zhu_gan',
                 'reconstruction_stage', 'reconstruction_optimizer', 'discriminator_optimizer',
                 'build_reconstruction_generator', 'build_patch_discriminator'),
    report_parts=_report_parts, cost=_cost,
    paper_row=lambda rows: next((name for name in rows if name == zhu_settings.NAMES[
        zhu_settings.zhu_gan().form]), list(rows)[-1]),
    encodings=(
        recipe.ShownAs('every 4th pixel', ('zhu_gan.map_stride = 4',)),
        recipe.ShownAs('every 4th pixel, bottleneck',
                       ('zhu_gan.map_stride = 4', 'zhu_gan.bottleneck = 16'), True)),
    small=('build_reconstruction_generator.widths = (8, 16)',
           'build_reconstruction_generator.dropout_rate = 0',
           'build_reconstruction_generator.dropout_layers = 1',
           'build_patch_discriminator.widths = (8, 16)', 'zhu_gan.map_stride = 2',
           'reconstruction_stage.steps = 2', 'reconstruction_stage.batch_size = 2'),
    silent=('zhu.content_weight = 0.0', 'zhu.adversarial_weight = 0.0')))
