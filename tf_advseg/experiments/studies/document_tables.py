"""Tables and charts of Markdown documents, made from kept runs, so that no number is typed.

A document holds what to table, and the table behind it:

    <!-- table: --runs=docs/numbers/few_labels/cells_eighth.jsonl --measures=miou,components -->
    ...
    <!-- end of table -->

and what to draw as a forest plot, in a PNG beside the document, which it shows as any image:

    <!-- chart: gains.png --runs=docs/numbers/few_labels/cells_eighth.jsonl --claim=Hung=1.9 -->

`tools/sweep.py --update=DOCUMENT` makes them anew. A chart's file says what it shows, by which it
is known whether it is up to date: other versions of Matplotlib draw other bytes.
"""
import argparse
import pathlib
import re
import shlex

from PIL import Image

from tf_advseg.core import configuration
from tf_advseg.core import errors
from tf_advseg.core import files
from tf_advseg.core import walking
from tf_advseg.experiments.studies import finished_runs
from tf_advseg.experiments.studies import pooled_folds
from tf_advseg.experiments.studies import sweep_chart
from tf_advseg.experiments.studies import sweep_table
from tf_advseg.experiments.studies import tabled_measures
from tf_advseg.reporting import curves
from tf_advseg.reporting import forest_plot
from tf_advseg.reporting import paired
from tf_advseg.reporting import tables

_END = '<!-- end of table -->'
_PLACE = re.compile(r'<!-- table: (?P<words>[^\n]*?) -->\n(?P<old>.*?)' + re.escape(_END),
                    re.DOTALL)
_BEGUN = re.compile(r'<!-- table:')
_CHART = re.compile(r'<!-- chart: (?P<words>[^\n]*?) -->')


class _Parser(argparse.ArgumentParser):
    """One that raises where argparse would end the program."""

    def error(self, message):
        raise ValueError(message)


def _parser():
    parser = _Parser(prog='table', add_help=False, allow_abbrev=False)
    parser.add_argument('--runs', action='append', required=True)
    parser.add_argument('--against', default='')
    parser.add_argument('--measures', default='miou')
    return parser


def _chart_parser():
    parser = _parser()
    parser.add_argument('image')
    parser.add_argument('--claim', action='append', default=[])
    return parser


def updated(path):
    """A document's text with its tables made anew.

    Args:
      path: of a Markdown file. Paths in it are from its folder, or from the checkout's root where
        nothing is there.

    Returns:
      The text; equal to the file's where its tables are up to date.

    Raises:
      UserError: no such file, no table or chart, or a table without an end, in it, or a table that
        cannot be made.
    """
    path = pathlib.Path(path)
    text = _read(path)
    places = list(_PLACE.finditer(text))
    if not (places or _CHART.search(text)) or len(places) != len(_BEGUN.findall(text)):
        raise errors.UserError(f'{path}: expected "<!-- table: --runs=FILE … -->" and '
                               f'"{_END}", each on a line of its own, around each table')

    def made(place):
        try:
            table = _table(place['words'], path.parent)
        except errors.UserError as error:
            raise errors.UserError(f'{path}: table: {place["words"]}: {error}') from error
        return f'<!-- table: {place["words"]} -->\n{table}\n{_END}'

    return _PLACE.sub(made, text)


def _read(path):
    try:
        return path.read_text('utf-8')
    except (OSError, UnicodeDecodeError) as error:
        raise errors.UserError(f'{path}: cannot be read as text ({error})') from error


def update(path):
    """Makes a document's tables and charts anew; see `updated` and `old_charts`.

    Returns:
      Whether a file was changed.
    """
    path = pathlib.Path(path)
    text, old = updated(path), old_charts(path)
    for image, parts in old:
        with files.atomic_file(image) as file:
            file.write(curves.encode(forest_plot.forest(parts),
                                     about=forest_plot.described(parts)))
    if text == path.read_text('utf-8'):
        return bool(old)
    with files.atomic_file(path, 'w') as file:
        file.write(text)
    return True


def old_charts(path):
    """The charts of a document that are not there, or show other numbers than the kept runs have.

    Args:
      path: of a Markdown file; a chart's path is from its folder.

    Returns:
      [(path of the PNG, what it is to show, see `forest_plot.forest`)].

    Raises:
      UserError: no such file, or a chart that cannot be made.
    """
    path = pathlib.Path(path)
    found = []
    for place in _CHART.finditer(_read(path)):
        try:
            name, parts = _chart(place['words'], path.parent)
        except errors.UserError as error:
            raise errors.UserError(f'{path}: chart: {place["words"]}: {error}') from error
        if _said_by(path.parent / name) != forest_plot.described(parts):
            found.append((path.parent / name, parts))
    return found


def _said_by(image):
    """What the file of a chart says that it shows; None without one."""
    try:
        with Image.open(image) as opened:
            return opened.info.get('Description')
    except OSError:
        return None


def _chart(words, folder):
    """(name of the PNG, parts of the forest plot), from the words of its comment."""
    given, collected, references, measures = _asked(words, folder, _chart_parser(), 'IMAGE.png ')
    if not given.image.endswith('.png'):
        raise errors.UserError(f'{given.image}: expected a PNG file, as gains.png')
    parts = sweep_chart.panels(collected, references, measures,
                               sweep_chart.parse_claims(given.claim, collected))
    if not parts:
        raise errors.UserError('nothing to draw, as no difference has an interval')
    return given.image, parts


def _table(words, folder):
    """Markdown of a table, from the words of its comment."""
    _, collected, references, measures = _asked(words, folder, _parser())
    return markdown(collected, references, measures)


def _asked(words, folder, parser, first=''):
    """(the words parsed, runs, references, measures) of a comment in a document of a folder."""
    try:
        given = parser.parse_args(shlex.split(words))
    except ValueError as error:
        raise errors.UserError(f'not understood ({error}); expected {first}--runs=FILE '
                               '--against=CELL,… --measures=miou,…') from None
    collected = finished_runs.collect(finished_runs.parse(
        [_placed(text, folder) for text in given.runs]))
    return (given, collected, sweep_table.parse_references(given.against, collected),
            tabled_measures.parse_measures(given.measures.split(',')))


def _placed(text, folder):
    """A --runs of a document with its path from the document's folder, or from the root."""
    name, equals, pattern = text.partition('=') if '=' in text else ('', '', text)
    here = pathlib.Path(folder, pattern)
    root = configuration.gin_root().parent
    return f'{name}{equals}{here if walking.matching(str(here)) else root / pattern}'


def markdown(collected, references, measures):
    """Differences on test images as a Markdown table, a row a comparison.

    Compared are each cell's method with its control, and cells with the references. Of the first
    measure it has the standard deviation, too, and how many runs ±0.5 would take; where runs are on
    folds, the same of mIoU pooled over these. A difference is bold where its interval leaves out 0;
    over folds where it does so `paired.corrected`.

    Args:
      collected, references: see `sweep_table.compared`.
      measures: names of `tabled_measures.MEASURES`.
    """
    found = {}
    for measure in measures:
        for cell, model, less, split, difference in sweep_table.compared(
                collected, references, measure):
            if split == 'test' and sweep_table.of_a_document(less):
                found.setdefault((cell, model, less), {})[measure] = difference
    pooled = pooled_folds.compared(collected, references) if 'miou' in measures else []
    by_row = {(cell, model, less): each for cell, model, _, less, *_, each in pooled}
    over, folds = sweep_table.counted(collected), sweep_table.folds_of(collected)
    header = ['arm', 'less', over]
    for measure in measures:
        about = tabled_measures.MEASURES[measure]
        unit = 'points' if about.unit == 'percent' else about.unit
        header.append(f'{about.title}, {unit}')
        if measure == measures[0]:
            header += ['SD', f'{over} for ±{sweep_table.WANTED}']
    header += ['mIoU pooled over folds, points', 'its SD',
               f'folds for ±{sweep_table.WANTED}'] if pooled else []
    rows = []
    for (cell, model, less), differences in found.items():
        first = next(iter(differences.values()))
        row = [cell, less, str(first.count)]
        for measure in measures:
            each = differences.get(measure)
            row.append(_cell(each, folds))
            if measure == measures[0]:
                deviation, _, needed = sweep_table.precision(each)
                row += [deviation, str(needed)]
        rows.append(row + (_pooled(by_row.get((cell, model, less)), folds) if pooled else []))
    return '\n'.join(f'| {" | ".join(row)} |'
                     for row in (header, ['---'] * len(header), *rows))


def _cell(found, folds):
    """A paired.Difference, or None, as a table has it."""
    if found is None:
        return tables.MISSING
    return f'**{found}**' if paired.is_clear(found, folds) else str(found)


def _pooled(found, folds):
    """[difference, standard deviation, folds for ±0.5] of a paired.Difference, or of None."""
    deviation, _, needed = sweep_table.precision(found)
    return [_cell(found, folds), deviation, str(needed)]
