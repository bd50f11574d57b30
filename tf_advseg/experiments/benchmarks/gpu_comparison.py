"""Whether a GPU computes what the CPU does: every method's step on both, timed, as text to paste.

The steps are device_steps' and so small that their times show a broken set-up, not whether a card
is fast; `side` makes the images larger. TF32 is off while it compares: with it a GPU multiplies
with 10 bits of a number's 23.

Deterministic operations are a property of a process, hence `child`.
"""
import contextlib
import dataclasses
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time

import tensorflow as tf

import tf_advseg
from tf_advseg.core import command_line
from tf_advseg.core import errors
from tf_advseg.core import lanes
from tf_advseg.core import progress
from tf_advseg.core import runtime
from tf_advseg.experiments.benchmarks import device_steps
from tf_advseg.reporting import tables

WORKS, DIFFERS, NOT_RUN, NOT_HERE = 'works', 'two runs differ', 'not run', 'not here'
# What a check of CPU against CPU takes: the quickest, since there is nothing to find.
BRIEF = ('Stage 1: segmentor', 'LoAd: discriminator', 'Durall: discriminator', 'Zhu, phase 1: both')


@dataclasses.dataclass(frozen=True)
class Devices:
    """What is compared.

    Attributes:
      reference: name of the device whose numbers count as right, '/cpu:0'.
      device: name of the one that is checked.
      pair: names of two of its kind, or () where there is one.
    """
    reference: str
    device: str
    pair: tuple


@dataclasses.dataclass(frozen=True)
class Line:
    """What was found of one case.

    Attributes:
      case: device_steps.Case.
      difference: device_steps.Difference of the device from the reference, or None (see `error`).
      milliseconds: a step's on the reference and on the device.
      pair: Difference of two replicas from the device, None where there are no two devices.
      deterministic: WORKS, DIFFERS, NOT_RUN, or one line that says what is lacking.
      error: first line of what TensorFlow raised on the device, or ''.
    """
    case: device_steps.Case
    difference: object
    milliseconds: tuple
    pair: object = None
    deterministic: str = NOT_RUN
    error: str = ''

    @property
    def equal(self):
        """bool: whether all that was compared lies within the tolerances."""
        return not self.error and self.difference.within and (
            self.pair is None or self.pair.within)


def find_devices(kind):
    """The `Devices` of a kind, 'gpu' or 'cpu'; of the CPU two logical ones are compared.

    Raises:
      UserError: TensorFlow finds no GPU.
    """
    if kind == 'cpu':
        return Devices('/cpu:0', '/cpu:1', ('/cpu:0', '/cpu:1'))
    number = len(tf.config.list_physical_devices('GPU'))
    if not number:
        raise errors.UserError(no_gpu_line())
    return Devices('/cpu:0', '/gpu:0', ('/gpu:0', '/gpu:1') if number > 1 else ())


def no_gpu_line():
    """Why there is nothing to check, and what to install."""
    visible = os.environ.get('CUDA_VISIBLE_DEVICES')
    hidden = f' CUDA_VISIBLE_DEVICES is "{visible}", which may hide it.' if visible is not None \
        else ''
    return (f'TensorFlow {tf.__version__} finds no GPU.{hidden} It needs Nvidia\'s driver '
            f'(nvidia-smi lists the cards) and the CUDA libraries: {sys.executable} -m pip install '
            "-c constraints.txt -e '.[gpu]' in the clone; --device=cpu tries this tool without one")


def chosen(kind, steps=(), networks=()):
    """The cases of a check.

    Args:
      kind: 'gpu' or 'cpu': what is taken where nothing is named.
      steps: names of device_steps.steps, each taken on every network; none for all (of the CPU
        BRIEF) on the first network and Stage 1's on the others.
      networks: names of device_steps.NETWORKS; none for all (of the CPU the first).

    Returns:
      list of device_steps.Case.

    Raises:
      UserError: a name that is not known.
    """
    for name in steps:
        errors.require_one_of('step', name, device_steps.steps())
    for name in networks:
        errors.require_one_of('network', name, device_steps.NETWORKS)
    networks = tuple(networks) or (
        tuple(device_steps.NETWORKS) if kind == 'gpu' else device_steps.LIGHT[:1])
    if steps:
        return [device_steps.Case(step, network) for network in networks for step in steps]
    return device_steps.cases(networks, tuple(device_steps.steps()) if kind == 'gpu' else BRIEF)


def checked_side(side):
    """`side`, if images of it suit every network.

    Raises:
      UserError: it is not 16 k + 1.
    """
    if side % 16 != 1:
        near = max(side // 16, 2) * 16 + 1
        raise errors.UserError(f'--side={side}: expected 16 k + 1, such as {near}')
    return side


@contextlib.contextmanager
def full_float32():
    """Switches TF32 off inside the block."""
    before = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(False)
    try:
        yield
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(before)


# --- measuring -------------------------------------------------------------------------------

def measure(devices, cases, side=device_steps.SIDE, repeats=5):
    """Takes each case's step on all devices.

    Args:
      devices: `Devices`.
      cases: sequence of device_steps.Case.
      side: of the images, 16 k + 1.
      repeats: steps that are timed, after the one that compiles.

    Returns:
      list of `Line`, one a case.
    """
    lines = []
    with full_float32(), progress.Progress(len(cases) + 1, 'gpu_check') as bar:
        for case in cases:
            lines.append(_line(devices, case, side, repeats))
            bar.update(1)
        found = _deterministic(devices.device, cases, side)
        bar.update(1)
    return [dataclasses.replace(line, deterministic=text) for line, text in zip(lines, found)]


def _line(devices, case, side, repeats):
    """A `Line` without what it says of deterministic operations."""
    reference = device_steps.Trial(case, device_steps.on(devices.reference), side)
    right = reference.outcome()
    before = _milliseconds(reference, repeats)
    try:
        trial = device_steps.Trial(case, device_steps.on(devices.device), side, reference.start)
        found = trial.outcome()
        line = Line(case, device_steps.difference(right, found, case.allowed),
                    (before, _milliseconds(trial, repeats)))
        if not devices.pair:
            return line
        both = device_steps.Trial(case, device_steps.on(*devices.pair), side, reference.start)
        return dataclasses.replace(line, pair=device_steps.difference(
            found, both.outcome(), case.allowed))
    except tf.errors.OpError as error:  # the others are still worth a look
        return Line(case, None, (before, None), error=_sentence(error))


def _milliseconds(trial, repeats):
    """The median of a step's."""
    taken = []
    for _ in range(repeats):
        began = time.perf_counter()
        trial.take()
        taken.append(1e3 * (time.perf_counter() - began))
    return statistics.median(taken)


def _sentence(error):
    """What an exception of TensorFlow says, in one line: the sentence, not where it was raised."""
    lines = [line.strip() for line in str(error).splitlines()]
    sentences = [line for line in lines if line and not line.startswith((
        'File ', 'Detected at', '[[', 'Graph execution error', '<'))]
    return f'{type(error).__name__}: {(sentences or ["?"])[0]}'


def _deterministic(device, cases, side):
    """What a process with deterministic operations says of each case: list of texts."""
    package = str(pathlib.Path(tf_advseg.__file__).parents[1])
    words = [[case.step, case.network] for case in cases]
    path = os.pathsep.join([package, *filter(None, [os.environ.get('PYTHONPATH')])])
    ended = subprocess.run(
        [sys.executable, '-c', f'import sys; from {__name__} import child; child(*sys.argv[1:])',
         device, json.dumps(words), str(side)],
        capture_output=True, text=True, check=False, env={**os.environ, 'PYTHONPATH': path})
    texts = [json.loads(line) for line in ended.stdout.splitlines() if line.startswith('"')]
    if ended.returncode:
        last = (ended.stderr.strip().splitlines() or ['no output'])[-1]
        texts.append(f'the process ended with code {ended.returncode}: {last}')
    return [*texts, *[NOT_RUN] * (len(cases) - len(texts))][:len(cases)]


def child(device, words, side):
    """Prints a JSON text a case: whether two runs of its steps agree to the bit; its own process.

    Args:
      device: name of a device.
      words: JSON, a list of [step, network].
      side: text of the images' side.
    """
    runtime.configure(deterministic=True, logical_cpus=2)
    with full_float32():
        for step, network in json.loads(words):
            text = _repeated(device_steps.Case(step, network), device, int(side))
            print(json.dumps(text), flush=True)


def _repeated(case, device, side):
    """WORKS, DIFFERS, or one line that says what is lacking."""
    try:
        trial = device_steps.Trial(case, device_steps.on(device), side)
        ends = []
        for _ in range(2):
            trial.outcome()
            trial.take()
            ends.append(trial.values())
    except tf.errors.OpError as error:
        operation = runtime.operation_without_deterministic_kernel(error)
        return _sentence(error) if operation is None else (
            command_line.no_deterministic_kernel_line(operation))
    same = all(value.tobytes() == ends[1][name].tobytes() for name, value in ends[0].items())
    return WORKS if same else DIFFERS


# --- report ----------------------------------------------------------------------------------

def surroundings(devices):
    """Versions and devices, as lines of text."""
    build = tf.sysconfig.get_build_info()
    lane = lanes.of_tensorflow(tf.__version__)
    lines = [f'tf_advseg {tf_advseg.__version__}, Python {platform.python_version()}, TensorFlow '
             f'{tf.__version__} (lane: {lane}), {platform.platform()}',
             f'TensorFlow was built for CUDA {build.get("cuda_version", "none")}, cuDNN '
             f'{build.get("cudnn_version", "none")}; oneDNN '
             f'{"on" if runtime.onednn_is_on() else "off"}; TF32 off while comparing']
    lines.append(f'CPU: {platform.processor() or platform.machine()}, {os.cpu_count()} cores, '
                 f'{_memory() / 2 ** 30:.1f} GiB')
    if 'gpu' in devices.device:
        lines += _gpus()
    lines.append(f'compared: {devices.device} with {devices.reference}' + (
        f', and a replica on each of {" and ".join(devices.pair)} with {devices.device}'
        if devices.pair else ''))
    return lines


def _memory():
    """Bytes of the machine's memory."""
    return os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')


def _gpus():
    """A line for each GPU; TensorFlow has no public name for the memory it may use."""
    from tensorflow.python.client import device_lib
    limits = {device.name.rsplit(':', 1)[1]: device.memory_limit
              for device in device_lib.list_local_devices() if device.device_type == 'GPU'}
    lines = []
    for gpu in tf.config.list_physical_devices('GPU'):
        number = gpu.name.rsplit(':', 1)[1]
        details = tf.config.experimental.get_device_details(gpu)
        capability = '.'.join(map(str, details.get('compute_capability', ('unknown',))))
        lines.append(f'GPU {number}: {details.get("device_name", "unknown")}, compute capability '
                     f'{capability}, {limits.get(number, 0) / 2 ** 30:.1f} GiB for TensorFlow')
    return lines


def table(lines, side=device_steps.SIDE):
    """The `Line`s as a reporting.tables.Table, and the notes that its numbers in brackets mean."""
    notes, rows = [], []

    def noted(text):
        if text in (WORKS, DIFFERS, NOT_RUN):
            return text
        if text not in notes:
            notes.append(text)
        return f'({notes.index(text) + 1})'
    for line in lines:
        first, second = (f'{ms:.1f}' if ms is not None else tables.MISSING
                         for ms in line.milliseconds)
        if line.error:
            compared = (tables.MISSING, tables.MISSING, noted(line.error), tables.MISSING)
        else:
            compared = (f'{line.difference.loss:.0e}', f'{line.difference.update:.0e}',
                        _verdict(line.difference),
                        NOT_HERE if line.pair is None else _verdict(line.pair))
        rows.append((line.case.step, line.case.network, *compared, first, second,
                     noted(line.deterministic)))
    title = (f'one step of {device_steps.BATCH} images of {side}x{side}; equal: loss within '
             f'{device_steps.LOSS:g} relatively, update of the weights within '
             f'{device_steps.UPDATE:g} of its length, on deep networks '
             f'{device_steps.DEEP_UPDATE:g}')
    header = ('step', 'network', 'loss', 'update', 'one device', 'two devices', 'CPU ms',
              'device ms', 'deterministic')
    return tables.plain_table(header, rows, title), [
        f'({number}) {text}' for number, text in enumerate(notes, 1)]


def _verdict(difference):
    return 'equal' if difference.within else 'DIFFERENT'


def text(devices, lines, side=device_steps.SIDE):
    """The whole block that is pasted, with a sentence that sums it up."""
    found, notes = table(lines, side)
    equal = sum(line.equal for line in lines)
    works = sum(line.deterministic == WORKS for line in lines)
    return '\n'.join([*surroundings(devices), '', tables.to_text(found), *notes, '',
                      f'{equal} of {len(lines)} steps are equal; {works} of {len(lines)} give the '
                      'same bits twice with deterministic operations'])
