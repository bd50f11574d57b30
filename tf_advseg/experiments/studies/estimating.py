"""How long the runs of a sweep, or a paper's commands, take here: a dry run of each cell."""
import collections
import contextlib
import dataclasses
import io
import pathlib
from typing import Optional

import tensorflow as tf

from tf_advseg.core import configuration
from tf_advseg.core import errors
from tf_advseg.experiments.studies import reproducing
from tf_advseg.experiments.studies import sweeping
from tf_advseg.experiments.train import dry_run
from tf_advseg.experiments.train import run_results
from tf_advseg.experiments.train import shared_control
from tf_advseg.experiments.train import training

# Weights decide no time, and those of a Stage 1 that is not trained yet are not there.
_NO_WEIGHTS = ('experiment.checkpoint = None', 'experiment.default_checkpoint = None',
               'experiment.backbone_only = False')


@dataclasses.dataclass(frozen=True)
class Estimate:
    """Of one command.

    Attributes:
      seconds: of its runs that are not finished; None where nobody can guess.
      text: how many runs of how long, or why nobody can guess.
    """
    seconds: Optional[float]
    text: str


def of_way(way, place, say=lambda line: None):
    """The `Estimate` of each command of a way.

    Takes a dry run of each cell of a sweep, of one seed: seconds to minutes each.

    Args:
      way: `papers.entry.Way`.
      place: `reproducing.Place`.
      say: function of a line, called before each dry run.

    Yields:
      (the command as one types it, `Estimate`).
    """
    asked = reproducing.needs_of_commands(way, place)
    for words, missing in zip(reproducing.commands(way, place), asked):
        yield reproducing.shown(words), _of_command(words, missing, place, say)


def _of_command(words, missing, place, say):
    """`Estimate` of a command.

    Args:
      words: the tool and its flags.
      missing: [(kind, name)]: what it needs and is not at hand.
    """
    lacks = [name for kind, name in missing if kind == 'data']
    if lacks:
        return Estimate(None, f'needs the data ({", ".join(lacks)})')
    if words[0] not in ('train', 'sweep'):
        return Estimate(None, 'not guessed; trains nothing')
    given = _flags(words)
    data = given['data_dir'][-1] if given['data_dir'] else None
    if data and data.startswith(place.work) and not pathlib.Path(data).exists():
        return Estimate(None, f'needs {data}, which a command above makes')
    try:
        return _of_cells(given, data, say)
    except errors.UserError as error:
        return Estimate(None, f'cannot be guessed: {error}')


def _of_cells(given, data, say):
    """`Estimate` of the runs of `train` or `sweep`.

    Raises:
      UserError: a dry run would not run, either.
    """
    weights = given['checkpoint'][-1] if given['checkpoint'] else None
    # With the weights: a run that is there already has them in its configuration.
    cells = sweeping.check(_cells(given), given['gin_file'], given['gin_param'], data, weights)
    parts = list(of_cells(cells, given['gin_file'], given['gin_param'], data, say))
    todo = sum(not cell.done for cell in cells)
    runs = f'{todo} run{"" if todo == 1 else "s"} to do'
    return Estimate(sum(part.seconds for part in parts),
                    f'{runs}: {"; ".join(part.text for part in parts)}' if parts else runs)


def of_cells(cells, gin_files, gin_params, data=None, say=lambda line: None):
    """The `Estimate` of each cell's runs that are not finished: a dry run of one seed, times them.

    Args:
      cells: from `sweeping.check`.
      gin_files, gin_params, data: of the sweep's flags.
      say: function of a line, called before each dry run.

    Yields:
      `Estimate`, with the cell's name in its text; none of a cell that is finished.

    Raises:
      UserError: a dry run would not run, either.
    """
    todo = [cell for cell in cells if not cell.done]
    for name in dict.fromkeys(cell.name for cell in todo):
        same = [cell for cell in todo if cell.name == name]
        say(f'dry run: {name}')
        seconds, unknown = _seconds(same[0], gin_files, gin_params, data)
        yield Estimate(len(same) * seconds, f'{name}: {len(same)} of {dry_run.duration(seconds)}'
                       + ''.join(f', {stage} apart' for stage in unknown))


def _seconds(cell, gin_files, gin_params, data):
    """(seconds of a run, [stages that nobody can guess]).

    A control that another cell of the seed trains is not counted again.
    """
    configuration.parse([*cell.gin_files, *gin_files], [
        f'experiment.seed = {cell.seed}',
        *([] if data is None else [f'experiment.data_dir = {data!r}']),
        *(sweeping.of_seed(text, cell.seed) for text in gin_params), *cell.bindings,
        *_NO_WEIGHTS])
    found = []

    def look(context, segmentor, recipe):
        found.extend(dry_run.stage_costs(context, segmentor, recipe,
                                         run_results.CONTROL in cell.columns))

    with contextlib.redirect_stdout(io.StringIO()):  # what a run says of its start
        training.experiment(None, tf.distribute.get_strategy(), instead=look)
    tf.keras.backend.clear_session()
    own = [cost for cost in found
           if not (cell.control_from and cost.stage == shared_control.STAGE)]
    return (sum(cost.seconds for cost in own if cost.seconds is not None),
            [cost.stage for cost in own if cost.seconds is None])


def _flags(words):
    """{flag: [value, ...]} of a command; [] of one that is not there."""
    found = collections.defaultdict(list)
    for word in words[1:]:
        name, _, value = word[2:].partition('=')
        found[name].append(value)
    return found


def _cells(given):
    """The cells of a sweep's flags; of a run of `train` the one that it is."""
    folder = pathlib.Path(given['workdir'][-1])
    if not given['seeds']:
        seed = int(given['seed'][-1]) if given['seed'] else 0
        return [sweeping.Cell((), seed, folder)]
    seeds = sweeping.parse_seeds(given['seeds'][-1].split(','))
    if given['cell']:
        return sweeping.named_cells(folder, [sweeping.parse_cell(text) for text in given['cell']],
                                    seeds)
    return sweeping.make_cells(folder, [sweeping.parse_axis(text) for text in given['grid']], seeds)


def text(found):
    """The estimates of a way and their sum, for a reader.

    Args:
      found: [(command, `Estimate`)].
    """
    lines = []
    for number, (command, estimate) in enumerate(found, 1):
        about = '' if estimate.seconds is None else f'about {dry_run.duration(estimate.seconds)}, '
        lines += [f'[{number}/{len(found)}] {command}', f'    {about}{estimate.text}']
    known = [estimate.seconds for _, estimate in found if estimate.seconds is not None]
    return '\n'.join([*lines, together(sum(known))] if known else lines)


def together(seconds):
    """A line on the sum of estimates, and what it is worth."""
    return (f'together: about {dry_run.duration(seconds)}, guessed from forward passes on this '
            'machine, as busy as it is now; evaluations not counted')
