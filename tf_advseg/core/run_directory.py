"""The folder of a run: its layout, the configuration it was made with, and its lock."""
import contextlib
import importlib.metadata
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import time

from tf_advseg.core import configuration, files, lanes, locks
from tf_advseg.core.errors import UserError

CONFIG = 'config.gin'
OPERATIVE = 'operative_config.gin'
ENVIRONMENT = 'environment.json'
PARTIAL_RECORDS = 'records.partial'  # the data set's: checked piece by piece when gone on with
_FOLDERS = ('stages', 'checkpoints', 'lookahead', 'lookahead/snapshots', 'lookahead/buffer',
            'figures', 'tensorboard')
_PACKAGES = ('tensorflow', 'keras', 'tf-keras', 'tensorflow-addons', 'keras-cv', 'numpy',
             'gin-config', 'absl-py', 'pillow', 'matplotlib', 'tqdm', 'protobuf', 'h5py')


def describe_environment():
    """Returns a dict of what a result may depend on: versions, machine, command line."""
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    import tf_advseg
    return {
        'tf_advseg': tf_advseg.__version__,
        'commit': _commit(pathlib.Path(tf_advseg.__file__).parents[1]),
        'python': platform.python_version(),
        'packages': versions,
        'platform': platform.platform(),
        'machine': platform.machine(),
        'cpu_count': os.cpu_count(),
        'cpus_allowed': len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else None,
        'environment': {name: value for name, value in sorted(os.environ.items())
                        if name.startswith(('TF_', 'OMP_', 'CUDA_VISIBLE', 'XLA_'))},
        'argv': list(sys.argv),
        'time': time.time(),
    }


def _commit(checkout):
    """The commit of the code, with '+' where files of it were changed since; None without one."""
    def git(*words):
        return subprocess.run(('git', '-C', str(checkout), *words), capture_output=True, text=True,
                              timeout=10, check=True).stdout.strip()

    if not (checkout / '.git').exists():  # installed; a checkout around site-packages is another's
        return None
    try:
        return git('rev-parse', 'HEAD') + (
            '+' if git('status', '--porcelain', '--untracked-files=no') else '')
    except (OSError, subprocess.SubprocessError):
        return None


def lane_of(path):
    """The lane (see `lanes`) that a run was last started in; None where nothing says which.

    Args:
      path: the run's folder.
    """
    environment = pathlib.Path(path) / ENVIRONMENT
    if not environment.is_file():
        return None
    content = files.read_json(environment)
    with files.as_written(environment):
        version = content.get('python')
    try:
        return lanes.of_python(tuple(map(int, version.split('.')[:2]))).name
    except (UserError, ValueError, AttributeError):  # no lane of ours, or no version
        return None


def require_lane(path):
    """Refuses to take up a run of the other lane: with steps of two TensorFlows it could be
    repeated in none.

    Args:
      path: the run's folder.

    Raises:
      UserError: it was started in the other lane.
    """
    was, here = lane_of(path), lanes.of_python()
    if was not in (None, here.name):
        other = next(lane for lane in lanes.LANES if lane.name == was)
        raise UserError(
            f'{path}: was started with {other.described}, this is {here.described}; a run is taken '
            'up in its own lane alone: go on with it there, or choose another --workdir (evaluate, '
            'predict, export and inspect_run read it from here)')


class RunDirectory:
    """One run's folder; each path of its layout has a property.

    Reading a finished run needs only the constructor. `open` makes the folder and takes the
    lock, which the process keeps until `close` or its end, however it ends.
    """

    def __init__(self, path):
        """Args: path: the run's folder (--workdir); it need not exist yet."""
        self.path = pathlib.Path(path).expanduser()
        self.resumed = False  # after open(): whether the run had been started before
        self.removed = []  # after open(): temporaries of a killed process, deleted
        self._lock = None
        self._new_folder = False

    @property
    def lock_path(self):
        """.lock: held by the process that runs here; it stays, empty or with an old id."""
        return self.path / '.lock'

    @property
    def config_path(self):
        """config.gin: the configuration the run was made with."""
        return self.path / CONFIG

    @property
    def operative_config_path(self):
        """operative_config.gin: every parameter in use, written after the first step."""
        return self.path / OPERATIVE

    @property
    def environment_path(self):
        """environment.json: versions, machine and command line, one entry a start."""
        return self.path / ENVIRONMENT

    @property
    def journal_path(self):
        """journal.jsonl: every event."""
        return self.path / 'journal.jsonl'

    @property
    def metrics_path(self):
        """metrics.jsonl: the scalars of the steps."""
        return self.path / 'metrics.jsonl'

    @property
    def stages(self):
        """stages/: one folder a stage."""
        return self.path / 'stages'

    @property
    def checkpoints(self):
        """checkpoints/: the segmentors a user asks for (best, last, …)."""
        return self.path / 'checkpoints'

    @property
    def lookahead(self):
        """lookahead/: state.json, snapshots/ and buffer/ of LoAd."""
        return self.path / 'lookahead'

    @property
    def figures(self):
        """figures/: images for the report."""
        return self.path / 'figures'

    @property
    def tensorboard(self):
        """tensorboard/: event files."""
        return self.path / 'tensorboard'

    @property
    def report_path(self):
        """report.html."""
        return self.path / 'report.html'

    def exists(self):
        """Tells whether the folder is a run that has been started."""
        return self.config_path.is_file()

    def require(self):
        """Returns self if the folder is a run, for tools that only read one.

        Raises:
          UserError: it is not.
        """
        if not self.path.is_dir():
            raise UserError(f'{self.path}: no such run directory')
        if not self.exists():
            raise UserError(f'{self.path}: not a run directory (it has no {CONFIG})')
        return self

    def open(self, config_text, may_change=()):
        """Makes the folder, or goes on in it; takes the lock.

        Args:
          config_text: configuration.config_text() of this start.
          may_change: bindings in which a later start may differ (caps, logging, strategy).

        Returns:
          self; `resumed` and `removed` say what was found.

        Raises:
          UserError: another process uses the folder, it was made with another configuration
            (says what differs), it holds something else, or it cannot be written.
        """
        with files.disk_errors(self.path):
            if self.path.exists() and not self.path.is_dir():
                raise UserError(f'{self.path}: is a file; --workdir must name a folder')
            if self.path.is_dir() and not self.exists() and self._foreign():
                raise UserError(f'{self.path}: holds other files ({self._foreign()[0]}, …) and '
                                f'no {CONFIG}; choose a new or empty --workdir')
            self._new_folder = not self.path.exists()
            self.path.mkdir(parents=True, exist_ok=True)
            self._take_lock()
            try:
                self._open_locked(config_text, may_change)
            except BaseException:
                self.close()
                raise
        return self

    def _foreign(self):
        """Returns the names in the folder that no unfinished start of ours has left."""
        ours = {name.split('/')[0] for name in _FOLDERS} | {'.lock', ENVIRONMENT, PARTIAL_RECORDS}
        ours |= {locks.file_of(name).name for name in ('records', 'records.unpacked')}
        return sorted(entry.name for entry in self.path.iterdir()
                      if entry.name not in ours and not entry.name.startswith(files.TEMPORARY))

    def _open_locked(self, config_text, may_change):
        """The part of `open` that no two processes may do at once."""
        self.resumed = self.exists()
        if self.resumed:
            old = configuration.read(self.config_path)
            changed = configuration.differences(old, config_text, may_change)
            if changed:
                more = f' (and {len(changed) - 5} more)' if len(changed) > 5 else ''
                raise UserError(f'{self.path}: was made with another configuration: '
                                f'{"; ".join(changed[:5])}{more}. Give it the old one, or '
                                'another --workdir')
            require_lane(self.path)
        for name in _FOLDERS:
            with files.disk_errors(self.path / name):
                (self.path / name).mkdir(parents=True, exist_ok=True)
        self.removed = files.remove_temporaries(self.path)
        self._write_environment()
        if not self.resumed:
            # Last: a folder with config.gin is a run, whole.
            with files.atomic_file(self.config_path, 'w') as file:
                file.write(config_text)

    def _write_environment(self):
        """Adds this start to environment.json; the newest start's fields stand on top."""
        starts = []
        if self.environment_path.is_file():
            earlier = files.read_json(self.environment_path)
            with files.as_written(self.environment_path):
                starts = earlier.pop('earlier_starts', []) + [earlier]
        files.write_json(self.environment_path,
                         {**describe_environment(), 'earlier_starts': starts})

    def _take_lock(self):
        """Takes the lock on <path>/.lock or raises UserError."""
        if self._lock is not None:
            return
        # Opened without truncation: the holder's process id stays readable to others.
        descriptor = os.open(self.lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            if not locks.take(descriptor, self.path):
                raise UserError(
                    f'{self.path}: another process is using this run directory'
                    f'{locks.who(locks.holder(self.lock_path))}; wait for it, or choose another '
                    '--workdir')
        except BaseException:
            os.close(descriptor)
            raise
        locks.sign(descriptor)
        self._lock = descriptor

    def write_operative_config(self):
        """Writes operative_config.gin; call it after the first step, when all has been called."""
        with files.atomic_file(self.operative_config_path, 'w') as file:
            file.write(configuration.operative_text())

    def withdraw(self):
        """Takes back a start that came to nothing, so that no later one is held to its settings.

        What `open` and its caller made is deleted, and the folder if `open` made it; records that
        are being written stay, and whole ones become such again: whose they are is checked before
        they are gone on with. A run that had been started before, or one in which a stage has
        begun, stays as it is.
        """
        begun = any(self.stages.glob('*')) or any(self.checkpoints.glob('*'))
        if self._lock is None or self.resumed or begun:
            return
        with contextlib.suppress(OSError):  # what must be reported is why the start failed
            self.config_path.unlink(missing_ok=True)  # first: without it the folder is no run
            if (self.path / 'records').is_dir():
                os.rename(self.path / 'records', self.path / PARTIAL_RECORDS)
            for path in self.path.iterdir():
                if path.is_dir() and path.name != PARTIAL_RECORDS:
                    shutil.rmtree(path)
                elif not path.is_dir():
                    path.unlink()
            if self._new_folder:
                self.path.rmdir()
        self.close()

    def close(self):
        """Gives the lock back."""
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
