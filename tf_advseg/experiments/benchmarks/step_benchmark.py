"""What a training step costs, with oneDNN and without, with deterministic operations and without.

Each step is also timed in two loops: one that fetches its scalars at every step, as the training
loop did once, and one that fetches them after the last, as it does now between two lines of the
log. On a CPU both are to be alike: there a call returns when its step is taken. oneDNN and
determinism are properties of a process, so each pair of settings has processes of its own; they
take turns, because a machine's speed drifts.
"""
import dataclasses
import itertools
import os
import statistics
import subprocess
import sys
import time

from tf_advseg.core import errors
from tf_advseg.core import progress
from tf_advseg.reporting import tables

STEPS = 4  # timed in a row, twice in each loop
CROP, CLASSES = 321, 8
EACH, LOGGED = 'fetched at each step', 'fetched when logged'


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of step: its name for a reader, the method's phase, images in a batch."""
    name: str
    phase: str
    batch_size: int


KINDS = (Kind('cross-entropy', 'cross_entropy', 5), Kind('LoAd, segmentor', 'segmentor', 5),
         Kind('LoAd, discriminator', 'discriminator', 16))


def chosen(names=()):
    """The `KINDS` of these names, all without any.

    Raises:
      UserError: a name that is not known.
    """
    for name in names:
        errors.require_one_of('kind of step', name, [kind.name for kind in KINDS])
    return tuple(kind for kind in KINDS if not names or kind.name in names)


def measure(processes=2, steps=STEPS, crop=CROP, kinds=KINDS):
    """Times each kind of step on MobileNetV2 with the MobileNet-224 discriminator.

    Args:
      processes: of each setting.
      steps: timed in a row.
      crop: side of the images in pixels.
      kinds: of `KINDS`.

    Returns:
      tables.Table: ms an image (medians over processes), a row for each kind and setting.

    Raises:
      UserError: a process failed.
    """
    settings = list(itertools.product((True, False), repeat=2))
    seconds = {}
    with progress.Progress(processes * len(settings), 'benchmark step') as bar:
        for _ in range(processes):
            for onednn, deterministic in settings:
                for key, value in _in_child(onednn, deterministic, steps, crop, kinds).items():
                    seconds.setdefault((onednn, deterministic, *key), []).append(value)
                bar.update(1)
    rows = []
    for kind in kinds:
        for onednn, deterministic in settings:
            each, logged = (1e3 / kind.batch_size * statistics.median(
                seconds[onednn, deterministic, kind.name, loop]) for loop in (EACH, LOGGED))
            rows.append((kind.name, _on(onednn), _on(deterministic), f'{each:.1f}', f'{logged:.1f}',
                         f'{logged / each:.3f}'))
    return tables.plain_table(
        ('step', 'oneDNN', 'deterministic', f'{EACH}, ms', f'{LOGGED}, ms', 'ratio'), rows,
        f'ms an image; {crop}x{crop}, medians of {processes} processes in turns, '
        f'{steps} steps each')


def _on(flag):
    return 'on' if flag else 'off'


def _in_child(onednn, deterministic, steps, crop, kinds):
    """{(kind's name, loop): seconds a step} from a process of its own."""
    names = [kind.name for kind in kinds]
    done = subprocess.run(
        [sys.executable, '-c', f'from {__name__} import child\n'
         f'child({deterministic}, {steps}, {crop}, {names!r})'],
        capture_output=True, text=True, check=False,
        env={**os.environ, 'TF_ENABLE_ONEDNN_OPTS': str(int(onednn))})
    if done.returncode:
        raise errors.UserError('the measuring process failed: '
                               + (done.stderr.strip().splitlines() or ['?'])[-1])
    values = [float(word) for word in done.stdout.split()]
    return dict(zip(itertools.product(names, (EACH, LOGGED)), values))


def child(deterministic, steps, crop, names):
    """Prints seconds a step of each kind and loop, in their order; runs in its own process."""
    from tf_advseg.core import runtime
    tf = runtime.configure(deterministic=deterministic)
    from tf_advseg.training import loop
    method = _method(crop)
    stepper = loop.Stepper(method, tf.distribute.get_strategy())
    for kind in (kind for kind in KINDS if kind.name in names):
        batch, weights = _batch(kind, method, crop)

        def step():
            return stepper(kind.phase, batch, (0, 0), **weights)
        dict(step())  # the first one compiles
        taken = {True: 0.0, False: 0.0}
        for fetch in (True, False, False, True):  # who comes first has no advantage
            began, scalars = time.perf_counter(), []
            for _ in range(steps):
                scalars.append(step())
                if fetch:
                    dict(scalars[-1])
            loop.means(scalars, steps)  # fetches what is left
            taken[fetch] += (time.perf_counter() - began) / (2 * steps)
        print(taken[True], taken[False])


def _method(crop):
    """LoAd on MobileNetV2; its phase 'cross_entropy' is the control's step."""
    from tf_advseg.adversaries import discriminators
    from tf_advseg.adversaries import encodings
    from tf_advseg.methods import load
    from tf_advseg.models import deeplab
    from tf_advseg.training import optimizers
    encoding = encodings.Encoding(CLASSES)
    return load.LoAd(
        deeplab.deeplab_mobilenet_v2(CLASSES, crop_size=crop),
        discriminators.build_discriminator(channels=encoding.channels),
        optimizers.make_optimizer('sgd', 1e-6, 0.95), optimizers.make_optimizer('adagrad', 1e-4),
        encoding)


def _batch(kind, method, crop):
    """(batch of tensors, scalars of the step)."""
    import numpy as np
    import tensorflow as tf
    generator, size = np.random.default_rng(0), kind.batch_size
    batch = {'image': generator.uniform(0, 255, (size, crop, crop, 3)).astype('float32'),
             'label': generator.integers(0, CLASSES, (size, crop, crop)).astype('int32')}
    weights = {'adversarial_weight': 1.0}
    if kind.phase == 'discriminator':
        weights = {'weight_real': 1.0, 'weight_fake': 1.0}
        side = (crop - 1) // method.segmentor.logits_stride + 1
        batch.update(map=generator.normal(size=(size, side, side, CLASSES)).astype('float16'),
                     is_real=(np.arange(size) % 2).astype('float32'))
    return {name: tf.constant(value) for name, value in batch.items()}, weights
