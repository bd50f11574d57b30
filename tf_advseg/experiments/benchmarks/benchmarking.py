"""What LoAd costs: seconds of a propagation and a cycle, what it keeps in memory and on disk."""
import dataclasses
import inspect
import io
import itertools
import resource
import sys

import gin
import numpy as np
from PIL import Image

from tf_advseg.core import configuration
from tf_advseg.core import errors
from tf_advseg.core import files
from tf_advseg.core import journal as journals
from tf_advseg.core import progress
from tf_advseg.core import random_streams
from tf_advseg.core import run_directory
from tf_advseg.data.readers import base
from tf_advseg.data.records import record_set as record_sets
from tf_advseg.data.spec import DatasetSpec, default_palette
from tf_advseg.experiments.train import training
from tf_advseg.lookahead import load_report
from tf_advseg.lookahead import load_stage
from tf_advseg.methods.recipe import Arm
from tf_advseg.lookahead import stopwatch
from tf_advseg.losses import adversarial
from tf_advseg.reporting import tables
from tf_advseg.run import context as contexts
from tf_advseg.run import dataset as datasets
from tf_advseg.run import networks

PARTS = ('generator step', 'hold-out evaluation', 'map generation', 'discriminator training',
         'screening', 'backbone maps')
REST_LIMIT = 5.0            # percent
MEMORY_LIMIT = 4 * 2 ** 30  # bytes resident: issue 2, "Cost"
BUFFER_LIMIT = 1.5e9        # bytes on disk
VOC_IMAGES, VOC_HOLDOUT, VOC_SIDE, VOC_CLASSES = 1464, 435, 513, 21


@dataclasses.dataclass(frozen=True)
class Costs:
    """Seconds of a stretch of LoAd and what was done in it.

    Attributes:
      seconds: by name, as lookahead.stopwatch counts them.
      propagations, cycles, epochs, maps: how many propagations, cycles, discriminator epochs and
        map sets the stretch holds.
    """
    seconds: dict
    propagations: int
    cycles: int
    epochs: int = 0
    maps: int = 0

    @property
    def total(self):
        """Seconds in all."""
        return sum(self.seconds.values())

    @property
    def rest(self):
        """Seconds in no part: snapshots, journals, balancing, diagnostics."""
        return self.total - sum(self.seconds.get(part, 0.0) for part in PARTS)

    @property
    def rest_percent(self):
        """Share of `rest` in percent."""
        return 100.0 * self.rest / self.total if self.total else 0.0


def of_run(workdir):
    """The `Costs` of a whole run, finished or under way, from its state and journal.

    Raises:
      UserError: no run, or one that has not begun LoAd.
    """
    run = run_directory.RunDirectory(workdir).require()
    path = run.lookahead / 'state.json'
    if not path.is_file():
        raise errors.UserError(f'{run.path}: LoAd has not begun there (no lookahead/state.json)')
    state = files.read_json(path)
    events = journals.Journal.read(run.journal_path)
    with files.as_written(run.journal_path):
        labels = {label for e in events if e['event'] == 'aggregate' for label in e['slots']}
        epochs = sum(e['epochs'] for e in events if e['event'] == 'retrain')
    with files.as_written(path):
        propagations = int(state['controller']['propagations'])
        cycles = max(1, int(state['controller']['cycles']))
        seconds = {name: float(value) for name, value in state['seconds'].items()}
    if not propagations:
        raise errors.UserError(f'{run.path}: no propagation has been made there yet')
    return Costs(seconds, propagations, cycles, epochs, len(labels))


def ratios(workdir):
    """[str]: LoAd's wall time beside Stage 1's and the control's, of a finished run."""
    run = run_directory.RunDirectory(workdir).require()
    results = run.path / 'results.json'
    if not results.is_file():
        return []
    with files.as_written(results):
        seconds = {name: float(value) for name, value in
                   files.read_json(results)['seconds'].items()}
    return load_report.wall_time_sentences(seconds, journals.Journal.read(run.journal_path),
                                           journals.Journal.read(run.metrics_path))


def argument(name):
    """What gin binds for an argument of `experiment`, else its default."""
    parameter = inspect.signature(inspect.unwrap(training.experiment)).parameters[name]
    return gin.get_bindings(training.experiment).get(name, parameter.default)


def crop_size_of():
    """(h, w) of the configured crop."""
    given = argument('crop_size')
    return (given, given) if isinstance(given, int) else tuple(given)


def context_of(run, data, strategy):
    """A Context and its segmentor, as `training.experiment` makes them."""
    crop_size, seed = crop_size_of(), argument('seed')
    with strategy.scope():
        description = networks.describe(argument('network'), num_classes=data.spec.num_classes,
                                        crop_size=crop_size, seed=seed)
        segmentor = networks.build(description)
    context = contexts.Context(run, data, strategy, random_streams.RandomStreams(seed), crop_size,
                               description)
    return context, segmentor


def measure(workdir, gin_files, bindings, strategy, cycles=1):
    """Runs LoAd on a configuration for one cycle to warm up and `cycles` that are measured.

    There is no Stage 1: the weights are the checkpoint's, or random, which costs the same.

    Args:
      workdir: a new run directory.
      gin_files, bindings: the configuration.
      strategy: tf.distribute.Strategy.
      cycles: how many are measured.

    Returns:
      `Costs` of the measured cycles. In the first cycle TensorFlow compiles every step.

    Raises:
      UserError: bad configuration or data, or the folder is in use.
    """
    configuration.parse(gin_files, [*bindings, f'controller.max_total_cycles = {cycles + 2}'])
    with run_directory.RunDirectory(workdir) as run:
        run.open(configuration.config_text(), may_change=training.MAY_CHANGE)
        data = datasets.dataset(run.path, argument('data_dir'), run_seed=argument('seed'))
        context, segmentor = context_of(run, data, strategy)
        checkpoint = argument('checkpoint')
        if checkpoint:
            networks.load_weights(networks.find_weights(checkpoint), segmentor)
        panel = load_report.panel_maker(context, segmentor)
        marks = []

        def mark(lookahead):
            """Called at the end of each cycle, where TensorBoard would get its panel."""
            marks.append((dict(lookahead.watch.seconds), lookahead.controller.propagations,
                          lookahead.state.discriminator_epochs,
                          lookahead.buffer.to_state()['next_serial']))
            if len(marks) == cycles + 1:
                lookahead.controller.request_stop('benchmark')
            return panel(lookahead)

        load_stage.build(context, segmentor, Arm.METHOD, panel=mark).run()
    first, last = marks[0], marks[cycles]
    seconds = {name: value - first[0].get(name, 0.0) for name, value in last[0].items()}
    return Costs(seconds, last[1] - first[1], cycles, last[2] - first[2], last[3] - first[3])


def table(costs):
    """tables.Table: seconds of a propagation and of a cycle by part, shares in percent."""
    rows = []
    named = [(part, costs.seconds[part]) for part in PARTS if costs.seconds.get(part)]
    within = {'generator step', 'hold-out evaluation'}
    for name, value in [*named, (stopwatch.REST, costs.rest), ('together', costs.total)]:
        once = f'{value / costs.propagations:.4f}' if name in within else ''
        if name == 'together':
            once = f'{sum(v for n, v in named if n in within) / costs.propagations:.4f}'
        share = 100 * value / costs.total if costs.total else 0.0
        rows.append((name, once, f'{value / costs.cycles:.2f}', f'{share:.1f} %'))
    return tables.plain_table(
        ('seconds', 'a propagation', 'a cycle', 'share'), rows,
        f'{costs.propagations} propagations in {costs.cycles} cycles, {costs.epochs} epochs of '
        f'the discriminator, {costs.maps} map sets')


def rest_text(costs):
    """The rest, by name, and whether it keeps the limit."""
    parts = {name: value for name, value in costs.seconds.items() if name not in PARTS}
    named = ', '.join(f'{name} {value:.1f} s' for name, value in
                      sorted(parts.items(), key=lambda item: -item[1]))
    verdict = 'within' if costs.rest_percent <= REST_LIMIT else 'OVER'
    return (f'the rest: {costs.rest_percent:.1f} %, {verdict} the limit of {REST_LIMIT:.0f} % '
            f'({named})')


# --- memory -----------------------------------------------------------------------------------


class MadeUpReader(base.Reader):
    """Images of a given size that show nothing: blobs and noise, as JPEG; labels in patches.

    Args:
      num_train, num_val, num_test: images of the splits.
      side: height and width in pixels.
      num_classes: classes.
    """

    def __init__(self, num_train, num_val, num_test, side, num_classes):
        self.spec = DatasetSpec('made_up', tuple(f'class_{i}' for i in range(num_classes)),
                                default_palette(num_classes))
        self._counts = {'train': num_train, 'val': num_val, 'test': num_test}
        self._side = side
        self.description = {'reader': 'made_up', 'options': {'side': side}}

    def splits(self):
        """See `Reader.splits`."""
        return {name: [f'{name}_{i:05d}' for i in range(count)]
                for name, count in self._counts.items()}

    def _random(self, image_id):
        return np.random.default_rng([ord(sign) for sign in image_id])

    def _image(self, image_id):
        coarse = self._random(image_id).integers(0, 256, (24, 24, 3), np.uint8)
        return Image.fromarray(coarse).resize((self._side, self._side), Image.BICUBIC)

    def load(self, image_id):
        """See `Reader.load`."""
        image = Image.open(io.BytesIO(self.encoded_image(image_id))).convert('RGB')
        patches = self._random(image_id).integers(0, self.spec.num_classes, (8, 8), np.uint8)
        label = Image.fromarray(patches).resize((self._side, self._side), Image.NEAREST)
        return np.array(image, np.uint8), np.array(label, np.uint8)

    def encoded_image(self, image_id):
        """See `Reader.encoded_image`."""
        stream = io.BytesIO()
        self._image(image_id).save(stream, 'JPEG', quality=90)
        return stream.getvalue()


def peak_memory():
    """The most bytes this process has had resident so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == 'darwin' else 1024 * peak


@dataclasses.dataclass(frozen=True)
class Memory:
    """What `measure_memory` found: bytes resident at most (`start`: before any image was made;
    `peak`), `buffer` bytes on disk, and the text of what was done."""
    start: int
    peak: int
    buffer: int
    done: str

    @property
    def within(self):
        """Whether both limits are kept."""
        return self.peak <= MEMORY_LIMIT and self.buffer <= BUFFER_LIMIT

    def text(self):
        """Lines for a reader."""
        def verdict(value, limit):
            return 'within' if value <= limit else 'OVER'
        return '\n'.join([
            self.done,
            f'resident at most: {self.peak / 2 ** 30:.2f} GiB, '
            f'{verdict(self.peak, MEMORY_LIMIT)} the limit of {MEMORY_LIMIT / 2 ** 30:.0f} GiB '
            f'({self.start / 2 ** 30:.2f} GiB before any image)',
            f'buffer on disk: {self.buffer / 1e9:.3f} GB, '
            f'{verdict(self.buffer, BUFFER_LIMIT)} the limit of {BUFFER_LIMIT / 1e9:.1f} GB'])


def measure_memory(workdir, gin_files, bindings, strategy, images=VOC_IMAGES,
                   side=VOC_SIDE, num_classes=VOC_CLASSES, steps=4, real_maps=32, show=True):
    """Holds everything a LoAd run holds at a data set's full size, and takes a few of its steps.

    Records of all images are written; the hold-out is decoded and kept; as many slots as the
    buffer takes are filled and verified as on a resume; the discriminator and the generator take
    `steps` steps each on batches drawn from all of it; some of the hold-out is evaluated.

    Args:
      workdir: a new run directory.
      gin_files, bindings: the configuration: network, B_max, kind of maps, batch sizes.
      strategy: tf.distribute.Strategy.
      images: training images; the hold-out has 435/1464 as many (30 % of VOC's 1449).
      side: height and width.
      num_classes: classes.
      steps: of each network.
      real_maps: maps drawn by the network, per slot; the others are random logits of the same
        shape, which compress worse and so bound the buffer from above.
      show: whether to show progress.

    Returns:
      Memory.
    """
    start = peak_memory()
    holdout = max(2, round(images * VOC_HOLDOUT / VOC_IMAGES))
    configuration.parse(gin_files, [*bindings, f'experiment.crop_size = {side}'])
    with run_directory.RunDirectory(workdir) as run:
        run.open(configuration.config_text())
        # The rest of the validation set takes no part in LoAd; one image stands for it.
        reader = MadeUpReader(images, holdout + 1, 1, side, num_classes)
        record_sets.write_records(reader, reader.splits(), run.path / 'records', progress=show)
        records = record_sets.RecordSet(run.path / 'records')
        val = records.split('val')
        data = datasets.ExperimentData(records, records.split('train'), val[:holdout],
                                       val[holdout:], records.split('test'))
        context, segmentor = context_of(run, data, strategy)
        loop = load_stage.build(context, segmentor, Arm.METHOD)
        real = _fill_buffer(loop, strategy, real_maps, show)
        buffer_bytes = loop.buffer.bytes()
        loop.buffer.from_state(loop.buffer.to_state())
        _take_steps(context, loop, segmentor, strategy, steps)
    return Memory(start, peak_memory(), buffer_bytes, (
        f'{images} training and {holdout} hold-out images of {side}x{side}, {num_classes} '
        f'classes, {len(loop.buffer)} slots of {images + holdout} maps of '
        f'{"x".join(map(str, loop.data.map_shape))} ({real} of each drawn by the network, the '
        f'rest random), {steps} steps of each network'))


def _fill_buffer(loop, strategy, real_maps, show):
    """Fills the buffer to B_max; returns how many maps of a slot the network drew."""
    from tf_advseg.training import loop as training_loop
    ids = {'train': loop.data.train_ids, 'holdout': loop.data.holdout_ids}
    count = sum(map(len, ids.values()))
    drawn = {'train': ids['train'][:real_maps]}
    real = len(drawn['train'])
    stepper = training_loop.Stepper(loop.method, strategy)
    slots = loop.buffer.policy.max_slots
    labels = ['g0'] + [f'e0{j}' for j in range(slots - 1)]
    with progress.Progress(slots * count, 'maps', enabled=show) as bar:
        def counted(items):
            for item in items:
                bar.update(1)
                yield item

        for number, label in enumerate(labels):
            rest = [(i, part) for part in ids for i in ids[part]
                    if part != 'train' or i not in set(drawn['train'])]
            maps = itertools.chain(
                loop.data.generate_maps(stepper, loop.method, drawn) if real else (),
                _random_maps(rest, loop.data.map_shape, loop.method.map_kind, number))
            loop.buffer.write_slot(label, counted(maps), num_maps=count)
            loop.buffer.aggregate(*(('g0', None) if label == 'g0' else (None, label)))
    return real


def _random_maps(items, shape, kind, seed):
    """Yields (image id, part, map) of noise in the form `map_kind` asks for."""
    random = np.random.default_rng(seed)
    for image_id, part in items:
        if kind == 'soft':
            yield image_id, part, 4.0 * random.standard_normal(shape, np.float32)
        else:
            high = VOC_CLASSES if kind == 'hard' else 256
            yield image_id, part, random.integers(0, high, shape, np.uint8)


def _take_steps(context, loop, segmentor, strategy, steps):
    """A few steps of both networks and a part of a hold-out evaluation, as a cycle takes them."""
    from tf_advseg.evaluation import evaluator
    from tf_advseg.training import loop as training_loop
    stepper = training_loop.Stepper(loop.method, strategy)
    data = loop.data.discriminator_data(loop.buffer, loop.method)
    pairs = data.training_items()
    pairs = pairs[np.random.default_rng(0).permutation(len(pairs))]
    real, fake = adversarial.fake_set_weights(data.num_slots)
    seed = context.streams.seed
    for step, batch in zip(range(steps), data.training(pairs, seed('disc_augment', 0))):
        stepper('discriminator', batch, seed('disc_dropout', step), weight_real=real,
                weight_fake=fake)
    for step, batch in enumerate(training_loop.distribute(loop.data.batches(0, steps), strategy)):
        stepper('segmentor', batch, seed('dropout', step), adversarial_weight=1.0)
    context._holdout_evaluator(segmentor, loop.settings.evaluation_batch_size)  # decodes it
    arrays = [part[:2 * loop.settings.evaluation_batch_size]
              for part in context._arrays['holdout']]
    evaluator.Evaluator(segmentor, arrays, segmentor.num_classes,
                        loop.settings.evaluation_batch_size, context.several_replicas).run()
