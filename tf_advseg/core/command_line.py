"""What every tool's command line shares: flags by name, short help, errors in one line."""
import codecs
import os
import re
import signal
import sys
import textwrap
import threading
import unicodedata

from tf_advseg.core import files
from tf_advseg.core import lanes
from tf_advseg.core import runtime
from tf_advseg.core.errors import UserError, nearest, spelled, suggest


def _fail(message):
    """Ends the process with one line on stderr and exit code 1."""
    print(f'error: {message}', file=sys.stderr)
    raise SystemExit(1)


# A wrong Python, or one without the packages, must get one line, and both show at import.
try:
    lanes.of_python()
    from absl import app, flags
except UserError as _error:
    _fail(_error)
except ModuleNotFoundError as _error:
    _fail(f'{_error.name} is not installed for {sys.executable}; run `make setup` and use '
          '.venv/bin/python, or pip install the package')

STRATEGIES = ('one_device', 'mirrored', 'multi_worker', 'tpu')
BACKENDS = ('tensorflow', 'tflite', 'onnx', 'auto')  # models.backends has TensorFlow
WHICH = ('best', 'averaged', 'last', 'start', 'stage1_averaged', 'control', 'control_averaged')

# name -> (definition, default, help, further arguments)
_FLAGS = {
    'gin_file': (flags.DEFINE_multi_string, [],
                 'Gin file, found from any directory; repeatable, later ones override.', {}),
    'gin_param': (flags.DEFINE_multi_string, [],
                  'Gin binding, as "controller.patience=20"; repeatable, overrides files.', {}),
    'workdir': (flags.DEFINE_string, None, 'Run directory; the same command resumes in it.', {}),
    'data_dir': (flags.DEFINE_string, None, 'Records made by prepare_data, or raw data: a folder '
                 'or an archive.', {}),
    'dataset': (flags.DEFINE_string, None, 'Name of the data set or its reader.', {}),
    'option': (flags.DEFINE_multi_string, [], 'Option of the reader, as seed=1; repeatable.', {}),
    'split': (flags.DEFINE_string, None, 'Split of the data set (train, val, test, …).', {}),
    'checkpoint': (flags.DEFINE_string, None, 'Model: a run, a model folder, zoo:NAME; in train the '
                   'start, any weights file.', {}),
    'which': (flags.DEFINE_enum, None, 'Of a run; default: its averaged, else its best, else its '
              'last; of LoAd its best.',
              {'enum_values': WHICH}),
    'source': (flags.DEFINE_string, None, 'Where the original files lie.', {}),
    'input': (flags.DEFINE_multi_string, [], 'Image, folder of images, or pattern; '
              'repeatable.', {}),
    'output': (flags.DEFINE_string, None, 'Folder or file to be written.', {}),
    'model': (flags.DEFINE_string, None, 'Name of the network.', {}),
    'num_classes': (flags.DEFINE_integer, None, 'Number of classes.', {'lower_bound': 2}),
    'output_stride': (flags.DEFINE_integer, None, '8|16|32. Output stride of the network.', {}),
    'input_size': (flags.DEFINE_string, None, 'Side in pixels, or HEIGHTxWIDTH.', {}),
    'compare': (flags.DEFINE_multi_string, [], 'Another run or checkpoint beside this one; '
                'repeatable.', {}),
    'eval_scales': (flags.DEFINE_multi_float, [], 'Scale of the images, as 0.5; repeatable, '
                    'averaged. Default: 1.', {}),
    'flip': (flags.DEFINE_boolean, False, 'Average over mirrored images, too.', {}),
    'window': (flags.DEFINE_string, None, 'Side or HEIGHTxWIDTH of windows that slide over large '
               'images.', {}),
    'padding': (flags.DEFINE_enum, 'crop', 'Whether smaller images are padded to the crop.',
                {'enum_values': ('crop', 'none')}),
    'backend': (flags.DEFINE_enum, 'tensorflow', 'Runtime; auto measures.',
                {'enum_values': BACKENDS}),
    'verify': (flags.DEFINE_boolean, False, 'Check the result against its source.', {}),
    'strategy': (flags.DEFINE_enum, 'one_device', 'Strategy.',
                 {'enum_values': STRATEGIES}),
    'seed': (flags.DEFINE_integer, None, 'Seed of every random stream.', {'lower_bound': 0}),
    'dry_run': (flags.DEFINE_boolean, False, 'Build everything, take no step; print '
                'parameters, memory, disk and expected time.', {}),
}
COMMON_FLAGS = tuple(_FLAGS)

_ABSL_REPEAT = '; repeat this option to specify a list of values'  # ours say it shorter
# What stands for a character where the output is ASCII.
_ASCII = {'±': '+-', '–': '-', '—': '-', '−': '-', '…': '...', '×': 'x', '→': '->', '≥': '>=',
          '≤': '<=', '’': "'", '“': '"', '”': '"', '·': '.'}
_chosen = {}  # module name -> the common flags it defined, for its --help


def define_common_flags(*names, **defaults):
    """Defines flags that mean the same in every tool.

    Args:
      *names: members of COMMON_FLAGS.
      **defaults: name=value for flags whose default differs in this tool; defines them too.

    Raises:
      KeyError: no such common flag (a mistake of the tool, not of its user).
    """
    module = sys._getframe(1).f_globals['__name__']
    wanted = list(dict.fromkeys([*names, *defaults]))
    _chosen.setdefault(module, []).extend(wanted)
    for name in wanted:
        define, default, text, options = _FLAGS[name]
        default = defaults.get(name, default)
        if name in flags.FLAGS:  # another tool in the same process, as in tests
            flags.FLAGS.set_default(name, default)
        elif define is flags.DEFINE_enum:
            define(name, default, options['enum_values'], text)
        else:
            define(name, default, text, **options)
    if 'output_stride' in wanted:
        flags.register_validator('output_stride', lambda value: value in (None, 8, 16, 32),
                                 message='must be 8, 16 or 32')


def single(values, flag):
    """The one value of a repeatable flag, None where there is none.

    Raises:
      UserError: there are several, and the tool takes one.
    """
    if len(values) > 1:
        raise UserError(f'--{flag} was given {len(values)} times; this tool takes one')
    return values[0] if values else None


def parse_size(text, flag='input_size'):
    """Returns (height, width) of '513' or '321x513'.

    Raises:
      UserError: the text is neither.
    """
    parts = str(text).lower().split('x')
    if len(parts) > 2 or not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
        raise UserError(f'--{flag}={text}: must be a side in pixels, as 513, or HEIGHTxWIDTH, as '
                        '321x513')
    sizes = [int(part) for part in parts]
    return sizes[0], sizes[-1]


def _own_flags(main):
    """Returns the Flag objects of the tool that holds `main`, in the order of definition."""
    module = sys.modules[main.__module__]
    absl_name = sys.argv[0] if main.__module__ == '__main__' else main.__module__
    own = flags.FLAGS.flags_by_module_dict().get(absl_name, [])
    common = [flags.FLAGS[name] for name in _chosen.get(module.__name__, [])]
    return list({flag.name: flag for flag in [*common, *own]}.values())


def help_text(main):
    """Returns what --help prints: the tool's docstring and its own flags, two columns."""
    module = sys.modules[main.__module__]
    lines = [(module.__doc__ or '').strip(), '', 'Flags:']
    for flag in _own_flags(main):
        boolean = flag.flag_type() == 'bool'
        head = f'--[no]{flag.name}' if boolean else f'--{flag.name}'
        text = ' '.join((flag.help or '').split()).replace(_ABSL_REPEAT, '')
        choices = getattr(flag.parser, 'enum_values', None)
        if choices and not text.startswith('<'):
            text = f'{"|".join(choices)}. {text}'
        elif choices:
            text = text.lstrip('<').replace('>:', '.', 1)
        if flag.default not in (None, [], False, ''):
            text += f' (default: {_default_text(flag)})'
        lines += textwrap.wrap(text, width=98, initial_indent=f'  {head:<18} ',
                               subsequent_indent=' ' * 21, break_on_hyphens=False)
    lines.append('  --helpfull         Every flag, those of the libraries too.')
    return '\n'.join(lines)


def _default_text(flag):
    """Returns a flag's default as it would be typed."""
    if isinstance(flag.default, (list, tuple)):
        return ', '.join(str(value) for value in flag.default)
    return str(flag.default)


def _answer_help(main, argv):
    """Prints help and exits with 0 if --help or --helpfull stands among the flags."""
    before = argv[1:argv.index('--')] if '--' in argv else argv[1:]
    if any(word in ('--help', '-help', '-h', '-?', '--helpshort') for word in before):
        print(help_text(main))
        raise SystemExit(0)
    if '--helpfull' in before:
        app.usage(writeto_stdout=True)
        raise SystemExit(0)


def _flag_error(error):
    """Returns absl's message on one line, with the nearest of the values it lists."""
    text = ' '.join(str(error).split())
    text = re.sub(r'invalid literal for int.*', 'must be a whole number', text)
    text = re.sub(r'could not convert string to float.*', 'must be a number', text)
    text = re.sub(r"\('Non-boolean argument to boolean flag', .*\)", 'must be true or false', text)
    match = re.search(r'flag --?\w+=(\S+): value should be one of <([^>]+)>', text)
    return text + ('.' + suggest(match[1], match[2].split('|')) if match else '')


def _parser(main, positional):
    """Returns the function that parses flags for absl's app.run."""
    def parse(argv):
        _answer_help(main, argv)
        try:
            rest = flags.FLAGS(argv)
        except flags.UnrecognizedFlagError as error:
            own = [flag.name for flag in _own_flags(main)]
            found = nearest(error.flagname, own) or nearest(error.flagname, list(flags.FLAGS))
            hint = f' Did you mean --{found}?' if found else ''
            _fail(f'unknown flag --{error.flagname}.{hint} See --help.')
        except flags.Error as error:
            _fail(_flag_error(error))
        if len(rest) - 1 > positional:
            stray = rest[1 + positional]
            _fail(f'unexpected argument "{stray}"; a flag is written --name=value, see --help')
        return rest
    return parse


def _speak_any_encoding():
    """Lets output that cannot hold a character show what comes near it, and not end the tool."""
    def nearby(error):
        text = error.object[error.start:error.end]
        return ''.join(_nearby(letter) for letter in text), error.end

    codecs.register_error('nearby', nearby)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, 'reconfigure'):  # not one that a test or a notebook has put there
            stream.reconfigure(errors='nearby')


def _nearby(letter):
    """ASCII for any character: what looks like it, its letter without the accent, its escape."""
    bare = unicodedata.normalize('NFKD', letter).encode('ascii', 'ignore').decode('ascii')
    return _ASCII.get(letter) or bare or spelled(letter).encode(
        'ascii', 'backslashreplace').decode('ascii')


class _Terminated(KeyboardInterrupt):
    """SIGTERM: whatever cleans up after Ctrl-C cleans up after it."""


def _end_as_by_interrupt():
    """Lets SIGTERM end this process as Ctrl-C does; a second one ends it at once."""
    def terminate(number, frame):
        del frame
        signal.signal(number, signal.SIG_DFL)
        raise _Terminated

    # Signals can be caught in the main thread only; one that is ignored stays so.
    if (threading.current_thread() is threading.main_thread()
            and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL):
        signal.signal(signal.SIGTERM, terminate)


def _interrupted(error, resumes):
    """Says what Ctrl-C or SIGTERM has left behind; returns the exit code."""
    terminated = isinstance(error, _Terminated)
    resumes = resumes() if callable(resumes) else resumes
    print(f'error: {"terminated" if terminated else "interrupted"}; '
          + ('the same command goes on where it stopped' if resumes else
             'nothing half-written was left; the same command starts anew'), file=sys.stderr)
    return 128 + (signal.SIGTERM if terminated else signal.SIGINT)


def _reader_gone():
    """`tool | head`: nobody reads any more. Returns the exit code."""
    # Python would complain again while it exits.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 128 + signal.SIGPIPE


def _out_of_memory(error):
    """Whether an exception means that memory ran out; found without importing TensorFlow."""
    return isinstance(error, MemoryError) or any(
        kind.__name__ == 'ResourceExhaustedError' and kind.__module__.startswith('tensorflow.')
        for kind in type(error).__mro__)


def _surroundings_line(error):
    """The message where the machine, not the program, is at fault; None for any other error."""
    reason = files.disk_reason(error)
    if reason is not None:
        named = getattr(error, 'filename', None)
        return f'{files.without_temporary(named)}: {reason}' if isinstance(named, str) else reason
    if _out_of_memory(error):
        return ('out of memory; use smaller images, crops, batches, --eval_scales or --window, '
                'or a machine with more')
    operation = runtime.operation_without_deterministic_kernel(error)
    return None if operation is None else no_deterministic_kernel_line(operation)


def no_deterministic_kernel_line(operation):
    """The line for an operation that TensorFlow cannot do deterministically on a GPU."""
    return (f'TensorFlow has no deterministic GPU kernel for {operation}; train with '
            '--nodeterministic (two runs may then differ in their last digits), or keep to the CPU '
            'with CUDA_VISIBLE_DEVICES=-1 in the environment')


def _guarded(main, resumes):
    """Returns `main` with its user errors as one line and its exit codes as the house has them."""
    def call(argv):
        try:
            return main(argv)
        except UserError as error:
            print(f'error: {error}', file=sys.stderr)
            return 1
        except KeyboardInterrupt as error:
            return _interrupted(error, resumes)
        except BrokenPipeError:
            return _reader_gone()
        except Exception as error:
            line = _surroundings_line(error)
            if line is None:
                raise
            print(f'error: {line}', file=sys.stderr)
            return 1
    return call


def run(main, positional=0, resumes=False):
    """Runs a tool and exits: 0, or 1 with one line `error: …` on stderr.

    It is 130 after Ctrl-C and 143 after SIGTERM, with one such line too.

    Args:
      main: function of argv (program name, then words that are no flags); its module's
        docstring is the tool's --help and ends with an example that works.
      positional: how many words that are no flags the tool takes.
      resumes: whether the tool, stopped, goes on where it was; or a function that tells.

    Raises:
      SystemExit: always.
    """
    runtime.silence_tensorflow()
    _speak_any_encoding()
    _end_as_by_interrupt()
    try:
        app.run(_guarded(main, resumes), flags_parser=_parser(main, positional))
    except KeyboardInterrupt as error:  # while flags are parsed
        raise SystemExit(_interrupted(error, resumes)) from None
    except BrokenPipeError:  # of --help
        raise SystemExit(_reader_gone()) from None
