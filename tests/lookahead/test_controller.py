"""The controller's story of Fig. 1, its mends, caps and refusals, one by one."""
import math

import pytest

from tf_advseg.lookahead.controller import AS_PRINTED, Controller
from tf_advseg.lookahead.outcomes import end_label


def test_the_recap_of_figure_1(controller_driver):
    """Section 3, "The recap": every rewind, every name, and Fig. 1b after each cycle."""
    g0, g1, g2 = 0.600, 0.650, 0.700
    cycles = [                      # (mIoU of each propagation, why it ends)
        ([0.595, 0.590, 0.580, 0.570], 'patience'),         # e00: does not descend by beta_l
        ([0.620, g1, 0.600, 0.540], 'lower_bound'),         # finds g1, diverges: e01
        ([0.640, 0.630, 0.590], 'lower_bound'),             # e10
        ([g2, 0.680, 0.660, 0.640], 'patience'),            # finds g2: e11
        ([0.690, 0.640], 'lower_bound'),                    # e20
        ([0.690, 0.695, 0.690, 0.680], 'patience'),         # e21
    ]
    buffers = ['g0 e00', 'g1 e01', 'g1 e01 e10', 'g2 e11', 'g2 e11 e20', 'g2 e20 e21']
    peaks = [None, 'g1', None, 'g2', None, None]
    rewinds = [g0, g1, g1, g2, g2, g2]
    controller = Controller(patience=4, max_cycles=2, peak_patience=10)
    driver = controller_driver(controller, [g0] + [miou for cycle, _ in cycles for miou in cycle])
    assert [entry.label for entry in driver.entries] == ['g0']
    for (cycle, reason), buffer, peak, rewind in zip(cycles, buffers, peaks, rewinds):
        assert not controller.finished
        driver.cycle()
        result = driver.results[-1]
        assert result.reason == reason and result.propagations == len(cycle)
        assert ' '.join(entry.label for entry in driver.entries) == buffer
        assert result.peak_label == peak and result.peak_found == (peak is not None)
        assert result.end_label == buffer.split()[-1] and result.end_miou == cycle[-1]
        assert driver.rewinds[-1] == result.rewind_miou == rewind
        assert result.rewind_to == ('best' if peak else 'start')
    assert [(r.peak_index, r.cycle_index) for r in driver.results] == [
        (0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1)]
    assert controller.finished and controller.stop_reason == 'max_cycles'
    assert (controller.result.label, controller.result.miou) == ('g2', g2)


def test_without_the_reset_cycles_burn_empty(controller_driver):
    """Trap 1 of the trial, and its mend."""
    trace = [0.6, 0.5] + [0.62] * 40
    printed = controller_driver(Controller(patience=5, max_cycles=4, **AS_PRINTED), trace)
    result = printed.run()
    assert [cycle.propagations for cycle in printed.results] == [1, 0, 0, 0]
    assert (result.label, result.propagations) == ('g0', 1)
    mended = controller_driver(Controller(patience=5, max_cycles=4), trace)
    assert mended.run().label == 'g1'


@pytest.mark.parametrize('counting, fires', [('printed', [12, 23]), ('total', [10, 20]),
                                             ('consecutive', [10, 20])])
def test_when_the_peak_finder_fires(counting, fires):
    """Omega = 10 as printed fires at the 12th evaluation above, then after 11 more (trap 4)."""
    controller = Controller(peak_patience=10, peak_counting=counting, beta_u=0.001)
    controller.start(0.5)
    controller.begin_cycle()
    moved = [n for n in range(1, 25) if controller.propagated(0.5 + 0.01 * n).start_moved]
    assert moved == fires


def test_consecutive_counting_begins_anew_below_the_threshold():
    moved = {}
    for counting in ('total', 'consecutive'):
        controller = Controller(peak_patience=2, peak_counting=counting, patience=20)
        controller.start(0.5)
        controller.begin_cycle()
        moved[counting] = [controller.propagated(miou).start_moved
                           for miou in (0.51, 0.5, 0.51, 0.51)]
    assert moved == {'total': [False, False, True, False],
                     'consecutive': [False, False, False, True]}


def test_lines_16_and_17_take_the_current_or_the_best():
    trace = [0.60, 0.62, 0.66, 0.63, 0.62, 0.615]       # fires with Omega = 1 at the third above
    starts, floors = {}, {}
    for start_from in ('best', 'current'):
        controller = Controller(peak_patience=1, start_from=start_from, beta_l=0.05)
        controller.start(trace[0])
        controller.begin_cycle()
        steps = [controller.propagated(miou) for miou in trace[1:4]]
        assert [step.start_moved for step in steps] == [False, False, True]
        assert steps[-1].save_start == (start_from == 'current')
        assert (steps[-1].gamma, steps[-1].omega) == (1, 1)     # reset, then lines 21 and 23
        starts[start_from], floors[start_from] = controller.start_miou, controller.lower_bound
    assert starts == {'best': 0.66, 'current': 0.63}
    assert floors == {'best': 0.66 - 0.05, 'current': 0.63 - 0.05}
    fixed = Controller(peak_patience=1, moving_floor=False, beta_l=0.05)
    fixed.start(trace[0])
    fixed.begin_cycle()
    assert [fixed.propagated(miou).start_moved for miou in trace[1:4]][-1]
    assert fixed.lower_bound == 0.60 - 0.05


def test_a_rising_trend_prolongs_a_cycle_beyond_gamma():
    lengths = {}
    for dynamic in (True, False):
        controller = Controller(patience=5, peak_patience=1, dynamic_peaks=dynamic)
        controller.start(0.5)
        controller.begin_cycle()
        miou = 0.5
        while controller.looking_ahead:
            miou = min(miou + 0.01, 0.6)
            controller.propagated(miou)
        lengths[dynamic] = controller.end_cycle().propagations
    assert lengths[False] == 5 < lengths[True]


def test_the_budget_ends_a_cycle_under_way_and_keeps_its_peak():
    controller = Controller(patience=10, max_propagations=3)
    controller.start(0.5)
    controller.begin_cycle()
    ends = [controller.propagated(miou).end for miou in (0.52, 0.55, 0.53)]
    assert ends == [None, None, 'budget'] and not controller.looking_ahead
    assert not controller.finished and controller.result.label == 'g1'
    result = controller.end_cycle()
    assert result.peak_label == 'g1' and result.end_label == 'e00' and result.reason == 'budget'
    assert controller.finished and controller.stop_reason == 'budget'
    assert controller.result.miou == 0.55
    raised = Controller(patience=10, max_propagations=4)
    raised.load_state_dict(controller.state_dict())
    assert not raised.finished and raised.peak_index == 1


def test_a_control_run_is_ended_by_its_budget_alone(controller_driver):
    controller = Controller(patience=3, max_cycles=None, max_propagations=50)
    driver = controller_driver(controller, [0.6, 0.59])
    result = driver.run()
    assert (result.stop_reason, result.propagations, result.peaks) == ('budget', 50, 0)
    assert driver.results[-1].end_label == 'e0_16'


def test_other_caps(controller_driver):
    capped = controller_driver(Controller(patience=2, max_total_cycles=3), [0.6, 0.59]).run()
    assert (capped.stop_reason, capped.cycles) == ('max_total_cycles', 3)
    nothing = controller_driver(Controller(max_propagations=0), [0.6, 0.59]).run()
    assert (nothing.stop_reason, nothing.label, nothing.miou) == ('budget', 'g0', 0.6)


def test_a_requested_stop_ends_the_cycle_and_the_run():
    controller = Controller()
    controller.start(0.5)
    controller.begin_cycle()
    controller.propagated(0.6)
    controller.request_stop('hours')
    assert not controller.looking_ahead
    assert controller.end_cycle().reason == 'hours'
    assert controller.finished and controller.stop_reason == 'hours'
    controller.clear_stop()
    assert not controller.finished


def test_a_failed_cycle_has_no_ending_but_keeps_its_peak():
    controller = Controller(max_cycles=2)
    controller.start(0.5)
    controller.begin_cycle()
    controller.propagated(0.6)
    controller.fail_cycle()
    first = controller.end_cycle()
    assert first.peak_label == 'g1' and not first.end_valid and first.reason == 'non_finite'
    for _ in range(2):
        controller.begin_cycle()
        controller.fail_cycle()
        assert not controller.end_cycle().peak_found
    assert controller.stop_reason == 'max_cycles' and controller.result.propagations == 4


@pytest.mark.parametrize('miou', [math.nan, -0.1, 1.1, 73.2, math.inf])
def test_a_miou_that_is_no_fraction_is_refused(miou):
    with pytest.raises(ValueError, match='mIoU'):
        Controller().start(miou)
    controller = Controller()
    controller.start(0.5)
    controller.begin_cycle()
    before = controller.state_dict()
    with pytest.raises(ValueError, match='mIoU'):
        controller.propagated(miou)
    assert controller.state_dict() == before


def test_calls_out_of_order_are_refused():
    controller = Controller()
    for call in (controller.begin_cycle, controller.end_cycle, controller.fail_cycle,
                 lambda: controller.propagated(0.5), lambda: controller.result):
        with pytest.raises(RuntimeError, match='out of order'):
            call()
    assert not controller.finished and not controller.looking_ahead
    controller.start(0.5)
    with pytest.raises(RuntimeError, match='out of order'):
        controller.start(0.5)
    controller.begin_cycle()
    with pytest.raises(RuntimeError, match='out of order'):
        controller.end_cycle()


@pytest.mark.parametrize('arguments, word', [
    (dict(beta_u=-1), 'beta_u'), (dict(beta_l=0), 'beta_l'), (dict(patience=0), 'patience'),
    (dict(patience=None), 'patience'), (dict(patience=2.5), 'patience'),
    (dict(max_cycles=0), 'max_cycles'), (dict(start_from='worst'), 'start_from'),
    (dict(peak_counting='x'), 'peak_counting'), (dict(max_cycles=None), 'max_propagations'),
    (dict(peak_counting='total', peak_patience=0), 'peak_patience'),
    (dict(max_cycles=None, max_propagations=5, reset_mu=False), 'empty cycles')])
def test_arguments_out_of_range_are_refused(arguments, word):
    with pytest.raises(ValueError, match=word):
        Controller(**arguments)


def test_the_defaults_are_the_papers():
    controller = Controller()
    assert (controller.beta_u, controller.beta_l) == (0.001, 0.05)
    assert (controller.patience, controller.max_cycles) == (50, 50)


def test_names_of_ends_differ():
    names = {end_label(i, j) for i in range(30) for j in range(30)}
    assert len(names) == 900 and end_label(0, 1) == 'e01'


def test_a_foreign_state_is_refused():
    with pytest.raises(ValueError, match='state'):
        Controller().load_state_dict({'version': 1, 'psi': 3})


@pytest.mark.parametrize('name, value', [('psi', 'x'), ('mu', None), ('cycles', 1.5),
                                         ('propagations', True), ('phase', 3), ('mu_best', [])])
def test_a_state_of_other_values_is_refused(name, value):
    """What stood in state.json would else end the run later, and not name the file."""
    state = Controller().state_dict()
    Controller().load_state_dict({**state, 'mu': 1})
    with pytest.raises((ValueError, TypeError), match=name):
        Controller().load_state_dict({**state, name: value})


def test_the_comparisons_are_strict():
    """Lines 7 and 10 at equality: mu = mu^s - beta_l ends the cycle, mu = mu^s + beta_u is none."""
    controller = Controller(beta_u=0.25, beta_l=0.25)
    controller.start(0.5)
    controller.begin_cycle()
    assert not controller.propagated(0.75).best
    assert controller.propagated(0.25).end == 'lower_bound'


def test_counters_begin_anew_with_a_cycle():
    """Lines 5 and 6; without them the second cycle would fire at its first evaluation above."""
    controller = Controller(beta_u=0.01, peak_patience=3, peak_counting='total', patience=3)
    controller.start(0.5)
    for base in (0.5, 0.54):
        controller.begin_cycle()
        steps = [controller.propagated(base + 0.02 * n) for n in (1, 2)]
        steps.append(controller.propagated(base))
        assert [(step.gamma, step.omega) for step in steps] == [(1, 1), (2, 2), (3, 2)]
        assert not any(step.start_moved for step in steps)
        controller.end_cycle()


@pytest.mark.parametrize('after, near', [(0, True), (3, True), (4, False)])
def test_an_ending_within_three_propagations_of_the_peak_is_nearly_the_peak(after, near):
    rules = Controller(patience=1 + after, beta_u=0.01, beta_l=0.5, max_cycles=2)
    rules.start(0.3)
    rules.begin_cycle()
    for miou in [0.5] + [0.495] * after:
        rules.propagated(miou)
    outcome = rules.end_cycle()
    assert outcome.peak_found and outcome.ends_at_peak == near


def test_a_collapse_right_behind_the_peak_is_another_model():
    """What a cycle runs into is what its discriminator is to learn from next."""
    rules = Controller(patience=50, beta_u=0.01, beta_l=0.05, max_cycles=2)
    rules.start(0.6)
    rules.begin_cycle()
    for miou in (0.615, 0.58, 0.54):
        rules.propagated(miou)
    outcome = rules.end_cycle()
    assert (outcome.reason, outcome.peak_found, outcome.ends_at_peak) == ('lower_bound', True, False)


def test_a_cycle_without_a_peak_ends_at_none():
    rules = Controller(patience=1, beta_u=0.01, beta_l=0.5, max_cycles=2)
    rules.start(0.3)
    rules.begin_cycle()
    rules.propagated(0.3)
    assert not rules.end_cycle().ends_at_peak
