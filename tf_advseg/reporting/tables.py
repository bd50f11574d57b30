"""Tables of results as terminal text, Markdown, CSV and HTML.

A table is built once from numbers and rendered four ways; numbers are fractions on the way in and
percent on the way out, gains are in percentage points.
"""
import csv
import dataclasses
import io
import math
from typing import Optional, Tuple, Union

from tf_advseg.reporting.pages import page

MISSING = '–'
_EXTRA = (('mean_class_accuracy', 'mean class accuracy'),
          ('frequency_weighted_iou', 'frequency weighted IoU'))


@dataclasses.dataclass(frozen=True)
class Cell:
    """One entry: text as it is, or a number in percent or percentage points (None = missing)."""
    value: Union[str, float, None]
    gain: bool = False

    def text(self, digits):
        """The entry for a reader: '72.41', '+0.35', '–' where there is no number."""
        if isinstance(self.value, str):
            return self.value
        if self.value is None:
            return MISSING
        rounded = round(self.value, digits) + 0.0       # + 0.0 turns -0.0 into 0.0
        return f'{rounded:+.{digits}f}' if self.gain and rounded else f'{rounded:.{digits}f}'


@dataclasses.dataclass(frozen=True)
class Table:
    """Header and rows of cells; the first column names the row. Rows in `strong` stand out."""
    header: Tuple[str, ...]
    rows: Tuple[Tuple[Cell, ...], ...]
    title: str = ''
    digits: int = 2
    strong: Tuple[int, ...] = ()

    def __post_init__(self):
        for row in self.rows:
            if len(row) != len(self.header):
                raise ValueError(f'a row has {len(row)} cells under {len(self.header)} headings')

    def texts(self):
        """Rows of strings, header first."""
        return [list(self.header)] + [[cell.text(self.digits) for cell in row]
                                      for row in self.rows]


def _percent(fraction):
    """A fraction as percent; None for None and for nan (a class with no pixel)."""
    if fraction is None or not math.isfinite(float(fraction)):
        return None
    return 100.0 * float(fraction)


def _difference(a, b):
    return None if a is None or b is None else a - b


def _measures(columns):
    """(row name, function summary -> fraction or None, is it a total?) in the table's order."""
    names = []
    for summary in columns.values():
        names += [name for name in summary.get('class_iou') or {} if name not in names]
    rows = [(name, lambda s, name=name: (s.get('class_iou') or {}).get(name), False)
            for name in names]
    rows.append(('mIoU', lambda s: s.get('miou'), True))
    rows.append(('pixel accuracy', lambda s: s.get('pixel_accuracy'), True))
    for key, title in _EXTRA:
        if any(summary.get(key) is not None for summary in columns.values()):
            rows.append((title, lambda s, key=key: s.get(key), True))
    return rows


def class_table(columns, start=None, control=None, subject=None, title='', digits=2):
    """Per-class IoU, mIoU and pixel accuracy of several models, with gains.

    Args:
      columns: dict of column name -> summary, a dict with `class_iou` (dict of class name ->
        fraction or nan), `miou` and `pixel_accuracy`; `mean_class_accuracy` and
        `frequency_weighted_iou` add rows where present. None as a summary drops the column.
      start: name of the column the first gain is taken against (Stage 1), or None.
      control: name of the column the second gain is taken against (CE only), or None.
      subject: name of the column whose gains are shown; the last column by default.
      title: heading of the table.
      digits: decimals of the percentages.

    Returns:
      A Table. A baseline that is not among the columns (a control not run yet) gives no gain
      column; a class missing from one model gives '–'.
    """
    columns = {name: summary for name, summary in columns.items() if summary is not None}
    subject = subject if subject is not None else (list(columns)[-1] if columns else None)
    baselines = [name for name in (start, control)
                 if name in columns and subject in columns and name != subject]
    header = ['class', *columns, *(f'vs {name}' for name in baselines)]
    rows, strong = [], []
    for name, measure, total in _measures(columns) if columns else ():
        values = {column: _percent(measure(summary)) for column, summary in columns.items()}
        gains = [Cell(_difference(values[subject], values[b]), gain=True) for b in baselines]
        if total:
            strong.append(len(rows))
        rows.append((Cell(name), *(Cell(values[column]) for column in columns), *gains))
    return Table(tuple(header), tuple(rows), title, digits, tuple(strong))


def split_table(splits, start=None, control=None, subject=None, title='', digits=2):
    """mIoU and pixel accuracy of every model on every split, one split under the other.

    Args:
      splits: dict of split name (for example 'hold-out', 'test') -> columns as in class_table;
        None or {} drops the split.
      start, control, subject, title, digits: as in class_table.

    Returns:
      A Table with a row per split and measure.
    """
    splits = {name: {c: s for c, s in columns.items() if s is not None}
              for name, columns in splits.items() if columns}
    names = []
    for columns in splits.values():
        names += [name for name in columns if name not in names]
    subject = subject if subject is not None else (names[-1] if names else None)
    baselines = [name for name in (start, control)
                 if name in names and subject in names and name != subject]
    rows, strong = [], []
    for split, columns in splits.items():
        for key, title_ in (('miou', 'mIoU'), ('pixel_accuracy', 'pixel accuracy')):
            values = {n: _percent(columns.get(n, {}).get(key)) for n in names}
            gains = [Cell(_difference(values[subject], values[b]), gain=True) for b in baselines]
            if key == 'miou':
                strong.append(len(rows))
            rows.append((Cell(f'{split} {title_}'), *(Cell(values[n]) for n in names), *gains))
    header = ('split', *names, *(f'vs {name}' for name in baselines))
    return Table(header, tuple(rows), title, digits, tuple(strong))


def plain_table(header, rows, title=''):
    """A Table of text: `rows` are sequences of anything that str() reads well."""
    return Table(tuple(map(str, header)),
                 tuple(tuple(Cell(str(entry)) for entry in row) for row in rows), title)


def to_text(table):
    """The table for a terminal: aligned columns, a rule under the header."""
    texts = table.texts()
    widths = [max(len(row[i]) for row in texts) for i in range(len(table.header))]

    def line(row):
        cells = [row[0].ljust(widths[0])] + [t.rjust(w) for t, w in zip(row[1:], widths[1:])]
        return '  '.join(cells).rstrip()
    lines = [table.title] if table.title else []
    lines += [line(texts[0]), '  '.join('-' * width for width in widths)]
    first_total = table.strong[0] if table.strong else None
    for number, row in enumerate(texts[1:]):
        if first_total and number == first_total:
            lines.append('  '.join('-' * width for width in widths))
        lines.append(line(row))
    return '\n'.join(lines)


def to_csv(table):
    """The table as CSV (RFC 4180), plain numbers with the table's decimals, missing ones empty."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator='\n')
    writer.writerow(table.header)
    for row in table.rows:
        writer.writerow([cell.value if isinstance(cell.value, str) else
                         '' if cell.value is None else f'{cell.value + 0.0:.{table.digits}f}'
                         for cell in row])
    return stream.getvalue()


def to_html(table, caption: Optional[str] = None):
    """The table as an HTML <table>, for a page's template.

    Args:
      table: a Table.
      caption: its heading; None takes the table's title.

    Returns:
      markupsafe.Markup; everything is escaped, gains carry the class 'up' or 'down'.
    """
    rows = [(row[0].text(table.digits), number in table.strong,
             [_html_cell(cell, table.digits) for cell in row[1:]])
            for number, row in enumerate(table.rows)]
    return page.part('table.html', caption=table.title if caption is None else caption,
                     groups=None, header=table.header, rows=rows)


def side_by_side_html(groups, caption=''):
    """Tables of the same rows as one HTML table, a group of columns for each.

    Args:
      groups: dict of group heading -> Table; the first column of each names its rows. A row or a
        group's row that is missing is filled with '–'.
      caption: heading of the whole.

    Returns:
      markupsafe.Markup; everything is escaped.
    """
    strong = {}  # name of a row -> whether it stands out, in the order of the rows
    for table in groups.values():
        for number, row in enumerate(table.rows):
            strong[row[0].value] = strong.get(row[0].value, False) or number in table.strong
    rows = []
    for name in strong:
        cells = []
        for table in groups.values():
            row = next((row for row in table.rows if row[0].value == name),
                       (None,) + (Cell(None),) * (len(table.header) - 1))
            cells += [_html_cell(cell, table.digits) for cell in row[1:]]
        rows.append((name, strong[name], cells))
    first = next((table.header[0] for table in groups.values()), '')
    return page.part(
        'table.html', caption=caption,
        groups=[(name, len(table.header) - 1) for name, table in groups.items()],
        header=[first, *(text for table in groups.values() for text in table.header[1:])],
        rows=rows)


def _html_cell(cell, digits):
    """(text, class in HTML or '') of an entry."""
    text = cell.text(digits)
    if isinstance(cell.value, str):
        return text, 'word'
    if not cell.gain or cell.value is None or not round(cell.value, digits):
        return text, ''
    return text, 'up' if cell.value > 0 else 'down'
