"""Tools' command lines: one line for every mistake, help on one screen."""
import pathlib
import signal
import subprocess
import sys

import pytest

from tf_advseg.core import command_line
from tf_advseg.core.errors import UserError

TOOL = '''"""Does nothing, politely.

Example:
  python tool.py --workdir=/tmp/x --steps=3
"""
from tf_advseg.core import command_line
from tf_advseg.core.errors import UserError
from absl import flags

command_line.define_common_flags('gin_file', 'workdir', 'output_stride', 'strategy', 'dry_run',
                                 'num_classes', 'which', seed=7)
flags.DEFINE_integer('steps', 4, 'How many.')
flags.DEFINE_enum('kind', 'soft', ['soft', 'hard'], 'Which maps.')


def main(argv):
    values = flags.FLAGS
    if values.workdir == 'bad':
        raise UserError('x.png: broken\\n  expected a PNG')
    if values.workdir == 'bug':
        raise RuntimeError('a bug')
    if values.workdir == 'memory':
        raise MemoryError('Unable to allocate 8 TiB')
    if values.workdir == 'exhausted':
        kind = type('ResourceExhaustedError', (Exception,),
                    {'__module__': 'tensorflow.python.framework.errors_impl'})
        raise kind('OOM when allocating tensor\\nwith shape')
    if values.workdir == 'full':
        base = type('OpError', (Exception,),
                    {'__module__': 'tensorflow.python.framework.errors_impl'})
        kind = type('ResourceExhaustedError', (base,), {'__module__': base.__module__})
        raise kind('x/saved_model.pb; No space left on device')
    if values.workdir == 'letters':
        return print('5 ± 1 – café λ \\udce9')
    if values.workdir == 'system':
        open('/tmp/' + 300 * 'x', 'wb')
    if values.workdir == 'undetermined':
        kind = type('UnimplementedError', (Exception,),
                    {'__module__': 'tensorflow.python.framework.errors_impl'})
        raise kind('Graph execution error:\\n\\nDeterminism is not yet supported in GPU '
                   'implementation of DenseBincount.\\n\\t [[{{node x}}]] [Op:__inference_run_1]')
    if values.workdir == 'stop':
        raise KeyboardInterrupt
    if (values.workdir or '').startswith('terminated'):
        import os, signal, time
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)
        finally:
            print('cleaned up', flush=True)
            if values.workdir.endswith('twice'):
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(60)
    if values.workdir == 'long':
        for i in range(100000):
            print(i)
        return
    print(values.seed, values.steps, values.output_stride, argv[1:])


def run():
    command_line.run(main, positional=POSITIONAL)


if __name__ == '__main__':
    run()
'''


@pytest.fixture(scope='module')
def tool(tmp_path_factory, repository):
    """Returns a function that runs the tool: (exit code, stdout, stderr)."""
    folder = tmp_path_factory.mktemp('tool')
    for positional in (0, 1):
        (folder / f'tool{positional}.py').write_text(
            TOOL.replace('POSITIONAL', str(positional)))

    def call(*arguments, positional=0, encoding='utf-8'):
        import os
        done = subprocess.run(
            [sys.executable, str(folder / f'tool{positional}.py'), *arguments], encoding=encoding,
            capture_output=True, cwd=folder, env={**os.environ, 'PYTHONPATH': str(repository),
                                                  'PYTHONIOENCODING': encoding})
        return done.returncode, done.stdout, done.stderr
    return call


def test_a_good_call(tool):
    assert tool('--steps=5', '--output_stride', '16') == (0, '7 5 16 []\n', '')
    assert tool('load', '--seed=1', positional=1) == (0, "1 4 None ['load']\n", '')


MISTAKES = {
    '--wordir=x': 'unknown flag --wordir. Did you mean --workdir? See --help.',
    '--stpes=3': 'unknown flag --stpes. Did you mean --steps? See --help.',
    '--qqqqqqqqq': 'unknown flag --qqqqqqqqq. See --help.',
    '--steps=many': 'flag --steps=many: must be a whole number',
    '--dry_run=maybe': 'flag --dry_run=maybe: must be true or false',
    '--kind=sotf': 'flag --kind=sotf: value should be one of <soft|hard>. Did you mean "soft"?',
    '--which=contorl': 'flag --which=contorl: value should be one of <best|averaged|last|start|'
                       'stage1_averaged|control|control_averaged>. Did you mean "control"?',
    '--output_stride=7': 'flag --output_stride=7: must be 8, 16 or 32',
    '--num_classes=1': 'flag --num_classes=1: 1 is not integer >= 2',
    'stray': 'unexpected argument "stray"; a flag is written --name=value, see --help',
    '--workdir=bad': 'x.png: broken expected a PNG',
}


@pytest.mark.parametrize('argument', MISTAKES)
def test_a_mistake_is_one_line_and_exit_code_1(tool, argument):
    assert tool(argument) == (1, '', f'error: {MISTAKES[argument]}\n')


def test_interrupt_is_one_line_and_a_bug_keeps_its_traceback(tool):
    code, _, err = tool('--workdir=stop')
    assert code == 130 and err.startswith('error: interrupted') and err.count('\n') == 1
    code, _, err = tool('--workdir=bug')
    assert code == 1 and 'Traceback' in err and 'RuntimeError: a bug' in err


def test_sigterm_cleans_up_as_ctrl_c_does_and_a_second_one_ends_at_once(tool):
    code, out, err = tool('--workdir=terminated')
    assert (code, out) == (143, 'cleaned up\n')
    assert err.startswith('error: terminated; nothing half-written') and err.count('\n') == 1
    code, out, err = tool('--workdir=terminated_twice')
    assert (code, out, err) == (-signal.SIGTERM, 'cleaned up\n', '')


@pytest.mark.parametrize('how', ['memory', 'exhausted'])
def test_memory_that_runs_out_is_one_line_with_advice(tool, how):
    code, out, err = tool(f'--workdir={how}')
    assert code == 1 and out == '' and err.count('\n') == 1
    assert err.startswith('error: out of memory; use smaller')


@pytest.mark.parametrize('encoding, shown', [
    ('ascii', '5 +- 1 - cafe \\u03bb \\xe9'), ('latin-1', '5 ± 1 - café \\u03bb \\xe9'),
    ('utf-8', '5 ± 1 – café λ \\xe9')])
def test_output_of_any_encoding_shows_what_comes_near(tool, encoding, shown):
    assert tool('--workdir=letters', encoding=encoding) == (0, shown + '\n', '')


def test_a_full_disk_in_tensorflow_is_no_lack_of_memory(tool):
    code, out, err = tool('--workdir=full')
    assert (code, out, err) == (
        1, '', 'error: the disk is full; free some space and start again\n')


def test_what_the_system_refuses_anywhere_is_one_line_with_the_file(tool):
    code, out, err = tool('--workdir=system')
    assert code == 1 and out == '' and err.count('\n') == 1
    assert err.startswith('error: /tmp/xxx') and 'longer than the file system allows' in err


def test_an_operation_without_a_deterministic_kernel_is_one_line_with_advice(tool):
    code, out, err = tool('--workdir=undetermined')
    assert code == 1 and out == '' and err.count('\n') == 1
    assert err.startswith('error: TensorFlow has no deterministic GPU kernel for DenseBincount; ')
    assert '--nodeterministic' in err and 'CUDA_VISIBLE_DEVICES=-1' in err


def test_tensorflows_error_is_known():
    import tensorflow as tf
    assert command_line._out_of_memory(tf.errors.ResourceExhaustedError(None, None, 'OOM'))
    assert not command_line._out_of_memory(tf.errors.InternalError(None, None, 'bug'))


def test_help_fits_a_screen_and_shows_only_own_flags(tool):
    code, out, err = tool('--help')
    assert code == 0 and err == ''
    lines = out.splitlines()
    assert lines[0] == 'Does nothing, politely.' and len(lines) < 50
    assert max(map(len, lines)) < 100
    assert '  python tool.py --workdir=/tmp/x --steps=3' in lines
    for text in ('--workdir', '--[no]dry_run', '--steps', 'soft|hard', '(default: 7)'):
        assert text in out
    assert '--logtostderr' not in out and '--split' not in out
    code, out, _ = tool('--helpfull')
    assert code == 0 and '--[no]logtostderr' in out and '--steps' in out


def test_all_common_flags_fit_a_screen(repository):
    code = ('from tf_advseg.core import command_line\n'
            'command_line.define_common_flags(*command_line.COMMON_FLAGS)\n'
            'def main(argv): pass\n'
            'print(command_line.help_text(main))\n')
    out = subprocess.run([sys.executable, '-c', code], cwd=repository, text=True, check=True,
                         capture_output=True).stdout
    assert all(f'{name} ' in out for name in command_line.COMMON_FLAGS)
    assert len(out.splitlines()) < 40


def test_a_closed_pipe_ends_quietly(tmp_path, repository):
    (tmp_path / 'tool.py').write_text(TOOL.replace('POSITIONAL', '0'))
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / 'tool.py'), '--workdir=long'], stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, env={'PYTHONPATH': str(repository), 'PATH': '/usr/bin:/bin'})
    assert process.stdout.readline() == b'0\n'
    process.stdout.close()
    assert process.stderr.read() == b''
    process.stderr.close()
    assert process.wait() != 0


def test_missing_packages_are_one_line(repository):
    # -S and -I: an interpreter that finds the standard library and nothing else.
    code = (f'import sys; sys.path.insert(0, {str(repository)!r})\n'
            'import tf_advseg.core.command_line')
    done = subprocess.run([sys.executable, '-I', '-S', '-c', code], text=True,
                          capture_output=True)
    assert done.returncode == 1 and done.stderr.count('\n') == 1
    assert done.stderr.startswith('error: absl is not installed')


def test_parse_size():
    assert command_line.parse_size('513') == (513, 513)
    assert command_line.parse_size('321X513') == (321, 513)
    for text in ('', '0', 'a', '1x2x3', '-5', '3x'):
        with pytest.raises(UserError, match='must be a side'):
            command_line.parse_size(text)


def test_a_repeatable_flag_where_a_tool_takes_one():
    assert command_line.single([], 'input') is None and command_line.single(['x'], 'input') == 'x'
    with pytest.raises(UserError, match='--input was given 2 times; this tool takes one'):
        command_line.single(['x', 'y'], 'input')


@pytest.mark.parametrize('tool', sorted(path.stem for path in (
    pathlib.Path(__file__).resolve().parents[2] / 'tools').glob('[a-z]*.py')))
def test_a_python_without_the_packages_gets_one_line_from_every_tool(repository, tool):
    done = subprocess.run([sys.executable, '-S', repository / 'tools' / f'{tool}.py', '--help'],
                          text=True, capture_output=True, check=False, cwd='/')
    assert done.returncode == 1
    assert [line.partition(' ')[0] for line in done.stderr.splitlines()] == ['error:']
    assert 'is not installed for' in done.stderr and 'make setup' in done.stderr
