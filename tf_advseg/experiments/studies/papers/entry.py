"""What a table or figure of a paper is here: its commands, what they need, the paper's numbers."""
import dataclasses
import re
import shlex
from typing import Optional, Tuple

CONTROL, STAGE1 = 'control (CE)', 'Stage 1'  # columns of results.json
# <data:NAME>, <weights:NAME> and <work> in a command.
PLACE = re.compile(r'<(data|weights):(\w+)>')
WORK = '<work>'


@dataclasses.dataclass(frozen=True)
class Need:
    """A data set or a file of weights.

    Attributes:
      title: for a reader.
      get: where it is to be had.
      shared: its file below the folder `shared`; '' where none lies there.
      generated: whether it needs no file at all.
    """
    title: str
    get: str
    shared: str = ''
    generated: bool = False


@dataclasses.dataclass(frozen=True)
class Source:
    """Where a number of ours lies: a model's scores in the results of finished runs.

    Attributes:
      runs: a pattern below the work folder; several matches are seeds.
      column: the model's name in results.json.
      split: of the scores.
    """
    runs: str
    column: str
    split: str = 'test'


@dataclasses.dataclass(frozen=True)
class Time:
    """How long it took somewhere, with the committed file that says so."""
    text: str
    file: str


@dataclasses.dataclass(frozen=True)
class Way:
    """One way to make a table or figure.

    Attributes:
      commands: command lines, a tool's name first, in the order in which they run; with `PLACE`s.
      rows: ((label, (`Source` of each column, or of all)), ...); None is a number that no file has.
      files: patterns below the work folder: where the figure lies.
      chart: of the module `charts`: what is drawn of several of the commands' runs; None for none.
      time: `Time`; None where nothing committed says it.
      note: what differs from the paper, and what the commands do not give.
    """
    commands: Tuple[str, ...]
    rows: Tuple = ()
    files: Tuple[str, ...] = ()
    chart: object = None
    time: Optional[Time] = None
    note: str = ''

    def words(self):
        """[[tool, word, ...]]: the commands, taken apart."""
        return [shlex.split(command) for command in self.commands]

    def needs(self):
        """[(kind, name)]: the data sets and weights of all commands, each once."""
        return list(dict.fromkeys(PLACE.findall(' '.join(self.commands))))


@dataclasses.dataclass(frozen=True)
class Entry:
    """A table or figure of a paper.

    Attributes:
      kind, number: 'table' or 'figure', and its number as text; 'S2' is of the supplement.
      title: what it shows.
      columns: headings of the numbers.
      measures: what each column is in our results: a name of `tabled_measures.MEASURES`, or
        'iou/CLASS'.
      numbers: ((label, (number of each column, or None)), ...), percent, the paper's own.
      paper: `Way` on the paper's data; None where there is none.
      here: `Way` on data at hand that stands in its place; None where none does, or none has to.
      why: why nothing can be run, or why nothing stands in its place.
    """
    kind: str
    number: str
    title: str
    columns: Tuple[str, ...] = ()
    measures: Tuple[str, ...] = ()
    numbers: Tuple = ()
    paper: Optional[Way] = None
    here: Optional[Way] = None
    why: str = ''

    def ways(self):
        """{'paper': Way, 'here': Way}: those that there are."""
        found = {'paper': self.paper, 'here': self.here}
        return {name: way for name, way in found.items() if way is not None}


@dataclasses.dataclass(frozen=True)
class Paper:
    """A paper: its name here, what to call it, its entries."""
    name: str
    title: str
    entries: Tuple[Entry, ...]


def drawing(number, title):
    """A figure that shows no result."""
    return Entry('figure', number, title, why='a drawing of the method: nothing is computed')
