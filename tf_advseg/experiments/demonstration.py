"""The demo: one command from nothing to a report, with one bar and the time left throughout."""
import contextlib
import io
import os
import pathlib
import sys
import threading

import numpy as np
from PIL import Image

from tf_advseg.core import configuration
from tf_advseg.core import errors
from tf_advseg.core import files
from tf_advseg.core import journal as journals
from tf_advseg.core import progress
from tf_advseg.core import run_directory
from tf_advseg.data import records as record_sets
from tf_advseg.experiments import outcome
from tf_advseg.experiments import training
from tf_advseg.reporting import panels
from tf_advseg.reporting import tables

EXAMPLE = 'example'
EXAMPLE_PICTURES = 20
# What parts of a demo cost beside each other, in seconds on two cores: only the ratios count.
# 'start', 'load' and 'control' are what TensorFlow compiles; 'item' is one map or truth that the
# discriminator trains on.
COSTS = {'start': 18.0, 'stage': 0.11, 'load': 20.0, 'item': 0.009, 'map': 0.008,
         'propagation': 0.35, 'control': 5.0, 'scores': 15.0}


def _setting(settings, name, default):
    return next((value for full, value in settings.items()
                 if full == name or full.endswith('.' + name)), default)


class Overview:
    """How far a run directory is, between 0 and 1, read from its journals while it is written.

    Args:
      workdir: the run directory.
      config: its gin text.
      num_train: training pictures.
    """

    def __init__(self, workdir, config, num_train):
        self._path = pathlib.Path(workdir)
        settings = configuration.bindings(config)
        epochs = (_setting(settings, 'stage_one.epochs', 8)
                  + _setting(settings, 'stage_one.weighted_epochs', 4))
        self._steps = round(epochs * num_train / _setting(settings, 'stage_one.batch_size', 7))
        self._patience = _setting(settings, 'controller.patience', 50)
        self._epochs = _setting(settings, 'lookahead.max_epochs', 20)
        slots = _setting(settings, 'map_buffer.capacity', 3)
        cycles = _setting(settings, 'controller.max_total_cycles', 3) or 3
        # The truth and a map set for every slot; the buffer grows by one slot a cycle at first.
        self._epoch_cost = [COSTS['item'] * num_train * (1 + min(cycle + 1, slots))
                            for cycle in range(cycles)]
        self._map_cost = COSTS['map'] * num_train
        cycle_costs = [self._cycle_cost(cycle) for cycle in range(cycles)]
        self._before_cycle = [sum(cycle_costs[:cycle]) for cycle in range(cycles + 1)]
        self._control = cycles * self._patience * COSTS['propagation']
        self._stage = COSTS['start'] + self._steps * COSTS['stage']
        self._load = self._stage + COSTS['load'] + self._before_cycle[-1]
        self._total = self._load + COSTS['control'] + self._control + COSTS['scores']

    def _cycle_cost(self, cycle):
        return (self._map_cost + self._epochs * self._epoch_cost[cycle]
                + self._patience * COSTS['propagation'])

    def look(self):
        """(fraction done, what is being done) as the files have it now."""
        done, text = self._look()
        return min(1.0, done / self._total), text

    def _look(self):
        metrics = self._read('metrics.jsonl')
        steps = max([m['step'] for m in metrics if m.get('event') == 'stage'], default=0)
        events = [e for e in self._read('journal.jsonl') if e.get('event') != 'resume']
        if not events:
            done = COSTS['start'] * bool(steps) + min(steps, self._steps) * COSTS['stage']
            return done, f'Stage 1, step {steps}/{self._steps}'
        if events[-1]['event'] != 'finished':
            cycles = len(self._epoch_cost)
            cycle = min(sum(e['event'] == 'end' for e in events), cycles)
            text = f'LoAd, cycle {min(cycle + 1, cycles)}/{cycles}'
            within = (self._within_cycle(metrics, events, cycle) if cycle < cycles
                      else COSTS['load'])
            return self._stage + self._before_cycle[cycle] + within, text
        total = max(1, events[-1]['propagations'])
        spent = sum(m.get('event') == 'propagation' for m in self._read('control/metrics.jsonl'))
        if not spent:
            return self._load, 'control'
        done = self._load + COSTS['control'] + min(1.0, spent / total) * self._control
        return done, f'control, {spent}/{total}' if spent < total else 'scores and report'

    def _within_cycle(self, metrics, events, cycle):
        """Seconds' worth of what the cycle under way has done."""
        def count(event):
            return sum(m.get('event') == event and m.get('cycle') == cycle for m in metrics)

        epochs, spent = min(count('discriminator'), self._epochs), count('propagation')
        if spent or any(e['event'] == 'retrain' and e.get('cycle') == cycle for e in events):
            epochs = self._epochs
        done = (self._map_cost * bool(epochs) + epochs * self._epoch_cost[cycle]
                + min(spent, self._patience) * COSTS['propagation'])
        # TensorFlow compiles LoAd's steps within the first cycle.
        return done + COSTS['load'] * bool(cycle or spent)

    def _read(self, name):
        path = self._path / name
        try:
            return journals.Journal.read(path) if path.exists() else []
        except errors.UserError:  # cut back while we read: the next look will do
            return []


class _Above:
    """A stdout that first clears the bar's line where both share a terminal."""

    def __init__(self, stream, shared):
        self._stream = stream
        self._shared = shared

    def write(self, text):
        """Writes; a bar comes again below with its next update."""
        if self._shared and text.strip():
            self._stream.write('\r\x1b[K')
        return self._stream.write(text)

    def flush(self):
        """Flushes."""
        self._stream.flush()


@contextlib.contextmanager
def one_bar(overview, show=True, every=1.0):
    """Shows one bar for a whole run in place of the bars of its parts.

    What else is written to stderr meanwhile is held back, and shown if the block fails.

    Args:
      overview: `Overview`.
      show: False shows nothing and holds nothing back.
      every: seconds between looks.
    """
    if not show:
        yield
        return
    stderr, held, stop = sys.stderr, io.StringIO(), threading.Event()
    begun = 100.0 * overview.look()[0]

    def watch(bar):
        while True:
            fraction, text = overview.look()
            # A run that goes on counts from where it was, or the time left would be told too low.
            bar.update(max(0, int(100.0 * fraction - begun) - bar.done), now=text)
            if stop.wait(every):
                return

    bar = progress.Progress(max(1, round(100 - begun)), 'demo, percent', stream=stderr)
    thread = threading.Thread(target=watch, args=(bar,), daemon=True)
    thread.start()
    try:
        shared = stderr.isatty() and sys.stdout.isatty()
        with contextlib.redirect_stdout(_Above(sys.stdout, shared)), \
                contextlib.redirect_stderr(held):
            yield
    except Exception as error:
        if not isinstance(error, errors.UserError):
            stderr.write(held.getvalue())
        raise
    finally:
        stop.set()
        thread.join()
        bar.close()


def write_example(records, folder, count=EXAMPLE_PICTURES):
    """Writes a few pictures as anybody's own data would lie: images/, labels/, classes.txt.

    Args:
      records: RecordSet.
      folder: made if absent; whole or not there.
      count: how many, from the front of the training split.
    """
    folder = pathlib.Path(folder)
    if folder.exists():
        return
    with files.atomic_folder(folder) as temporary:
        for name in ('images', 'labels'):
            (temporary / name).mkdir()
        (temporary / 'classes.txt').write_text('\n'.join(records.spec.class_names) + '\n', 'utf-8')
        for image_id in records.split('train')[:count]:
            image, label = records.load(image_id)
            Image.fromarray(image).save(temporary / 'images' / f'{image_id}.jpg', quality=95)
            panels.write_palette_png(temporary / 'labels' / f'{image_id}.png', np.asarray(label),
                                     records.spec.palette)


def run(workdir, gin_file, bindings, strategy, show=True):
    """Runs the demo, goes on with one that was stopped, or takes up a finished one.

    Args:
      workdir: the run directory.
      gin_file: demo.gin or demo_smallest.gin.
      bindings: gin bindings over it.
      strategy: tf.distribute.Strategy.
      show: whether to show progress.

    Returns:
      (results as in results.json, True if it had been done before).
    """
    configuration.parse([gin_file], bindings)
    config = configuration.config_text()
    path = pathlib.Path(workdir).expanduser()
    if (path / 'report.html').is_file() and (path / training.RESULTS).is_file():
        with run_directory.RunDirectory(path).open(config, may_change=training.MAY_CHANGE):
            return files.read_json(path / training.RESULTS), True
    options = _setting(configuration.bindings(config), 'dataset.options', {})
    with one_bar(Overview(path, config, options.get('num_train', 400)), show):
        results = training.experiment(workdir=path, strategy=strategy)
        write_example(record_sets.RecordSet(path / 'records', verify=False), path / EXAMPLE)
    return results, False


def _shown(path):
    """A path relative to where we are, if it lies below; quoted if it has to be."""
    import shlex
    path = pathlib.Path(os.path.abspath(os.path.expanduser(path)))
    try:
        return shlex.quote(str(path.relative_to(pathlib.Path.cwd())))
    except ValueError:
        return shlex.quote(str(path))


def _tool(name):
    """How a tool is started here: from a checkout, or an installed package."""
    script = configuration.gin_root().parent / 'tools' / f'{name}.py'
    if script.is_file():
        return f'{_shown(sys.executable)} {_shown(script)}'
    return f'tf-advseg-{name.replace("_", "-")}'


def next_commands(workdir):
    """Lines to try next; they work as they stand, with the example folder for one's own."""
    run = _shown(workdir)
    example = f'{run}/{EXAMPLE}'
    predicted, records, own = 'runs/predicted', 'runs/my_records', 'runs/mine'
    return [
        '# what happened, as text',
        f'{_tool("inspect_run")} --workdir={run}',
        '# class maps of pictures: a file or a folder',
        f'{_tool("predict")} --checkpoint={run} --input={example}/images --output={predicted}',
        f'# your own data: put images/*.jpg and labels/*.png in a folder like {example}, then',
        f'{_tool("prepare_data")} --source={example} --output={records}',
        f'{_tool("train")} --gin_file=gin/own_data.gin --data_dir={records} --workdir={own} '
        '--gin_param=experiment.crop_size=97',
        f'{_tool("evaluate")} --checkpoint={own}',
    ]


def print_outcome(results, workdir, done_before):
    """Prints the table, where the report is, and what to try next."""
    if done_before:
        print(f'{workdir}: this demo is done; remove the folder to run it again')
    counts = results['pictures']
    print(f'\nchosen by {counts["holdout"]} hold-out pictures: ' + ', '.join(
        f'{name} {100 * splits["holdout"]["miou"]:.2f}'
        for name, splits in results['models'].items()) + ' % mIoU')
    print(f'\n{tables.to_text(outcome.table(results, "test"))}')
    print(f'\nThe {counts["test"]} test pictures chose nothing. A difference of a point or two is '
          'within luck here:\nthe demo shows the machinery, not the method\'s worth.')
    print(f'\nreport: {_shown(workdir)}/report.html\n\nNext:')
    for line in next_commands(workdir):
        print(f'  {line}')
