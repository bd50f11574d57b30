"""What deterministic operations cost: the same steps timed with and without, side by side.

Determinism is a property of a process, so each figure comes from a process of its own; they take
turns, because the machine's speed drifts.
"""
import statistics
import subprocess
import sys
import time

from tf_advseg.core import errors
from tf_advseg.reporting import tables

STEPS = 6
CROP, CLASSES = 321, 8
PHASES = {'generator step, batch 5': ('segmentor', 5),
          'discriminator step, batch 16': ('adversary', 16)}


def measure(repeats=3):
    """Times both kinds of step on MobileNetV2 at 321x321 with MobileNet-224.

    Args:
      repeats: processes of each kind.

    Returns:
      tables.Table: seconds a step with and without determinism, and their ratio (of the medians).

    Raises:
      UserError: a process failed.
    """
    seconds = {True: {name: [] for name in PHASES}, False: {name: [] for name in PHASES}}
    for _ in range(repeats):
        for deterministic in (True, False):
            child = subprocess.run(
                [sys.executable, '-c', 'from tf_advseg.experiments import determinism; '
                 f'determinism.child({deterministic})'],
                capture_output=True, text=True, check=False)
            if child.returncode:
                raise errors.UserError('the measuring process failed: '
                                       + (child.stderr.strip().splitlines() or ['?'])[-1])
            for name, value in zip(PHASES, child.stdout.split()):
                seconds[deterministic][name].append(float(value))
    rows = []
    for name in PHASES:
        on, off = (statistics.median(seconds[flag][name]) for flag in (True, False))
        rows.append((name, f'{on:.3f}', f'{off:.3f}', f'{on / off:.2f}'))
    return tables.plain_table(('', 'deterministic, s', 'not, s', 'ratio'), rows,
                              f'medians of {repeats} processes each, {STEPS} steps a process')


def child(deterministic):
    """Prints the fastest of STEPS steps of each phase, in seconds; runs in its own process."""
    from tf_advseg.core import runtime
    tf = runtime.configure(deterministic=deterministic)
    import numpy as np

    from tf_advseg.adversaries import discriminators
    from tf_advseg.adversaries import encodings
    from tf_advseg.methods import load
    from tf_advseg.models import deeplab
    from tf_advseg.training import loop
    from tf_advseg.training import optimizers
    encoding = encodings.Encoding(CLASSES)
    segmentor = deeplab.deeplab_mobilenet_v2(CLASSES, crop_size=CROP)
    method = load.LoAd(
        segmentor, discriminators.build_discriminator(channels=encoding.channels),
        optimizers.make_optimizer('sgd', 1e-6, 0.95), optimizers.make_optimizer('adagrad', 1e-4),
        encoding)
    stepper = loop.Stepper(method, tf.distribute.get_strategy())
    generator = np.random.default_rng(0)
    side = (CROP - 1) // segmentor.logits_stride + 1
    times = []
    for phase, size in PHASES.values():
        batch = {'image': generator.uniform(0, 255, (size, CROP, CROP, 3)).astype('float32'),
                 'label': generator.integers(0, CLASSES, (size, CROP, CROP)).astype('int32')}
        weights = {'adversarial_weight': 1.0}
        if phase == 'adversary':
            weights = {'weight_real': 1.0, 'weight_fake': 1.0}
            batch.update(map=generator.normal(size=(size, side, side, CLASSES)).astype('float16'),
                         is_real=(np.arange(size) % 2).astype('float32'))
        batch = {name: tf.constant(value) for name, value in batch.items()}
        taken = []
        for step in range(STEPS + 1):  # the first one compiles
            began = time.perf_counter()
            stepper(phase, batch, np.array([0, step], np.int32), **weights)
            taken.append(time.perf_counter() - began)
        times.append(min(taken[1:]))
    print(*times)
