"""Finished runs, gathered for a table: from run directories, or from a file that keeps them."""
import json
import pathlib
import re

import numpy as np

from tf_advseg.core import configuration
from tf_advseg.core import errors
from tf_advseg.core import files
from tf_advseg.core import run_directory
from tf_advseg.core import walking
from tf_advseg.evaluation import metrics
from tf_advseg.experiments.studies import tabled_measures

RESULTS, SPLIT = 'results.json', 'split.json'
GIVEN = 'given runs'  # the cell of runs that are tabled without a name
# In these, runs that are tabled together may differ without a word.
_NOT_COMPARED = ('experiment.seed', 'experiment.data_dir', 'experiment.checkpoint',
                 'experiment.control_from')


# Further keys of a row, which those of earlier versions lack.
_MADE_BY = {'seconds': lambda found: tabled_measures.require_numbers(dict(found)),
            'settings': lambda found: [str(word) for word in found], 'commit': str}
_SETTINGS = ('--gin_file', '--gin_param')


def measured(results):
    """What a table needs of a run; a start of random weights is left out.

    Args:
      results: of results.json.

    Returns:
      {'subject': the method's column, 'dataset': its name, 'models': {column: {split: {measure:
      number}}}}; of a run that is tested on a fold (`run.folds`) also 'fold', as results have it,
      and 'confusion' {column: {'matrix', 'absent'}} of the test images, which are pooled over
      folds.
    """
    models = {name: {split: tabled_measures.measured(scores) for split, scores in found.items()}
              for name, found in results['models'].items()
              if not (results.get('starts_random') and name == 'Stage 1')}
    subject, dataset = results.get('subject') or list(models)[-1], results.get('dataset')
    if not isinstance(subject, str) or not isinstance(dataset, (str, type(None))):
        raise TypeError(f'subject {subject!r} of data set {dataset!r}')
    known = results.get('discriminator_accuracy')
    for scores in models.get(subject, {}).values() if known else ():
        scores[tabled_measures.DISCRIMINATOR] = (known['real'] + known['fake']) / 2
    found = {'subject': subject, 'dataset': dataset, 'models': models}
    if results.get('fold'):
        found |= _of_fold(results['fold'], {
            name: {'matrix': scores['test']['confusion_matrix'],
                   'absent': scores['test']['absent']}
            for name, scores in results['models'].items() if name in models and 'test' in scores})
    return found


def _of_fold(fold, confusion):
    """What a run on a fold adds to what is tabled; TypeError or ValueError where it is none."""
    count, number, seed = int(fold['count']), int(fold['number']), int(fold.get('seed', 0))
    if not 0 <= number < count:
        raise ValueError(f'fold {number} of {count}')
    for each in confusion.values():
        try:
            metrics.mean_iou(np.asarray(each['matrix'], np.int64), each['absent'])
        except errors.UserError as error:
            raise ValueError(str(error)) from error
    return {'fold': {'count': count, 'number': number, **({'seed': seed} if seed else {})},
            'confusion': confusion}


def parse(texts):
    """{cell name: [path]} of --runs=PATH and --runs=NAME=PATTERN.

    Runs without a name are one cell, `GIVEN`. A pattern is a shell's: 'runs/load_seed*'.

    Raises:
      UserError: a pattern that nothing matches.
    """
    found = {}
    for text in texts:
        name, equals, pattern = text.partition('=')
        if not equals or pathlib.Path(text).exists():
            name, pattern = GIVEN, text
        matches = sorted(map(str, walking.matching(pattern)), key=_by_numbers)
        if not matches:
            raise errors.UserError(f'--runs={text}: nothing is called {pattern}; give run '
                                   'directories, a file that --keep wrote, or NAME=PATTERN for '
                                   'the runs of one cell')
        found.setdefault(name, []).extend(map(pathlib.Path, matches))
    return found


def _by_numbers(path):
    """A key that puts seed10 behind seed9."""
    return [(int(part), '') if part.isdigit() else (-1, part)
            for part in re.split(r'(\d+)', path)]


def collect(groups):
    """What finished runs found that no grid made: each seed with its own start, say.

    Args:
      groups: from `parse`.

    Returns:
      {cell name: {seed: `measured`}}, of a run directory with 'seconds' {stage: number},
      'settings' [--gin_file and --gin_param, as given] and the code's 'commit'. The cells of a file
      that `keep` wrote have its names; a name before such a file takes the cell of that name alone.

    Raises:
      UserError: a run is not finished, is of another method than the first of its cell or of
        another data set, or another draw of folds, than the first of all, or has the seed of
        another of its cell; or a file has no such cell.
    """
    found, firsts = {}, {}
    for name, paths in groups.items():
        for path in paths:
            kept = _kept(path, name) if path.is_file() else [_run(name, path)]
            for cell, seed, run in kept:
                _require_alike(path, cell, run, firsts)
                runs = found.setdefault(cell, {})
                if seed in runs:
                    raise errors.UserError(f'{path}: seed {seed} is there twice; runs of one seed '
                                           'are no independent draws')
                runs[seed] = run
    return found


def _run(name, path):
    """(cell, seed, `measured`) of a run directory."""
    if not (path / RESULTS).is_file():
        raise errors.UserError(f'{path}: not a finished run (no {RESULTS}); start its command '
                               'again, or leave it out')
    with files.as_written(path / RESULTS):
        return name, int(files.read_json(path / RESULTS)['seed']), of_run(path)


def of_run(path):
    """`measured` of a finished run's directory, with how it was made: see `collect`."""
    results = files.read_json(path / RESULTS)
    with files.as_written(path / RESULTS):
        seconds = {stage: round(float(spent), 1)
                   for stage, spent in (results.get('seconds') or {}).items()}
        return {**measured(results), **_made_by(path, seconds)}


def _made_by(path, seconds):
    """What a row says of how its run was made: what each stage took, and the command's settings.

    Left out are the seed, which the row has, and where data, weights and the control's run lie.
    """
    environment = path / run_directory.ENVIRONMENT
    content = files.read_json(environment) if environment.is_file() else {}
    words = content.get('argv', [])
    # A flag's value may stand in a word of its own.
    joined = [f'{word}={after}' if word in _SETTINGS else word
              for word, after in zip(words, [*words[1:], ''])]
    settings = [word for word in joined if word.partition('=')[0] in _SETTINGS
                and not word.partition('=')[2].startswith('experiment.control_from')]
    return {**({'seconds': seconds} if seconds else {}),
            **({'settings': settings} if settings else {}),
            **({'commit': content['commit']} if content.get('commit') else {})}


def _kept(path, name=GIVEN):
    """[(cell, seed, `measured`)] of a file that `keep` wrote: of all cells, or of one.

    Raises:
      UserError: it is no such file, or has no such cell.
    """
    found = []
    for number, line in enumerate(path.read_text('utf-8', 'replace').splitlines(), 1):
        try:
            kept = json.loads(line)
            run = {key: kept[key] for key in ('subject', 'dataset', 'models')}
            for key, kind in _MADE_BY.items():
                if key in kept:
                    run[key] = kind(kept[key])
            if 'fold' in kept:
                run |= _of_fold(kept['fold'], kept['confusion'])
            for each in run['models'].values():
                for scores in each.values():
                    tabled_measures.require_numbers(scores)
            found.append((str(kept['cell']), int(kept['seed']), run))
        except (ValueError, LookupError, TypeError, AttributeError, OverflowError):
            raise errors.UserError(f'{path}: line {number} is no run; expected a run directory or '
                                   'a file that `sweep --keep` wrote') from None
    if name == GIVEN:
        return found
    errors.require_one_of(f'cell of {path}', name, list(dict.fromkeys(cell for cell, *_ in found)))
    return [each for each in found if each[0] == name]


def _require_alike(path, cell, run, firsts):
    """A cell has one method, a table one data set, cut one way; `firsts` has the first of each."""
    fold = run.get('fold')
    cut = (f'cut into {fold["count"]} folds (folds.seed = {fold.get("seed", 0)})' if fold
           else 'split as the data set comes')
    for key, kind in ((('cell', cell), (run['subject'], run['dataset'])),
                      ('data set', run['dataset']), ('cut', cut)):
        first_path, first = firsts.setdefault(key, (path, kind))
        if kind != first:
            this, other = (' on '.join(map(str, x)) if isinstance(x, tuple) else x
                           for x in (kind, first))
            raise errors.UserError(f'{path}: {this}, but {first_path} is {other}; give runs of one '
                                   'kind')


def keep(collected, path):
    """Writes what can be tabled of every run, a line of JSON a run; `collect` reads it.

    Args:
      collected: from `collect`.
      path: the file to write.
    """
    with files.atomic_file(path, 'w') as file:
        for cell, runs in collected.items():
            for seed, run in sorted(runs.items()):
                file.write(json.dumps({'cell': cell, 'seed': seed, **run}) + '\n')


def configurations_note(paths):
    """A line on the settings in which runs differ; '' where one configuration made them all.

    The seed, and where the start, the data and a control are from, do not count.

    Args:
      paths: run directories.
    """
    texts = {path: configuration.read(path / 'config.gin')
             for path in map(pathlib.Path, paths) if (path / 'config.gin').is_file()}
    found = {}
    for path, text in texts.items():
        for line in configuration.differences(next(iter(texts.values())), text, _NOT_COMPARED):
            name, _, values = line.partition(': ')
            found.setdefault(name, f'{short_name(name)} {values} in {path}')
    more = f'; and {len(found) - 3} more' if len(found) > 3 else ''
    return (f'not one configuration made these runs: {"; ".join(list(found.values())[:3])}{more}'
            if found else '')


def pairing_notes(groups):
    """Lines on what runs of one seed in different cells differ in, that are compared as pairs.

    Args:
      groups: from `parse`; what is no run directory is left out.

    Returns:
      [str]: for each later cell the settings in which it differs from the first, and, where it has
      other images in a split, that.
    """
    runs = {name: {files.read_json(path / RESULTS)['seed']: path for path in paths
                   if (path / RESULTS).is_file()} for name, paths in groups.items()}
    first, *others = runs or {'': {}}
    notes = []
    for name in others:
        shared = sorted(set(runs[first]) & set(runs[name]))
        pairs = [(runs[first][seed], runs[name][seed]) for seed in shared]
        found = dict.fromkeys(setting for pair in pairs for setting in _differing(*pair))
        if found:
            notes.append(f'{name} differs from {first} in: {", ".join(found)}')
        other_images = [seed for seed, pair in zip(shared, pairs) if len(set(
            path.read_bytes() for path in (run / SPLIT for run in pair) if path.is_file())) > 1]
        if other_images:
            notes.append(f'{name} has other images than {first} in its splits, of seeds '
                         f'{", ".join(map(str, other_images))}: no pairs')
    return notes


def _differing(first, second):
    """Names of the settings in which two runs differ, seed and places of data left out."""
    texts = [configuration.read(run / 'config.gin') for run in (first, second)
             if (run / 'config.gin').is_file()]
    return [] if len(texts) < 2 else [
        short_name(line.partition(':')[0])
        for line in configuration.differences(*texts, ('experiment.seed', 'experiment.data_dir',
                                                       'experiment.control_from'))]


def short_name(name):
    """A gin name for a reader: 'a.b.c.d' is 'c.d', scopes left out."""
    return '.'.join(name.rsplit('/', 1)[-1].split('.')[-2:])
