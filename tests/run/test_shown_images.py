"""Class maps of a few images through a run: how many are kept."""
import hypothesis
from hypothesis import strategies as st

from tf_advseg.run import shown_images


def kept_of(latest, most, restarts=()):
    """Moments kept after 0..latest; at each of `restarts`, (moment, back), a run is killed.

    It goes on `back` moments before, so that there are maps of moments which are still to come.
    """
    kept, moments, killed = set(), [], dict(restarts)
    for moment in range(latest + 1):
        moments.append(moment)
        if moment in killed:
            moments += range(max(0, moment - killed[moment]), moment + 1)
    for moment in moments:
        kept.add(moment)
        kept -= set(shown_images.passed_over(kept, moment, most))
    return kept


@hypothesis.given(st.integers(0, 400), st.integers(2, 12))
def test_few_are_kept_and_they_lie_evenly(latest, most):
    kept = kept_of(latest, most)
    assert {0, latest} <= kept and len(kept) <= most + 1
    steps = sorted(kept - {latest})
    distances = {b - a for a, b in zip(steps, steps[1:])}
    assert len(distances) <= 1 and len(kept) >= min(latest + 1, most // 2)


@hypothesis.given(st.integers(1, 200), st.integers(2, 12), st.data())
def test_a_run_that_was_resumed_keeps_what_another_keeps(latest, most, data):
    restarts = data.draw(st.lists(
        st.tuples(st.integers(0, latest), st.integers(0, 40)), max_size=4))
    assert kept_of(latest, most, restarts) == kept_of(latest, most)
