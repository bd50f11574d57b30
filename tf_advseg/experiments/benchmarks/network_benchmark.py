"""What each network costs in training and in evaluation: images a second, and memory.

Every network and policy of arithmetic has a process of its own, since the peak of a process's
memory never falls. The step is that of Stage 1: cross-entropy at full resolution with momentum.
"""
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import time

from tf_advseg.core import errors
from tf_advseg.core import progress
from tf_advseg.reporting import tables

# Name -> its configurable; crops are 16 k + 1, which all of them take.
NETWORKS = {
    'MobileNetV2, stride 16': ('deeplab_mobilenet_v2', {}),
    'MobileNetV2 of depth 0.5, stride 16': ('deeplab_mobilenet_v2', {'depth_multiplier': 0.5}),
    'MobileNetV2, stride 8': ('deeplab_mobilenet_v2', {'output_stride': 8}),
    'Xception-65, decoder, stride 16': ('deeplab_xception', {}),
    'ResNet-101, decoder, stride 16': ('deeplab_resnet', {}),
    'DeepLabv2 on ResNet-101': ('deeplab_v2_resnet', {}),
    'Dilated-8': ('dilated8', {}),
    'Farabet': ('farabet', {})}
CLASSES = 21
POLICIES = ('float32', 'mixed_bfloat16')


@dataclasses.dataclass(frozen=True)
class Cost:
    """Of one network: see `measure`."""
    parameters: int
    trained: float
    evaluated: float
    megabytes: float


def measure(networks=(), policies=('float32',), crop=321, batch_size=4, repeats=3):
    """Times a step and a forward pass of networks, and takes the peak of their memory.

    Args:
      networks: of `NETWORKS`; all without any.
      policies: of `POLICIES`: what training steps compute in.
      crop: side of the images in pixels.
      batch_size: images of a step and of a forward pass.
      repeats: of each; the median counts.

    Returns:
      tables.Table, a row a network and policy: parameters in millions, images a second of a
      training step and of a forward pass, and the most memory that the process held while it
      trained, in MiB, with TensorFlow itself.

    Raises:
      UserError: an unknown name; a process failed, or was killed for want of memory.
    """
    for name in networks:
        errors.require_one_of('network', name, NETWORKS)
    for policy in policies:
        errors.require_one_of('policy', policy, POLICIES)
    asked = [(name, policy) for name in networks or NETWORKS for policy in policies]
    rows = []
    with progress.Progress(len(asked), 'benchmark networks') as bar:
        for name, policy in asked:
            cost = _in_child(name, policy, crop, batch_size, repeats)
            rows.append((name, policy, f'{cost.parameters / 1e6:.2f}', f'{cost.trained:.2f}',
                         f'{cost.evaluated:.2f}', f'{cost.megabytes:.0f}'))
            bar.update(1)
    return tables.plain_table(
        ('network', 'trained in', 'parameters, M', 'trained, images/s', 'evaluated, images/s',
         'memory, MiB'), rows,
        f'{CLASSES} classes, {crop}x{crop}, batches of {batch_size}, medians of {repeats}')


def _in_child(name, policy, crop, batch_size, repeats):
    """The Cost of a network, from a process of its own."""
    done = subprocess.run(
        [sys.executable, '-c', f'from {__name__} import child\n'
         f'child({name!r}, {policy!r}, {crop}, {batch_size}, {repeats})'],
        capture_output=True, text=True, check=False)
    if done.returncode:
        why = (done.stderr.strip().splitlines() or ['no message'])[-1]
        if done.returncode < 0:
            why = f'it was killed by signal {-done.returncode}, for want of memory as a rule'
        raise errors.UserError(f'{name}, {policy}: the measuring process failed ({why})')
    return Cost(**json.loads(done.stdout.strip().splitlines()[-1]))


def child(name, policy, crop, batch_size, repeats):
    """Prints a network's `Cost` as JSON; runs in its own process."""
    from tf_advseg.core import runtime
    tf = runtime.configure(deterministic=False)
    import gin

    from tf_advseg.methods import objective
    from tf_advseg.models import precision  # noqa: F401  registers what is bound
    from tf_advseg.models import segmentor as segmentors
    from tf_advseg.run import networks
    from tf_advseg.training import loop
    from tf_advseg.training import optimizers
    gin.bind_parameter('precision.policy', policy)
    builder, given = NETWORKS[name]
    network = networks.build(networks.describe(
        builder, num_classes=CLASSES, crop_size=(crop, crop), seed=0, **given))
    images = tf.random.stateless_uniform([batch_size, crop, crop, 3], (0, 1)) * 255.0
    labels = tf.random.stateless_uniform([batch_size, crop, crop], (0, 2), 0, CLASSES, tf.int32)
    batch = {'image': images, 'label': labels, 'valid': tf.ones_like(labels, tf.bool)}
    evaluate = tf.function(lambda x: network(x, training=False))
    evaluated = _images_per_second(lambda: evaluate(images).numpy(), batch_size, repeats)
    method = objective.Control(network, optimizers.make_optimizer('momentum', 1e-6, 0.9),
                               objective.PixelLoss(l2_weight=4e-5))
    stepper = loop.Stepper(method, tf.distribute.get_strategy())
    trained = _images_per_second(lambda: dict(stepper('cross_entropy', batch, (0, 0))), batch_size,
                                 repeats)
    print(json.dumps(dataclasses.asdict(Cost(
        segmentors.parameter_count(network)[0], trained, evaluated, _peak_megabytes()))))


def _images_per_second(call, batch_size, repeats):
    """Of a call, which is first called once to compile."""
    call()
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - began)
    return batch_size / statistics.median(seconds)


def _peak_megabytes():
    """MiB: the most that this process has held in memory so far."""
    import resource
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1024 if os.uname().sysname != 'Darwin' else peak / 2 ** 20
