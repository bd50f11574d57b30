"""Curves of training: the discriminator's accuracy, the stages' loss, the gradients' ratio.

They read metrics.jsonl as plain dicts and return matplotlib figures, as curves.py does.
"""
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from tf_advseg.reporting import curves


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
        axes.plot(xs, _running_mean(ys), color=colour, linewidth=1.7,
                  label=name.replace('_', ' '))
        offset = max(xs)
    axes.set_xlabel('steps')
    axes.set_ylabel('cross-entropy')
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize=8)
    return figure


def _running_mean(values, keep=0.8):
    """Exponential mean, unbiased at the start; nan where no finite value came yet."""
    total = weight = 0.0
    means = []
    for value in values:
        if curves.is_finite(value):
            total, weight = keep * total + value, keep * weight + 1.0
        means.append(total / weight if weight else float('nan'))
    return means


def gradient_ratio_curve(metrics):
    """Norm of the adversarial gradient over that of the CE gradient, and their cosine where logged.

    Reads the keys grad_ratio/… and grad_cosine/… of any metrics line with a budget_step. Returns
    a matplotlib Figure; the ratio's axis is logarithmic.
    """
    figure, axes = curves.new_figure(9.0, 3.2)
    series = {}
    for line in metrics:
        for key, value in line.items():
            if key.startswith(('grad_ratio/', 'grad_cosine/')) and 'budget_step' in line \
                    and curves.is_finite(value):
                series.setdefault(key, []).append((line['budget_step'], value))
    ratios = {k: v for k, v in series.items()
              if k.startswith('grad_ratio/') and any(y > 0 for _, y in v)}
    if not ratios:
        curves.write_note(axes, 'no gradient ratio logged')
        return figure
    for key, points in ratios.items():
        points = sorted(p for p in points if p[1] > 0)
        axes.plot(*zip(*points), '.-', color='#2f6db5', linewidth=1.3, label=key)
    axes.set_yscale('log')
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f'{value:g}'))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.axhline(1.0, color=curves.QUIET, linewidth=0.8, linestyle=':')
    axes.set_xlabel('propagations spent')
    axes.set_ylabel('|∇adv| / |∇CE|')
    cosines = {k: v for k, v in series.items() if k.startswith('grad_cosine/')}
    if cosines:
        other = axes.twinx()
        for key, points in cosines.items():
            other.plot(*zip(*sorted(points)), '.', color='#c07a1c', markersize=4, label=key)
        other.set_ylim(-1.05, 1.05)
        other.set_ylabel('cosine', color='#c07a1c')
        other.spines['top'].set_visible(False)
    return figure
