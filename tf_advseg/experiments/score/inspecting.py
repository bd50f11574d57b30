"""A run directory as text, running or finished: what tools/inspect_run.py prints. No TensorFlow."""
import contextlib
import time

from tf_advseg.core import configuration
from tf_advseg.core import errors
from tf_advseg.core import files
from tf_advseg.core import journal as journals
from tf_advseg.core import locks
from tf_advseg.core import run_directory
from tf_advseg.reporting.pages import report as reports

# The two loops a run may have: heading, folder of their state, folder of their journal.
LOOPS = (('LoAd', 'lookahead', ''), ('control', 'control', 'control'))
MODEL = 'model.json'  # a segmentor has one, other networks kept beside it have not
_TIMES = ('event', 'time')


def megabytes(count):
    """Bytes for a reader: '12.3 MB'."""
    return f'{count / 1e6:.1f} MB'


def holder(workdir):
    """The process that runs in a run directory: its id, 0 if it is unknown, None if there is none."""
    return locks.holder(run_directory.RunDirectory(workdir).lock_path)


def event_line(entry):
    """One journal entry on one line: clock time, event, its fields in the order written."""
    clock = time.strftime('%m-%d %H:%M:%S', time.localtime(entry.get('time', 0)))
    fields = ' '.join(f'{name}={_value(value)}' for name, value in entry.items()
                      if name not in _TIMES)
    return f'{clock}  {entry.get("event", "?"):<10} {fields}'.rstrip()


def _value(value):
    if isinstance(value, float):
        return f'{value:.5g}'
    if isinstance(value, list):
        return '[' + ' '.join(map(_value, value)) + ']'
    if isinstance(value, dict):
        return '{' + ', '.join(f'{k} {_value(v)}' for k, v in value.items()) + '}'
    return str(value)


class Inspection:
    """Reads a run directory and says what is there; damage is collected, not raised.

    Args:
      workdir: the run directory.
      checksums: compare every file's checksum; False compares sizes.

    Attributes:
      damaged: one line for each damaged or missing thing, once `lines` has run.

    Raises:
      UserError: it is no run directory.
    """

    def __init__(self, workdir, checksums=True):
        self.run = run_directory.RunDirectory(workdir).require()
        self.damaged = []
        self.running = holder(self.run.path)
        self._checksums = checksums

    def lines(self):
        """Yields the lines to print."""
        yield f'run: {self.run.path}'
        if self.running is None:
            yield 'process: none is running in it'
        else:
            yield f'process: {self.running or "unknown"} is running in it'
        yield from self._environment()
        yield from self._stages()
        for name, folder, journal in LOOPS:
            if (self.run.path / folder / 'state.json').exists():
                yield from self._loop(name, self.run.path / folder, self.run.path / journal)
        yield from self._checkpoints()
        yield from self._records()
        yield from self._results()
        yield ''
        yield from self._journals()
        if self.damaged:
            yield ''
            yield 'damaged:'
            yield from (f'  {line}' for line in self.damaged)

    @contextlib.contextmanager
    def _collecting(self, path):
        """Notes what is wrong with a file and goes on."""
        try:
            yield
        except errors.UserError as error:
            self.damaged.append(str(error))
        except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError,
                OSError) as error:  # of a name or a time that no system has
            self.damaged.append(f'{path}: does not hold what it should '
                                f'({type(error).__name__}: {error})')

    def _environment(self):
        with self._collecting(self.run.environment_path):
            content = files.read_json(self.run.environment_path)
            starts = 1 + len(content.get('earlier_starts', []))
            yield (f'made with: tf_advseg {content["tf_advseg"]}, Python {content["python"]}, '
                   f'TensorFlow {content["packages"]["tensorflow"]}; {starts} '
                   f'start{"s" if starts > 1 else ""}')
            yield f'command: {" ".join(content["argv"])}'
        with self._collecting(self.run.config_path):
            configuration.read(self.run.config_path)

    def _stages(self):
        for folder in sorted(path for path in self.run.stages.glob('*') if path.is_dir()):
            with self._collecting(folder):
                if (folder / 'done.json').exists():
                    result = files.read_json(folder / 'done.json')['result']
                    yield f'stage {folder.name}: done, {_value(result)[1:-1]}'
                    continue
                state = (files.read_json(folder / 'state.json')
                         if (folder / 'state.json').exists() else {'state': None})
                if state['state'] is None:  # a stage notes its beginning before it has weights
                    yield f'stage {folder.name}: begun, nothing saved yet'
                    continue
                yield f'stage {folder.name}: step {state["step"]}, not done'
                path = folder / state['state']
                self._check(path, lambda path=path: self._still_named(path.parent, path))

    def _loop(self, name, folder, journal_folder):
        """One loop's state, buffer, snapshots and seconds."""
        with self._collecting(folder / 'state.json'):
            state = files.read_json(folder / 'state.json')
            run, controller = state['run'], state['controller']
            yield ''
            yield (f'{name}: phase {run["phase"]}, {controller["cycles"]} cycles, '
                   f'{controller["propagations"]} propagations, budget step '
                   f'{run["budget_step"]}, {run["retrains"]} retrainings')
            yield (f'  mIoU on the hold-out: start {100 * controller["mu_initial"]:.2f}, best '
                   f'{100 * controller["mu_best"]:.2f} (g{controller["peak_index"]}), highest '
                   f'{100 * controller["highest"]:.2f}')
            yield (f'  counters: gamma {controller["gamma"]}, omega {controller["omega"]}, psi '
                   f'{controller["psi"]}; adversarial weight '
                   f'{run["adversarial_weight"]:.4g}; non-finite losses '
                   f'{run["non_finite"]}')
            self._check_length(journal_folder / 'journal.jsonl', state['journal'])
            self._check_length(journal_folder / 'metrics.jsonl', state['metrics'])
            yield from self._buffer(folder, state)
            yield from self._snapshots(folder, state)
            yield from self._seconds(state['seconds'])

    def _buffer(self, folder, state):
        if not state.get('buffer'):
            return
        buffer = state['buffer']
        total = files.folder_bytes(folder / 'buffer')
        yield f'  buffer: {len(buffer["slots"])} slots of {buffer["kind"]} maps, {megabytes(total)}'
        for place, slot in enumerate(buffer['slots']):
            path = folder / 'buffer' / slot['folder']
            manifest = self._check(path, lambda path=path: self._still_named(folder, path))
            if manifest is not None:
                parts = ', '.join(f'{part} {n}' for part, n in manifest['parts'].items())
                yield (f'    B[{place}] {slot["label"]:<5} {slot["role"]:<7} '
                       f'{megabytes(files.folder_bytes(path))}, {manifest["num_maps"]} maps '
                       f'({parts})')

    def _snapshots(self, folder, state):
        roles = {}
        for role, name in state['snapshots']['roles'].items():
            roles.setdefault(name, []).append(role)
        total = files.folder_bytes(folder / 'snapshots')
        yield f'  snapshots: {len(roles)}, {megabytes(total)}'
        for name, its in sorted(roles.items()):
            path = folder / 'snapshots' / name
            if self._check(path, lambda path=path: self._still_named(folder, path)) is not None:
                yield f'    {name} {megabytes(files.folder_bytes(path)):>9}  {", ".join(its)}'

    def _seconds(self, seconds):
        total = sum(seconds.values())
        yield f'  seconds: {total:.0f} in all'
        for name, value in sorted(seconds.items(), key=lambda item: -item[1]):
            share = 100 * value / total if total else 0.0
            yield f'    {name:<24} {value:9.1f}  {share:5.1f} %'

    def _checkpoints(self):
        folders = sorted(path for path in self.run.checkpoints.glob('*') if path.is_dir()
                         and not path.name.startswith(files.TEMPORARY))
        if folders:
            yield ''
            yield 'checkpoints:'
        for folder in folders:
            others = [path for path in folder.glob('*.json')
                      if path.name not in (MODEL, files.MANIFEST)]
            if others and not (folder / MODEL).is_file():
                yield from self._other_network(folder, others[0])
                continue
            with self._collecting(folder / MODEL):
                content = files.read_json(folder / 'model.json')
                self._check(folder / 'weights')
                miou = content.get('holdout_miou')
                score = '' if miou is None else f'  hold-out mIoU {100 * miou:.2f}'
                yield (f'  {folder.name:<8} {megabytes(files.folder_bytes(folder)):>9}  '
                       f'{content.get("label", "")}{score}')

    def _other_network(self, folder, description):
        """A network that is no segmentor, such as a GAN: what its description says of itself."""
        with self._collecting(description):
            content = files.read_json(description)
            self._check(folder / 'weights')
            taken = content.get('taken_from')
            yield (f'  {folder.name:<8} {megabytes(files.folder_bytes(folder)):>9}  '
                   f'{content.get("format", "a network")}, {content["steps"]} steps'
                   + (f', taken over from {taken}' if taken else ''))

    def _records(self):
        folder = self.run.path / 'records'
        if folder.is_dir():
            manifest = self._check(folder)
            if manifest is not None:
                with self._collecting(folder / files.MANIFEST):
                    parts = ', '.join(f'{k} {v}' for k, v in manifest['splits'].items())
                    yield f'records: {parts}, {megabytes(files.folder_bytes(folder))}'

    def _results(self):
        path = self.run.path / 'results.json'
        if not path.is_file():
            yield 'results: none yet'
            return
        with self._collecting(path):
            for name, scores in files.read_json(path)['models'].items():
                text = ', '.join(f'{split} {100 * score["miou"]:.2f}'
                                 for split, score in scores.items())
                yield f'results: {name}: mIoU {text}'
            seconds = files.read_json(path).get('seconds', {})
            yield 'time: ' + ', '.join(f'{name} {reports.duration(value)}'
                                       for name, value in seconds.items())

    def _journals(self):
        for name, _, folder in LOOPS:
            path = self.run.path / folder / 'journal.jsonl'
            if not path.is_file():
                continue
            with self._collecting(path):
                entries = journals.Journal.read(path)
                yield f'journal of {name}: {len(entries)} events'
                for entry in entries:
                    yield f'  {event_line(entry)}'

    def _check(self, folder, still_wanted=lambda: True):
        """The manifest of a folder, or None if it is damaged (noted) or rightly gone."""
        try:
            return files.check_manifest(folder, checksums=self._checksums)
        except errors.UserError as error:
            # A running process replaces slots and snapshots while we read.
            if still_wanted():
                self.damaged.append(str(error))
            return None
        except FileNotFoundError:
            if still_wanted():
                self.damaged.append(f'{folder}: a file in it has gone')
            return None

    def _still_named(self, folder, path):
        """Whether the newest state still names a slot or snapshot."""
        if self.running is None:
            return True
        text = (folder / 'state.json').read_text(encoding='utf-8')
        return f'"{path.name}"' in text

    def _check_length(self, path, position):
        """Notes a journal that is shorter than the state says: lines are lost."""
        length = path.stat().st_size if path.is_file() else 0
        if length < position:
            self.damaged.append(f'{path}: has {length} bytes, the state says at least {position}; '
                                'the file was cut or replaced')
