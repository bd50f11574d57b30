"""Whole programs that are killed, or whose disk is full, at a given write: `Scene` starts them.

As a program: `python disturbed.py SCENE` loads what the scene needs, once, and forks a child for
each line of its input: a start of the program costs no import of TensorFlow.
"""
import contextlib
import json
import os
import pathlib
import select
import shutil
import signal
import subprocess
import sys
import traceback

if __name__ == '__main__':
    sys.path[:0] = [str(pathlib.Path(__file__).resolve().parents[2]),
                    str(pathlib.Path(__file__).resolve().parent)]

import disturbed_programs
import faults

LIMIT = 400  # seconds of one start; a busy machine takes a multiple of an idle one's


class Scene:
    """A program in a process of its own that forks one child a start.

    Attributes:
      kills: how many of its starts were killed.
    """

    def __init__(self, name, folder):
        """Args: name: of disturbed_programs.PROGRAMS; folder: for inputs and outputs, new."""
        self.name, self.kills = name, 0
        self.inputs, self.work = folder / 'inputs', folder / 'work'
        self.log = folder / 'log'
        self.inputs.mkdir(parents=True)
        self.work.mkdir()
        self._errors = open(folder / 'errors', 'wb')
        self._process = subprocess.Popen(
            [sys.executable, __file__, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=self._errors, text=True, start_new_session=True)
        self._ask(prepare=True)

    def start(self, kind=None, at=0):
        """Starts the program once; returns (exit code, -9 for a kill; number of its writes)."""
        answer = self._ask(kind=kind, at=at)
        if answer['code'] == -signal.SIGKILL:
            self.kills += 1
        return answer['code'], answer['writes']

    def said(self):
        """What the last start printed."""
        return self.log.read_text(errors='replace')

    def finish(self):
        """Starts the program undisturbed; it must end well."""
        code, writes = self.start()
        assert code == 0, f'{self.name}: {self.said()[-3000:]}'
        return writes

    def set_aside(self, name):
        """Renames the outputs, so that the next start begins anew; returns their folder."""
        aside = self.work.with_name(name)
        shutil.rmtree(aside, ignore_errors=True)
        os.rename(self.work, aside)
        self.work.mkdir()
        return aside

    def close(self):
        """Ends the process."""
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()
        self._errors.close()

    def _ask(self, **words):
        self._process.stdin.write(json.dumps({
            'inputs': str(self.inputs), 'work': str(self.work), 'log': str(self.log),
            **words}) + '\n')
        self._process.stdin.flush()
        assert select.select([self._process.stdout], [], [], LIMIT + 60)[0], f'{self.name} hangs'
        line = self._process.stdout.readline()
        assert line, pathlib.Path(self._errors.name).read_text()[-3000:]
        answer = json.loads(line)
        assert not words.get('prepare') or answer['code'] == 0, self.said()[-3000:]
        return answer


def _child(program, order, count):
    """One start, in a fork."""
    os.setpgid(0, 0)
    signal.alarm(LIMIT)
    log = os.open(order['log'], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for descriptor in (1, 2):
        os.dup2(log, descriptor)
    os.chdir(pathlib.Path(__file__).resolve().parents[2])
    inputs, work = (pathlib.Path(order[name]) for name in ('inputs', 'work'))
    if order.get('prepare'):
        program.prepare(inputs)
        return 0
    faults.install(work, count, order['kind'], order['at'])
    from tf_advseg.core import errors
    try:
        program.run(inputs, work)
    except errors.UserError as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    except SystemExit as error:
        return error.code or 0
    return 0


def _serve(program):
    answers = os.fdopen(os.dup(1), 'w')
    count = faults.Count()
    for line in sys.stdin:
        count.value = 0
        child = os.fork()
        if not child:
            code = 70
            try:
                code = _child(program, json.loads(line), count)
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(json.dumps({'code': code, 'writes': count.value}), file=answers, flush=True)


if __name__ == '__main__':
    found = disturbed_programs.PROGRAMS[sys.argv[1]]()
    found.load()
    _serve(found)
