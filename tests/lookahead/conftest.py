"""What the tests of this room share."""
import itertools

import pytest

from tf_advseg.lookahead.buffer_policy import BufferPolicy


class Driver:
    """A stand-in for the orchestrator: models are the mIoUs they were evaluated at."""

    def __init__(self, controller, trace, policy=BufferPolicy()):
        self.controller = controller
        self.trace = itertools.cycle(trace)
        self.policy = policy
        first = next(self.trace)
        controller.start(first)
        self.best = self.start = self.model = first
        self.evaluated = [first]
        self.entries = policy.aggregate((), 'g0', None).entries
        self.rewinds = []
        self.results = []

    def propagate(self):
        self.model = next(self.trace)
        self.evaluated.append(self.model)
        step = self.controller.propagated(self.model)
        if step.best:
            self.best = self.model
        assert not (step.save_start and self.controller.start_from == 'best')
        if step.end is not None:
            assert not self.controller.looking_ahead
        return step

    def cycle(self):
        self.controller.begin_cycle()
        while self.controller.looking_ahead:
            self.propagate()
        self.finish_cycle()

    def finish_cycle(self):
        result = self.controller.end_cycle()
        plan = self.policy.aggregate(self.entries, result.peak_label, result.end_label)
        self.entries = plan.entries
        if result.rewind_to == 'best':
            self.start = self.best
        self.model = self.start
        assert self.model == result.rewind_miou
        self.rewinds.append(self.model)
        self.results.append(result)

    def run(self):
        while not self.controller.finished:
            self.cycle()
        return self.controller.result


@pytest.fixture(scope='session')
def controller_driver():
    """The class `Driver`: runs a controller on a list of mIoUs, repeated without end."""
    return Driver
