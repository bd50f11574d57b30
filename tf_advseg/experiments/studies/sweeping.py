"""Cells of a sweep: settings and seeds, their folders, commands and what they found."""
import ast
import dataclasses
import inspect
import itertools
import pathlib
import re
import shlex
import sys

import gin

from tf_advseg.core import configuration
from tf_advseg.core import errors
from tf_advseg.core import files
from tf_advseg.core import run_directory
from tf_advseg.experiments.studies import finished_runs

RESULTS, REPORT = finished_runs.RESULTS, 'report.html'


@dataclasses.dataclass(frozen=True)
class Cell:
    """One run of a sweep.

    Attributes:
      settings: ((gin name, value as gin text), ...), one per grid axis.
      label: what the user calls it, of a cell that no grid made; '' for one that its settings name.
      gin_files: of this cell alone, a method's for one; those of the sweep override them.
      seed: of the run.
      folder: its run directory.
      columns: the models that its configuration asks for, once `check` has looked.
      control_from: the run directory of the first earlier cell of this seed that trains the same
        control (`shared_control.key`), once `check` has looked; None where there is none.
    """
    settings: tuple
    seed: int
    folder: pathlib.Path
    columns: tuple = ()
    control_from: object = None
    label: str = ''
    gin_files: tuple = ()

    @property
    def name(self):
        """The label, or the settings for a reader."""
        return self.label or ' '.join(f'{finished_runs.short_name(name)}={value}'
                                      for name, value in self.settings) or 'as given'

    @property
    def bindings(self):
        """gin bindings that make the cell, its seed left out."""
        return [f'{name} = {value}' for name, value in self.settings]

    @property
    def done(self):
        """Whether the run has finished: its report is there, with every model asked for.

        A run may have been made without its control (or with that alone); started again it makes
        what is missing.
        """
        if not all((self.folder / name).is_file() for name in (RESULTS, REPORT)):
            return False
        results = files.read_json(self.folder / RESULTS)
        with files.as_written(self.folder / RESULTS):
            if set(self.columns) <= set(results['models']):
                return True
        # LoAd's control takes as many propagations as LoAd took; after none there is none.
        state = self.folder / 'lookahead' / 'state.json'
        if not state.is_file():
            return False
        with files.as_written(state):
            return not files.read_json(state)['controller']['propagations']


def _split_values(text, separator=','):
    """Splits at the separators that stand in no bracket and no quotes."""
    values, depth, quote, start = [], 0, '', 0
    for place, sign in enumerate(text):
        if quote:
            quote = '' if sign == quote else quote
        elif sign in '"\'':
            quote = sign
        elif sign in '([{':
            depth += 1
        elif sign in ')]}':
            depth -= 1
        elif sign == separator and not depth:
            values.append(text[start:place])
            start = place + 1
    return [value.strip() for value in (*values, text[start:])]


def parse_axis(text):
    """('name', ('value', ...)) from 'name=value1,value2'; words that are no literals are quoted.

    Raises:
      UserError: no name, no value, or a value twice.
    """
    name, equals, rest = text.partition('=')
    values = _split_values(rest)
    if not equals or not name.strip() or '' in values:
        raise errors.UserError(f'--grid={text}: expected NAME=VALUE,VALUE,..., such as '
                               'lookahead.balance=0.5,1')
    if len(set(values)) != len(values):
        raise errors.UserError(f'--grid={text}: a value is given twice')
    return name.strip(), tuple(map(_as_gin, values))


def _as_gin(value):
    """A value as gin text: literals, references and macros as they are, other words quoted."""
    if value.startswith(('@', '%')):
        return value
    try:
        ast.literal_eval(value)
        return value
    except (ValueError, SyntaxError):
        return repr(value)


def parse_seeds(texts):
    """Whole numbers from ['0', '3-5', ...]: 0, 3, 4, 5.

    Raises:
      UserError: something else, or a seed twice.
    """
    seeds = []
    for text in texts:
        first, dash, last = (part.strip() for part in text.partition('-'))
        last = last if dash else first
        if not (first.isdigit() and last.isdigit() and int(first) <= int(last)):
            seeds = None
            break
        seeds += range(int(first), int(last) + 1)
    if not seeds:
        raise errors.UserError(f'--seeds={",".join(texts)}: expected whole numbers, such as 0,1,2 '
                               'or 0-9')
    if len(set(seeds)) != len(seeds):
        raise errors.UserError(f'--seeds={",".join(texts)}: a seed is given twice')
    return seeds


def parse_cell(text):
    """('name', ((gin name, value), ...), (gin file, ...)) from 'name: file.gin; binding; binding'.

    A name alone is a cell, too.

    Raises:
      UserError: no name, or something that is neither a gin file nor a binding.
    """
    name, colon, rest = text.partition(':')
    parts = [part for part in _split_values(rest, ';') if part]
    gin_files = tuple(part for part in parts if part.endswith('.gin') and '=' not in part)
    bindings = [part.partition('=') for part in parts if part not in gin_files]
    if not colon or not name.strip() or not all(
            key.strip() and value.strip() for key, _, value in bindings):
        raise errors.UserError(f"--cell={text}: expected NAME: BINDING; BINDING, such as shuffled: "
                               "lookahead.null='shuffled'; experiment.control=False; gin files may "
                               'stand before them')
    return (name.strip(), tuple((key.strip(), value.strip()) for key, _, value in bindings),
            gin_files)


def read_cells(path):
    """`parse_cell` of every line of a file; a line that begins with # and empty ones are none.

    Raises:
      UserError: no such file, no cell in it, or a line that is none.
    """
    found = []
    try:
        text = configuration.find_gin_file(path).read_text('utf-8')
    except (OSError, UnicodeDecodeError) as error:
        raise errors.UserError(f'{path}: cannot be read as text ({error})') from error
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith('#'):
            continue
        try:
            found.append(parse_cell(line.strip()))
        except errors.UserError as error:
            raise errors.UserError(f'{path}: line {number}: {error}') from None
    if not found:
        raise errors.UserError(f'{path}: no cell in it; expected lines such as '
                               '"Luc: methods/luc.gin; luc.adversarial_weight=1.0"')
    return found


def named_cells(workdir, named, seeds):
    """Cells that are no products of axes: each `parse_cell` with every seed.

    Args:
      workdir: the sweep's folder; a cell's is `<workdir>/<name>/seed<n>`.
      named: list of `parse_cell`.
      seeds: whole numbers.

    Returns:
      list of `Cell`, seeds innermost.

    Raises:
      UserError: a name given twice.
    """
    names = [name for name, _, _ in named]
    for name in names:
        if names.count(name) > 1:
            raise errors.UserError(f'--cell: {name} is given twice; give each cell its own name')
    return [Cell(settings, seed, pathlib.Path(workdir) / _plain(name) / f'seed{seed}', label=name,
                 gin_files=gin_files)
            for name, settings, gin_files in named for seed in seeds]


def make_cells(workdir, axes, seeds):
    """Every combination of the axes' values, each with every seed.

    Args:
      workdir: the sweep's folder; a cell's is `<workdir>/<settings>/seed<n>`.
      axes: list of `parse_axis`.
      seeds: whole numbers.

    Returns:
      list of `Cell`, seeds innermost.

    Raises:
      UserError: an axis given twice.
    """
    names = [name for name, _ in axes]
    for name in names:
        if names.count(name) > 1:
            raise errors.UserError(f'--grid: {name} is given twice; list its values in one')
    cells = []
    for values in itertools.product(*(values for _, values in axes)):
        settings = tuple(zip(names, values))
        folder = pathlib.Path(workdir) / _folder_name(settings)
        cells += [Cell(settings, seed, folder / f'seed{seed}') for seed in seeds]
    return cells


def _folder_name(settings):
    """A file name that says the settings."""
    text = ','.join(f'{finished_runs.short_name(name)}={value}' for name, value in settings)
    return _plain(text or 'as_given', ','.join(f'{name}={value}' for name, value in settings))


def _plain(text, whole=None):
    """A text as a file name; a digest of the whole keeps it unique where signs had to go."""
    plain = re.sub(r'[^\w.,=+-]+', '_', text)
    if plain == text and len(plain) <= 120:
        return plain
    import hashlib
    return f'{plain[:110]}-{hashlib.sha256((whole or text).encode()).hexdigest()[:6]}'


def check(cells, gin_files, gin_params, data_dir=None, checkpoint=None):
    """Parses every cell's configuration, so that a typo costs seconds; finished ones must agree.

    Returns:
      list of `Cell`: the same, with their columns.

    Raises:
      UserError: a name or value that gin does not take, or a finished run of another
        configuration, or of the other lane, in a cell's folder.
    """
    from tf_advseg.experiments.train import run_results
    from tf_advseg.experiments.train import shared_control
    from tf_advseg.experiments.train import training
    known, trained = [], {}
    for cell in cells:
        bindings = [f'experiment.seed = {cell.seed}',
                    *_path_bindings(data_dir, of_seed(checkpoint, cell.seed)),
                    *(of_seed(text, cell.seed) for text in gin_params), *cell.bindings]
        configuration.parse([*cell.gin_files, *gin_files], bindings)
        text, path = configuration.config_text(), cell.folder / 'config.gin'
        if path.is_file():
            changed = configuration.differences(configuration.read(path), text,
                                                training.MAY_CHANGE)
            if changed:
                raise errors.UserError(f'{cell.folder}: was made with another configuration: '
                                       f'{"; ".join(changed[:3])}; choose another --workdir')
            run_directory.require_lane(cell.folder)
        recipe = _recipe()
        cell = dataclasses.replace(cell, columns=_asked_for(recipe))
        if run_results.CONTROL in cell.columns and _shares_its_control(recipe):
            # Of the first cell of a seed that trains it, whichever its method.
            first = trained.setdefault((cell.seed, shared_control.key(text, recipe)), cell.folder)
            cell = dataclasses.replace(cell,
                                       control_from=None if first == cell.folder else first)
        known.append(cell)
    return known


def _recipe():
    """The recipe of the parsed configuration."""
    from tf_advseg.experiments import recipe_registry as recipes
    from tf_advseg.experiments.train import training
    return recipes.find(_given(training.experiment, 'method'))


def _given(configurable, name):
    """The value of a parameter that gin binds, or its default."""
    default = inspect.signature(configurable).parameters[name].default
    return gin.get_bindings(configurable).get(name, default)


def _shares_its_control(recipe):
    """Whether the control is the ordinary one, which other runs can take over."""
    return recipe.ordinary or recipe.control_steps() is not None


def _asked_for(recipe):
    """The columns of results.json that the parsed configuration makes a run fill."""
    from tf_advseg.experiments.train import run_results
    from tf_advseg.experiments.train import training
    if not recipe.trains:
        return ()
    alone = recipe.ordinary and gin.get_bindings(
        'adversarial_stage').get('only_control', False)
    control = alone or _given(training.experiment, 'control')
    return (*(() if alone else (recipe.title,)), *((run_results.CONTROL,) if control else ()))


def of_seed(text, seed):
    """A flag's value for a run: '{seed}' in it stands for the run's; None stays None."""
    return None if text is None else str(text).replace('{seed}', str(seed))


def _path_bindings(data_dir, checkpoint):
    given = (('data_dir', data_dir), ('checkpoint', checkpoint))
    return [f'experiment.{name} = {value!r}' for name, value in given if value is not None]


def train_command():
    """The words that start the training tool."""
    return tool_command('train')


def tool_command(name):
    """The words that start a tool, from a checkout or an installed package."""
    script = configuration.gin_root().parent / 'tools' / f'{name}.py'
    if script.is_file():
        return [sys.executable, str(script)]
    return [sys.executable, '-m', f'tf_advseg.tools.{name}']


def cell_command(cell, gin_files, gin_params, data_dir=None, checkpoint=None, strategy=None,
                 prefix=None):
    """The command line of a cell's run."""
    words = list(prefix or train_command())
    words += [f'--gin_file={name}' for name in (*cell.gin_files, *gin_files)]
    words += [f'--gin_param={text}' for text in (
        *(of_seed(text, cell.seed) for text in gin_params), *cell.bindings)]
    if cell.control_from is not None and (cell.control_from / 'config.gin').is_file():
        words.append(f'--gin_param=experiment.control_from = {str(cell.control_from)!r}')
    words += [f'--seed={cell.seed}', f'--workdir={cell.folder}']
    given = (('data_dir', data_dir), ('checkpoint', of_seed(checkpoint, cell.seed)),
             ('strategy', strategy))
    return words + [f'--{name}={value}' for name, value in given if value is not None]


def listing(cells, command):
    """Lines on a sweep's runs: of each cell the command of one seed, and its other seeds.

    Args:
      cells: from `check`.
      command: function of a `Cell`: its command line, a list of words.
    """
    groups = {}
    for cell in cells:
        groups.setdefault((cell.name, cell.done), []).append(cell)
    lines = []
    for (_, done), (first, *others) in groups.items():
        lines.append(f'{"done   " if done else "to run "} {shlex.join(command(first))}')
        if others:
            seeds = ', '.join(str(cell.seed) for cell in others)
            lines.append(f'        and the same with seed{"s" if len(others) > 1 else ""} {seeds}')
    return lines


def collect(cells):
    """What the runs that are done found.

    Returns:
      {cell name: {seed: `finished_runs.of_run`}} in grid order.
    """
    found = {}
    for cell in cells:
        runs = found.setdefault(cell.name, {})
        if cell.done:
            runs[cell.seed] = finished_runs.of_run(cell.folder)
    return found
