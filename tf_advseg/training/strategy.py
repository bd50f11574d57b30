"""tf.distribute strategies by name, and who writes files when there are several workers."""
import functools
import os

import tensorflow as tf

from tf_advseg.core import errors
from tf_advseg.core import runtime

STRATEGIES = ('one_device', 'mirrored', 'multi_worker', 'tpu')


def make_strategy(name='one_device', tpu=''):
    """Builds a strategy. Must run before TensorFlow executes anything for 'multi_worker'.

    Args:
      name: 'one_device'; 'mirrored' (all GPUs, else all logical CPUs of this machine);
        'multi_worker' (reads TF_CONFIG; every worker must see the same --workdir); 'tpu'
        (written, never run: no TPU was at hand).
      tpu: the TPU's name or address, for 'tpu'.

    Raises:
      UserError: for an unknown name, or 'multi_worker' without TF_CONFIG.
    """
    errors.require_one_of('strategy', name, STRATEGIES)
    made = _make(name, tpu)
    runtime.spare_tensors()
    return made


def _make(name, tpu):
    if name == 'mirrored':
        devices = tf.config.list_logical_devices('GPU') or tf.config.list_logical_devices('CPU')
        return mirrored(*(d.name for d in devices))
    if name == 'multi_worker':
        if not os.environ.get('TF_CONFIG'):
            raise errors.UserError(
                '--strategy=multi_worker: the environment variable TF_CONFIG is not set; expected '
                'JSON with "cluster" and "task" (one entry per worker); set it on every worker')
        return tf.distribute.MultiWorkerMirroredStrategy()
    if name == 'tpu':
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=tpu)
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
        return tf.distribute.TPUStrategy(resolver)
    device = 'GPU' if tf.config.list_logical_devices('GPU') else 'CPU'
    return tf.distribute.OneDeviceStrategy(f'/{device.lower()}:0')


def mirrored(*devices):
    """The MirroredStrategy over devices of this machine; one a process for the same devices.

    A second one would number its collectives from the start again, and TensorFlow refuses them
    where their shapes are other than the first one's.

    Args:
      *devices: names, as '/cpu:0' or '/device:GPU:0'.
    """
    return _mirrored(tuple(tf.DeviceSpec.from_string(name).to_string() for name in devices))


@functools.lru_cache(maxsize=None)
def _mirrored(devices):
    return tf.distribute.MirroredStrategy(list(devices))


def is_chief(strategy):
    """True where this process writes the run directory (worker 0, or the only one)."""
    if not has_workers(strategy):
        return True
    resolver = strategy.cluster_resolver
    return resolver.task_type in (None, 'chief') or (
        resolver.task_type == 'worker' and resolver.task_id == 0)


def has_workers(strategy):
    """Whether several processes take part, which have to make the same calls."""
    return isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)


def is_one_cpu(strategy):
    """Whether the strategy is that of one device, and the device a CPU."""
    return isinstance(strategy, tf.distribute.OneDeviceStrategy) and (
        'CPU' in strategy.extended.worker_devices[0].upper())


def any_worker(strategy, flag):
    """Whether `flag` is true on any worker: what every worker then agrees on."""
    if not has_workers(strategy):
        return bool(flag)
    total = strategy.run(_summed, args=(tf.constant(float(flag)),))
    return float(strategy.experimental_local_results(total)[0]) > 0


def barrier(strategy):
    """Waits until every worker has come here; nothing to do on one."""
    any_worker(strategy, False)


def _summed(value):
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, value)
