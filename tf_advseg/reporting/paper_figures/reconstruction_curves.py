"""Curves of a GAN that reconstructs images from masks, and of the segmentor it then supervises.

Zhu et al. (2018) train in two phases: the GAN on true masks, then, frozen, as a loss of the
segmentor. Their Figs 4, 6, 8, 9 and 10 show "gloss" and "segloss"; which phase gloss belongs to
they do not say, so it is drawn of both. What the paper does not show is drawn, too: whether the
generator reads the mask at all, since section 3.1 gives it the very image it has to reconstruct.
"""
import statistics
from typing import NamedTuple

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tf_advseg.reporting import curves, learning_curves, tables, training_curves

GAN = 'gan'     # phase 1 as a stage of a run
_GLOSS, _SEGLOSS = '#c07a1c', '#2f6db5'
_OWN, _OTHER = '#2f6db5', '#b5402f'
_REAL, _FAKE = curves.PEAK, curves.END
_DASHED = (0, (4, 2))
PANELS = ('gloss, phase 1', 'gloss, phase 2', 'segloss, phase 2')  # of several runs
_COUNTED = {'generator_step': 'generator\'s steps', 'discriminator_step': 'discriminator\'s steps'}


def gan_steps(metrics, gan_stage=GAN):
    """(steps of the generator, steps of the discriminator) of phase 1, as far as logged.

    Where the generator's steps move the discriminator, too (their lines have loss/disc), those
    count for both networks.
    """
    lines = _stage_lines(metrics, gan_stage)
    own = max((m['generator_step'] for m in lines if 'generator_step' in m), default=0)
    total = max([m['step'] for m in lines if 'step' in m] + [own])
    joint = any('generator_step' in m and 'loss/disc' in m for m in lines)
    return own, total if joint else total - own


def held_out(metrics, gan_stage=GAN):
    """What reconstructed images of the hold-out are worth, in the order of the generator's steps.

    Args:
      metrics: lines of metrics.jsonl; those with `event` reconstruction, split 'holdout' and a
        generator_step are read: content/own and content/other, the content loss (eq. 4) where the
        generator is given an image's own mask, and where it is given another image's.
      gan_stage: the stage of phase 1.

    Returns:
      list of lines; of two lines of one step the last counts.
    """
    found = {m['generator_step']: m for m in metrics
             if m.get('event') == 'reconstruction' and m.get('stage') == gan_stage
             and m.get('split') == 'holdout' and curves.is_finite(m.get('generator_step'))}
    return [found[step] for step in sorted(found)]


def reconstruction_curves(metrics, gan_stage=GAN, stage='zhu', control='control'):
    """gloss and segloss over training (Zhu et al., Figs 4, 6, 8, 9, 10), a row a phase.

    Phase 1: gloss (loss/generator, eq. 16) over the generator's steps; the content loss on the
    hold-out with the image's own mask and with another's, which a generator that copies its
    image has alike; the discriminator's mean response (disc/real, disc/fake) to images and to
    what is reconstructed. Phase 2: segloss (loss/ce), the control's dashed; gloss, there the
    weighted terms of the frozen GAN (eq. 2). Points are pale, lines their running mean. Axes of
    segloss and of the content loss begin at 0; gloss and responses have no natural 0 (eq. 6).

    Args:
      metrics: lines of metrics.jsonl.
      gan_stage: the stage of phase 1.
      stage: the stage of phase 2, or None.
      control: the stage of its control, or None.

    Returns:
      matplotlib Figure with a panel for what is there; with a note where nothing is.
    """
    rows = [row for row in (_phase_1(metrics, gan_stage), _phase_2(metrics, stage, control)) if row]
    if not rows:
        figure, axes = curves.new_figure(9.0, 3.4)
        curves.write_note(axes, 'no step of the GAN or with it has been logged yet')
        return figure
    figure = Figure(figsize=(9.0, 2.9 * len(rows)), dpi=110, layout='constrained')
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(len(rows), 6)
    for number, row in enumerate(rows):
        width = 6 // len(row)
        for place, (title, label, counted, drawn) in enumerate(row):
            axes = figure.add_subplot(grid[number, place * width:(place + 1) * width])
            _draw(axes, title, label, counted, drawn)
    return figure


def _phase_1(metrics, stage):
    """[(title, label, what the steps count, curves)] of the panels that have something to show."""
    lines = _stage_lines(metrics, stage)
    tested = held_out(metrics, stage)
    key = next((key for key in _COUNTED if any(key in m and 'disc/real' in m for m in lines)),
               'generator_step')
    return _there([
        ('phase 1: the GAN', 'gloss', _COUNTED['generator_step'],
         [_points(lines, 'loss/generator', _GLOSS, None)]),
        ('reconstructing the hold-out', 'content loss', _COUNTED['generator_step'],
         [_points(tested, 'content/own', _OWN, 'own mask', marked=True),
          _points(tested, 'content/other', _OTHER, 'another\'s mask', marked=True)]),
        ('discriminator', 'mean response', _COUNTED[key],
         [_points(lines, 'disc/real', _REAL, 'images', key),
          _points(lines, 'disc/fake', _FAKE, 'reconstructed', key)])])


def _phase_2(metrics, stage, control):
    """As `_phase_1`, of the segmentor; nothing where it was trained without a GAN."""
    own, other = _stage_lines(metrics, stage), _stage_lines(metrics, control)
    if not any('loss/generator' in m for m in own):
        return []
    return _there([
        ('phase 2: the segmentor', 'segloss', 'segmentor\'s steps',
         [_points(own, 'loss/ce', _SEGLOSS, 'with the GAN', 'segmentor_step'),
          _points(other, 'loss/ce', curves.CONTROL, 'control', 'segmentor_step', _DASHED)]),
        ('phase 2: the frozen GAN\'s terms', 'gloss', 'segmentor\'s steps',
         [_points(own, 'loss/generator', _GLOSS, None, 'segmentor_step')])])


class Compared(NamedTuple):
    """A loss of one of several runs.

    Attributes:
      name: of the run.
      panel: of `PANELS`.
      steps, values: of its logged lines, in the order of steps.
      is_control: whether it is of the run's control.
    """
    name: str
    panel: str
    steps: list
    values: list
    is_control: bool = False

    @property
    def mean(self):
        """The running mean at the last line."""
        return training_curves.running_mean(self.values)[-1]

    @property
    def scatter(self):
        """How unsteady it is over its latter half: the standard deviation around its trend.

        Of successive lines' differences the root mean square, over the root of 2: a slow trend
        does not count. None of fewer than three lines.
        """
        latter = self.values[len(self.values) // 2:]
        if len(latter) < 3:
            return None
        steps = [(after - before) ** 2 for before, after in zip(latter, latter[1:])]
        return (statistics.fmean(steps) / 2) ** 0.5


def compared(runs, stage='zhu', control='control'):
    """[Compared]: the losses of several runs that have any, the control's of the first that has it.

    Args:
      runs: {name: (lines of metrics.jsonl of the run that had phase 1, of that of phase 2)}; one
        run may have had both.
      stage, control: of phase 2, see `reconstruction_curves`.
    """
    found = []
    for name, (first, second) in runs.items():
        for panel, lines, key, counted in (
                (PANELS[0], _stage_lines(first, GAN), 'loss/generator', 'generator_step'),
                (PANELS[1], _stage_lines(second, stage), 'loss/generator', 'segmentor_step'),
                (PANELS[2], _stage_lines(second, stage), 'loss/ce', 'segmentor_step')):
            points = _points(lines, key, None, None, counted)
            found.append(Compared(name, panel, points['xs'], points['ys']))
    for _, second in runs.values():
        points = _points(_stage_lines(second, control), 'loss/ce', None, None, 'segmentor_step')
        if points['xs']:
            found.append(Compared('control (CE)', PANELS[2], points['xs'], points['ys'], True))
            break
    return [each for each in found if each.steps]


def compared_curves(found):
    """gloss and segloss of several runs in one chart, a colour a run (Zhu et al., Figs 4, 6, 8-10).

    Points are pale, lines their running mean; the control is dashed. gloss of phase 1, where it
    falls by more than a power of ten, has a logarithmic axis.

    Args:
      found: from `compared`; not empty.

    Returns:
      matplotlib Figure, a panel a loss that there is, its legend below.
    """
    shown = [panel for panel in PANELS if any(each.panel == panel for each in found)]
    colours = dict(zip(dict.fromkeys(each.name for each in found if not each.is_control),
                       learning_curves.COLOURS))
    figure = Figure(figsize=(1.5 + 3.1 * len(shown), 3.7), dpi=110, layout='constrained')
    FigureCanvasAgg(figure)
    handles = {}
    for axes, panel in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown):
        drawn = [each for each in found if each.panel == panel]
        for each in drawn:
            look = ({'color': curves.QUIET, 'linestyle': _DASHED} if each.is_control
                    else {'color': colours[each.name]})
            axes.plot(each.steps, each.values, '.', color=look['color'], alpha=0.35, markersize=3)
            handles[each.name], = axes.plot(
                each.steps, training_curves.running_mean(each.values), linewidth=1.7, **look)
        _style(axes, panel, '', 'segmentor\'s steps' if panel != PANELS[0] else
               _COUNTED['generator_step'])
        values = [value for each in drawn for value in each.values]
        if panel == PANELS[0] and min(values) > 0 and max(values) > 10 * min(values):
            axes.set_yscale('log')
    figure.legend(handles.values(), handles, loc='outside lower center', frameon=False, fontsize=9,
                  ncols=len(handles))
    return figure


def compared_table(found):
    """tables.Table of `compared`: where each loss has come to, and how unsteady it is."""
    shown = [panel for panel in PANELS if any(each.panel == panel for each in found)]
    rows = []
    for name in dict.fromkeys(each.name for each in found):
        own = {each.panel: each for each in found if each.name == name}
        rows.append((name, *(_told(own.get(panel)) for panel in shown)))
    return tables.plain_table(('', *shown), rows, 'Running mean at the last logged step ± standard '
                              'deviation around the trend over the latter half')


def _told(each):
    if each is None:
        return tables.MISSING
    return f'{each.mean:.3f}' + ('' if each.scatter is None else f' ± {each.scatter:.3f}')


def _there(row):
    """Panels without the curves that have no point, and without panels that have no curve."""
    row = [(*words, [curve for curve in drawn if curve['xs']]) for *words, drawn in row]
    return [panel for panel in row if panel[-1]]


def _stage_lines(metrics, stage):
    """The lines of a stage's steps; none of no stage."""
    return [m for m in metrics if stage is not None and m.get('event') == 'stage'
            and m.get('stage') == stage]


def _points(lines, key, colour, label, counted='generator_step', style='-', marked=False):
    """A curve: its points in the order of steps, and how it looks."""
    found = sorted((m[counted], m[key]) for m in lines
                   if curves.is_finite(m.get(counted)) and curves.is_finite(m.get(key)))
    return {'xs': [step for step, _ in found], 'ys': [value for _, value in found],
            'look': {'color': colour, 'label': label, 'linestyle': style}, 'marked': marked}


def _draw(axes, title, label, counted, drawn):
    """One panel; what is measured seldom (`marked`) is drawn as it is, without a running mean."""
    for curve in drawn:
        xs, ys, look = curve['xs'], curve['ys'], curve['look']
        if curve['marked']:
            axes.plot(xs, ys, marker='.', linewidth=1.4, **look)
            continue
        axes.plot(xs, ys, '.', color=look['color'], alpha=0.25, markersize=3)
        axes.plot(xs, training_curves.running_mean(ys), linewidth=1.6, **look)
    if label in ('segloss', 'content loss'):
        axes.set_ylim(bottom=0)
    _style(axes, title, label, counted)
    if any(curve['look']['label'] for curve in drawn):
        axes.legend(frameon=False, fontsize=8)


def _style(axes, title, label, counted):
    """The look of a panel."""
    axes.set_title(title, fontsize=9, loc='left')
    axes.set_xlabel(counted, fontsize=8)
    axes.set_ylabel(label, fontsize=8)
    axes.tick_params(labelsize=8)
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.spines[['top', 'right']].set_visible(False)
    axes.grid(True, color='#000000', alpha=0.08, linewidth=0.6)
