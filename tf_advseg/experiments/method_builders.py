"""The methods of two networks by name: each put together with gin's settings."""
import gin

from tf_advseg.adversaries import encoder_decoder
from tf_advseg.adversaries import field_of_view
from tf_advseg.adversaries import label_maps
from tf_advseg.methods import durall
from tf_advseg.methods import luc
from tf_advseg.models import segmentor as segmentors
from tf_advseg.training import optimizers
from tf_advseg.training import schedules


@gin.configurable(denylist=['steps'])
def segmentor_optimizer(steps, name='sgd', learning_rate=1e-3, momentum=0.9, nesterov=False,
                        schedule='constant'):
    """The segmentor's optimizer; schedules as in `stage_one`, over `steps`."""
    where = 'segmentor_optimizer'
    rate = schedules.make_schedule(schedule, learning_rate, steps, where)
    return optimizers.make_optimizer(name, rate, momentum, nesterov, where=where)


@gin.configurable(denylist=['steps'])
def adversary_optimizer(steps, name='sgd', learning_rate=1e-3, momentum=0.9, nesterov=False,
                        schedule='constant', beta_1=0.9, beta_2=0.999):
    """The adversary's optimizer; schedules as in `stage_one`, over its own `steps`.

    `momentum` and `nesterov` are SGD's, `beta_1` and `beta_2` Adam's.
    """
    where = 'adversary_optimizer'
    rate = schedules.make_schedule(schedule, learning_rate, steps, where)
    return optimizers.make_optimizer(name, rate, momentum, nesterov, where=where, beta_1=beta_1,
                                     beta_2=beta_2)


def _luc(context, segmentor, optimizer, own_optimizer):
    """`methods.luc.Luc`."""
    encoding = label_maps.label_maps(segmentor.num_classes, segmentors.padding_colour(segmentor))
    adversary = own_optimizer and field_of_view.build_adversary(
        num_classes=segmentor.num_classes, channels=encoding.channels,
        seed=context.streams.seed_value)
    return luc.luc(segmentor, adversary, optimizer, own_optimizer, encoding,
                   context.data.records.average_class_counts(context.data.train))


def _durall(context, segmentor, optimizer, own_optimizer):
    """`methods.durall.Durall`."""
    adversary = own_optimizer and encoder_decoder.build_pixel_discriminator(
        num_classes=segmentor.num_classes, seed=context.streams.seed_value)
    return durall.durall(segmentor, adversary, optimizer, own_optimizer)


# function(context, segmentor, the segmentor's optimizer, the adversary's or None for the control)
BUILDERS = {'luc': _luc, 'durall': _durall}
