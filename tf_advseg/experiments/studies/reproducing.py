"""Tables and figures of the papers: what they need, what is run, ours beside the printed."""
import dataclasses
import os
import pathlib
import shlex
import statistics
import subprocess
import sys
from typing import Mapping

from tf_advseg.core import configuration
from tf_advseg.core import errors
from tf_advseg.core import files
from tf_advseg.experiments.studies.papers import entry as entries
from tf_advseg.experiments.studies.papers import found_numbers
from tf_advseg.experiments.studies.papers import needs
from tf_advseg.reporting import curves
from tf_advseg.reporting import printed_numbers
from tf_advseg.reporting import tables

WAYS = {'paper': "on the paper's data", 'here': 'in its place'}
_OURS = {'paper': WAYS['paper'], 'here': "on what stands in the place of the paper's data"}
FLAGS = {'data': 'data_dir', 'weights': 'checkpoint'}
_PATIENCE = 3  # seconds that an interrupted tool has before it is told to end
_WIDE = 6  # more columns than these stand as rows


@dataclasses.dataclass(frozen=True)
class Place:
    """Where things are on this machine.

    Attributes:
      work: folder of all runs.
      given: {(kind, name): path}: what the user has.
      gin_files: the user's, which every training reads after the paper's: a trial of few steps.
    """
    work: str
    given: Mapping = dataclasses.field(default_factory=dict)
    gin_files: tuple = ()

    @property
    def about(self):
        """' with my.gin': what to say of runs that are not as the paper's files have them."""
        return f' with {", ".join(self.gin_files)}' if self.gin_files else ''

    def of(self, kind, name):
        """The path of a data set or of weights; None where it is not at hand."""
        if (kind, name) in self.given:
            return self.given[kind, name]
        need = needs.NEEDS[kind][name]
        found = (folder / need.shared for folder in _shared_folders()) if need.shared else ()
        return next((str(path) for path in found if path.is_file()), None)

    def missing(self, way):
        """[(kind, name)]: what a `Way` needs and is not at hand."""
        return self.lacking(way.needs())

    def lacking(self, wanted):
        """Those of [(kind, name)] that are not at hand."""
        return [(kind, name) for kind, name in wanted
                if not needs.NEEDS[kind][name].generated and self.of(kind, name) is None]


def _shared_folders():
    """Where third-party files may lie: a folder `shared` beside the clone, as the recipes say."""
    told = os.environ.get('TF_ADVSEG_SHARED')
    beside = (pathlib.Path('../shared'), configuration.gin_root().parent.parent / 'shared')
    return [pathlib.Path(os.path.abspath(folder)) for folder in ((told,) if told else beside)]


def paths(kind, text, names=()):
    """{(kind, name): path} of --data_dir and --checkpoint.

    Args:
      kind: 'data' or 'weights'.
      text: a path, or NAME=PATH,NAME=PATH; None is nothing.
      names: of what is needed; a bare path is that of the only one.

    Raises:
      UserError: no file or folder is there, or nobody knows what it is.
    """
    if text is None:
        return {}
    flag, known = FLAGS[kind], needs.NEEDS[kind]
    pairs = [part.partition('=') for part in text.split(',')]
    if all(equals and name in known for name, equals, _ in pairs):
        found = {name: path for name, _, path in pairs}
    elif len(names) == 1:
        found = {names[0]: text}
    else:
        wanted = f'this needs {", ".join(names)}' if names else 'name what it is'
        example = ','.join(f'{name}=PATH' for name in names or list(known)[:1])
        raise errors.UserError(f'--{flag}={text}: {wanted}; write --{flag}={example}')
    for name, path in found.items():
        if not path.startswith('zoo:') and not pathlib.Path(path).expanduser().exists():
            raise errors.UserError(f'--{flag}={path}: there is no such file or folder ({name})')
    return {(kind, name): path if path.startswith('zoo:')
            else str(pathlib.Path(path).expanduser().absolute()) for name, path in found.items()}


def choose(entry, on=None, data_dir=None, checkpoint=None, work='runs/reproduce', gin_files=()):
    """(name of the way, `Way`, `Place`); (None, None, Place) of an entry that cannot be made.

    Without `on` it is the paper's data where all is at hand, else what stands in its place.

    Args:
      entry: `papers.entry.Entry`.
      on: 'paper', 'here' or None.
      data_dir, checkpoint, work, gin_files: of the flags.

    Raises:
      UserError: there is no such way; a path that is not there, or for which of two data sets.
    """
    ways = entry.ways()
    work = str(pathlib.Path(work).expanduser().absolute())
    if on is not None and on not in ways:
        raise errors.UserError(f'--on={on}: {entry.why or "there is no such way"}')
    if not ways:
        return None, None, Place(work)
    texts = {'data': data_dir, 'weights': checkpoint}
    candidates = {on: ways[on]} if on else ways
    for kind, text in texts.items():
        if text is not None and '=' not in text and len(candidates) > 1:
            asked = [_names(way, kind) for way in candidates.values()]
            if asked[0] != asked[1]:
                said = ' or '.join(f'--on={name} ({", ".join(names) or "none"})'
                                   for name, names in zip(candidates, asked))
                raise errors.UserError(f'--{FLAGS[kind]}={text}: for which? Add {said}')
    places = {name: Place(work, {key: path for kind, text in texts.items()
                                 for key, path in paths(kind, text, _names(way, kind)).items()},
                          tuple(gin_files))
              for name, way in candidates.items()}
    ready = [name for name, way in candidates.items() if not places[name].missing(way)]
    name = ready[0] if ready else list(candidates)[-1]
    return name, candidates[name], places[name]


def _names(way, kind):
    return [name for found, name in way.needs() if found == kind]


def commands(way, place):
    """[[tool, word, ...]] with paths; what is not at hand stands in capitals."""
    def filled(word):
        word = word.replace(entries.WORK, place.work)
        return entries.PLACE.sub(lambda match: place.of(*match.groups())
                                 or match.group(2).upper(), word)
    more = [f'--gin_file={name}' for name in place.gin_files]
    return [[filled(word) for word in words] + (more if words[0] in ('train', 'sweep') else [])
            for words in way.words()]


def needs_of_commands(way, place):
    """[[(kind, name)]]: what each command of a way needs and is not at hand."""
    return [place.lacking(dict.fromkeys(entries.PLACE.findall(command)))
            for command in way.commands]


def shown(words):
    """A command as one types it."""
    return ' '.join(map(_quoted, ('python', f'tools/{words[0]}.py', *words[1:])))


def _quoted(word):
    """A word for a shell, its value in double quotes where it has quotes or spaces."""
    flag, equals, value = word.partition('=')
    if shlex.quote(word) == word or not equals or set('"$`\\!') & set(value):
        return shlex.quote(word)
    return f'{flag}="{value}"'


def run(way, place, say=print):
    """Runs a way's commands one after another; each goes on where it was stopped.

    Raises:
      UserError: something is missing, or a command failed: those after it are not begun.
    """
    missing = place.missing(way)
    if missing:
        raise errors.UserError('not at hand: ' + '; '.join(
            f'{name} (--{FLAGS[kind]}; {needs.NEEDS[kind][name].get})' for kind, name in missing))
    todo = commands(way, place)
    pathlib.Path(place.work).mkdir(parents=True, exist_ok=True)
    for number, words in enumerate(todo, 1):
        say(f'[{number}/{len(todo)}] {shown(words)}')
        code = _call([*_program(words[0]), *words[1:]])
        if code:
            raise errors.UserError(f'command {number} of {len(todo)} ({words[0]}) ended with exit '
                                   f'code {code}; what it said stands above. The same command '
                                   'goes on there')


def _call(words):
    """Exit code of a process; an interrupt ends it, too, and what it has started itself.

    subprocess.run would kill a sweep, whose own run would then go on alone.
    """
    with subprocess.Popen(words) as process:
        try:
            return process.wait()
        except KeyboardInterrupt:
            try:
                process.wait(_PATIENCE)  # Ctrl-C in a terminal has reached it as well
            except subprocess.TimeoutExpired:
                process.terminate()
                process.wait()
            raise


def _program(tool):
    """The words that start a tool, from a checkout or an installed package."""
    script = configuration.gin_root().parent / 'tools' / f'{tool}.py'
    return ([sys.executable, str(script)] if script.is_file()
            else [sys.executable, '-m', f'tf_advseg.tools.{tool}'])


def collect(entry, way, place):
    """The paper's numbers and ours.

    Returns:
      {label: (a number of each column or None where none is printed, a list of our runs' numbers of
      each column or None where the way has no such row)}, percent. Labels that are ours alone come
      last.
    """
    printed, ours = dict(entry.numbers), {}
    for label, sources in way.rows if way is not None else ():
        sources = sources * (len(entry.columns) if len(sources) == 1 else 1)
        ours[label] = [found_numbers.values(source, measure, place.work)
                       for source, measure in zip(sources, entry.measures)]
    return {label: (printed.get(label), ours.get(label)) for label in {**printed, **ours}}


def any_of_ours(entry, way, place):
    """Whether a number or a file of a way is there already."""
    return bool(made_files(way, place)) or any(
        ours and any(ours) for _, ours in collect(entry, way, place).values())


def comparison(entry, name, way, place):
    """`tables.Table`: the paper's numbers, marked so, and ours; None where there are neither.

    Ours are means over runs with their standard deviation, in percent.
    """
    found, columns = collect(entry, way, place), entry.columns
    if not found or not columns:
        return None
    digits = max([len(repr(value).split('.')[1]) for _, values in entry.numbers
                  for value in values if isinstance(value, float)], default=0)
    rows = []
    for label, (printed, ours) in found.items():
        if printed is not None:
            rows.append((f"{label} (the paper's)", *(_printed(value, digits)
                                                     for value in printed)))
        if ours is not None:
            rows.append((f'{label} (here)', *map(_summary, ours)))
    title = f'{entry.kind} {entry.number}, percent' + (
        f'; ours {_OURS[name]}{place.about}' if name is not None and way.rows else '')
    header = ('', *columns)
    if len(columns) > _WIDE:
        header, *rows = zip(header, *rows)
    return tables.plain_table(header, rows, title)


def chart(entry, name, way, place):
    """matplotlib Figure: that of the way, else ours and the paper's numbers, a panel a column.

    Raises:
      UserError: too many columns, or nothing to draw.
    """
    label = f'--chart: {entry.kind} {entry.number}'
    if way is not None and way.chart is not None:
        drawn = way.chart.figure(place.work)
        if drawn is None:
            raise errors.UserError(f'{label} has nothing to draw yet; add --run')
        return drawn
    if len(entry.columns) > _WIDE:
        raise errors.UserError(f'{label} has {len(entry.columns)} columns, which no chart shows; '
                               'take the table')
    found = collect(entry, way, place)
    parts = [(title, [(label, printed and printed[column], ours[column] if ours else [])
                      for label, (printed, ours) in found.items()])
             for column, title in enumerate(entry.columns)]
    parts = [(title, rows) for title, rows in parts
             if any(value is not None or values for _, value, values in rows)]
    if not parts:
        raise errors.UserError(f'{label} has nothing to draw yet; add --run')
    return printed_numbers.figure(parts, _OURS.get(name, '') + place.about)


def chart_table(way, place):
    """tables.Table of what the way's chart shows of runs; None where there is none."""
    return way.chart.table(place.work) if way is not None and way.chart is not None else None


def write_chart(entry, name, way, place, path=None):
    """Writes what `chart` draws as a PNG.

    Args:
      entry, name, way, place: see `chart`.
      path: the file; None for that of a way which has a chart of its own, below the work folder,
        and then nothing to draw is no error.

    Returns:
      The path; None where nothing was written.

    Raises:
      UserError: see `chart`; the file cannot be written.
    """
    if path is None and (way is None or way.chart is None or way.chart.figure(place.work) is None):
        return None
    drawn = chart(entry, name, way, place)
    path = path or str(pathlib.Path(place.work, way.chart.file))
    with files.atomic_file(path) as file:
        file.write(curves.encode(drawn))
    return path


def _printed(value, digits):
    if value is None:
        return tables.MISSING
    return str(value) if isinstance(value, int) else f'{value:.{digits}f}'


def _summary(values):
    """'66.55 ± 0.78 (3 runs)'."""
    if not values:
        return tables.MISSING
    if len(values) == 1:
        return f'{values[0]:.2f} (1 run)'
    return f'{statistics.mean(values):.2f} ± {statistics.stdev(values):.2f} ({len(values)} runs)'


def made_files(way, place):
    """Paths of a figure's files that are there."""
    return [str(path) for pattern in way.files
            for path in sorted(pathlib.Path(place.work).glob(pattern))]
