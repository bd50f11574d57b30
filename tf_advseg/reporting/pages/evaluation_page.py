"""The page of an evaluation: ONE self-contained HTML file with tables, matrix and panels."""
import dataclasses
from typing import Any, Sequence, Tuple

from tf_advseg.core import files
from tf_advseg.reporting import curves, panels, tables
from tf_advseg.reporting.pages import page as html_page


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
    def drawn(caption, made):
        return html_page.figure(caption, curves.encode(made))
    return html_page.render(
        'evaluation.html', title=page.title, page=page,
        scores=None if page.scores is None else tables.to_html(page.scores),
        comparisons=[(tables.to_html(table), drawn(table.title, made))
                     for table, made in page.comparisons],
        measures=[tables.to_html(table) for table in page.measures],
        figures=[drawn(caption, made) for caption, made in page.figures],
        panels=[(heading, html_page.figure(caption, panels.encode_png(image)))
                for heading, caption, image in page.panels])
