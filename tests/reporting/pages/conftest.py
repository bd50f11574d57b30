"""Lines of runs for the pages' tests."""
import pytest


@pytest.fixture
def metrics(make_evaluations, make_alternation):
    """Lines of a run of Luc's, with a control of as many steps."""
    control = [dict(line, stage='control') for line in make_alternation(total=400)
               if 'loss/ce' in line]
    return (make_alternation(total=400) + control + make_evaluations('luc', 0.1)
            + make_evaluations('control', 0.2))
