"""A sweep's cells on the machines of a Ray cluster (extra `ray`): one cell a task, several at once.

Ray's own features do the work. It gives each task the CPUs and GPUs that it asks for, and runs the
task of a lost worker or node again, on another node (three times; RAY_TASK_MAX_RETRIES sets another
number). A task started again calls the same command in the same run directory, and the run goes on
from its checkpoints. Should the lost worker's training still be alive, the run directory's lock
holds the new task back until that has ended.
"""
import contextlib
import dataclasses
import os
import pathlib
import signal
import socket
import sys
import threading
import time
import uuid

from tf_advseg.core import errors
from tf_advseg.core import files
from tf_advseg.core import progress
from tf_advseg.experiments.studies import cell_runs

LOOK = 10.0  # seconds between two looks at the nodes while all runs go on
ANSWER = 120.0  # seconds that a node has to say what it sees
SEEN = 90.0  # seconds until a file of another node is seen: NFS keeps old listings for 60
# Variables that each node has its own values of; Ray sets those that name GPUs.
_OF_THE_NODE = ('CUDA_VISIBLE_DEVICES', 'HIP_VISIBLE_DEVICES', 'ROCR_VISIBLE_DEVICES', 'HOSTNAME',
                'TMPDIR')


@dataclasses.dataclass(frozen=True)
class Settings:
    """Where cells run, and what each of them gets.

    Attributes:
      address: HOST:PORT of a Ray cluster; 'auto' for RAY_ADDRESS or the one that this machine is
        a node of, 'local' to start one here for as long as the sweep lasts.
      cpus, gpus: of one cell; a fraction shares one among several.

    Raises:
      UserError: a number that Ray does not take, or an address of Ray's client protocol.
    """
    address: str = 'auto'
    cpus: float = 1.0
    gpus: float = 0.0

    def __post_init__(self):
        for name, value in (('cell_cpus', self.cpus), ('cell_gpus', self.gpus)):
            if not 0 <= value < float('inf') or (value > 1 and value != int(value)):
                raise errors.UserError(f'--{name}={value:g}: expected a whole number, or a part of '
                                       'one, as 0.5')
        if not self.cpus and not self.gpus:
            raise errors.UserError('--cell_cpus=0 --cell_gpus=0: all cells would run at once; give '
                                   'one of them')
        if self.address.startswith('ray://'):
            raise errors.UserError(
                f'--ray_address={self.address}: a sweep does not go through a Ray client, as all '
                'nodes read and write its folder; start it on a node of the cluster')

    def fit(self, nodes):
        """Those of `ray.nodes()` that are alive and large enough for a cell."""
        return [node for node in nodes if node['Alive']
                and node['Resources'].get('CPU', 0) >= self.cpus
                and node['Resources'].get('GPU', 0) >= self.gpus]


@dataclasses.dataclass(frozen=True)
class Place:
    """What a task has to find on its node to do what a process here would do.

    Attributes:
      folder: the sweep's working directory; relative paths start there.
      mark: a file in the sweep's folder, made by this very sweep.
      programs: files that every cell's command line begins with.
      variables: the sweep's environment.
      gpus: of one cell.
    """
    folder: str
    mark: str
    programs: tuple
    variables: dict
    gpus: float

    def unseen(self):
        """What is not on this node, as a line; None where everything is."""
        for path in (self.folder, self.mark, *self.programs):
            if not os.path.exists(path):
                path = os.path.dirname(path) if path == self.mark else path
                return (f'node {os.uname().nodename}: {path} is not what it is where the sweep was '
                        'started; every node has to see the same files under the same paths: put '
                        'the --workdir, the working directory, the code and its environment on a '
                        'file system that all nodes share')
        return None

    def environment(self):
        """The variables of a cell's process on this node: the sweep's, and the node's own."""
        own = {name: os.environ[name] for name in _OF_THE_NODE if name in os.environ}
        # Ray leaves a task of no GPU all of them, and each TensorFlow would take their memory.
        hidden = {} if self.gpus else {'CUDA_VISIBLE_DEVICES': '-1'}
        return {**self.variables, **own, **hidden}


def imported():
    """The package ray.

    Raises:
      UserError: it is not installed, or a package that it loads where it is there does not work.
    """
    os.environ.setdefault('RAY_USAGE_STATS_ENABLED', '0')  # nothing is reported to its makers
    try:
        import ray
    except ImportError as error:
        raise errors.UserError('--on=ray: there is no package ray here; python -m pip install '
                               "'ray' (or 'tf_advseg[ray]')") from error
    try:
        import pyarrow  # noqa: F401
    except ModuleNotFoundError:
        pass
    except ImportError as error:  # Ray would end in a traceback: 26 with NumPy 1, for one
        raise errors.UserError(f'--on=ray: Ray loads pyarrow, which does not work here ({error}); '
                               "in the reference lane: python -m pip install 'pyarrow<26'"
                               ) from error
    return ray


def run_cells(cells, workdir, command, settings, show=True):
    """`cell_runs.run_cells` on a Ray cluster; cells that take over a control wait for its cell.

    Args:
      cells, workdir, command, show: as there. What the cells read and write lies on a file system
        that all nodes share.
      settings: `Settings`.

    Returns:
      as there, in the order of the cells.

    Raises:
      UserError: ray is not installed, no cluster answers, no node is large enough, or a node does
        not see the files of this one.
    """
    waiting = [cell for cell in cells if not cell.done]
    if not waiting:
        return []
    ray = imported()
    logs = cell_runs.make_logs(workdir)
    with _connected(ray, settings.address), _marked(logs) as mark:
        words = command(waiting[0])
        place = Place(os.getcwd(), str(mark), tuple(filter(os.path.isabs, words[:2])), {
            name: value for name, value in os.environ.items() if name not in _OF_THE_NODE},
                      settings.gpus)
        nodes = _checked_nodes(ray, settings, place)
        if show:
            print(f'Ray: {len(waiting)} runs on {len(nodes)} nodes, '
                  f'{settings.cpus:g} CPUs and {settings.gpus:g} GPUs each', flush=True)
        task = ray.remote(_run_cell).options(
            num_cpus=settings.cpus, num_gpus=settings.gpus, scheduling_strategy='SPREAD')

        def start(cell):
            return task.remote(cell, command(cell), cell_runs.log_of(cell, logs), place)

        failed = _run_all(ray, settings, waiting, start, show)
    return [(cell, failed[cell.folder]) for cell in cells if cell.folder in failed]


def _run_cell(cell, words, log, place):
    """The task: `cell_runs.run_cell` on the node that it has come to."""
    problem = place.unseen()
    if problem:
        return problem
    os.chdir(place.folder)
    try:
        return cell_runs.run_cell(cell, words, log, place.environment())
    except errors.UserError as error:
        return str(error)


def startable(waiting, running):
    """The cells of `waiting` whose control no unfinished cell is about to train.

    Two cells that need one control are not to train it at once: the second starts when the first
    has ended, however it has.
    """
    unfinished = {cell.folder for cell in (*waiting, *running)}
    return [cell for cell in waiting if cell.control_from not in unfinished]


def _run_all(ray, settings, cells, start, show):
    """Starts each cell as soon as it may, until all have ended; an interrupt stops those begun.

    Returns:
      {a cell's folder: why it failed}.
    """
    waiting, running, failed, told = list(cells), {}, {}, False
    with progress.Progress(len(waiting), 'runs', enabled=show) as bar:
        try:
            while waiting or running:
                for cell in startable(waiting, running.values()):
                    waiting.remove(cell)
                    running[start(cell)] = cell
                for ended in ray.wait(list(running), timeout=LOOK)[0]:
                    cell = running.pop(ended)
                    reason = _outcome(ray, ended, cell)
                    failed.update({cell.folder: reason} if reason else {})
                    bar.update(1, failed=len(failed))
                alone = not settings.fit(ray.nodes())
                if alone and not told:
                    print('Ray: no node is left that is large enough for a cell; waiting for one',
                          file=sys.stderr, flush=True)
                told = alone
        except BaseException:
            _stop(ray, list(running))
            raise
    return failed


def _outcome(ray, reference, cell):
    """Why a task's cell failed, None where it did not."""
    try:
        reason = ray.get(reference)
    except ray.exceptions.RayError as error:
        return f'{type(error).__name__}: {_line(error)}'
    if reason:
        return reason
    until = time.monotonic() + SEEN
    while not cell.done:
        if time.monotonic() > until:
            return 'its node says that it is done, and its results are not to be seen here'
        time.sleep(0.5)
    return None


def _stop(ray, references):
    """Ends the runs that have begun as Ctrl-C would; the same sweep goes on with them."""
    for reference in references:
        ray.cancel(reference)
    if references:
        print(f'Ray: stopping {len(references)} runs', file=sys.stderr, flush=True)
        ray.wait(references, num_returns=len(references), timeout=cell_runs.PATIENCE + LOOK)


def _checked_nodes(ray, settings, place):
    """Nodes that are large enough for a cell; each sees what the cells need.

    Raises:
      UserError: there is none, or one does not.
    """
    from ray.util import scheduling_strategies
    nodes = settings.fit(ray.nodes())
    if not nodes:
        have = ray.cluster_resources()
        raise errors.UserError(
            f'--cell_cpus={settings.cpus:g} --cell_gpus={settings.gpus:g}: no node of the Ray '
            f'cluster has as many (all nodes together: {have.get("CPU", 0):g} CPUs, '
            f'{have.get("GPU", 0):g} GPUs)')
    look, at = ray.remote(Place.unseen), scheduling_strategies.NodeAffinitySchedulingStrategy
    answers = {look.options(num_cpus=0, max_retries=0, scheduling_strategy=at(
        node['NodeID'], soft=False)).remote(place): node for node in nodes}
    for reference, node in answers.items():
        try:
            problem = ray.get(reference, timeout=ANSWER)
        except ray.exceptions.RayError as error:
            problem = (f'node {node["NodeName"]}: cannot start a cell ({_line(error)}); it needs '
                       f'the package and the environment of this one ({sys.executable})')
        if problem:
            raise errors.UserError(problem)
    return nodes


@contextlib.contextmanager
def _marked(logs):
    """A file of this sweep's own in its folder, by which another node knows that folder."""
    mark = pathlib.Path(os.path.abspath(logs)) / f'{files.TEMPORARY}ray-{uuid.uuid4().hex}'
    with files.disk_errors(logs):
        mark.touch()
    try:
        yield mark
    finally:
        mark.unlink(missing_ok=True)


@contextlib.contextmanager
def _connected(ray, address):
    """Makes this process a driver of the cluster while the block runs.

    Raises:
      UserError: none answers, or it is of another version.
    """
    host, colon, port = (os.environ.get('RAY_ADDRESS', address) if address == 'auto'
                         else address).rpartition(':')
    main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGTERM) if main else None
    try:
        if colon:  # Ray itself tries for minutes
            socket.create_connection((host.strip('[]'), int(port)), timeout=ANSWER).close()
        ray.init(address=address, include_dashboard=False, logging_level='error')
    except Exception as error:  # its own, gRPC's, OSError
        raise errors.UserError(
            f'--ray_address={address}: no cluster to work with ({_line(error)}); start one by '
            '`ray start --head` here and `ray start --address=HOST:6379` on the other machines, or '
            'give --ray_address=local') from error
    finally:
        if handler is not None:
            signal.signal(signal.SIGTERM, handler)  # Ray's exits without stopping the runs
    try:
        yield
    finally:
        ray.shutdown()


def _line(error):
    """The line of an exception that says most: a traceback's last, else the first."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    return lines[-1] if any(line.startswith('Traceback') for line in lines) else lines[0]
