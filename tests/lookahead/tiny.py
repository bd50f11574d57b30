"""The smallest whole LoAd run: scenes of 49 pixels, two convolutions, a small discriminator.

Also a program: `python tiny.py WORKDIR [POINT NUMBER] [BINDING...]` runs it and, given a point,
kills itself with SIGKILL when that point is reached for the NUMBER-th time.
tests/lookahead/test_kill.py drives it. With TF_CONFIG set it is one of several workers
(tests/experiments/train/test_multi_worker.py).
"""
import contextlib
import os
import pathlib
import signal
import sys

if __name__ == '__main__':
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

CROP = 49
GIN = (
    'stage_one.epochs = 2',
    'stage_one.batch_size = 5',
    "build_discriminator.name = 'small_cnn'",
    'build_discriminator.alpha = 0.25',
    'build_discriminator.dropout = 0.1',
    'input_encoding.size = 32',
    "input_encoding.truth = 'sampled'",
    "load.map_kind = 'soft'",  # as the paper's; test_kill.GRID has the rest
    'lookahead.discriminator_pairs = False',
    'lookahead.target_accuracy = None',
    'segmentor_optimizer.learning_rate = 0.002',
    "lookahead.adversarial_weight = 'balanced'",
    'lookahead.balance_batches = 2',
    'lookahead.durable_every = 3',
    'lookahead.diagnostics_every = 4',
    'lookahead.min_epochs = 1',
    'lookahead.max_epochs = 2',
    'lookahead.patience = 1',
    'lookahead.reestimate_batches = 1',
    'lookahead.evaluation_batch_size = 4',
    'controller.patience = 5',
    'controller.max_total_cycles = 3',
    'controller.beta_u = 0.0005',
    "dataset.reader = 'shapes'",
    "dataset.options = {'num_train': 12, 'num_val': 8, 'num_test': 3, 'size': (49, 49), "
    "'smallest': (40, 40)}",
    'dataset.holdout_fraction = 0.5',
)


def network(seed=1, classes=8):
    """A Keras model that the package does not know: stride 4, dropout-free, batch norm inside."""
    import tensorflow as tf
    layers = tf.keras.layers

    def start(salt):
        return tf.keras.initializers.GlorotUniform(seed=seed + salt)

    return tf.keras.Sequential([
        layers.Conv2D(8, 3, 2, 'same', activation='relu', kernel_initializer=start(0)),
        layers.BatchNormalization(momentum=0.9),
        layers.Conv2D(12, 3, 2, 'same', activation='relu', kernel_initializer=start(1)),
        layers.Conv2D(classes, 1, kernel_initializer=start(2))], name='stranger')


def run(workdir, **changes):
    """A whole run with control and report; returns its results."""
    from tf_advseg.experiments import improve
    arguments = {'crop_size': CROP, 'normalise': lambda x: x / 127.5 - 1.0, 'gin_params': GIN,
                 'seed': 3, **changes}
    strategy = arguments.get('strategy')
    with strategy.scope() if strategy else contextlib.nullcontext():
        model = network()
    return improve.improve(model, None, workdir, **arguments)


def _die():
    os.kill(os.getpid(), signal.SIGKILL)


def _arm(module, name, count, before=False, counts=lambda *_: True):
    """Replaces a function by one that kills the process at its count-th call that counts."""
    original = getattr(module, name)
    calls = []

    def armed(*args, **kwargs):
        if not counts(*args):
            return original(*args, **kwargs)
        calls.append(1)
        if before and len(calls) == count:
            _die()
        result = original(*args, **kwargs)
        if len(calls) == count:
            _die()
        return result

    setattr(module, name, armed)


def arm(point, count):
    """Kills after: 'step' (of Stage 1), 'propagation', 'control' (a propagation of the control),
    'evaluation', 'slot' (a map inside its writing), 'epoch', 'screening', 'snapshot'; or before:
    'state' (written, nothing collected yet), 'rename' (a snapshot complete, not yet under its
    name)."""
    from tf_advseg.core import files
    from tf_advseg.evaluation import evaluator
    from tf_advseg.lookahead import discriminator_training
    from tf_advseg.lookahead import map_encoding
    from tf_advseg.lookahead import orchestrator
    from tf_advseg.lookahead import screening
    from tf_advseg.lookahead import snapshots
    from tf_advseg.training import loop
    if point == 'control':
        _arm(orchestrator.LookAhead, '_propagate', count,
             counts=lambda lookahead: not lookahead.adversarial)
        return
    targets = {
        'step': (loop.Stepper, '__call__', False),
        'propagation': (orchestrator.LookAhead, '_propagate', False),
        'evaluation': (evaluator.Evaluator, 'run', False),
        'slot': (map_encoding, 'pack', False),
        'screening': (screening, 'screen', False),
        'epoch': (discriminator_training.DiscriminatorTrainer, '_hold_out', False),
        'snapshot': (snapshots.SnapshotStore, 'save', False),
        'state': (snapshots.SnapshotStore, 'collect_garbage', True),
        'rename': (files, '_rename_folder', True),
    }
    module, name, before = targets[point]
    _arm(module, name, count, before)


def main(workdir, *words):
    """The program."""
    from tf_advseg.core import runtime
    runtime.configure(deterministic=True, threads=1)
    bindings = tuple(word for word in words if '=' in word)
    point = [word for word in words if '=' not in word]
    if point:
        arm(point[0], int(point[1]))
    strategy = None
    if 'TF_CONFIG' in os.environ:
        from tf_advseg.training import strategy as strategies
        strategy = strategies.make_strategy('multi_worker')
    run(workdir, gin_params=GIN + bindings, strategy=strategy)


if __name__ == '__main__':
    main(*sys.argv[1:])
