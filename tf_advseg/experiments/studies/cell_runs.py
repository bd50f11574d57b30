"""Runs of a sweep's cells, one process each; `ray_cells` has them on several machines."""
import contextlib
import pathlib
import re
import subprocess
import time

from tf_advseg.core import errors
from tf_advseg.core import files
from tf_advseg.core import locks
from tf_advseg.core import progress
from tf_advseg.core import run_directory
from tf_advseg.experiments.studies import sweeping

WAIT = 2.0  # seconds between two looks at a cell that another process trains
PATIENCE = 20.0  # seconds that an interrupted run has to end by itself

# What a run died of: our own line, or a traceback's end, behind which gin adds where it was called.
_ERROR = re.compile(r'error: |[\w.]*(Error|Exception)\b')


def require_starts(cells, checkpoint):
    """Says at once that weights are not there, where each run would say it by itself.

    Args:
      cells: those that have begun already keep to what they began with, and are not asked.
      checkpoint: of the flag, a path with '{seed}' for each cell's; None is nothing to look for.

    Raises:
      UserError: no file or folder is there for a cell.
    """
    if checkpoint is None or checkpoint.startswith('zoo:'):
        return
    for cell in cells:
        path = pathlib.Path(sweeping.of_seed(checkpoint, cell.seed)).expanduser()
        beside = path.parent.iterdir() if path.parent.is_dir() else ()
        if not (cell.folder.exists() or path.exists()
                or any(other.name.startswith(f'{path.name}.') for other in beside)):  # TF1's
            raise errors.UserError(f'--checkpoint={checkpoint}: there is no {path}, from which '
                                   f'{cell.name}, seed {cell.seed} starts; make it first, or leave '
                                   'that seed out')


def run_cells(cells, workdir, command, show=True):
    """Runs what is not done, one process after another; a failure stops none of the others.

    Args:
      cells: list of `sweeping.Cell`.
      workdir: the sweep's folder; what the runs print goes to <workdir>/logs.
      command: function(Cell) -> list of words.
      show: whether to show progress.

    Returns:
      list of (Cell, the line of its output that says why) of the runs that failed.
    """
    logs = make_logs(workdir)
    failed = []
    waiting = [cell for cell in cells if not cell.done]
    with progress.Progress(len(waiting), 'runs', enabled=show) as bar:
        for cell in waiting:
            # A run may take an hour, in which the bar stands still.
            bar.say(f'{cell.name}, seed {cell.seed}: {log_of(cell, logs)}')
            reason = run_cell(cell, command(cell), log_of(cell, logs))
            failed += [(cell, reason)] if reason else []
            bar.update(1, failed=len(failed))
    return failed


def make_logs(workdir):
    """The folder of a sweep's logs, made."""
    logs = pathlib.Path(workdir) / 'logs'
    with files.disk_errors(logs):
        logs.mkdir(parents=True, exist_ok=True)
    return logs


def log_of(cell, logs):
    """The file that what a cell's runs print is appended to."""
    return logs / f'{cell.folder.parent.name}-seed{cell.seed}.log'


def run_cell(cell, words, log, environment=None):
    """Runs one cell to its end, unless another process does.

    Args:
      cell: `sweeping.Cell`.
      words: its command line.
      log: path that what it prints is appended to; its folder is there.
      environment: dict of the process's variables; None for those of this process.

    Returns:
      None, or the line of its output that says why it failed.

    Raises:
      UserError: the disk is full, or a folder cannot be written.
    """
    with files.disk_errors(cell.folder):
        cell.folder.parent.mkdir(parents=True, exist_ok=True)
    _wait_for(cell)
    if cell.done:
        return None
    with files.disk_errors(log), open(log, 'ab') as file:
        code = _call(words, file, environment)
    waited = code and _wait_for(cell)  # the other may have started at the same moment
    if (not code or waited) and cell.done:
        return None
    lines = log.read_text('utf-8', 'replace').strip().splitlines() or ['no output']
    told = [line for line in lines if _ERROR.match(line)] or lines
    return f'exit code {code}: {told[-1]}'


def _call(words, log, environment):
    """Exit code of a process; an interrupt ends it, too: gently at first."""
    with subprocess.Popen(words, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                          env=environment) as process:
        try:
            while process.poll() is None:  # Ray's interrupt would not end a wait()
                time.sleep(0.1)
            return process.returncode
        except BaseException:
            process.terminate()
            try:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(PATIENCE)
            finally:
                process.kill()
            raise


def _wait_for(cell):
    """Waits for another process that trains a cell, of a sweep beside this or of a killed one.

    Returns:
      Whether there was one.
    """
    lock = run_directory.RunDirectory(cell.folder).lock_path
    number = locks.holder(lock)
    if number is not None:
        print(f'{cell.folder}: another process is training it{locks.who(number)}; waiting',
              flush=True)
    while locks.holder(lock) is not None:
        time.sleep(WAIT)
    return number is not None
