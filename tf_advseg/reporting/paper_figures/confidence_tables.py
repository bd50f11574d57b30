"""Table 7 of Hung et al. (2018), its course over training, and what shares are worth: as read.

They take the named numbers of `evaluation.confidence_counts.figures`, from a results file or from
lines of metrics.jsonl with `event` confidence.
"""
from tf_advseg.reporting import curves, tables

EVENT = 'confidence'
THRESHOLD = 0.2  # T of the paper
NOTE = ('Selected are the points whose confidence is above T; at T = 0 all are. The softmax is '
        'given as many points as the discriminator selects, those of the largest probability: '
        'accuracies can be compared at an equal share only. The AUC is the probability that a '
        'right point has the larger confidence than a wrong one; 0.5 is knowing nothing.')
SOFTMAX_NOTE = ('There is no discriminator beside this model, so the confidence is the largest '
                'softmax probability, and T is a threshold on it.')
_DISC, _SOFTMAX, _ALL = '#2f6db5', '#c07a1c', curves.QUIET


def thresholds(found):
    """The thresholds that named numbers have, ascending: list of (float, as it is written)."""
    names = {key.partition('@')[2] for key in found if '@' in key}
    return sorted((float(name), name) for name in names)


def selection_table(found, title=''):
    """Table 7: a row a threshold.

    Args:
      found: from `evaluation.confidence_counts.figures`.
      title: what stands above, before the AUCs.

    Returns:
      tables.Table in percent: the selected share, its accuracy and, where a discriminator selects,
      the softmax's at the same share, and what the discriminator is ahead by, in points.
    """
    judged = 'disc/auc' in found
    head = ('T', 'selected (%)', 'accuracy (%)',
            *(('softmax at this share', 'difference') if judged else ()))
    rows = []
    for _, name in thresholds(found):
        own = 'disc' if judged else 'softmax'
        values = [found.get(f'{own}/share@{name}'), found.get(f'{own}/accuracy@{name}')]
        if judged:
            values.append(found.get(f'softmax/accuracy@{name}'))
        cells = [tables.Cell(name), *(tables.Cell(_percent(value)) for value in values)]
        if judged:
            there = None not in values[1:]
            cells.append(tables.Cell(100.0 * (values[1] - values[2]) if there else None,
                                     gain=True))
        rows.append(tuple(cells))
    areas = ', '.join(f'{label} {found[key]:.3f}' for key, label in (
        ('disc/auc', 'discriminator'), ('softmax/auc', 'softmax'))
        if curves.is_finite(found.get(key)))
    return tables.Table(head, tuple(rows), '; '.join(
        part for part in (title, f'AUC: {areas}' if areas else '') if part))


def last_line(metrics, stage=None):
    """The last line of a confidence in metrics.jsonl, or None.

    Args:
      metrics: its lines.
      stage: of which stage; None for any.
    """
    found = _lines(metrics, stage)
    return found[-1] if found else None


def _lines(metrics, stage):
    return [line for line in metrics if line.get('event') == EVENT
            and (stage is None or line.get('stage') == stage)]


def selection_curves(metrics, stage=None):
    """What the discriminator's confidence was worth over training.

    Args:
      metrics: lines of metrics.jsonl; those with `event` confidence and a segmentor_step are read,
        and of the stage's steps 'semi/selected', the share of unlabelled points that were learnt
        from.
      stage: the stage's name; None for any.

    Returns:
      matplotlib Figure: the selected share; the accuracy of what is selected, of the softmax's as
      many points and of all points; both AUCs. One with a note where nothing was logged.
    """
    figure, axes = curves.new_figure(9.0, 6.2)
    lines = [line for line in _lines(metrics, stage) if 'segmentor_step' in line]
    if not lines:
        curves.write_note(axes, 'no confidence was measured yet')
        return figure
    axes.remove()
    share, accuracy, auc = figure.subplots(3, 1, sharex=True, height_ratios=(2, 3, 2))
    own = lines[-1].get('threshold', THRESHOLD)  # the run's T
    shown, name = min(thresholds(lines[-1]), key=lambda one: abs(one[0] - own))
    steps = [line['segmentor_step'] for line in lines]
    trained = [(m['segmentor_step'], 100.0 * m['semi/selected']) for m in metrics
               if curves.is_finite(m.get('semi/selected')) and 'segmentor_step' in m
               and (stage is None or m.get('stage') == stage)]
    if trained:
        share.plot(*zip(*trained), '.', color=_ALL, alpha=0.5, markersize=3,
                   label='of unlabelled batches, in training')
    drawn = ((share, f'disc/share@{name}', _DISC, 'hold-out', 100.0),
             (accuracy, f'disc/accuracy@{name}', _DISC, 'selected by the discriminator', 100.0),
             (accuracy, f'softmax/accuracy@{name}', _SOFTMAX, 'by the softmax, as many', 100.0),
             (accuracy, 'accuracy', _ALL, 'all points', 100.0),
             (auc, 'disc/auc', _DISC, 'discriminator', 1.0),
             (auc, 'softmax/auc', _SOFTMAX, 'softmax', 1.0))
    for where, key, colour, label, scale in drawn:
        values = [scale * line[key] if curves.is_finite(line.get(key)) else float('nan')
                  for line in lines]
        where.plot(steps, values, '.-', color=colour, linewidth=1.4, label=label)
    share.set_ylim(bottom=0)
    auc.axhline(0.5, color=curves.QUIET, linewidth=0.8, linestyle=':')
    for each, text in ((share, f'selected\nat T = {shown:g} (%)'), (accuracy, 'accuracy (%)'),
                       (auc, 'AUC')):
        each.set_ylabel(text)
        each.spines[['top', 'right']].set_visible(False)
        each.grid(True, color='#000000', alpha=0.08, linewidth=0.6)
        each.legend(frameon=False, fontsize=8, ncols=3, loc='lower right',
                    bbox_to_anchor=(1.0, 0.97), borderaxespad=0.0)
    auc.set_xlabel('segmentor\'s steps')
    return figure


def coverage_figure(series, selected=()):
    """The accuracy of the most confident points against their share.

    Args:
      series: {what judges: (shares, accuracies)} as `SelectionCounts.coverage` gives them, the
        discriminator first where there is one.
      selected: (T as it is written, share, accuracy) triples, marked on the first's line.

    Returns:
      matplotlib Figure.
    """
    figure, axes = curves.new_figure(7.0, 4.0)
    colours = (_DISC, _SOFTMAX) if len(series) > 1 else (_SOFTMAX,)
    for colour, (name, (shares, accuracies)) in zip(colours, series.items()):
        kept = [place for place, share in enumerate(shares) if share >= 0.005]
        axes.plot([100.0 * shares[place] for place in kept],
                  [100.0 * accuracies[place] for place in kept], color=colour, linewidth=1.6,
                  label=name)
    for name, share, accuracy in selected:
        if curves.is_finite(share) and curves.is_finite(accuracy):
            axes.plot(100.0 * share, 100.0 * accuracy, 'o', color=colours[0], markersize=5)
            axes.annotate(f'T = {name}', (100.0 * share, 100.0 * accuracy), (-4, -12),
                          textcoords='offset points', fontsize=8, color=colours[0],
                          horizontalalignment='right')
    axes.set_xlabel('most confident points (% of all)')
    axes.set_ylabel('of these right (%)')
    axes.set_xlim(0, 100)
    axes.legend(frameon=False, fontsize=8, loc='lower left')
    return figure


def _percent(fraction):
    return 100.0 * fraction if curves.is_finite(fraction) else None
