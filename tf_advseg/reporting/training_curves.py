"""Curves of training: the discriminator's accuracy, the losses, the gradients' ratio.

They read metrics.jsonl as plain dicts and return matplotlib figures, as curves.py does.
"""
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from tf_advseg.reporting import curves

# Shares of the discriminator's predictions: what they are called, and their colour.
_SHARES = {'disc/acc_real': ('real taken for real', curves.PEAK),
           'disc/acc_fake': ('fake taken for fake', curves.END),
           'disc/fooled': ('fake taken for real, when the segmentor learns', '#2f6db5')}

# The segmentor's further terms: what they are called, and their colour.
_TERMS = (('loss/adv', 'adversarial term', '#c07a1c'),
          ('loss/content', 'content term', '#1b7f4b'),
          ('loss/adv_unlabelled', 'the same, unlabelled', '#d9b38c'),
          ('loss/semi', 'self-taught term', '#7a4fb0'),
          ('loss/consistency', 'consistency term', '#7a4fb0'),
          ('loss/embedding', 'embedding term', '#1b7f4b'))

# Of which term a ratio and a cosine are: what it is called, the colours of the one and the other.
_GRADIENTS = {'adv_ce': ('adversarial term', '#2f6db5', '#c07a1c'),
              'content_ce': ('content term', '#1b7f4b', '#7a4fb0')}


def discriminator_curve(metrics, events=()):
    """The discriminator's accuracy on real and on fake maps against its epochs, retrainings apart.

    Reads metrics lines with `event` discriminator (cycle, epoch, disc/acc_real, disc/acc_fake)
    and, for the epoch kept, `retrain` (cycle, best_epoch). Returns a matplotlib Figure.
    """
    figure, axes = curves.new_figure(9.0, 3.4)
    lines = [m for m in metrics if m.get('event') == 'discriminator']
    if not lines:
        curves.write_note(axes, 'the discriminator has not been trained yet')
        return figure
    for name, colour in (('real', curves.PEAK), ('fake', curves.END)):
        key = f'disc/acc_{name}'
        xs, ys = [], []
        for number, line in enumerate(lines):
            if number and line.get('cycle') != lines[number - 1].get('cycle'):
                xs.append(number - 0.5)
                ys.append(None)                  # a gap where a new retraining begins
            xs.append(number)
            ys.append(line.get(key))
        axes.plot(xs, curves.percentages(ys), '.-', color=colour, label=name, linewidth=1.4)
    best = {e.get('cycle'): e.get('best_epoch') for e in events if e.get('event') == 'retrain'}
    borders = [n for n in range(len(lines))
               if n == 0 or lines[n].get('cycle') != lines[n - 1].get('cycle')]
    for begin in borders[1:]:
        axes.axvline(begin - 0.5, color='#000000', alpha=0.15, linewidth=0.8)
    kept = [n for n, line in enumerate(lines) if line.get('epoch') is not None
            and best.get(line.get('cycle')) == line.get('epoch')]
    axes.plot(kept, [0.02] * len(kept), '|', color=curves.QUIET, markersize=8, label='epoch kept',
              transform=axes.get_xaxis_transform(), linestyle='')
    axes.axhline(50, color=curves.QUIET, linewidth=0.8, linestyle=':')
    axes.set_ylim(-2, 102)
    axes.set_xlabel('discriminator epochs, one retraining after the other')
    axes.set_ylabel('hold-out accuracy (%)')
    axes.legend(frameon=False, fontsize=8, ncols=3, loc='upper center',
                bbox_to_anchor=(0.5, 1.14))
    return figure


def stage_loss_curve(metrics):
    """Cross-entropy against steps for every CE stage, grey the points and dark their running mean.

    Reads metrics lines with `event` stage (stage, step, loss/ce). Returns a matplotlib Figure.
    """
    figure, axes = curves.new_figure(9.0, 3.4)
    stages = {}
    for line in metrics:
        if line.get('event') == 'stage' and 'step' in line:
            stages.setdefault(str(line.get('stage', 'stage')), []).append(
                (line['step'], line.get('loss/ce')))
    if not stages:
        curves.write_note(axes, 'no stage has been trained yet')
        return figure
    offset = 0
    colours = ('#2f6db5', '#c07a1c', '#1b7f4b', '#7a4fb0')
    for number, (name, points) in enumerate(stages.items()):
        points.sort(key=lambda p: p[0])
        colour = colours[number % len(colours)]
        # A stage that counts from 0 again is put behind the one before.
        shift = offset if points[0][0] <= offset and number else 0
        xs = [step + shift for step, _ in points]
        ys = [v if curves.is_finite(v) else float('nan') for _, v in points]
        axes.plot(xs, ys, '.', color=colour, alpha=0.3, markersize=3)
        axes.plot(xs, running_mean(ys), color=colour, linewidth=1.7,
                  label=name.replace('_', ' '))
        offset = max(xs)
    axes.set_xlabel('steps')
    axes.set_ylabel('cross-entropy')
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize=8)
    return figure


def running_mean(values, keep=0.8):
    """Exponential mean of a curve, unbiased at the start.

    Args:
      values: numbers in the order of their steps; what is not finite is passed over.
      keep: weight of the mean so far against 1 - keep of a new value.

    Returns:
      list of as many floats; nan where no finite value came yet.
    """
    total = weight = 0.0
    means = []
    for value in values:
        if curves.is_finite(value):
            total, weight = keep * total + value, keep * weight + 1.0
        means.append(total / weight if weight else float('nan'))
    return means


def gradient_ratio_curve(metrics):
    """Norm of a term's gradient over that of the CE gradient, and their cosine where logged.

    Reads the keys grad_ratio/… and grad_cosine/… of any metrics line with a budget_step (LoAd) or,
    where there is none, a segmentor_step (methods that alternate): of the adversarial term
    (…/adv_ce) and, in Zhu et al.'s second phase, of the content term (…/content_ce). Returns a
    matplotlib Figure; the ratio's axis is logarithmic. Several terms get a legend.
    """
    figure, axes = curves.new_figure(9.0, 3.2)
    series = {}
    for line in metrics:
        place = line.get('budget_step', line.get('segmentor_step'))
        for key, value in line.items():
            if key.startswith(('grad_ratio/', 'grad_cosine/')) and place is not None \
                    and curves.is_finite(value):
                series.setdefault(key, []).append((place, value))
    ratios = {k: v for k, v in series.items()
              if k.startswith('grad_ratio/') and any(y > 0 for _, y in v)}
    if not ratios:
        curves.write_note(axes, 'no gradient ratio logged')
        return figure
    for key, points in ratios.items():
        points = sorted(p for p in points if p[1] > 0)
        name, colour, _ = _gradient_look(key)
        axes.plot(*zip(*points), '.-', color=colour, linewidth=1.3, label=name)
    axes.set_yscale('log')
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f'{value:g}'))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.axhline(1.0, color=curves.QUIET, linewidth=0.8, linestyle=':')
    spent = any('budget_step' in line for line in metrics)
    axes.set_xlabel('propagations spent' if spent else 'segmentor\'s steps')
    several = any(key.endswith('/content_ce') for key in series)
    axes.set_ylabel('|∇term| / |∇CE|' if several else '|∇adv| / |∇CE|')
    handles = list(axes.get_lines()[:-1])   # the last is the line at 1
    cosines = {k: v for k, v in series.items() if k.startswith('grad_cosine/')}
    if cosines:
        other = axes.twinx()
        for key, points in cosines.items():
            name, _, colour = _gradient_look(key)
            handles += other.plot(*zip(*sorted(points)), '.', color=colour, markersize=4,
                                  label=f'{name}, cosine')
        colour = curves.QUIET if several else handles[-1].get_color()
        other.set_ylim(-1.05, 1.05)
        other.axhline(0.0, color=colour, alpha=0.4, linewidth=0.8, linestyle=':')
        other.set_ylabel('cosine of the two', color=colour)
        other.spines['top'].set_visible(False)
    if several:
        axes.legend(handles=handles, frameon=False, fontsize=8, ncols=4, loc='upper center',
                    bbox_to_anchor=(0.5, 1.16))
    return figure


def _gradient_look(key):
    """(name, the ratio's colour, the cosine's) of 'grad_ratio/…' or 'grad_cosine/…'."""
    term = key.split('/', 1)[1]
    return _GRADIENTS.get(term, (term, *_GRADIENTS['adv_ce'][1:]))


def discriminator_steps_curve(metrics, stage=None):
    """The discriminator of a method: its loss, and how often it is right.

    Above the discriminator's loss (eq. 2 of Luc et al.) and below the share of truths (real) and of
    produced maps (fake) that it takes for what they are, in its own phase, and of produced maps
    that it takes for truth (fooled) in the segmentor's. Where a phase lasts for several logged
    lines the curves are broken at its ends and the discriminator's phases are tinted; where phases
    are shorter, its pre-training is. Where one step moves both networks, lines have everything.

    Args:
      metrics: lines of metrics.jsonl; those with `event` stage and a step are read: loss/disc,
        disc/acc_real and disc/acc_fake of the discriminator's phase, disc/fooled of the segmentor's
        (or all of one line, which has a segmentor_step then).
      stage: the stage's name; None reads every stage that has such lines.

    Returns:
      matplotlib Figure; one with a note where no discriminator was trained.
    """
    keys = ('loss/disc', *_SHARES)
    lines = sorted((m for m in metrics if m.get('event') == 'stage' and 'step' in m
                    and (stage is None or m.get('stage') == stage) and any(k in m for k in keys)),
                   key=lambda m: m['step'])
    figure, axes = curves.new_figure(9.0, 4.8)
    if not lines:
        curves.write_note(axes, 'the discriminator has not been trained yet')
        return figure
    axes.remove()
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(2, 3))
    blocks = _blocks(lines)
    later = blocks[1:] if len(blocks) > 2 else blocks  # the first holds the pre-training, too
    slow = sum(len(block) for _, block in later) >= 3 * len(later)
    for each in (above, below):
        if slow and len(blocks) > 1:
            _tint(each, blocks)
        elif pretraining_steps(lines):
            each.axvspan(0, pretraining_steps(lines), color=curves.END, alpha=0.06, linewidth=0)
    _broken(above, blocks, slow, 'loss/disc', 1.0, {'color': curves.QUIET})
    for key, (name, colour) in _SHARES.items():
        if any(key in line for line in lines):
            _broken(below, blocks, slow, key, 100.0, {'color': colour, 'label': name})
    above.set_ylabel('discriminator\'s loss')
    above.set_ylim(bottom=0)
    below.set_ylabel('share of predictions (%)')
    below.set_ylim(-2, 102)
    below.axhline(50, color=curves.QUIET, linewidth=0.8, linestyle=':')
    joint = any('loss/disc' in line and 'segmentor_step' in line for line in lines)
    below.set_xlabel('steps, of both networks at once' if joint else
                     'steps, the segmentor\'s and the discriminator\'s')
    below.legend(frameon=False, fontsize=8, ncols=3, loc='upper center',
                 bbox_to_anchor=(0.5, 1.16))
    for each in (above, below):
        each.spines[['top', 'right']].set_visible(False)
        each.grid(True, color='#000000', alpha=0.08, linewidth=0.6)
    return figure


def pretraining_steps(lines):
    """How many steps the discriminator took before the two networks began to take turns.

    Where they take turns, the discriminator's steps less the segmentor's are as many as that, give
    or take a block: the smallest such difference that the lines have.

    Args:
      lines: of metrics.jsonl of one stage; `step` counts both networks' steps and segmentor_step
        the segmentor's.

    Returns:
      int; 0 where the segmentor has no line.
    """
    return max(0, min((line['step'] - 2 * line['segmentor_step'] for line in lines
                       if 'step' in line and 'segmentor_step' in line), default=0))


def _blocks(lines):
    """Lines in order -> [(is it the discriminator's phase?, its lines)], neighbours of a phase."""
    blocks = []
    for line in lines:
        own = 'loss/disc' in line
        if not blocks or blocks[-1][0] != own:
            blocks.append((own, []))
        blocks[-1][1].append(line)
    return blocks


def _tint(axes, blocks):
    """Shades the discriminator's phases: from the last line before each to its own last."""
    end = None
    for own, lines in blocks:
        if own:
            axes.axvspan(lines[0]['step'] if end is None else end, lines[-1]['step'],
                         color=curves.END, alpha=0.06, linewidth=0)
        end = lines[-1]['step']


def _broken(axes, blocks, slow, key, scale, look):
    """A quantity's points and their running mean; with slow phases broken where one ends."""
    points = [[(line['step'], scale * line[key]) for line in lines
               if curves.is_finite(line.get(key))] for _, lines in blocks]
    parts = [part for part in points if part] if slow else [sum(points, [])]
    xs, ys, smooth = [], [], []
    for part in parts:
        values = [value for _, value in part]
        xs += [step for step, _ in part] + [float('nan')]
        ys += values + [float('nan')]
        smooth += running_mean(values) + [float('nan')]
    axes.plot(xs, ys, '.', color=look['color'], alpha=0.3, markersize=3)
    axes.plot(xs, smooth, linewidth=1.5, **look)


def segmentor_loss_curve(metrics, stage, control='control'):
    """Cross-entropy of a method and of its control, and the method's further terms.

    Args:
      metrics: lines of metrics.jsonl; those with `event` stage, a segmentor_step and loss/ce are
        read, and of `_TERMS` what is there.
      stage: the method's stage.
      control: its control's stage, or None.

    Returns:
      matplotlib Figure: loss/ce solid and dashed (the control), the terms on an axis of their own
      on the right; points are pale, lines their running mean. Axes begin at 0 unless a term goes
      below (Zhu et al.'s Wasserstein form does, eq. 6).
    """
    figure, axes = curves.new_figure(9.0, 3.4)

    def points(name, key):
        found = sorted((m['segmentor_step'], m[key]) for m in metrics
                       if m.get('event') == 'stage' and m.get('stage') == name
                       and 'segmentor_step' in m and curves.is_finite(m.get(key)))
        return [step for step, _ in found], [value for _, value in found]

    drawn = [(stage, 'loss/ce', axes, '#2f6db5', '-', 'cross-entropy'),
             (control, 'loss/ce', axes, curves.CONTROL, (0, (4, 2)), 'cross-entropy, control')]
    terms = [term for term in _TERMS if points(stage, term[0])[0]]
    if terms:
        other = axes.twinx()
        other.set_ylabel(terms[0][1] if len(terms) == 1 else 'further terms', color=terms[0][2])
        other.spines['top'].set_visible(False)
        drawn += [(stage, key, other, colour, '-', label) for key, label, colour in terms]
    handles, lowest = [], {}
    for name, key, where, colour, style, label in drawn:
        xs, ys = points(name, key) if name is not None else ([], [])
        if xs:
            where.plot(xs, ys, '.', color=colour, alpha=0.25, markersize=3)
            handles += where.plot(xs, running_mean(ys), color=colour, linestyle=style,
                                  linewidth=1.6, label=label)
            lowest[where] = min(ys + [lowest.get(where, 0.0)])
    if not handles:
        curves.write_note(axes, 'no step has been taken yet')
        return figure
    for where, low in lowest.items():
        if low >= 0:
            where.set_ylim(bottom=0)
    axes.set_xlabel('segmentor\'s steps')
    axes.set_ylabel('cross-entropy')
    axes.legend(handles=handles, frameon=False, fontsize=8, ncols=5, loc='upper center',
                bbox_to_anchor=(0.5, 1.14))
    return figure
