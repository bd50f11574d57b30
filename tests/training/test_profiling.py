"""The profiler: which steps it looks at, that it writes once, and what it says."""
import pytest
import tensorflow as tf

from tf_advseg.core.errors import UserError
from tf_advseg.training import loop, profiling


@pytest.fixture
def calls(monkeypatch):
    found = []
    monkeypatch.setattr(tf.profiler.experimental, 'start', lambda folder: found.append('start'))
    monkeypatch.setattr(tf.profiler.experimental, 'stop', lambda: found.append('stop'))
    return found


class _Method:
    """Counts its steps."""

    def __init__(self):
        self.taken = tf.Variable(0)

    @property
    def phases(self):
        def step(batch):
            self.taken.assign_add(1)
            return {'loss/ce': tf.reduce_mean(batch)}
        return {'segmentor': step}


def _steps(count, profile):
    method = _Method()
    stepper = loop.Stepper(method, tf.distribute.get_strategy())
    with profiling.active(profile):
        found = [stepper('segmentor', tf.ones([3])) for _ in range(count)]
    assert int(method.taken) == count and found[-1]['loss/ce'] == 1.0


@pytest.mark.parametrize('first, last, done, started', [
    (2, 4, 3, True), (1, 1, 1, True), (5, 9, 2, True), (7, 9, 0, False)])
def test_the_steps_asked_for_and_no_others(calls, first, last, done, started):
    profile = profiling.Profile(first, last, 'folder')
    _steps(6, profile)
    assert profile.done == done
    assert calls == (['start', 'stop'] if started else [])
    if started:
        assert f'{done} steps' in profile.text() and 'folder' in profile.text()
    else:
        assert 'took 6 steps and step 7' in profile.text()
    _steps(3, None)  # nothing is left active
    assert profile.done == done


def test_it_is_written_when_training_fails(calls):
    profile = profiling.Profile(1, 5, 'folder')
    with pytest.raises(ValueError), profiling.active(profile):
        with profiling.step():
            pass
        raise ValueError
    assert calls == ['start', 'stop']
    with profiling.step() as waits:
        assert not waits


@pytest.mark.parametrize('text', ['', '10', '10,5', '0,3', 'a,b', '1,2,3'])
def test_what_are_no_steps_is_one_line(text):
    with pytest.raises(UserError, match='--profile='):
        profiling.parse(text)


def test_two_numbers():
    assert profiling.parse('10, 20') == (10, 20)


def test_a_real_profile_lies_where_tensorboard_looks(tmp_path):
    folder = tmp_path / 'a run [1]' / 'tensorboard'
    folder.parent.mkdir()
    profile = profiling.Profile(2, 3, folder)
    _steps(4, profile)
    found = list(folder.glob('plugins/profile/*/*.xplane.pb'))
    assert profile.done == 2 and len(found) == 1 and found[0].stat().st_size > 0
