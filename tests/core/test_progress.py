"""The progress display, on a terminal and off it."""
import io
import time

from tf_advseg.core.progress import Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_lines_off_a_terminal_come_at_most_each_30_seconds():
    stream, clock = io.StringIO(), Clock()
    with Progress(100, 'Stage 1', stream=stream, clock=clock) as progress:
        for _ in range(100):
            clock.now += 1.0
            progress.update(loss=0.12345, phase='ce')
    lines = stream.getvalue().splitlines()
    assert len(lines) == 4
    assert lines[0] == 'Stage 1: 30/100, 0:30 gone, 1:10 left, loss=0.1235, phase=ce'
    assert lines[-1] == 'Stage 1: 100/100, 1:40 gone, loss=0.1235, phase=ce'
    assert progress.done == 100


def test_a_first_step_that_compiles_says_nothing_of_the_others():
    stream, clock = io.StringIO(), Clock()
    progress = Progress(3000, 'control', stream=stream, clock=clock)
    clock.now = 131.0
    progress.update()
    for _ in range(30):
        clock.now += 1.0
        progress.update()
    assert stream.getvalue().splitlines() == [
        'control: 1/3000, 2:11 gone', 'control: 31/3000, 2:41 gone, 49:29 left']


def test_one_of_few_says_how_long_the_others_take():
    stream, clock = io.StringIO(), Clock()
    with Progress(2, 'runs', stream=stream, clock=clock) as progress:
        for _ in range(2):
            clock.now += 60.0
            progress.update()
    assert stream.getvalue() == ('runs: 1/2, 1:00 gone, 1:00 left\n'
                                 'runs: 2/2, 2:00 gone\n')  # once


def test_unknown_total_and_hours():
    stream, clock = io.StringIO(), Clock()
    progress = Progress(None, 'LoAd', stream=stream, clock=clock)
    clock.now = 3725.0
    progress.update(5)
    assert stream.getvalue() == 'LoAd: 5, 1:02:05 gone\n'


def test_short_loops_and_disabled_ones_print_nothing():
    stream, clock = io.StringIO(), Clock()
    with Progress(2, 'a', stream=stream, clock=clock) as progress:
        progress.update(2)
    with Progress(2, 'b', enabled=False, stream=stream, clock=clock) as progress:
        clock.now = 100.0
        progress.update(2)
    assert stream.getvalue() == ''


def test_bar_on_a_terminal():
    stream = Terminal()
    with Progress(4, 'Stage 1', stream=stream) as progress:
        for _ in range(2):
            time.sleep(0.15)  # tqdm draws at most ten times a second
            progress.update(2, loss=0.5)
    assert 'Stage 1' in stream.getvalue() and '4/4' in stream.getvalue()
    assert 'loss=0.5' in stream.getvalue()


def test_disabled_bar_on_a_terminal():
    stream = Terminal()
    with Progress(4, 'Stage 1', enabled=False, stream=stream) as progress:
        progress.update(4)
    assert stream.getvalue() == ''


def test_a_line_is_said_where_something_is_shown(capsys):
    for enabled in (True, False):
        with Progress(2, 'runs', enabled=enabled, stream=io.StringIO()) as bar:
            bar.say(f'shown: {enabled}')
    assert capsys.readouterr().out == 'shown: True\n'
