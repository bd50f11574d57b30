"""A training step of each network in two checkouts, in turns: images a second, and memory.

  python docs/numbers/training_cost/compare.py BEFORE AFTER [--turns=3] [--repeats=5] [--crop=321]

BEFORE and AFTER are two clones of this repository at the commits to be compared, run with the
Python that runs this script. Every network and turn has a process of its own in each clone, since
the peak of a process's memory never falls. The step is `CrossEntropy`'s: full resolution, momentum.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[3]))

from tf_advseg.experiments.benchmarks import network_benchmark  # noqa: E402

NETWORKS = network_benchmark.NETWORKS
# Modules and a phase have moved since the oldest commit that this compares.
CHILD = """
import json, resource, statistics, sys, time
builder, given, crop, batch_size, repeats = json.loads(sys.argv[1])
from tf_advseg.core import runtime
tf = runtime.configure(deterministic=False)
try:
    from tf_advseg.run import networks
except ImportError:
    from tf_advseg.experiments import networks
from tf_advseg.methods import cross_entropy
from tf_advseg.training import loop, optimizers
network = networks.build(networks.describe(
    builder, num_classes=21, crop_size=(crop, crop), seed=0, **given))
method = cross_entropy.CrossEntropy(network, optimizers.make_optimizer('momentum', 1e-6, 0.9),
                                    l2_weight=4e-5)
images = tf.random.stateless_uniform([batch_size, crop, crop, 3], (0, 1)) * 255.0
labels = tf.random.stateless_uniform([batch_size, crop, crop], (0, 2), 0, 21, tf.int32)
batch = {'image': images, 'label': labels, 'valid': tf.ones_like(labels, tf.bool)}
stepper = loop.Stepper(method, tf.distribute.get_strategy())
phase = getattr(method, 'default_phase', 'cross_entropy')
dict(stepper(phase, batch, (0, 0)))
seconds = []
for _ in range(repeats):
    began = time.perf_counter()
    dict(stepper(phase, batch, (0, 0)))
    seconds.append(time.perf_counter() - began)
print(json.dumps([batch_size / statistics.median(seconds),
                  resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))
"""


def measured(clone, network, options):
    """(images a second, MiB) of a training step in a clone."""
    builder, given = NETWORKS[network]
    words = json.dumps([builder, given, options.crop, options.batch_size, options.repeats])
    done = subprocess.run([sys.executable, '-c', CHILD, words], cwd=clone, text=True, check=False,
                          capture_output=True, env={**os.environ, 'PYTHONPATH': '.'})
    if done.returncode:
        sys.exit(f'error: {clone}, {network}: {(done.stderr.strip() or "?").splitlines()[-1]}')
    return json.loads(done.stdout.splitlines()[-1])


def main():
    """Flags, turns, a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('before')
    parser.add_argument('after')
    parser.add_argument('--network', action='append', choices=list(NETWORKS))
    parser.add_argument('--turns', type=int, default=3)
    parser.add_argument('--repeats', type=int, default=5)
    parser.add_argument('--crop', type=int, default=321)
    parser.add_argument('--batch_size', type=int, default=4)
    options = parser.parse_args()
    print(f'{options.crop}x{options.crop}, batches of {options.batch_size}, medians of '
          f'{options.turns} turns of {options.repeats} steps\n', flush=True)
    print('| network | before, images/s | after, images/s | ratio | before, MiB | after, MiB |\n'
          '|---|---|---|---|---|---|', flush=True)
    for network in options.network or NETWORKS:
        before, after = [], []
        for turn in range(options.turns):
            # Who comes first has no advantage.
            for clone, found in ((options.before, before), (options.after, after))[::(-1) ** turn]:
                found.append(measured(clone, network, options))
        speeds = [statistics.median(one[0] for one in found) for found in (before, after)]
        memory = [statistics.median(one[1] for one in found) for found in (before, after)]
        ratio = statistics.median(b[0] / a[0] for a, b in zip(before, after))
        print(f'| {network} | {speeds[0]:.2f} | {speeds[1]:.2f} | {ratio:.2f} | '
              f'{memory[0]:.0f} | {memory[1]:.0f} |', flush=True)


if __name__ == '__main__':
    main()
