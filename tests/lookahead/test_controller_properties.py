"""The controller for any mIoU trace: against the printed listings, and what always holds."""
import itertools
import json
import math

from hypothesis import given, settings, strategies as st

from tf_advseg.lookahead.buffer_policy import BufferPolicy
from tf_advseg.lookahead.controller import AS_PRINTED, MIOU_TOLERANCE, Controller
from tf_advseg.lookahead.outcomes import peak_label


def algorithm_3(trace, beta_u, beta_l, Gamma, Psi, Omega, reset_mu=False):
    """Supplement C's listing, written down with its own loops; mended only if reset_mu.

    Yields ('best', mIoU), ('start', mIoU) and ('cycle', peak found, last mIoU) as they happen; ends
    with the trace.
    """
    miou = iter(trace)
    psi = 0
    try:
        mu_s = mu = mu_star = next(miou)
        while psi < Psi:
            mu_0 = mu_s
            gamma = 0
            omega = 0
            if reset_mu:
                mu = mu_s
            while mu_s - beta_l < mu and gamma < Gamma:
                mu = next(miou)
                if mu > mu_s + beta_u:
                    if mu > mu_star:
                        mu_star = mu
                        yield 'best', mu
                    if omega > Omega:
                        mu_s = mu
                        yield 'start', mu
                        omega = 0
                        gamma = 0
                    omega = omega + 1
                gamma = gamma + 1
            if mu_star > mu_0:
                mu_s = mu_star
                yield 'cycle', True, mu
                psi = 0
            else:
                yield 'cycle', False, mu
                psi = psi + 1
    except StopIteration:
        return


def algorithm_2(trace, beta_u, beta_l, Gamma, Psi):
    """Section 3's listing, with mu <- mu^s at the start of a cycle; yields as `algorithm_3`."""
    miou = iter(trace)
    psi = 0
    try:
        mu_s = mu_star = next(miou)
        while psi < Psi:
            mu = mu_s
            gamma = 0
            while mu_s - beta_l < mu and gamma < Gamma:
                mu = next(miou)
                if mu > mu_s + beta_u and mu > mu_star:
                    mu_star = mu
                    yield 'best', mu
                gamma += 1
            if mu_star > mu_s:
                mu_s = mu_star
                yield 'cycle', True, mu
                psi = 0
            else:
                yield 'cycle', False, mu
                psi += 1
    except StopIteration:
        return


def events(controller, trace):
    """What `algorithm_3` yields, from a controller fed with the same mIoUs."""
    miou = iter(trace)
    try:
        controller.start(next(miou))
        while not controller.finished:
            controller.begin_cycle()
            while controller.looking_ahead:
                value = next(miou)
                step = controller.propagated(value)
                if step.best:
                    yield 'best', value
                if step.save_start:
                    yield 'start', value
            result = controller.end_cycle()
            yield 'cycle', result.peak_found, result.end_miou
    except StopIteration:
        return


TRACES = st.lists(
    st.one_of(st.floats(0, 1, allow_nan=False),
              st.integers(0, 40).map(lambda n: 0.5 + n / 1000),     # near the thresholds
              st.integers(0, 20).map(lambda n: n / 20)),
    min_size=2, max_size=60)
CONFIGURATIONS = st.fixed_dictionaries(dict(
    beta_u=st.sampled_from([0.001, 0.005, 0.1]), beta_l=st.sampled_from([0.01, 0.05, 0.3]),
    patience=st.integers(1, 8), max_cycles=st.integers(1, 3),
    peak_patience=st.one_of(st.none(), st.integers(1, 6)), dynamic_peaks=st.booleans(),
    reset_mu=st.booleans(), start_from=st.sampled_from(['best', 'current']),
    peak_counting=st.sampled_from(['printed', 'total', 'consecutive']),
    moving_floor=st.booleans(),
    max_propagations=st.one_of(st.none(), st.integers(0, 60)),
    max_total_cycles=st.one_of(st.none(), st.integers(0, 6))))
POLICIES = st.sampled_from([
    BufferPolicy(1), BufferPolicy(2), BufferPolicy(3), BufferPolicy(4, 'retain', 2),
    BufferPolicy(3, 'retain', 1), BufferPolicy(3, 'retain', 2, count_peaks=False),
    BufferPolicy(1, 'retain', 1, count_peaks=False)])


def propagation_bound(controller, start_miou):
    """The most propagations of a run, by the formula of `Controller`'s docstring, or its cap."""
    rises = math.floor((1 + MIOU_TOLERANCE - start_miou) / controller.beta_u) + 2
    cycles = [controller.max_total_cycles]
    if controller.max_cycles is not None:
        cycles.append(controller.max_cycles * (rises + 1))
    bounds = [controller.patience * (count + rises) for count in cycles if count is not None]
    if controller.max_propagations is not None:
        bounds.append(controller.max_propagations)
    return min(bounds)


@settings(max_examples=200, deadline=None)
@given(TRACES, CONFIGURATIONS, POLICIES)
def test_properties_hold_for_any_trace(controller_driver, trace, configuration, policy):
    controller = Controller(**configuration)
    driver = controller_driver(controller, trace, policy)
    bound = propagation_bound(controller, driver.evaluated[0])
    largest = 0
    while not controller.finished:
        controller.begin_cycle()
        while controller.looking_ahead:
            driver.propagate()
            assert controller.start_miou <= controller.result.miou
            assert len(driver.evaluated) - 1 <= bound
        driver.finish_cycle()
        largest = max(largest, len(driver.entries))
        assert controller.start_miou == controller.result.miou == driver.start == driver.best
        assert driver.entries[0].label == peak_label(controller.peak_index)
    result = controller.result
    assert result.propagations == len(driver.evaluated) - 1 <= bound
    assert result.highest_miou == max(driver.evaluated)
    assert result.miou == driver.best >= max(driver.evaluated) - controller.beta_u - 1e-12
    assert driver.rewinds == sorted(driver.rewinds), 'a rewind went to a worse start'
    assert all(rewind >= driver.evaluated[0] for rewind in driver.rewinds)
    assert largest <= policy.max_slots
    assert result.label == peak_label(result.peaks)
    names = [cycle.end_label for cycle in driver.results]
    assert len(set(names)) == len(names)


EXACT = st.lists(st.integers(0, 64).map(lambda n: n / 64), min_size=2, max_size=60)
"""mIoUs whose sums with beta_u = 1/64 and beta_l = 1/8 are exact, so that equalities occur."""


@settings(max_examples=200, deadline=None)
@given(st.one_of(TRACES, EXACT), st.integers(1, 6), st.integers(1, 3), st.integers(0, 4),
       st.booleans())
def test_agrees_with_the_printed_listing(trace, Gamma, Psi, Omega, reset_mu):
    trace = trace * 4
    printed = list(algorithm_3(trace, 1 / 64, 1 / 8, Gamma, Psi, Omega, reset_mu))
    options = dict(AS_PRINTED, reset_mu=reset_mu)
    controller = Controller(1 / 64, 1 / 8, Gamma, Psi, Omega, **options)
    assert list(events(controller, trace)) == printed


@settings(max_examples=200, deadline=None)
@given(TRACES, st.integers(1, 6), st.integers(1, 3), st.sampled_from(['best', 'current']))
def test_algorithms_2_and_3_agree_when_omega_is_infinite(trace, Gamma, Psi, start_from):
    trace = trace * 4
    expected = list(algorithm_2(trace, 0.005, 0.05, Gamma, Psi))
    for options in (dict(dynamic_peaks=False, peak_patience=0), dict(peak_patience=None),
                    dict(peak_patience=10 ** 9)):
        controller = Controller(0.005, 0.05, Gamma, Psi, start_from=start_from, **options)
        assert list(events(controller, trace)) == expected


@settings(max_examples=150, deadline=None)
@given(TRACES, CONFIGURATIONS, st.integers(0, 40))
def test_state_round_trip_at_any_point_continues_the_same(trace, configuration, cut):
    def story(controller, restore_at):
        miou, calls, seen = itertools.cycle(trace), 0, []

        def restored(controller):
            nonlocal calls
            calls += 1
            if calls - 1 != restore_at:
                return controller
            fresh = Controller(**configuration)
            fresh.load_state_dict(json.loads(json.dumps(controller.state_dict())))
            return fresh

        controller = restored(controller)
        controller.start(next(miou))
        controller = restored(controller)
        while not controller.finished:
            controller.begin_cycle()
            controller = restored(controller)
            while controller.looking_ahead:
                seen.append(controller.propagated(next(miou)))
                controller = restored(controller)
            seen.append(controller.end_cycle())
            controller = restored(controller)
        return seen, controller.result, controller.state_dict()

    assert story(Controller(**configuration), None) == story(Controller(**configuration), cut)
