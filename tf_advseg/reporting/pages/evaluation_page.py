"""The page of an evaluation: ONE self-contained HTML file with tables, matrix and panels."""
import dataclasses
import html
from typing import Any, Sequence, Tuple

from tf_advseg.core import files
from tf_advseg.reporting import curves, panels, tables
from tf_advseg.reporting.pages.page import PAGE, figure, section


@dataclasses.dataclass
class EvaluationPage:
    """What the page shows; an empty part is left out.

    Attributes:
      title: the heading.
      summary: sentences under it.
      scores: the tables.Table of the models' IoU.
      measures: further Tables.
      comparisons: (Table, matplotlib Figure) pairs, one a model that is compared with.
      note: what is to be known of the comparisons.
      figures: (caption, matplotlib Figure) pairs.
      panels: (heading, caption, uint8 [H, W, 3]) triples.
      figures_heading: what stands above the figures.
    """
    title: str
    summary: Sequence[str] = ()
    scores: Any = None
    measures: Sequence[Any] = ()
    comparisons: Sequence[Tuple[Any, Any]] = ()
    note: str = ''
    figures: Sequence[Tuple[str, Any]] = ()
    panels: Sequence[Tuple[str, str, Any]] = ()
    figures_heading: str = 'Confusion'


def write_evaluation_page(path, page):
    """Writes the page; the file is whole or not there. UserError where it cannot be written."""
    with files.atomic_file(path, 'w') as file:
        file.write(render(page))


def render(page):
    """The page as a string."""
    lines = ''.join(f'<p>{html.escape(line)}</p>' for line in page.summary)
    parts = [f'<header><h1>{html.escape(page.title)}</h1>{lines}</header>']
    if page.scores is not None:
        parts.append(section('Scores', tables.to_html(page.scores)))
    if page.comparisons:
        note = f'<p class="note">{html.escape(page.note)}</p>' if page.note else ''
        parts.append(section('Differences', note, *(
            tables.to_html(table) + figure(table.title, curves.encode(drawn))
            for table, drawn in page.comparisons)))
    if page.measures:
        parts.append(section('Further measures', *map(tables.to_html, page.measures)))
    if page.figures:
        parts.append(section(page.figures_heading, *(
            figure(caption, curves.encode(drawn)) for caption, drawn in page.figures)))
    for heading, caption, image in page.panels:
        parts.append(section(heading, figure(caption, panels.encode_png(image))))
    return PAGE.format(title=html.escape(page.title), body='\n'.join(parts))
