"""The methods of two networks by name: each put together with gin's settings."""
from tf_advseg.adversaries import encoder_decoder
from tf_advseg.adversaries import field_of_view
from tf_advseg.adversaries import fully_convolutional
from tf_advseg.adversaries import label_maps
from tf_advseg.core import errors
from tf_advseg.methods import durall
from tf_advseg.methods import luc
from tf_advseg.methods.hung import hung
from tf_advseg.methods.hung import hung_settings
from tf_advseg.methods.zhu import reconstruction_stage
from tf_advseg.methods.zhu import zhu
from tf_advseg.methods.zhu import zhu_settings
from tf_advseg.models import segmentor as segmentors
from tf_advseg.training import alternation


def _luc(context, segmentor, optimizer, own_optimizer, steps):
    """`methods.luc.Luc`."""
    del steps
    encoding = label_maps.label_maps(segmentor.num_classes, segmentors.padding_colour(segmentor))
    adversary = own_optimizer and field_of_view.build_adversary(
        num_classes=segmentor.num_classes, channels=encoding.channels,
        seed=context.streams.seed_value)
    return luc.luc(segmentor, adversary, optimizer, own_optimizer, encoding,
                   context.data.records.average_class_counts(context.data.train))


def _durall(context, segmentor, optimizer, own_optimizer, steps):
    """`methods.durall.Durall`."""
    del steps
    adversary = own_optimizer and encoder_decoder.build_pixel_discriminator(
        num_classes=segmentor.num_classes, seed=context.streams.seed_value)
    return durall.durall(segmentor, adversary, optimizer, own_optimizer)


def _hung(context, segmentor, optimizer, own_optimizer, steps):
    """`methods.hung.hung.Hung`."""
    settings = hung_settings.hung()
    encoding = label_maps.label_maps(segmentor.num_classes, segmentors.padding_colour(segmentor))
    if encoding.kind == 'product':
        raise errors.UserError("label_maps.kind = 'product': the discriminator of Hung et al. sees "
                               "no picture; take 'basic', or 'scaling' for diffused truths")
    if encoding.kind == 'scaling' and settings.second_truths:
        raise errors.UserError("label_maps.kind = 'scaling' diffuses a truth by the prediction of "
                               'the same picture, and hung.second_truths takes truths of others; '
                               'leave one of the two')
    adversary = None
    if own_optimizer is not None and settings.needs_discriminator:
        size = tuple((side - 1) // settings.map_stride + 1 for side in context.crop_size)
        adversary = fully_convolutional.build_fc_discriminator(
            num_classes=segmentor.num_classes, seed=context.streams.seed_value, map_size=size)
        adversary.require_size(size)
        if adversary.decides == fully_convolutional.PICTURE and settings.terms != 'adv':
            raise errors.UserError(
                "build_fc_discriminator.kind = 'picture' has no confidence map to select points "
                f"by; hung.terms = '{settings.terms}' needs one: take kind 'pixel', or terms 'adv'")
    return hung.Hung(segmentor, adversary, optimizer, own_optimizer, encoding, settings, steps)


def _zhu(context, segmentor, optimizer, own_optimizer, steps):
    """`methods.zhu.zhu.Zhu` with the GAN of phase 1, which has learnt and has no optimizer."""
    del steps
    settings = zhu_settings.zhu()
    gan = None if own_optimizer is None else reconstruction_stage.build(context)
    return zhu.Zhu(segmentor, gan, optimizer, settings)


def _joint_plan(steps):
    """Hung et al.'s steps: labelled pictures alone, then with others."""
    settings = hung_settings.hung()
    periods = {0: (hung.SUPERVISED, alternation.SEGMENTOR)}
    adversarial_start, semi_start = settings.starts(steps)
    if settings.terms == 'adv+semi' and adversarial_start < semi_start:
        periods[adversarial_start] = hung.ADVERSARIAL, alternation.UNLABELLED
    if settings.needs_unlabelled:
        periods[semi_start] = hung.SEMI, alternation.UNLABELLED
    return alternation.Joint(steps, tuple((start, *periods[start]) for start in sorted(periods)))


FROZEN = 'frozen'
# function(context, segmentor, the segmentor's optimizer, the adversary's or None for the control,
#   the segmentor's steps); FROZEN stands for the optimizer of an adversary that stays as it is
BUILDERS = {'luc': _luc, 'durall': _durall, 'hung': _hung, 'zhu': _zhu}
# function(the segmentor's steps) -> whose turn each step is
PLANS = {'luc': alternation.alternation, 'durall': alternation.alternation, 'hung': _joint_plan,
         'zhu': alternation.Alone}
