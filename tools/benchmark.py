"""Measures what things cost and are worth; docs/tools_and_settings.md says more of each.

load, load_memory, cues, screen   LoAd by parts; its memory at VOC's size; its discriminators
step, networks, growth, images, lr_range, input, inference, runtimes   training, input, exports
Example:  python tools/benchmark.py load --gin_file=gin/demo_smallest.gin
"""
import pathlib
import sys
import tempfile

if not __package__:  # started as a script from a checkout, from any directory
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from tf_advseg.core import command_line  # noqa: E402  before absl: it says what is missing
from tf_advseg.core import runtime  # noqa: E402

from absl import flags  # noqa: E402

KINDS = ('load', 'load_memory', 'cues', 'screen', 'step', 'networks', 'growth', 'images',
         'lr_range', 'inference', 'runtimes', 'input')
VOC = ('models/deeplabv3_mobilenet_v2.gin', 'methods/load.gin')

command_line.define_common_flags('gin_file', 'gin_param', 'workdir', 'output', 'strategy', 'model',
                                 'output_stride', 'checkpoint', 'input', input_size='513')
flags.DEFINE_integer('cycles', 1, 'load: cycles measured.', lower_bound=1)
flags.DEFINE_integer('images', None, 'Images: load_memory (1464), cues (48), screen (all), images '
                     '(20000).', lower_bound=8)
flags.DEFINE_integer('steps', 4, 'load_memory: steps of each network.', lower_bound=1)
flags.DEFINE_integer('real_maps', 32, 'load_memory: maps of a slot that are drawn, not random.',
                     lower_bound=0)
flags.DEFINE_multi_string('kind', [], 'step, networks: a kind of step, a network; default: all.')
flags.DEFINE_list('policy', ['float32'], 'networks: what training computes in.')
flags.DEFINE_multi_string('design', [], 'screen: a design by name; default: all.')
flags.DEFINE_integer('repeats', 20, 'inference, runtimes, input, networks: runs.', lower_bound=1)

flags.DEFINE_string('calibration', None, "runtimes: images for int8's ranges; default: --input.")

FLAGS = flags.FLAGS


def _named(argv):
    """What is to be measured; raises UserError where nothing, or something else, is named."""
    from tf_advseg.core import errors
    if len(argv) < 2:
        raise errors.UserError(f'name what to measure: {", ".join(KINDS)}')
    return errors.require_one_of('benchmark', argv[1], KINDS)


def main(argv):
    """Flags, one call, its table."""
    from tf_advseg.core import errors
    kind = _named(argv)
    _require_runtimes(kind)
    if kind == 'load' and not FLAGS.gin_file and not FLAGS.workdir:
        raise errors.UserError('nothing to measure: add --workdir=RUN_DIRECTORY or --gin_file=…')
    if kind == 'step':
        from tf_advseg.experiments.benchmarks import step_benchmark
        from tf_advseg.reporting import tables
        print(tables.to_text(step_benchmark.measure(kinds=step_benchmark.chosen(FLAGS.kind))))
        return
    if kind in ('inference', 'runtimes', 'networks', 'growth', 'images'):
        {'inference': _inference, 'runtimes': _runtimes, 'networks': _networks,
         'growth': _growth, 'images': _images}[kind]()
        return
    runtime.configure(deterministic=True)
    if kind in ('input', 'cues', 'screen', 'lr_range'):
        {'input': _input, 'cues': _cues, 'screen': _screen, 'lr_range': _lr_range}[kind]()
        return
    from tf_advseg.experiments.benchmarks import benchmarking
    from tf_advseg.reporting import tables
    from tf_advseg.training import strategy
    if kind == 'load' and not FLAGS.gin_file:
        costs = benchmarking.of_run(FLAGS.workdir)
        print('\n'.join([tables.to_text(benchmarking.table(costs)), benchmarking.rest_text(costs),
                         *benchmarking.ratios(FLAGS.workdir)]))
        return
    height, width = command_line.parse_size(FLAGS.input_size)
    if height != width:
        raise errors.UserError(f'--input_size={FLAGS.input_size}: load_memory makes up square '
                               'images; give one side, as 513')
    distribution = strategy.make_strategy(FLAGS.strategy)
    with tempfile.TemporaryDirectory(prefix='tf_advseg-') as scratch:
        workdir = FLAGS.workdir or f'{scratch}/run'
        if kind == 'load':
            costs = benchmarking.measure(workdir, FLAGS.gin_file, FLAGS.gin_param, distribution,
                                         FLAGS.cycles)
            print(f'{tables.to_text(benchmarking.table(costs))}\n{benchmarking.rest_text(costs)}')
            return
        memory = benchmarking.measure_memory(
            workdir, FLAGS.gin_file or VOC, FLAGS.gin_param, distribution, FLAGS.images or 1464,
            height, steps=FLAGS.steps, real_maps=FLAGS.real_maps)
    print(memory.text())
    if not memory.within:
        raise errors.UserError('a limit is not kept, see above')


def _cues():
    from tf_advseg.experiments.benchmarks import discriminator_benchmark
    from tf_advseg.methods import cue_audit
    from tf_advseg.reporting import tables
    with tempfile.TemporaryDirectory(prefix='tf_advseg-') as scratch:
        print(tables.to_text(discriminator_benchmark.cues(
            scratch, FLAGS.gin_file, FLAGS.gin_param, FLAGS.images or cue_audit.IMAGES)))


def _screen():
    from tf_advseg.core import errors
    from tf_advseg.experiments.benchmarks import discriminator_benchmark
    from tf_advseg.reporting import tables
    from tf_advseg.training import strategy
    if not FLAGS.gin_file or not FLAGS.workdir:
        raise errors.UserError('screen: add --gin_file=CONFIGURATION and --workdir=FOLDER, where '
                               'results are kept')
    print(tables.to_text(discriminator_benchmark.screen(
        FLAGS.workdir, FLAGS.gin_file, FLAGS.gin_param, strategy.make_strategy(FLAGS.strategy),
        FLAGS.images, FLAGS.design)))


def _lr_range():
    from tf_advseg.core import configuration
    from tf_advseg.core import errors
    from tf_advseg.experiments.benchmarks import rate_range
    from tf_advseg.experiments.train import training
    from tf_advseg.training import strategy
    if not FLAGS.gin_file:
        raise errors.UserError('lr_range: add --gin_file=CONFIGURATION, as train takes it')
    configuration.parse(FLAGS.gin_file, FLAGS.gin_param)
    training.experiment(workdir=None, strategy=strategy.make_strategy(FLAGS.strategy),
                        instead=rate_range.tester(FLAGS.output))


def _networks():
    from tf_advseg.core import errors
    from tf_advseg.experiments.benchmarks import network_benchmark
    from tf_advseg.reporting import tables
    height, width = command_line.parse_size(FLAGS.input_size)
    if height != width:
        raise errors.UserError(f'--input_size={FLAGS.input_size}: networks are given square images;'
                               ' give one side, as 321')
    print(tables.to_text(network_benchmark.measure(
        FLAGS.kind, FLAGS.policy, height, repeats=FLAGS.repeats)))


def _growth():
    from tf_advseg.core import errors
    from tf_advseg.core import files
    from tf_advseg.experiments.benchmarks import growth
    from tf_advseg.experiments.studies import sweeping
    from tf_advseg.reporting import curves
    from tf_advseg.reporting import tables
    if not FLAGS.gin_file or not FLAGS.workdir:
        raise errors.UserError('growth: add --gin_file=CONFIGURATION and --workdir=FOLDER, as '
                               'train takes them')
    pathlib.Path(FLAGS.workdir).parent.mkdir(parents=True, exist_ok=True)
    samples = growth.watch([*sweeping.train_command(),
                            *(f'--gin_file={name}' for name in FLAGS.gin_file),
                            *(f'--gin_param={text}' for text in FLAGS.gin_param),
                            f'--workdir={FLAGS.workdir}'], FLAGS.workdir)
    print(tables.to_text(growth.table(samples)))
    if FLAGS.output:
        with files.atomic_file(FLAGS.output) as file:
            file.write(curves.encode(growth.chart(samples)))


def _images():
    from tf_advseg.experiments.benchmarks import many_images
    from tf_advseg.reporting import tables
    most = FLAGS.images or 20000
    with tempfile.TemporaryDirectory(prefix='tf_advseg-') as scratch:
        found = {count: many_images.measure(FLAGS.workdir or scratch, count, FLAGS.gin_file,
                                            FLAGS.gin_param) for count in (most // 10, most)}
    print(tables.to_text(many_images.table(found)))


def _inference():
    size = command_line.parse_size(FLAGS.input_size)
    runtime.configure()
    from tf_advseg.core import configuration
    from tf_advseg.experiments.benchmarks import inference_benchmark
    from tf_advseg.reporting import tables
    configuration.parse(FLAGS.gin_file, FLAGS.gin_param)
    timings = list(inference_benchmark.measure(FLAGS.model, FLAGS.output_stride, size,
                                               FLAGS.repeats))
    print(tables.to_text(inference_benchmark.table(timings, size, FLAGS.repeats)))


def _require_runtimes(kind):
    """UserError where flags of `runtimes` are given for another benchmark, or no weights."""
    from tf_advseg.core import errors
    given = [name for name in ('checkpoint', 'input', 'calibration') if getattr(FLAGS, name)]
    if given and kind != 'runtimes':
        raise errors.UserError(f'--{given[0]}: belongs to `benchmark runtimes`; leave it out')
    if given and not FLAGS.checkpoint:
        raise errors.UserError(f'--{given[0]}: random weights agree with nothing; add '
                               '--checkpoint=RUN_DIRECTORY')
    for name in ('model', 'output_stride'):
        if given and getattr(FLAGS, name):
            raise errors.UserError(f'--{name}: the checkpoint says which network it is of; leave '
                                   'it out')


def _runtimes():
    size = command_line.parse_size(FLAGS.input_size)
    runtime.configure()
    from tf_advseg.core import configuration
    from tf_advseg.experiments.benchmarks import runtime_benchmark
    from tf_advseg.experiments.convert import importing  # before gin is locked
    from tf_advseg.reporting import tables
    configuration.parse(FLAGS.gin_file, FLAGS.gin_param)
    if FLAGS.checkpoint:
        found = runtime_benchmark.measure_checkpoint(
            importing.resolved(FLAGS.checkpoint),
            size if FLAGS['input_size'].present else None,
            command_line.single(FLAGS.input, 'input'), FLAGS.calibration, FLAGS.repeats)
    else:
        found = runtime_benchmark.measure(FLAGS.model or 'deeplab_mobilenet_v2',
                                          FLAGS.output_stride or 16, size, FLAGS.repeats)
    print(tables.to_text(runtime_benchmark.table(found)))


def _input():
    """Raises UserError where the input is too slow."""
    from tf_advseg.core import configuration
    from tf_advseg.core import errors
    from tf_advseg.experiments.benchmarks import input_benchmark
    from tf_advseg.reporting import tables
    from tf_advseg.training import strategy
    configuration.parse(FLAGS.gin_file, FLAGS.gin_param)
    rates = list(input_benchmark.measure(strategy.make_strategy(FLAGS.strategy), FLAGS.model,
                                         FLAGS.repeats))
    print(tables.to_text(input_benchmark.table(rates, FLAGS.repeats)))
    if not all(rate.met for rate in rates):
        raise errors.UserError(f'the input is less than {input_benchmark.LIMIT:g} times as fast as '
                               'the training step, see above')


def run():
    """Console script."""
    command_line.run(main, positional=1)


if __name__ == '__main__':
    run()
