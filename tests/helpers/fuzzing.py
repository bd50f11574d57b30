"""Runs a tool on an input from `mutations`, and what has to hold whatever the input is.

It exits with 0, or with 1 and one line that names the file; it ends in time; it writes nothing
but its output, and that whole or not at all.
"""
import contextlib
import faulthandler
import hashlib
import io
import os
import pathlib
import re
import shutil
import signal
import sys
import tempfile
import traceback

import gin
import hypothesis

from tf_advseg.core import command_line, files

SEED = int(os.environ.get('TF_ADVSEG_FUZZING_SEED', '21'))
CPU_SECONDS = 60  # of this process: another's work does not count
SECONDS = 600
PROPERTY = 'inputs tried'  # of a test's report; tests/conftest.py adds them up


class TooLong(BaseException):
    """A tool that has not ended in CPU_SECONDS; no `except Exception` takes it."""


def campaign(strategy, number, body, record_property):
    """Calls body(example) for `number` examples of a strategy; the same ones each time.

    Args:
      strategy: of hypothesis.
      number: how many examples.
      body: function of an example, which asserts.
      record_property: pytest's fixture, which is told how many were tried.

    Returns:
      How many were tried: all, unless the strategy has no more.

    Raises:
      AssertionError: some fell; says of each kind of failure the first example.
    """
    tried, fell = [], {}

    @hypothesis.seed(SEED)
    @hypothesis.settings(max_examples=number, deadline=None, database=None,
                         phases=[hypothesis.Phase.generate],
                         suppress_health_check=list(hypothesis.HealthCheck))
    @hypothesis.given(strategy)
    def run(example):
        tried.append(1)
        try:
            body(example)
        except (Exception, TooLong) as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            kind = (f'{place.filename}:{place.lineno}: {type(error).__name__}: '
                    + re.sub(r'\d+|/\S+', '', str(error).split('error: ')[-1])[:60])
            fell.setdefault(kind, (repr(example)[:2000], ''.join(
                traceback.format_exception(type(error), error, error.__traceback__))[-3000:]))

    run()
    record_property(PROPERTY, len(tried))
    assert not fell, f'{len(tried)} tried, fell:\n' + '\n'.join(
        f'--- {kind}\n{example}\n{trace}' for kind, (example, trace) in fell.items())
    return len(tried)


def lay(folder, change=None, *parts):
    """A copy of a folder with a file changed, in a scratch folder of its own.

    Args:
      folder: Path.
      change: function of the file's bytes -> bytes or None, which deletes it.
      *parts: the file's path in the folder.

    Returns:
      (Path of the copy, three levels below the scratch folder; Path of the file).
    """
    scratch = pathlib.Path(tempfile.mkdtemp(prefix='trial-', dir=folder.parent))
    copy = scratch / 'a' / 'b' / folder.name
    shutil.copytree(folder, copy, symlinks=True)
    path = copy.joinpath(*parts)
    if change is not None:
        content = change(path.read_bytes() if path.is_file() else b'')
        path.write_bytes(content)
    return copy, path


def scratch_of(copy):
    """The scratch folder that `lay` made."""
    return copy.parents[2]


def outcome(call, tool, *words):
    """(exit code, what is on stderr) of a tool as its console script would end.

    Raises:
      TooLong: it takes too long.
      Exception: what would be a traceback.
    """
    said = io.StringIO()
    guarded = command_line._guarded(lambda argv: call(tool, *words), False)
    try:
        with limited(), contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            code = guarded([])
    finally:
        gin.clear_config()
    lines = [line for line in said.getvalue().splitlines() if line.startswith('error: ')]
    return code or 0, lines


@contextlib.contextmanager
def limited():
    """TooLong after CPU_SECONDS of this process' time; a traceback and an end after SECONDS."""
    def ring(number, frame):
        raise TooLong(f'more than {CPU_SECONDS} s')

    before = signal.signal(signal.SIGPROF, ring)
    signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
    faulthandler.dump_traceback_later(SECONDS, exit=True, file=sys.__stderr__)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def inventory(folder, *left_out):
    """{path: what is there} of everything below a folder, but for what is in `left_out`."""
    found = {}
    for here, below, there in os.walk(folder):
        for name in (*below, *there):
            path = os.path.join(here, name)
            if any(path == str(out) or path.startswith(f'{out}/') for out in left_out):
                continue
            if os.path.islink(path):
                found[path] = os.readlink(path)
            elif os.path.isfile(path):
                with open(path, 'rb') as file:
                    found[path] = hashlib.sha256(file.read()).hexdigest()
            else:
                found[path] = 'folder'
    return found


def try_tool(call, copy, names, output, tool, *words):
    """Runs a tool on a copy that `lay` made and asserts what the head of this file says.

    Args:
      call: the fixture of tests/tools.
      copy: Path from `lay`; its scratch folder is deleted.
      names: texts of which the line has to hold one, as the file's name.
      output: Path in the scratch folder of what the tool writes, or None.
      tool, *words: as in `call`.

    Returns:
      The exit code.
    """
    scratch = scratch_of(copy)
    try:
        before = inventory(scratch)
        code, lines = outcome(call, tool, *words)
        after = inventory(scratch, *([output] if output else []))
        assert after == before, 'written outside the output: ' + ', '.join(
            sorted(set(after) ^ set(before)) or ['a file was changed'])
        assert not os.path.lexists('/tmp/tf_advseg_fuzzing_outside.png')
        assert code in (0, 1)
        left = [path for path in inventory(scratch) if files.TEMPORARY in path]
        assert not left, f'left behind: {left}'
        if code == 1:
            assert len(lines) == 1 and len(lines[0]) < 3000, lines
            assert any(name in lines[0] for name in names), f'{names} not in {lines[0]}'
            assert output is None or not os.path.lexists(output), f'half-written: {lines[0]}'
        return code
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
