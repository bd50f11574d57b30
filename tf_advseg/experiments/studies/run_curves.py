"""The hold-out's mIoU over the steps of several runs, finished or under way, for one chart."""
import pathlib
import re
import statistics
from typing import NamedTuple

from tf_advseg.core import errors
from tf_advseg.core import files
from tf_advseg.core import journal
from tf_advseg.core import run_directory
from tf_advseg.experiments.studies import finished_runs
from tf_advseg.reporting import curves
from tf_advseg.reporting import learning_curves
from tf_advseg.reporting import tables

METRICS, CONTROL = 'metrics.jsonl', 'control'
_MOST_STEPS = 1e12  # no run takes more
_SEED = re.compile(r'seed\d+')  # what a sweep calls the runs of a cell


class RunCurves(NamedTuple):
    """((step of the segmentor, mIoU in percent), ...) of what a run has evaluated so far.

    Attributes:
      method: of the method, Stage 1 apart.
      control: of its control.
      stage_one: of Stage 1.
    """
    method: tuple
    control: tuple
    stage_one: tuple


def read(path):
    """`RunCurves` of a run directory.

    Raises:
      UserError: it is no run directory, or its metrics.jsonl is damaged.
    """
    if pathlib.Path(path).is_file():
        raise errors.UserError(f'{path}: is a file; curves are drawn of run directories')
    folder = run_directory.RunDirectory(path).require().path
    found = {'method': {}, 'control': {}, 'stage_one': {}}
    _add(found, folder / METRICS, 'method')
    _add(found, folder / CONTROL / METRICS, 'control')  # of a control with a loop of its own
    return RunCurves(**{name: tuple(sorted(points.items())) for name, points in found.items()})


def _add(found, path, own):
    """Puts the evaluations of a metrics.jsonl where they belong; of one step the last counts."""
    if not path.is_file():
        return
    with files.as_written(path):
        for line in journal.Journal.read(path):
            kind, step, miou = line.get('event'), line.get('segmentor_step'), line.get('miou')
            if kind == 'propagation':
                part, step = own, line.get('budget_step')
            elif kind == 'evaluation' and line.get('split') == 'holdout':
                part = 'control' if line.get('stage') == CONTROL else own
            elif kind == 'stage' and 'hold_out/miou' in line:
                part, miou = 'stage_one', line['hold_out/miou']
            else:
                continue
            if (curves.is_finite(step) and 0 <= step < _MOST_STEPS
                    and curves.is_finite(miou) and 0 <= miou <= 1):
                found[part][step] = 100.0 * miou


def cells(groups):
    """{name: [path]}: those of `finished_runs.parse`, runs without a name taken apart.

    Runs without a name are called by the parts of their paths in which they differ. Those that a
    sweep has made, `<cell>/seed<n>`, are one cell.
    """
    named = {name: paths for name, paths in groups.items() if name != finished_runs.GIVEN}
    found = {}
    for path in groups.get(finished_runs.GIVEN, ()):
        path = pathlib.Path(path)
        found.setdefault(path.parent if _SEED.fullmatch(path.name) else path, []).append(path)
    return {**named, **dict(zip(_short([*found]), found.values()))}


def _short(paths):
    """Paths as texts, without the parts that all begin and end with; one path by its last part."""
    parts = [path.absolute().parts for path in paths]
    if len(parts) < 2:
        return [own[-1] for own in parts]
    while len({own[:1] for own in parts}) == 1 and min(map(len, parts)) > 1:
        parts = [own[1:] for own in parts]
    while len({own[-1:] for own in parts}) == 1 and min(map(len, parts)) > 1:
        parts = [own[:-1] for own in parts]
    return ['/'.join(own) for own in parts]


class Gathered(NamedTuple):
    """What is drawn of some cells.

    Attributes:
      found: [learning_curves.Curve], methods before their controls.
      gains: [learning_curves.Curve] of the methods less their controls, in points; of cells with
        two such runs or more.
      counted: label of the axis of steps.
      notes: a line on each run without a curve.
    """
    found: list
    gains: list
    counted: str
    notes: list


def gather(groups):
    """`Gathered` of some cells. Stage 1 is drawn where no run has gone beyond it.

    Args:
      groups: {cell's name: [run directory]}, finished or under way.

    Raises:
      UserError: something is no run directory or damaged; no run has evaluated anything yet.
    """
    runs = {name: {path: read(path) for path in paths} for name, paths in groups.items()}
    beyond = any(_has(run) for each in runs.values() for run in each.values())
    found, gains = [], []
    for cell, (name, each) in enumerate(runs.items()):
        points = [run.method if beyond else run.stage_one for run in each.values()]
        if any(points):
            found.append(learning_curves.Curve(name, tuple(filter(None, points)), cell=cell))
        over = tuple(filter(None, map(_gain, each.values())))
        if learning_curves.shared_steps(over) and len(over) > 1:
            gains.append(learning_curves.Curve(name, over, cell=cell))
    found += _controls(runs)
    bare = {path: run for each in runs.values() for path, run in each.items()
            if not (_has(run) if beyond else run.stage_one)}
    if not found:
        raise errors.UserError(f'{next(iter(bare))}: nothing to draw yet, as no hold-out has been '
                               'evaluated there; wait for the first evaluation')
    notes = [f'{path}: not drawn, it has {"Stage 1 alone" if run.stage_one else "no evaluation"} '
             'so far' for path, run in bare.items()]
    counted = f'segmentor\'s steps {"after" if beyond else "of"} Stage 1'
    return Gathered(found, gains, counted, notes)


def _has(run):
    """Whether a run has gone beyond Stage 1."""
    return bool(run.method or run.control)


def _gain(run):
    """((step, method less control), ...) where both were evaluated."""
    control = dict(run.control)
    return tuple((step, miou - control[step]) for step, miou in run.method if step in control)


def _controls(runs):
    """[Curve] of the controls; one that several cells share, or have copied, is drawn once.

    Runs of two cells have the same control where their points are the same as far as both go.
    """
    groups = []  # [[names of the cells], number of the first, [points of each run]]
    for cell, (name, each) in enumerate(runs.items()):
        points = [run.control for run in each.values() if run.control]
        same = next((group for group in groups if any(
            _agree(own, other) for own in points for other in group[2])), None)
        if same is not None:
            same[0].append(name)
            for own in points:
                _join(same[2], own)
        elif points:
            groups.append(([name], cell, points))
    if len(groups) == 1:
        return [learning_curves.Curve('control', tuple(groups[0][2]), True, None)]
    return [learning_curves.Curve(
        f'control of {names[0]}' + (f' and {len(names) - 1} more' if len(names) > 1 else ''),
        tuple(points), True, cell) for names, cell, points in groups]


def _agree(first, second):
    """Whether two curves are the same as far as both go."""
    return all(one == other for one, other in zip(first, second))


def _join(known, points):
    """Adds a run's curve to those of a control; of two that agree the longer is kept."""
    for place, other in enumerate(known):
        if _agree(points, other):
            known[place] = max(points, other, key=len)
            return
    known.append(points)


def table(found):
    """tables.Table: where each curve is at the last step that all of its runs have."""
    rows = []
    for curve in found:
        shared = learning_curves.shared_steps(curve.runs)
        step, values = shared[-1] if shared else (tables.MISSING, [])
        text = tables.MISSING if not values else f'{statistics.fmean(values):.2f}' + (
            f' ± {statistics.stdev(values):.2f}' if len(values) > 1 else '')
        rows.append((curve.name, len(curve.runs), step, text))
    return tables.plain_table(('curve', 'runs', 'at step', 'mIoU'), rows,
                              'mIoU on the hold-out in percent: mean ± standard deviation over '
                              'runs')


def write(groups, path):
    """Writes the chart of some cells as a PNG.

    Args:
      groups: see `gather`.
      path: of the file, which is whole or not there.

    Returns:
      What to print: the table of the curves, and a line on each run that has none.

    Raises:
      UserError: see `gather`; the file cannot be written.
    """
    found = gather(groups)
    image = curves.encode(learning_curves.figure(found.found, found.gains, found.counted))
    with files.atomic_file(path) as file:
        file.write(image)
    return '\n'.join([tables.to_text(table(found.found)), *found.notes])


def write_sweep(cells, asked, usual):
    """Writes the chart of a sweep's runs, as far as they have come.

    Args:
      cells: list of `sweeping.Cell`.
      asked: the file that the user named; None for `usual`, and then nothing to draw is no error.
      usual: the file of a sweep that names none.

    Raises:
      UserError: see `gather`.
    """
    groups = {}
    for cell in cells:
        if (cell.folder / run_directory.CONFIG).is_file():  # one that has begun
            groups.setdefault(cell.name, []).append(cell.folder)
    if asked:
        write(groups, asked)
    elif any(any(read(path)) for paths in groups.values() for path in paths):
        write(groups, usual)
