"""What tables and figures of the papers there are, and what each needs, as text."""
import pathlib

from tf_advseg.experiments.studies import reproducing
from tf_advseg.experiments.studies.papers import needs


def overview(papers, place):
    """Every entry of the papers in two lines: what it is; what is at hand, and how long it takes.

    Args:
      papers: [`papers.entry.Paper`].
      place: `reproducing.Place`.
    """
    lines = []
    for paper in papers:
        lines += [paper.title, '']
        for entry in paper.entries:
            lines.append(f'--paper={paper.name} --{entry.kind}={entry.number}  {entry.title}')
            said = [f'{reproducing.WAYS[name]}: {_state(way, place)}'
                    for name, way in entry.ways().items()]
            lines.append('    ' + '; '.join([*said, *([entry.why] if entry.why else [])]))
        lines.append('')
    return '\n'.join(lines).rstrip()


def _state(way, place):
    """'needs pascal_voc_2012', or 'at hand, TIME'."""
    missing = place.missing(way)
    if missing:
        return f'needs {", ".join(name for _, name in missing)}'
    return f'at hand, {way.time.text if way.time else "time not measured"}'


def need_text(kind, name, place):
    """'Stanford Background: at hand, PATH'."""
    need, path = needs.NEEDS[kind][name], place.of(kind, name)
    state = ('generated' if need.generated else f'at hand, {path}' if path else
             f'MISSING: --{reproducing.FLAGS[kind]}={name}=PATH ({need.get})')
    return f'{need.title}: {state}'


def way_text(way, place, indent='    '):
    """Lines on what a way needs, runs and takes."""
    lines = [f'needs {need_text(kind, name, place)}' for kind, name in way.needs()]
    lines += [reproducing.shown(words) for words in reproducing.commands(way, place)]
    lines.append(f'time: {_time_text(way, place)}')
    given = (*way.files, *((way.chart.file,) if way.chart else ()))
    lines += [f'gives {pathlib.PurePath(place.work, pattern)}' for pattern in given]
    lines += [f'note: {way.note}'] if way.note else []
    return [indent + line for line in lines]


def _time_text(way, place):
    """What is known of a way's time, or what has to be there before anybody can guess."""
    if way.time:
        return f'{way.time.text} ({way.time.file})'
    data = [name for kind, name in place.missing(way) if kind == 'data']
    if data:
        return f'not measured; a guess needs the data ({", ".join(data)})'
    return 'not measured; --estimate guesses it here'


def listing(papers, place):
    """Every entry of the papers, with all ways, as text."""
    lines = []
    for paper in papers:
        lines += [paper.title, '']
        for entry in paper.entries:
            lines.append(f'--paper={paper.name} --{entry.kind}={entry.number}  {entry.title}')
            for name, way in entry.ways().items():
                lines += [f'  {reproducing.WAYS[name]}:', *way_text(way, place)]
            lines += [f'  {entry.why}'] if entry.why else []
            lines.append('')
    return '\n'.join(lines).rstrip()


def entry_text(entry, name, way, place):
    """An entry with the way that was chosen."""
    lines = [f'{entry.kind} {entry.number}: {entry.title}']
    if way is None:
        return '\n'.join([*lines, entry.why])
    lines += [f'{reproducing.WAYS[name]}:', *way_text(way, place)]
    for other, its in entry.ways().items():
        missing = ', '.join(missed for _, missed in place.missing(its))
        if other != name:
            lines.append(f'(--on={other}: {reproducing.WAYS[other]}'
                         + (f'; not at hand: {missing})' if missing else ')'))
    lines += [entry.why] if entry.why else []
    return '\n'.join(lines)
