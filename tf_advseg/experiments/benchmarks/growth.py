"""What grows while a run goes on: its memory and its files, sampled from outside.

`benchmark growth` starts `train` as a user would and looks at the process and the run directory
once a second. After what is compiled and cached once, memory is to stay flat; files grow by lines
of the journal and by TensorBoard's numbers, and by nothing else for each step.
"""
import dataclasses
import os
import pathlib
import subprocess
import time

from tf_advseg.core import errors
from tf_advseg.reporting import curves
from tf_advseg.reporting import tables

SHARES = (0.1, 0.25, 0.5, 0.75, 1.0)  # of the training's time, at which the table looks
PARTS = ('journal.jsonl', 'metrics.jsonl', 'tensorboard', 'checkpoints', 'stages', 'lookahead',
         'control')


@dataclasses.dataclass(frozen=True)
class Sample:
    """One look: seconds since the start, MiB of resident memory, {part of the run: kB on disk}."""
    seconds: float
    memory: float
    disk: dict


def watch(command, workdir, every=1.0):
    """Runs a command to its end and looks at it.

    Args:
      command: words; what it prints goes to <workdir>.log.
      workdir: the run directory that it fills.
      every: seconds between two looks.

    Returns:
      list of `Sample`.

    Raises:
      UserError: the command failed, or ended before it was looked at.
    """
    workdir = pathlib.Path(workdir)
    log = workdir.with_name(f'{workdir.name}.log')
    with open(log, 'wb') as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, stdin=subprocess.DEVNULL)
        samples, began = [], time.perf_counter()
        try:
            while process.poll() is None:
                memory = resident(process.pid)
                if memory is not None:
                    samples.append(Sample(time.perf_counter() - began, memory, _disk(workdir)))
                time.sleep(every)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    if process.returncode:
        raise errors.UserError(f'growth: the run ended with exit code {process.returncode}; {log} '
                               'has what it said')
    if len(samples) < len(SHARES):
        raise errors.UserError(f'growth: the run took {len(samples)} looks alone; take more steps')
    return samples


def resident(number):
    """MiB of resident memory of a process; None where there is none, or nothing says.

    Raises:
      UserError: this system has no /proc.
    """
    if not os.path.isdir('/proc/self'):
        raise errors.UserError('growth: memory is read in /proc, which is on Linux alone')
    try:
        with open(f'/proc/{number}/statm', encoding='ascii') as file:
            return int(file.read().split()[1]) * os.sysconf('SC_PAGE_SIZE') / 2 ** 20
    except (OSError, IndexError, ValueError):  # it ended this very moment
        return None


def _disk(workdir):
    """{part: kB on disk} of a run directory as far as it is there."""
    return {part: size(workdir / part) / 1e3 for part in PARTS if (workdir / part).exists()}


def size(path):
    """Bytes of a file, or of all files of a folder; what vanishes meanwhile counts nothing."""
    if path.is_file():
        found = [path]
    else:
        found = [pathlib.Path(folder) / name for folder, _, names in os.walk(path)
                 for name in names]
    total = 0
    for file in found:
        try:
            total += file.stat().st_size
        except OSError:
            continue
    return total


def training(samples):
    """Those of the samples between which the run logs steps: its start and its report aside."""
    lines = [sample.disk.get('metrics.jsonl', 0.0) for sample in samples]
    grown = [place for place in range(1, len(lines)) if lines[place] > lines[place - 1]]
    return samples[grown[0]:grown[-1] + 1] if len(grown) >= len(SHARES) else samples


def at_shares(samples, value):
    """Medians of `value(sample)` around each of `SHARES` of the time, over a twentieth of it."""
    first, last = samples[0].seconds, samples[-1].seconds
    found = []
    for share in SHARES:
        near = sorted(value(sample) for sample in samples
                      if abs(sample.seconds - first - share * (last - first))
                      <= (last - first) / 20)
        found.append(near[len(near) // 2] if near else value(samples[-1]))
    return found


def table(samples):
    """tables.Table: memory and each part on disk, at shares of the training's time, the growth
    since half of it, and what was reached at most or was left when the run had ended."""
    steps = training(samples)
    rows = [('memory, MiB', *_row(at_shares(steps, lambda sample: sample.memory)),
             f'{max(sample.memory for sample in samples):.0f}')]
    for part in PARTS:
        if any(part in sample.disk for sample in samples):
            rows.append((f'{part}, kB', *_row(at_shares(
                steps, lambda sample, part=part: sample.disk.get(part, 0.0))),
                f'{samples[-1].disk.get(part, 0.0):.0f}'))
    header = ('', *(f'at {100 * share:.0f} %' for share in SHARES), 'last ÷ half', 'end')
    return tables.plain_table(header, rows, (
        f'one run, {samples[-1].seconds:.0f} s, {steps[-1].seconds - steps[0].seconds:.0f} s of '
        f'them steps, {len(samples)} looks; end: most memory, and what is left on disk'))


def _row(values):
    """Texts of the values, and the last in those of half the time."""
    half = values[SHARES.index(0.5)]
    return (*(f'{value:.0f}' for value in values), f'{values[-1] / half:.3f}' if half else '–')


def chart(samples):
    """matplotlib Figure: memory over the run's time, the time of the steps shaded."""
    figure, axes = curves.new_figure(8.0, 3.6)
    axes.plot([sample.seconds / 60 for sample in samples], [sample.memory for sample in samples],
              color='#2f6db5', linewidth=1.2)
    steps = training(samples)
    axes.axvspan(steps[0].seconds / 60, steps[-1].seconds / 60, color='#000000', alpha=0.05,
                 linewidth=0)
    axes.set_ylim(bottom=0)
    axes.set_xlabel('minutes')
    axes.set_ylabel('resident memory (MiB)')
    return figure
