"""Curves of methods that alternate; LoAd's are tested with its other curves."""
import numpy as np
import pytest

from tf_advseg.reporting import curves, training_curves


def _texts(figure):
    assert curves.encode(figure).startswith(b'\x89PNG')
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def _means(axes):
    """The lines of the running means by label: (xs, ys), the points left out."""
    return {line.get_label(): (np.asarray(line.get_xdata(), float),
                               np.asarray(line.get_ydata(), float))
            for line in axes.lines if line.get_linestyle() == '-'}


def test_slow_phases_break_the_curves_and_are_tinted(make_alternation):
    figure = training_curves.discriminator_steps_curve(make_alternation(every=50, total=400), 'luc')
    above, below = figure.axes
    shares = _means(below)
    assert len(shares) == 3
    for label, level, first in (('real', 70, 10), ('fake taken for fake', 60, 10),
                                ('fake taken for real', 40, 60)):
        xs, ys = next(found for name, found in shares.items() if name.startswith(label))
        assert np.nanmin(ys) == pytest.approx(level) == np.nanmax(ys)
        assert xs[0] == first and np.isnan(ys).sum() == 4       # a gap behind each block
    assert len(below.patches) == len(above.patches) == 4
    assert np.nanmax(next(iter(_means(above).values()))[1]) == pytest.approx(1.2)
    assert _texts(figure) == []


def test_fast_phases_leave_one_line(make_alternation):
    lines = make_alternation(every=1, total=400)
    for log_every in (1, 10):
        figure = training_curves.discriminator_steps_curve(make_alternation(every=1, total=400,
                                                                            log_every=log_every))
        assert [np.isnan(ys).sum() for _, ys in _means(figure.axes[1]).values()] == [1, 1, 1]
        assert not figure.axes[1].patches
    assert len(_means(training_curves.discriminator_steps_curve(lines, 'luc').axes[1])) == 3


def test_pre_training_alone_and_no_adversary_at_all(make_alternation):
    only = [line for line in make_alternation() if 'loss/disc' in line]
    assert len(_means(training_curves.discriminator_steps_curve(only).axes[1])) == 2
    for lines in ([], [{'event': 'stage', 'stage': 'stage1', 'step': 1, 'loss/ce': 2.0}]):
        assert _texts(training_curves.discriminator_steps_curve(lines)) == [
            'the discriminator has not been trained yet']
    assert _texts(training_curves.discriminator_steps_curve(only, 'hung')) != []


def test_losses_that_are_no_number_are_left_out(make_alternation):
    lines = make_alternation()
    for line in lines[::5]:
        line['loss/disc'] = line['disc/fooled'] = float('nan')
    assert _texts(training_curves.discriminator_steps_curve(lines)) == []


def test_gradients_are_read_from_lines_of_their_own(make_alternation):
    figure = training_curves.gradient_ratio_curve(make_alternation())
    ratio = figure.axes[0].lines[0]
    assert list(ratio.get_xdata()) == list(range(10, 201, 10))
    assert set(ratio.get_ydata()) == {0.5}
    assert figure.axes[0].get_xlabel() == 'segmentor\'s steps' and len(figure.axes) == 2
    spent = training_curves.gradient_ratio_curve([{'budget_step': 3, 'segmentor_step': 30,
                                                   'grad_ratio/adv_ce': 2.0}])
    assert list(spent.axes[0].lines[0].get_xdata()) == [3]
    assert spent.axes[0].get_xlabel() == 'propagations spent'


def test_segmentor_losses_beside_the_control(make_alternation):
    lines = make_alternation() + [dict(line, stage='control', **{'loss/ce': 0.8})
                                  for line in make_alternation() if 'loss/ce' in line]
    figure = training_curves.segmentor_loss_curve(lines, 'luc')
    assert len(figure.axes) == 2
    legend = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert legend == ['cross-entropy', 'cross-entropy, control', 'adversarial term']
    levels = [line.get_ydata()[-1] for line in figure.axes[0].lines if len(line.get_xdata()) > 1
              and line.get_linestyle() != 'None']
    assert levels == pytest.approx([1.0, 0.8])
    plain = [line for line in lines if 'loss/adv' not in line]
    assert _texts(training_curves.segmentor_loss_curve(plain, 'luc', None)) == [
        'no step has been taken yet']


@pytest.mark.parametrize('key, label', [('loss/consistency', 'consistency term'),
                                        ('loss/embedding', 'embedding term')])
def test_the_terms_of_later_methods_are_drawn_as_well(key, label):
    lines = [{'event': 'stage', 'stage': 'own', 'segmentor_step': step, 'loss/ce': 1.0, key: 0.3}
             for step in (10, 20)]
    _, terms = training_curves.segmentor_loss_curve(lines, 'own', None).axes
    drawn = {line.get_label(): line.get_ydata() for line in terms.lines}
    assert drawn[label] == pytest.approx([0.3, 0.3])
    assert terms.get_ylabel() == label


def test_gradients_of_several_terms_are_told_apart():
    lines = [{'segmentor_step': step, 'grad_ratio/adv_ce': 0.1, 'grad_ratio/content_ce': 0.5,
              'grad_cosine/adv_ce': 0.0, 'grad_cosine/content_ce': 0.4} for step in (1, 2)]
    figure = training_curves.gradient_ratio_curve(lines)
    legend = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert legend == ['adversarial term', 'content term', 'adversarial term, cosine',
                      'content term, cosine']
    drawn = {line.get_label(): line for axes in figure.axes for line in axes.lines}
    assert len({drawn[name].get_color() for name in legend}) == 4
    assert set(drawn['content term'].get_ydata()) == {0.5}
    assert set(drawn['content term, cosine'].get_ydata()) == {0.4}
    assert figure.axes[0].get_ylabel() == '|∇term| / |∇CE|'
    alone = training_curves.gradient_ratio_curve([{'segmentor_step': 1, 'grad_ratio/adv_ce': 1.0}])
    assert alone.axes[0].get_ylabel() == '|∇adv| / |∇CE|' and alone.axes[0].get_legend() is None


def test_terms_below_zero_are_shown_whole(make_redrawing):
    lines = make_redrawing()
    own, terms = training_curves.segmentor_loss_curve(lines, 'zhu').axes
    assert own.get_ylim()[0] == 0 and terms.get_ylim()[0] < -0.4
    shown = {line.get_label(): line.get_ydata() for line in terms.lines}
    assert shown['content term'] == pytest.approx([0.2] * 10)
    above = [dict(line, **{'loss/adv': 0.4}) for line in lines]
    assert training_curves.segmentor_loss_curve(above, 'zhu').axes[1].get_ylim()[0] == 0


def test_a_running_mean_begins_without_a_bias():
    assert training_curves.running_mean([3.0, 3.0, 3.0]) == pytest.approx([3.0] * 3)
    found = training_curves.running_mean([float('nan'), 1.0, float('nan'), 2.0], keep=0.5)
    assert np.isnan(found[0]) and found[1:3] == [1.0, 1.0]
    assert found[3] == pytest.approx((0.5 * 1.0 + 2.0) / 1.5)


def fast(pretraining, total=100, log_every=10):
    """Lines of two networks that take turns at every step, after a pre-training."""
    lines, done = [], {'segmentor_step': 0, 'discriminator_step': 0}
    for step in range(1, pretraining + 2 * total + 1):
        own = step > pretraining and (step - pretraining) % 2 == 0
        key = 'segmentor_step' if own else 'discriminator_step'
        done[key] += 1
        if done[key] % log_every == 0:
            lines.append({'event': 'stage', 'stage': 'luc', 'step': step, key: done[key],
                          **({'disc/fooled': 0.5} if own else {'loss/disc': 1.0})})
    return lines


@pytest.mark.parametrize('pretraining', [100, 500])
def test_pre_training_before_fast_phases_is_tinted(pretraining):
    lines = fast(pretraining)
    assert training_curves.pretraining_steps(lines) == pretraining
    for axes in training_curves.discriminator_steps_curve(lines, 'luc').axes:
        tinted, = axes.patches
        assert tinted.get_extents().transformed(axes.transData.inverted()).intervalx == \
            pytest.approx([0, pretraining])
    # It is no phase of its own among those that follow: their curves are not broken.
    means = _means(training_curves.discriminator_steps_curve(lines).axes[0])
    assert [np.isnan(ys).sum() for _, ys in means.values()] == [1]


def test_no_pre_training_is_none(make_alternation):
    assert training_curves.pretraining_steps(fast(0)) == 0
    assert training_curves.pretraining_steps(make_alternation(every=7)) == 0
    assert training_curves.pretraining_steps(fast(30)[:3]) == 0
    assert not training_curves.discriminator_steps_curve(fast(0)).axes[0].patches
