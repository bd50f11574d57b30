"""Charts that the papers have of several runs: of which runs, and how they are drawn.

A chart has `file` (its name below the work folder), `runs()` (patterns of run directories below
it), `figure(work)` (matplotlib Figure, or None where there is nothing to draw yet) and
`table(work)` (tables.Table, or None).
"""
import dataclasses
import pathlib
from typing import Optional, Tuple

from tf_advseg.core import journal
from tf_advseg.experiments.studies import run_curves
from tf_advseg.experiments.studies.papers import found_numbers
from tf_advseg.experiments.studies.papers.entry import Source
from tf_advseg.reporting.paper_figures import grouped_bars
from tf_advseg.reporting.paper_figures import reconstruction_curves
from tf_advseg.reporting.paper_figures import setting_curves


@dataclasses.dataclass(frozen=True)
class Losses:
    """gloss and segloss of several runs together, finished or under way (Zhu et al.).

    Attributes:
      file: see above.
      sources: ((name, run directory of phase 1, of phase 2), ...).
    """
    file: str
    sources: Tuple

    def runs(self):
        """See the module."""
        return [folder for _, *folders in self.sources for folder in folders]

    def _found(self, work):
        return reconstruction_curves.compared(
            {name: (_lines(work, first), _lines(work, second))
             for name, first, second in self.sources})

    def figure(self, work):
        """See the module."""
        found = self._found(work)
        return reconstruction_curves.compared_curves(found) if found else None

    def table(self, work):
        """See the module."""
        found = self._found(work)
        return reconstruction_curves.compared_table(found) if found else None


def _lines(work, folder):
    """Lines of a run's metrics.jsonl; none of one that has not begun."""
    path = pathlib.Path(work, folder, run_curves.METRICS)
    return journal.Journal.read(path) if path.is_file() else []


@dataclasses.dataclass(frozen=True)
class Setting:
    """A panel of `Settings`.

    Attributes:
      label: of the setting.
      lines: ((name, ((value, Source), ...)), ...).
      levels: ((name, Source), ...) of what does not depend on it.
      printed_best, logarithmic: see setting_curves.Panel.
    """
    label: str
    lines: Tuple
    levels: Tuple = ()
    printed_best: Optional[float] = None
    logarithmic: bool = False


@dataclasses.dataclass(frozen=True)
class Settings:
    """mIoU of finished runs over the values of settings (Durall et al., Fig. 4).

    Attributes:
      file: see above.
      panels: (`Setting`, ...).
    """
    file: str
    panels: Tuple[Setting, ...]

    def sources(self):
        """[Source] of all numbers."""
        return [source for panel in self.panels for source in (
            *(source for _, points in panel.lines for _, source in points),
            *(source for _, source in panel.levels))]

    def runs(self):
        """See the module."""
        return [source.runs for source in self.sources()]

    def figure(self, work):
        """See the module."""
        panels = [setting_curves.Panel(
            panel.label, {name: {value: _miou(source, work) for value, source in points}
                          for name, points in panel.lines},
            {name: _miou(source, work) for name, source in panel.levels},
            panel.printed_best, panel.logarithmic) for panel in self.panels]
        there = any(runs for panel in panels for runs in (
            *panel.levels.values(), *(runs for found in panel.lines.values()
                                      for runs in found.values())))
        return setting_curves.figure(panels, 'mIoU') if there else None

    def table(self, work):
        """None: the entry's own table has the numbers."""
        del work


@dataclasses.dataclass(frozen=True)
class Bars:
    """mIoU of finished runs as bars in groups (Durall et al., Fig. 8).

    Attributes:
      file: see above.
      groups: ((group, ((name, Source), ...)), ...).
    """
    file: str
    groups: Tuple

    def sources(self):
        """[Source] of all numbers."""
        return [source for _, found in self.groups for _, source in found]

    def runs(self):
        """See the module."""
        return [source.runs for source in self.sources()]

    def figure(self, work):
        """See the module."""
        groups = {group: {name: _miou(source, work) for name, source in found}
                  for group, found in self.groups}
        there = any(runs for found in groups.values() for runs in found.values())
        return grouped_bars.figure(groups, 'mIoU') if there else None

    def table(self, work):
        """None: the entry's own table has the numbers."""
        del work


def _miou(source: Source, work):
    return found_numbers.values(source, 'miou', work)
