"""The report of a run: ONE self-contained HTML file that a person can read, and send.

Inline style, images as data, no script, no network; light and dark, telephone and desk.
"""
import dataclasses
from typing import Any, Dict, Optional, Sequence, Tuple

from tf_advseg.core import files
from tf_advseg.reporting import curves, like_with_like, panels, tables, training_curves
from tf_advseg.reporting.pages import page

CHOICE_NOTE = ('LoAd chooses its peaks by the hold-out, and so does the control: a gain on the '
               'hold-out is partly the luck of that choice and not yet a gain. What counts is '
               'the test split, which chose nothing.')
NO_CONTROL_NOTE = ('There is no CE-only control with the same peak picking beside this run, so '
                   'nothing here separates what the adversarial term did from what more '
                   'training and choosing the best moment did.')
SPLIT_NOTES = {'hold-out': 'peaks were chosen by it', 'test': 'chose nothing'}
_BESIDE = 10  # columns of figures at most that stand beside each other


@dataclasses.dataclass
class RunReport:
    """What a report shows; every part may be missing, and is then left out or said to be missing.

    Attributes:
      title: the page's heading.
      summary: sentences under it.
      state: 'finished', 'running' or any word for where the run stands.
      holdout, test: dict of model name -> summary (evaluation.metrics.summary: class_iou, miou,
        pixel_accuracy) or None; the same names in both.
      start, control, subject: which of these names are the start (Stage 1), the CE-only control
        (None: there is none) and the model whose gains are given.
      choice_note: what was chosen by the hold-out, and what that means for its figures.
      no_control_note: what is said where there is no control.
      split_notes: split -> words behind its name in the heading of the table by class.
      measures: further tables.Table objects, shown behind those made of the summaries.
      figures: (caption, PNG bytes or matplotlib Figure) pairs.
      panels: (caption, PNG bytes or uint8 [H, W, 3]) pairs.
      configuration: the gin text.
      environment: name -> version, device, seed, command …
      wall_time: phase -> seconds.
      journal: lines of text, the run's story in brief.
      journal_note: what their first column is.
    """
    title: str = 'A LoAd run'
    summary: Sequence[str] = ()
    state: str = 'running'
    holdout: Optional[Dict[str, Optional[dict]]] = None
    test: Optional[Dict[str, Optional[dict]]] = None
    start: str = 'start'
    control: Optional[str] = 'control'
    subject: str = 'LoAd'
    choice_note: str = CHOICE_NOTE
    no_control_note: str = NO_CONTROL_NOTE
    split_notes: Dict[str, str] = dataclasses.field(default_factory=lambda: dict(SPLIT_NOTES))
    measures: Sequence[tables.Table] = ()
    figures: Sequence[Tuple[str, Any]] = ()
    panels: Sequence[Tuple[str, Any]] = ()
    configuration: str = ''
    environment: Dict[str, Any] = dataclasses.field(default_factory=dict)
    wall_time: Dict[str, float] = dataclasses.field(default_factory=dict)
    journal: Sequence[str] = ()
    journal_note: str = 'the number in front is propagations spent'


def run_report(title, events, metrics=(), control_events=None, control_metrics=None,
               beta_u=None, beta_l=None, **fields):
    """A RunReport from journals: its state, figures, summary sentences, wall time and story.

    Args:
      title: the page's heading.
      events, metrics: lines of the run's journal.jsonl and metrics.jsonl.
      control_events, control_metrics: the CE-only control's, or None.
      beta_u, beta_l: the controller's thresholds, drawn into the graph.
      **fields: further fields of RunReport, which win over what the journals say; sentences
        given as `summary` are put in front of those made here.

    Returns:
      RunReport.
    """
    finished = _last(events, 'finished')
    report = RunReport(title=title, state='finished' if finished else
                       'running' if events else 'not started')
    if finished:
        report.wall_time = dict(finished.get('seconds') or {})
    report.figures = _figures(events, metrics, control_events, control_metrics, beta_u, beta_l)
    report.journal = [line for line in map(_story_line, events) if line]
    own = list(fields.pop('summary', ()))
    set_fields(report, fields)
    report.subject, report.control = like_with_like.chosen(report.test or report.holdout or {},
                                                           report.subject, report.control)
    report.summary = own + summary_sentences(report, events, metrics)
    return report


def set_fields(report, fields):
    """Sets fields of a RunReport by name; TypeError for one that it has not."""
    for name, value in fields.items():
        if name not in {field.name for field in dataclasses.fields(RunReport)}:
            raise TypeError(f'RunReport has no field {name!r}')
        setattr(report, name, value)


def summary_sentences(report, events, metrics=()):
    """What happened, in sentences: how far, how many peaks, the gains on hold-out and on test."""
    start, finished = _last(events, 'start'), _last(events, 'finished')
    if not start:
        return ['This run has not started its first cycle yet.'] if not report.test else []
    cycles = curves.history(events, metrics)
    peaks = sum(1 for cycle in cycles if cycle.peak)
    spent = max([cycle.steps[-1] for cycle in cycles if cycle.steps], default=0)
    if finished:
        spent = finished.get('propagations', spent)
    ended = {'max_cycles': 'no new peak in the last Ψ cycles',
             'budget': 'the propagations allowed are spent',
             'max_total_cycles': 'the cycles allowed are done',
             'nonfinite': 'too many losses that are no number'}
    reason = str(finished.get('reason', '')) if finished else ''
    sentences = [
        f'{count(spent, "propagation")} in {count(len(cycles), "cycle")}, '
        f'{count(peaks, "cycle")} with a new peak; '
        + (f'finished: {ended.get(reason, reason.replace("_", " ")) or "done"}.' if finished
           else 'not finished yet: the figures are those so far.')]
    best = [c.peak['miou'] for c in cycles if c.peak and curves.is_finite(c.peak.get('miou'))]
    if curves.is_finite(start.get('miou')):
        top = max([start['miou'], *best])
        sentences.append(f'Best mIoU on the hold-out {100 * top:.2f} %, against '
                         f'{100 * start["miou"]:.2f} % at the start '
                         f'({points(top - start["miou"])} points).')
    sentences += gain_sentences(report)
    stopped = sum(1 for e in events if e.get('event') == 'nonfinite')
    if stopped:
        sentences.append(f'{count(stopped, "time")} a loss was no finite number and the run '
                         'was rewound.')
    return sentences


def gain_sentences(report):
    """The subject's mIoU on the test split and its gains, as a list of sentences.

    One for each kind of weights, like against like (see `like_with_like`), and one that says what
    averaging did by itself.
    """
    test = report.test or {}
    mious = {name: summary['miou'] for name, summary in test.items()
             if summary and curves.is_finite(summary.get('miou'))}
    shown = (report.subject, report.control)
    sentences = []
    for subject, control in like_with_like.pairs(mious, *shown) or [shown]:
        if subject in mious:
            parts = [f'{points(mious[subject] - mious[name])} points against {name}'
                     for name in (report.start, control) if name in mious and name != subject]
            sentences.append(f'On the test split {subject} has {100 * mious[subject]:.2f} % mIoU'
                             + (f': {", ".join(parts)}.' if parts else '.'))
    changes = [f'{points(mious[averaged] - mious[name])} points for {name}'
               for averaged, name in like_with_like.averaging(mious, *shown)
               if (averaged, name) != shown]
    if changes:
        sentences.append('Averaging the weights by itself changed the mIoU on the test split by '
                         f'{" and ".join(changes)}.')
    return sentences


def _figures(events, metrics, control_events, control_metrics, beta_u, beta_l):
    """The figures that have something to show, with captions."""
    control = control_events, control_metrics
    figures = []
    if _last(events, 'start'):
        figures.append((
            'Convergence (as LoAd Figs 1a and 3): mIoU on the hold-out against propagations '
            'spent. Triangles up are peaks g_i, triangles down the cycles\' ends, dashed arrows '
            'the rewinds.', curves.convergence_graph(events, metrics, *control, beta_u, beta_l)))
        figures.append((
            'The buffer after each cycle (as LoAd Fig. 1b): whose label maps the discriminator '
            'learns to tell from the truth. Strong cells are new, pale ones were kept.',
            curves.buffer_timeline(events)))
        if len(curves.history(events, metrics)) > 1:
            figures.append((
                'The same cycles over the propagations behind their weights: cycles from one '
                'start lie over each other.',
                curves.convergence_graph(events, metrics, *control, axis='iterations')))
    kinds = {m.get('event') for m in metrics}
    if 'discriminator' in kinds:
        figures.append(('The discriminator\'s accuracy on its own hold-out, retraining by '
                        'retraining; 50 % is guessing.',
                        training_curves.discriminator_curve(metrics, events)))
    if any(key.startswith('grad_ratio/') for m in metrics for key in m):
        figures.append(('Norm of the adversarial gradient over the cross-entropy\'s.',
                        training_curves.gradient_ratio_curve(metrics)))
    if 'stage' in kinds:
        figures.append(('Cross-entropy in the stages before LoAd.',
                        training_curves.stage_loss_curve(metrics)))
    return figures


def _last(events, kind):
    return next((e for e in reversed(list(events)) if e.get('event') == kind), None)


def count(number, noun):
    """'1 cycle', '2 cycles'."""
    return f'{number} {noun}' if number == 1 else f'{number} {noun}s'


def points(fraction):
    """A difference of fractions in percentage points, with its sign: '+0.90', '0.00'."""
    value = round(100 * fraction, 2) + 0.0
    return f'{value:+.2f}' if value else '0.00'


def _story_line(event):
    """One line of the run's story, or '' for an event that needs none."""
    kind = event.get('event')
    head = f'{event.get("budget_step", ""):>6}  '
    where = f'cycle {event.get("cycle")}'
    miou = f'{100 * event["miou"]:.2f} %' if curves.is_finite(event.get('miou')) else '–'
    if kind == 'start':
        return f'{head}start from {event.get("label", "g0")}: {miou}'
    if kind == 'peak':
        return f'{head}{where}: peak {event.get("label")} {miou}'
    if kind == 'end':
        return f'{head}{where}: ends as {event.get("label")} {miou} ({event.get("reason", "?")})'
    if kind == 'rewind':
        return f'{head}{where}: back to {event.get("to")} {miou}'
    if kind == 'aggregate':
        size = event.get('bytes')
        size = f', {size / 2 ** 20:.1f} MiB' if curves.is_finite(size) else ''
        return f'{"":>6}  {where}: buffer {" ".join(map(str, event.get("slots", ())))}{size}'
    if kind == 'retrain':
        real, fake = (f'{100 * event[k]:.0f} %' if curves.is_finite(event.get(k)) else '–'
                      for k in ('disc/acc_real', 'disc/acc_fake'))
        return (f'{"":>6}  {where}: discriminator {event.get("epochs", "?")} epochs, '
                f'real {real}, fake {fake}')
    if kind == 'screening' and curves.is_finite(event.get('signal')):
        nowhere = ', the adversary points nowhere' if event.get('points_nowhere') else ''
        return f'{"":>6}  {where}: screening, signal {event["signal"]:.3f}{nowhere}'
    if kind == 'nonfinite':
        return f'{head}a loss that is no finite number: rewound'
    return ''


def write_report(path, content):
    """Writes the page; the file is whole or not there.

    Args:
      path: the HTML file; an older one is replaced.
      content: a RunReport, or a dict of its fields.

    Raises:
      UserError: the file cannot be written.
      TypeError: the dict has a field that RunReport has not.
    """
    report = RunReport(**content) if isinstance(content, dict) else content
    with files.atomic_file(path) as file:
        file.write(render(report).encode('utf-8'))


def render(report):
    """The page as a string."""
    phases = _phases(report.wall_time)
    total = sum(seconds for _, seconds in phases)
    return page.render(
        'report.html', title=report.title, report=report, results=_results(report),
        images=[(heading, [page.figure(caption, _image(entry)) for caption, entry in pairs])
                for heading, pairs in (('Curves', report.figures), ('Panels', report.panels))],
        phases=[(name, duration(seconds), f'{100 * seconds / total:.1f}')
                for name, seconds in phases],
        together=duration(total), events=count(len(report.journal), 'event'),
        environment=_environment(report.environment))


def _results(report):
    """What the page says of the splits, as a dict for the template; None before any evaluation."""
    splits = {name: columns for name, columns in (('hold-out', report.holdout),
                                                  ('test', report.test))
              if columns and any(columns.values())}
    if not splits:
        return None
    controls = [columns.get(report.control) for columns in splits.values()]
    return {'has_control': report.control is not None and any(controls),
            'missing': [name for name in ('hold-out', 'test') if name not in splits],
            'tables': _split_tables(report, splits),
            'measures': [tables.to_html(table) for table in report.measures]}


def _split_tables(report, splits):
    """The tables of {split: {model: summary}} in HTML: in short, then by class."""
    names = {'start': report.start, 'control': report.control, 'subject': report.subject}
    titled = {name: f'{name} ({report.split_notes[name]})' if report.split_notes.get(name) else name
            for name in splits}
    by_class = {titled[name]: tables.class_table(columns, **names)
                for name, columns in splits.items()}
    short = tables.to_html(tables.split_table(splits, title='In short', **names))
    if sum(len(table.header) - 1 for table in by_class.values()) <= _BESIDE:
        return [short, tables.side_by_side_html(by_class, 'Per class')]
    return [short, *(tables.to_html(table, f'Per class, {name}')
                     for name, table in by_class.items())]


def _image(entry):
    """PNG bytes, a matplotlib Figure or an array -> the bytes of a PNG."""
    if hasattr(entry, 'savefig'):
        entry = curves.encode(entry)
    elif not isinstance(entry, (bytes, bytearray)):
        entry = panels.encode_png(entry)
    return bytes(entry)


def duration(seconds):
    """Seconds for a reader: '8.2 s', '3 min 20 s', '2 h 05 min'."""
    if seconds < 60:
        return f'{seconds:.1f} s'
    if round(seconds) < 3600:
        return f'{round(seconds) // 60} min {round(seconds) % 60:02d} s'
    minutes = round(seconds / 60)
    return f'{minutes // 60} h {minutes % 60:02d} min'


def _phases(wall_time):
    """(name, seconds) pairs, the longest first; [] where they took no time together."""
    phases = [(str(name).replace('_', ' '), float(value)) for name, value in wall_time.items()
              if curves.is_finite(value)]
    if sum(seconds for _, seconds in phases) <= 0:
        return []
    return sorted(phases, key=lambda phase: -phase[1])


def _environment(environment):
    """The table of versions and machine in HTML, or None."""
    if not environment:
        return None
    flat = []
    for name, value in environment.items():
        if isinstance(value, dict):
            flat += [(f'{name}: {key}', entry) for key, entry in value.items()]
        else:
            flat.append((name, ' '.join(map(str, value)) if isinstance(value, (list, tuple))
                         else value))
    return tables.to_html(tables.plain_table(('what', 'value'), flat))
