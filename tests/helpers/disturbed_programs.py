"""The programs that disturbed.py starts: how each is run, and what of its end must be equal."""
import functools
import hashlib
import importlib
import json
import os
import pathlib
import sys
import traceback
import types

import numpy as np

SIDE, CLASSES = 33, 8
VOLATILE = ('time', 'seconds')
TESTS = pathlib.Path(__file__).resolve().parents[1]


def tree(folder, spared=()):
    """{name: digest} of a folder's files, but for names that end in one of `spared`."""
    folder = pathlib.Path(folder)
    return {path.relative_to(folder).as_posix(): _digest(path)
            for path in sorted(folder.rglob('*'))
            if path.is_file() and not path.name.endswith(tuple(spared))}


def _digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def journal(path):
    """A journal's lines without what a clock or a resumed run adds."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in VOLATILE} for line in lines
            if line['event'] != 'resume']


def weights_of(path):
    """Digests of the numbers in a SavedModel's graph, where ours has its weights: as constants."""
    from tensorflow.core.protobuf import saved_model_pb2
    graph = saved_model_pb2.SavedModel.FromString(path.read_bytes()).meta_graphs[0].graph_def
    nodes = [*graph.node, *(node for function in graph.library.function
                            for node in function.node_def)]
    tensors = [node.attr['value'].tensor for node in nodes if node.op == 'Const']
    found = sorted(hashlib.sha256(tensor.SerializeToString(deterministic=True)).hexdigest()
                   for tensor in tensors if not tensor.string_val)
    assert sum(len(tensor.tensor_content) for tensor in tensors) > 1000, 'no weights in it'
    return found


class Program:
    """One program; below `work` it writes `out` alone."""

    modules = ()

    def load(self):
        """Imports what a start needs, and starts nothing of TensorFlow."""
        import tensorflow  # noqa: F401
        for name in self.modules:
            importlib.import_module(name)

    def prepare(self, inputs):
        """Makes the inputs."""

    def run(self, inputs, work):
        """One start."""
        raise NotImplementedError

    def look(self, work):
        """What is there after a kill must be whole: AssertionError if not."""

    def end(self, work):
        """What of a finished program's output must not depend on kills, as a dict."""
        return tree(work / 'out')


def tool(name, *words):
    """Runs a tool as its console script does."""
    sys.argv = [f'tools/{name}.py', *map(str, words)]
    sys.modules[f'tools.{name}'].run()


def draw_images(folder, count):
    """images/ and labels/ of scenes of SIDE pixels, classes.txt, splits/."""
    from PIL import Image
    random = np.random.default_rng(5)
    for name in ('images', 'labels', 'splits'):
        (folder / name).mkdir(parents=True)
    for number in range(count):
        label = np.zeros((SIDE, SIDE), np.uint8)
        label[8:25, number:number + 9] = 1 + number % 3
        image = (label[..., None] * 60 + random.integers(0, 40, (SIDE, SIDE, 3))).astype(np.uint8)
        Image.fromarray(image).save(folder / 'images' / f'p{number}.png')
        Image.fromarray(label).save(folder / 'labels' / f'p{number}.png')
    (folder / 'classes.txt').write_text('ground\nred\ngreen\nblue\n')
    names = [f'p{number}\n' for number in range(count)]
    (folder / 'splits' / 'train.txt').write_text(''.join(names[2:]))
    (folder / 'splits' / 'val.txt').write_text(''.join(names[:2]))


def make_model(folder):
    """A small network's model folder, whose logits differ."""
    from tf_advseg.core import runtime
    runtime.configure(deterministic=True, threads=1)
    from tf_advseg.data.readers import make_reader
    from tf_advseg.run import networks
    description = networks.describe('farabet', num_classes=CLASSES, seed=1, hidden=8,
                                    crop_size=(SIDE, SIDE))
    segmentor = networks.build(description)
    kernel = segmentor.logits.scores.kernel
    kernel.assign(kernel * 300.0)
    networks.save(folder, segmentor, description, make_reader('shapes').spec)


class PrepareData(Program):
    """tools/prepare_data.py: a folder of one's own to records, in shards."""

    modules = ('tools.prepare_data', 'tf_advseg.experiments.convert.preparing')

    def prepare(self, inputs):
        draw_images(inputs / 'own', 9)

    def run(self, inputs, work):
        from tf_advseg.data.records import record_writing
        record_writing.write_records.__defaults__ = (3, False, 1)  # shard size, progress, workers
        tool('prepare_data', f'--source={inputs}/own', f'--output={work}/out')

    def look(self, work):
        if (work / 'out').exists():
            from tf_advseg.data.records import record_set
            records = record_set.RecordSet(work / 'out')
            for image_id in records.ids:
                records.load(image_id)


class _OfModel(Program):
    """Programs that take a model folder."""

    record = None

    def prepare(self, inputs):
        draw_images(inputs / 'own', 5)
        make_model(inputs / 'model')

    def look(self, work):
        out = work / 'out'
        if out.exists():
            names = set(json.loads((out / self.record).read_text())['written'])
            empty = {name for name in names if (out / name).is_dir()}
            assert names - empty | {self.record} == set(tree(out))


class ImportCheckpoint(_OfModel):
    """tools/import_checkpoint.py: a model folder to another."""

    modules = ('tools.import_checkpoint', 'tf_advseg.experiments.convert.importing')

    record = 'import_report.json'

    def run(self, inputs, work):
        tool('import_checkpoint', f'--source={inputs}/model', f'--output={work}/out')


class Export(_OfModel):
    """tools/export.py: a SavedModel."""

    modules = ('tools.export', 'tf_advseg.experiments.convert.exporting')

    record = 'export.json'

    def run(self, inputs, work):
        tool('export', f'--checkpoint={inputs}/model', f'--output={work}/out',
             '--format=saved_model')

    def end(self, work):
        # A SavedModel's graph names its functions by a counter, its fingerprint by chance.
        return {**dict.fromkeys(tree(work / 'out')),
                **tree(work / 'out', ('saved_model.pb', 'fingerprint.pb', '.json')),
                'weights': weights_of(work / 'out' / 'saved_model.pb')}


class Predict(_OfModel):
    """tools/predict.py: five images, the network's maps kept one by one."""

    modules = ('tools.predict', 'tf_advseg.experiments.score.predicting')
    state = 'predictions.jsonl'

    def run(self, inputs, work):
        from tf_advseg.evaluation import map_predictor
        map_predictor.AHEAD_BATCHES = 1
        map_predictor.MapPredictor = functools.partial(map_predictor.MapPredictor, batch_size=1)
        tool('predict', f'--checkpoint={inputs}/model', f'--input={inputs}/own/images',
             f'--output={work}/out')

    def look(self, work):
        """Every image is whole, and so is every line but the last."""
        from PIL import Image

        from tf_advseg.core import journal as journals
        for path in (work / 'out').rglob('*.png'):
            if not path.name.startswith('.tmp-'):
                Image.open(path).load()
        if (work / 'out' / self.state).exists():
            journals.Journal.read(work / 'out' / self.state)

    def end(self, work):
        lines = journal(work / 'out' / self.state)
        return {**tree(work / 'out', ('.jsonl',)),
                'lines': {json.dumps(line, sort_keys=True) for line in lines}}


class _Run(Program):
    """Training runs: what the end of one is."""

    def look(self, work):
        """A run need not be whole; what counts is what it ends as."""

    def end(self, work):
        return {f'{path.parent.relative_to(work)}/{name}': value
                for path in sorted(work.rglob('config.gin'))
                for name, value in self._of_run(path.parent).items()}

    @staticmethod
    def _of_run(run):
        found = {name: journal(run / name) for name in (
            'journal.jsonl', 'metrics.jsonl', 'control/journal.jsonl', 'control/metrics.jsonl')
                 if (run / name).is_file()}
        for path in sorted(run.glob('checkpoints/*/**/*')):
            if path.is_file() and path.suffix != '.json':
                found[str(path.relative_to(run))] = _digest(path)
        results = run / 'results.json'
        if results.is_file():
            found['results'] = json.loads(results.read_text())['models']
        return found


def _configured():
    from tf_advseg.core import runtime
    runtime.configure(deterministic=True, threads=1)


class Load(_Run):
    """LoAd: one cycle of the smallest whole run, with its control and report."""

    modules = ('tf_advseg.experiments.improve', 'tf_advseg.experiments.train.training')

    def run(self, inputs, work):
        sys.path.insert(0, str(TESTS / 'lookahead'))
        import tiny
        _configured()
        tiny.run(work / 'out', gin_params=(*tiny.GIN, 'controller.max_total_cycles = 1'))


class Luc(_Run):
    """Luc et al.: ten steps, with the control and report."""

    modules = ('tf_advseg.experiments.train.training', 'tf_advseg.methods.luc')

    def run(self, inputs, work):
        import tiny_luc

        from tf_advseg.experiments.train import run_report
        run_report.write = lambda *_, **__: None  # drawn in LoAd's runs and those of a sweep
        tiny_luc.main(str(work / 'out'))


class Zhu(_Run):
    """Phase 1 of Zhu et al. alone: the reconstruction GAN."""

    modules = ('tf_advseg.experiments.train.training',
               'tf_advseg.methods.zhu.reconstruction_stage')

    def run(self, inputs, work):
        _configured()
        from tf_advseg.core import configuration
        from tf_advseg.experiments.train import training
        from tf_advseg.training import strategy
        import whole_run
        configuration.parse(['gin/methods/zhu.gin'], (
            *whole_run.scenes(), 'stage_one.epochs = 0', 'experiment.control = False',
            'build_reconstruction_generator.widths = (3, 4)',
            'build_patch_discriminator.widths = (3, 4)',
            'build_reconstruction_generator.dropout_layers = 1',
            'reconstruction_stage.batch_size = 2', 'reconstruction_stage.steps = 5',
            'reconstruction_stage.evaluate_every_epochs = 1', 'reconstruction_stage.only = True'))
        training.experiment(work / 'out', strategy.make_strategy('one_device'))


class Sweep(_Run):
    """tools/sweep.py over two seeds; each run is a fork, so that kills fall into runs as well."""

    modules = ('tools.sweep', 'tf_advseg.experiments.studies.sweeping',
               'tf_advseg.experiments.train.training', 'tf_advseg.methods.cross_entropy')
    gin = ("experiment.method = 'cross_entropy'", 'stage_one.epochs = 2',
           'stage_one.batch_size = 2', 'stage_one.weighted_epochs = 0')

    def prepare(self, inputs):
        import whole_run
        (inputs / 'sweep.gin').write_text('\n'.join([*whole_run.scenes(), *self.gin]) + '\n')

    def run(self, inputs, work):
        from tf_advseg.experiments.studies import sweeping
        sweeping.subprocess = types.SimpleNamespace(run=_forked_training, DEVNULL=None)
        tool('sweep', f'--gin_file={inputs}/sweep.gin', f'--workdir={work}/out', '--seeds=0,1')

    def end(self, work):
        return {**super().end(work), 'table': (work / 'out' / 'sweep.csv').read_text()}


def _forked_training(words, stdout, **_):
    """In the place of subprocess.run of tools/train.py: a fork, in which writes count on."""
    child = os.fork()
    if not child:
        code = 70
        try:
            for descriptor in (1, 2):
                os.dup2(stdout.fileno(), descriptor)
            given = [word[2:].split('=', 1) for word in words if word.startswith('--')]
            code = _train({name: [value for key, value in given if key == name]
                           for name, _ in given})
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return types.SimpleNamespace(
        returncode=os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


def _train(flags):
    """What tools/train.py does with such flags; returns the exit code."""
    from tf_advseg.core import configuration, errors
    from tf_advseg.experiments.train import training
    from tf_advseg.training import strategy
    _configured()
    try:
        distribution = strategy.make_strategy('one_device')
        configuration.parse(flags['gin_file'], [f'experiment.seed = {flags["seed"][0]}'])
        training.experiment(flags['workdir'][0], distribution)
    except errors.UserError as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    return 0


PROGRAMS = {'load': Load, 'luc': Luc, 'zhu': Zhu, 'prepare_data': PrepareData, 'sweep': Sweep,
            'import_checkpoint': ImportCheckpoint, 'export': Export, 'predict': Predict}
