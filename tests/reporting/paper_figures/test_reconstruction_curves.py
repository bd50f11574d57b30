"""gloss and segloss: which panels there are, what stands in them, what is counted."""
import numpy as np
import pytest

from tf_advseg.reporting import curves
from tf_advseg.reporting.paper_figures import reconstruction_curves


def _axes(figure):
    """{(title, label): axes} of a figure that can be drawn."""
    assert curves.encode(figure).startswith(b'\x89PNG')
    return {(axes.get_title(loc='left'), axes.get_ylabel()): axes for axes in figure.axes}


def _lines(axes):
    """The lines of an axes by label, without the pale points."""
    return {line.get_label(): line for line in axes.lines if line.get_linestyle() != 'None'}


GAN_PANELS = [('phase 1: the GAN', 'gloss'), ('reconstructing the hold-out', 'content loss'),
              ('discriminator', 'mean response')]
OWN_PANELS = [('phase 2: the segmentor', 'segloss'),
              ('phase 2: the frozen GAN\'s terms', 'gloss')]


def test_both_phases(make_redrawing):
    panels = _axes(reconstruction_curves.reconstruction_curves(make_redrawing()))
    assert list(panels) == GAN_PANELS + OWN_PANELS
    gloss = list(_lines(panels[GAN_PANELS[0]]).values())[0]
    assert list(gloss.get_xdata()) == list(range(10, 101, 10))
    assert np.all(np.diff(gloss.get_ydata()) < 0)
    tested = _lines(panels[GAN_PANELS[1]])
    assert list(tested['own mask'].get_xdata()) == [50, 100]
    assert list(tested['own mask'].get_ydata()) == [0.3, 0.2]
    assert list(tested['another\'s mask'].get_ydata()) == [0.45, 0.35]
    responses = _lines(panels[GAN_PANELS[2]])
    assert responses['images'].get_ydata() == pytest.approx([0.4] * 10)
    assert responses['reconstructed'].get_ydata() == pytest.approx([-0.4] * 10)
    losses = _lines(panels[OWN_PANELS[0]])
    assert losses['with the GAN'].get_linestyle() == '-'
    assert losses['control'].get_linestyle() == '--'
    assert losses['control'].get_ydata() == pytest.approx([0.9] * 10)
    # A loss below 0 (eq. 6) is shown whole; those that are distances begin at 0.
    below = panels[OWN_PANELS[1]].get_ylim()
    assert below[0] < -0.02 < below[1] <= 0
    assert panels[OWN_PANELS[0]].get_ylim()[0] == panels[GAN_PANELS[1]].get_ylim()[0] == 0


def test_a_phase_that_is_missing_has_no_panel(make_redrawing):
    lines = make_redrawing()
    first = [line for line in lines if line['stage'] == 'gan']
    second = [line for line in lines if line['stage'] != 'gan']
    steps = [line for line in first if line['event'] == 'stage']
    for given, wanted in ((first, GAN_PANELS), (second, OWN_PANELS),
                          (steps, GAN_PANELS[::2])):
        assert list(_axes(reconstruction_curves.reconstruction_curves(given))) == wanted
    alone = _axes(reconstruction_curves.reconstruction_curves(second, control=None))
    assert list(_lines(alone[OWN_PANELS[0]])) == ['with the GAN']
    for given in ([], [line for line in lines if line['stage'] == 'control']):
        figure = reconstruction_curves.reconstruction_curves(given)
        assert [text.get_text() for text in figure.axes[0].texts] == [
            'no step of the GAN or with it has been logged yet']


def test_stages_by_other_names_and_numbers_that_are_none(make_redrawing):
    lines = [dict(line, stage={'gan': 'a', 'zhu': 'b'}.get(line['stage'], 'c'))
             for line in make_redrawing()]
    for line in lines[::3]:
        line.update({key: float('nan') for key in ('loss/generator', 'content/own', 'disc/real')
                     if key in line})
    assert len(_axes(reconstruction_curves.reconstruction_curves(lines, 'a', 'b', 'c'))) == 5


@pytest.mark.parametrize('critic', [1, 5])
def test_steps_of_both_networks_in_phase_1(make_redrawing, critic):
    assert reconstruction_curves.gan_steps(make_redrawing(critic=critic)) == (100, 100 * critic)


def test_steps_of_networks_that_take_turns():
    lines = [{'event': 'stage', 'stage': 'gan', 'step': 30, 'discriminator_step': 20,
              'loss/disc': 1.0, 'disc/real': 0.1, 'disc/fake': -0.1},
             {'event': 'stage', 'stage': 'gan', 'step': 40, 'generator_step': 10,
              'loss/generator': 9.0}]
    assert reconstruction_curves.gan_steps(lines) == (10, 30)
    assert reconstruction_curves.gan_steps([]) == (0, 0)
    counted = _axes(reconstruction_curves.reconstruction_curves(lines))[GAN_PANELS[2]]
    assert counted.get_xlabel() == 'discriminator\'s steps'
    assert list(_lines(counted)['images'].get_xdata()) == [20]


def test_of_two_evaluations_of_one_step_the_last_counts():
    lines = [{'event': 'reconstruction', 'stage': 'gan', 'split': split, 'generator_step': step,
              'content/own': value} for split, step, value in
             (('holdout', 20, 1.0), ('holdout', 10, 2.0), ('train', 10, 3.0), ('holdout', 20, 4.0))]
    assert [line['content/own'] for line in reconstruction_curves.held_out(lines)] == [2.0, 4.0]


def test_two_runs_side_by_side(make_redrawing):
    """A colour a run, a panel a loss, one control; phase 1 may be another run's."""
    lines = make_redrawing()
    first = [line for line in lines if line['stage'] == 'gan']
    second = [line for line in lines if line['stage'] != 'gan']
    found = reconstruction_curves.compared({'SegGAN': (lines, lines), 'SegWGAN': (first, second),
                                            'begun': ([], [])})
    assert [(each.name, each.panel) for each in found] == [
        *((name, panel) for name in ('SegGAN', 'SegWGAN') for panel in
          reconstruction_curves.PANELS), ('control (CE)', reconstruction_curves.PANELS[2])]
    figure = reconstruction_curves.compared_curves(found)
    assert curves.encode(figure).startswith(b'\x89PNG')
    assert [axes.get_title(loc='left') for axes in figure.axes] == list(
        reconstruction_curves.PANELS)
    assert [axes.get_yscale() for axes in figure.axes] == ['log', 'linear', 'linear']
    drawn = [line for line in figure.axes[2].lines if line.get_linestyle() != 'None']
    assert [line.get_linestyle() for line in drawn] == ['-', '-', '--']
    assert len({line.get_color() for line in drawn}) == 3
    assert drawn[2].get_ydata() == pytest.approx([0.9] * 10)
    legend, = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ['SegGAN', 'SegWGAN', 'control (CE)']
    assert legend.get_window_extent().y1 <= figure.axes[0].get_window_extent().y0
    assert reconstruction_curves.compared({'begun': ([], [])}) == []
    alone = reconstruction_curves.compared({'SegGAN': (first, [])})
    assert len(reconstruction_curves.compared_curves(alone).axes) == 1


def test_scatter_is_that_around_a_trend(make_redrawing):
    """Noise of a known deviation upon a slope gives that deviation; a slope alone none."""
    noise = np.random.default_rng(0).normal(0, 0.2, 4000)
    slope = np.linspace(5.0, 1.0, 4000)
    steps = list(range(4000))
    of = reconstruction_curves.Compared
    assert of('a', 'p', steps, list(slope + noise)).scatter == pytest.approx(0.2, rel=0.1)
    assert of('a', 'p', steps, list(slope)).scatter < 1e-3
    assert of('a', 'p', [1, 2], [1.0, 2.0]).scatter is None
    table = reconstruction_curves.compared_table(reconstruction_curves.compared(
        {'SegGAN': (make_redrawing(), make_redrawing())}))
    assert table.texts()[1][3] == '0.800 ± 0.000' and table.texts()[2][1:] == [
        '–', '–', '0.900 ± 0.000']
