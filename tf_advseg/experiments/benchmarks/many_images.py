"""What grows with the number of images: seconds, memory and disk from a folder to the scores.

`benchmark images` makes up folders of small images, as many as asked for and a tenth of that, and
starts the tools on them as a user would: `prepare_data`, `train` for one step, `evaluate`. Images
are small and the network is tiny, so what is left is what each image costs by being there.
"""
import dataclasses
import os
import pathlib
import shutil
import subprocess
import sys
import time

import numpy as np
from PIL import Image

from tf_advseg.core import errors
from tf_advseg.core import journal
from tf_advseg.experiments.benchmarks import growth
from tf_advseg.experiments.studies import sweeping
from tf_advseg.reporting import tables

SIZE = (48, 64)  # of an image, pixels
CLASSES = 4
SHARES = {'train': 0.6, 'val': 0.2, 'test': 0.2}
BATCH = 8
GIN = 'growth/many_images.gin'


@dataclasses.dataclass(frozen=True)
class Cost:
    """Of one command: seconds (wall), seconds of CPU, MiB resident at most in one process, and MB
    on disk of what it leaves."""
    seconds: float
    cpu: float
    memory: float
    disk: float


def write_folder(folder, count):
    """Makes a folder as `readers.folder` reads it, with lists of its splits.

    Args:
      folder: made here.
      count: images, at least 10; each has the same bytes in every call.
    """
    folder = pathlib.Path(folder)
    for part in ('images', 'labels', 'splits'):
        (folder / part).mkdir(parents=True)
    names = [f'{i:06d}' for i in range(count)]
    for number, name in enumerate(names):
        patches = np.random.default_rng(number).integers(0, CLASSES, (6, 8), np.uint8)
        label = np.kron(patches, np.ones((SIZE[0] // 6, SIZE[1] // 8), np.uint8))
        Image.fromarray(label).save(folder / 'labels' / f'{name}.png')
        Image.fromarray(np.stack([60 * label, 255 - 60 * label, 30 * label], -1)).save(
            folder / 'images' / f'{name}.jpg')
    (folder / 'classes.txt').write_text(''.join(f'class_{i}\n' for i in range(CLASSES)))
    train, val = (round(count * SHARES[split]) for split in ('train', 'val'))
    for split, ids in (('train', names[:train]), ('val', names[train:train + val]),
                       ('test', names[train + val:])):
        (folder / 'splits' / f'{split}.txt').write_text(''.join(f'{name}\n' for name in ids))


def measure(scratch, count, gin_files=(), gin_params=()):
    """Folder, records, one step, scores; what was made is deleted.

    Args:
      scratch: a folder.
      count: images.
      gin_files, gin_params: of the training; `GIN` by default.

    Returns:
      dict: what was done -> `Cost`. 'train, to its first step' is a part of 'train, one step'.

    Raises:
      UserError: a command failed; names its log.
    """
    if count < 10:
        raise errors.UserError(f'images: {count} images make no data set; expected at least 10')
    place = pathlib.Path(scratch) / f'images_{count}'
    folder, records, run = (place / name for name in ('folder', 'records', 'run'))
    write_folder(folder, count)
    train = [*(f'--gin_file={name}' for name in gin_files or (GIN,)),
             *(f'--gin_param={text}' for text in gin_params), f'--data_dir={records}',
             f'--gin_param=stage_one.batch_size={BATCH}',
             f'--gin_param=stage_one.epochs={BATCH / round(count * SHARES["train"])}']
    found = {'prepare_data': _cost('prepare_data', [f'--source={folder}', f'--output={records}'],
                                   place / 'prepare_data.log', records)}
    began = time.time()
    whole = _cost('train', [*train, f'--workdir={run}'], place / 'train.log', run)
    found['train, to its first step'] = dataclasses.replace(
        whole, seconds=_first_step(run) - began, cpu=float('nan'), memory=float('nan'),
        disk=float('nan'))
    found['train, one step'] = whole
    found['evaluate'] = _cost('evaluate', [f'--checkpoint={run}', f'--data_dir={records}'],
                              place / 'evaluate.log', None)
    shutil.rmtree(place)
    return found


def _first_step(run):
    """time.time() at which the run's first step was taken."""
    for line in journal.Journal.read(run / 'metrics.jsonl'):
        if line['event'] == 'stage' and line['step'] == 1:
            return line['time']
    raise errors.UserError(f'{run}: took no step')


def _cost(tool, words, log, output):
    """Runs a tool; returns its `Cost`."""
    began = time.perf_counter()
    with open(log, 'wb') as file:
        process = subprocess.Popen([*sweeping.tool_command(tool), *words], stdout=file,
                                   stderr=file, stdin=subprocess.DEVNULL)
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            raise
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise errors.UserError(f'images: {tool} ended with exit code {process.returncode}; {log} '
                               'has what it said')
    scale = 2 ** 20 if sys.platform == 'darwin' else 2 ** 10
    return Cost(time.perf_counter() - began, usage.ru_utime + usage.ru_stime,
                usage.ru_maxrss / scale, growth.size(output) / 1e6 if output else 0.0)


def table(found):
    """tables.Table of {images: {what was done: Cost}}."""
    first = next(iter(found.values()))
    rows = []
    for what, unit, digits in (('seconds', 's', 1), ('cpu', 's of CPU', 1),
                               ('memory', 'MiB at most', 0), ('disk', 'MB on disk', 1)):
        for name in first:
            values = [getattr(costs[name], what) for costs in found.values()]
            if all(value > 0 for value in values):
                rows.append((name, unit, *(f'{value:.{digits}f}' for value in values),
                             f'{values[-1] / values[0]:.2f}'))
    header = ('', '', *(f'{count:,} images' for count in found), 'last ÷ first')
    return tables.plain_table(header, rows, f'images of {SIZE[0]}x{SIZE[1]}')
