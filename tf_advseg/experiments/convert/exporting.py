"""Checkpoints as what others can run: what tools/export.py does, and the proof of its cost."""
import dataclasses
import pathlib
import re
import statistics
import tempfile

import numpy as np
import tensorflow as tf

from tf_advseg.core import errors
from tf_advseg.core import files
from tf_advseg.core import output_folder
from tf_advseg.data import pipeline
from tf_advseg.data.augmentation.official_preprocessing import SizeRange
from tf_advseg.evaluation import prediction
from tf_advseg.experiments.benchmarks import inference_benchmark as benchmark
from tf_advseg.experiments.score import evaluating
from tf_advseg.experiments.score import fitted_images
from tf_advseg.models import flops
from tf_advseg.models import segmentor as segmentors
from tf_advseg.models.zoo import onnx_export
from tf_advseg.models.zoo import saved_model
from tf_advseg.models.zoo import tf1_checkpoint
from tf_advseg.models.zoo import tflite_export
from tf_advseg.reporting import tables
from tf_advseg.run import exported_files
from tf_advseg.run import networks

FORMATS = ('saved_model', 'tf1', *(f'tflite_{kind}' for kind in tflite_export.KINDS), 'onnx')
LARGE = ('pad', 'resize')
REPORT = exported_files.REPORT
TF1_PREFIX = 'tf1/model.ckpt-0'
# Shares of equal pixels below which a file is not to be used unseen: of all, of the worst image.
ENOUGH, ENOUGH_WORST = 0.98, 0.95
ONNX_FILE = 'model.onnx'
PROOF_REPEATS = 15


@dataclasses.dataclass(frozen=True)
class Exported:
    """What was written: `folder`, and `report`, the contents of its export.json.

    `debug`: whether `text` has what eight bits do to each layer.
    """
    folder: pathlib.Path
    report: dict
    debug: bool = False

    def text(self):
        """Lines for people."""
        lines = []
        for name, entry in self.report['files'].items():
            line = f'{self.folder / name}: {entry["bytes"] / 1e6:.2f} MB'
            found = entry.get('agreement')
            if found:
                line += (f'; agrees with the network at {100 * found["pixels"]:.3f} % of the '
                         f'pixels of {found["pictures"]} images '
                         f'(least: {100 * found["worst"]:.3f} %)')
            lines.append(line)
            if found and (found['pixels'] < ENOUGH or found['worst'] < ENOUGH_WORST):
                lines.append(
                    f'WARNING: {name} differs from the network too much to be used unseen (expected'
                    f' are {100 * ENOUGH:g} % of the pixels, {100 * ENOUGH_WORST:g} % of the worst '
                    'image): look at its maps, give --calibration more and typical images, or take '
                    'another format')
            lines.extend(_calibration_lines(name, entry.get('calibration')))
            lines.extend(_fine_tuning_lines(name, entry.get('fine_tuning')))
            if self.debug and 'layers' in entry:
                lines.append(_layers_text(entry['layers']))
        if any(entry.get('agreement') for entry in self.report['files'].values()):
            lines.append(f'compared on: {self.report["compared_on"]}')
        return '\n'.join(lines)


def _calibration_lines(name, calibration):
    """What an int8 file's agreement is worth, by the images that gave it its ranges.

    Args:
      name: of the file.
      calibration: what its report says of them, or None.
    """
    if calibration is None or not calibration['compared']:
        return []
    if calibration['made_up']:
        return [f'WARNING: {name} has the ranges of made-up images and will do poorly on real '
                'ones: give --calibration or --input, a folder of images like those it will see']
    return [f'{name} was calibrated with the images that it is compared on; on others it agrees '
            'less (give --calibration other images than --input)']


def _fine_tuning_lines(name, tuned):
    """What fine-tuning did to an int8 file's agreement, by its report's entry or None."""
    if tuned is None:
        return []
    before = tuned['before']
    return [f'{name} was fine-tuned for {tuned["steps"]} steps on {tuned["images"]} images; before '
            f'it agreed at {100 * before["pixels"]:.3f} % (least: {100 * before["worst"]:.3f} %)']


def require_formats(text):
    """('saved_model', 'tf1', …) of a text with commas; UserError for an unknown one."""
    names = [name.strip() for name in text.split(',') if name.strip()]
    if not names:
        raise errors.UserError(f'--format: no format; known are {", ".join(FORMATS)}')
    return tuple(dict.fromkeys(errors.require_one_of('format', name, FORMATS) for name in names))


def export(checkpoint, output, formats=('saved_model',), input_size=None, which=None,
           images=None, calibration=None, large='pad', debug=False, fine_tune_steps=0):
    """Writes a checkpoint in one or several formats.

    Args:
      checkpoint: run directory or model folder, see `evaluating.load`.
      output: folder, see `output_folder`; saved_model.pb and model.json stand in it, so that it
        can be used as a checkpoint; beside them model_<kind>.tflite, tf1/model.ckpt-0, export.json.
      formats: of `FORMATS`.
      input_size: (height, width) of TFLite's image; None is the crop size.
      which: which checkpoint of a run.
      images: image or folder that agreement is measured on; None: a few made-up ones.
      calibration: image or folder for int8; None: `images`.
      large: 'pad', or 'resize' to the crop size, see `saved_model.Sizes`.
      debug: whether the text tells what eight bits do to each layer.
      fine_tune_steps: of int8 on the images that calibrate it, see `tflite_fine_tuning`.

    Returns:
      Exported.

    Raises:
      UserError: bad arguments, nothing to export, or a format that cannot hold this network.
    """
    for name in formats:
        errors.require_one_of('format', name, FORMATS)
    if 'onnx' in formats:
        onnx_export.require()
    _require_fine_tuning(fine_tune_steps, formats, calibration or images)
    output = output_folder.require_replaceable(
        output, REPORT, 'an export', [p for p in (checkpoint, images, calibration) if p])
    segmentor, _, content = evaluating.load(checkpoint, which)
    sizes = _sizes(segmentor, large)
    size = _input_size(segmentor, input_size, formats)
    compared, compared_on = fitted_images.read(images, size)
    ranges = fitted_images.read(calibration or images, size,
                                tflite_export.CALIBRATION_IMAGES)[0]
    seen = {'compared': calibration is None or str(calibration) == str(images),
            'made_up': calibration is None and images is None}
    tuning = fine_tune_steps and tflite_export.FineTuning(
        fine_tune_steps, fitted_images.read(calibration or images, size,
                                            tflite_export.TUNING_IMAGES)[0])
    report = {'format': exported_files.FORMAT, 'version': 1, 'checkpoint': str(checkpoint),
              'which': networks.find(pathlib.Path(checkpoint).expanduser(),
                                     evaluating.which_folder(which)).name,
              'model': content['model'], 'num_classes': content['num_classes'],
              'dataset': content['dataset'],
              'padding': [float(one) for one in segmentors.padding_colour(segmentor)],
              'large': large, 'input_size': list(size), 'compared_on': compared_on, 'files': {}}
    with output_folder.written(output, REPORT) as folder:
        for name in formats:
            if name == 'saved_model':
                entry = _write_saved_model(folder, segmentor, content, sizes, compared)
            elif name == 'tf1':
                entry = _write_tf1(folder, segmentor)
            elif name == 'onnx':
                entry = _write_onnx(folder, segmentor, sizes, compared)
            else:
                entry = _write_tflite(folder, segmentor, size, name.split('_')[1], compared, ranges,
                                      seen, tuning)
            name = next(iter(entry))
            if (folder / name).is_file():  # the TF1 checkpoint's is a prefix
                entry[name]['sha256'] = files.sha256(folder / name)
            report['files'].update(entry)
        files.write_json(folder / REPORT, report)
    return Exported(output, report, debug)


def _require_fine_tuning(steps, formats, images):
    """UserError where the file that would be fine-tuned, or what with, is not asked for."""
    if steps < 0:
        raise errors.UserError(f'--fine_tune_steps={steps}: expected a number of steps, say 300')
    if steps and 'tflite_int8' not in formats:
        raise errors.UserError('--fine_tune_steps: is for int8; add --format=tflite_int8')
    if steps and images is None:
        raise errors.UserError('--fine_tune_steps: fine-tuning needs images, without labels: give '
                               '--calibration, a folder of some hundred like those it will see')


def _sizes(segmentor, large):
    errors.require_one_of('--large', large, LARGE)
    if large == 'pad':
        return saved_model.Sizes()
    if segmentor.crop_size is None:
        raise errors.UserError('--large=resize: the network has no crop size to resize to; it '
                               'takes every size as it is')
    return saved_model.Sizes(SizeRange(min(segmentor.crop_size), max(segmentor.crop_size)))


def _input_size(segmentor, size, formats):
    crop = segmentor.crop_size
    if size is None and crop is None:
        if any(name.startswith('tflite') for name in formats):
            raise errors.UserError('TFLite files have one image size: give --input_size')
        size = (257, 257)
    size = size or crop
    return (size, size) if isinstance(size, int) else tuple(size)


def _write_saved_model(folder, segmentor, content, sizes, images):
    saved_model.write(folder, segmentor, sizes)
    files.write_json(folder / networks.DESCRIPTION, {
        **{key: content[key] for key in ('format', 'version', 'model', 'num_classes', 'dataset')},
        'exported': True})
    found = {} if sizes.resized else _agreement(
        segmentor, benchmark.exported_runner(folder), images)
    return {saved_model.FILE: {'bytes': (folder / saved_model.FILE).stat().st_size, **found}}


def _agreement(segmentor, run, images):
    """{'agreement': …} of a function of uint8 [1, H, W, 3] that gives class maps."""
    shares = [float(np.mean(run(image[None])[0] == prediction.predict(
        segmentor, image, segmentor.crop_size))) for image in images]
    return {'agreement': tflite_export.Agreement(
        len(shares), float(np.mean(shares)), min(shares)).to_json()}


def _write_onnx(folder, segmentor, sizes, images):
    content = onnx_export.class_map(segmentor, sizes)
    (folder / ONNX_FILE).write_bytes(content)
    session = onnx_export.Session(content)
    return {ONNX_FILE: {'bytes': len(content), **(
        {} if sizes.resized else _agreement(segmentor, session, images))}}


def _write_tf1(folder, segmentor):
    prefix = folder / TF1_PREFIX
    prefix.parent.mkdir()
    tf1_checkpoint.write(prefix, segmentor)
    return {TF1_PREFIX: {'bytes': files.folder_bytes(prefix.parent)}}


def _write_tflite(folder, segmentor, size, kind, images, calibration, seen, tuning):
    layers, added = [], {}
    content = tflite_export.convert(
        segmentor, size, kind, calibration[:tflite_export.CALIBRATION_IMAGES], layers)
    found = _tflite_agreement(kind, content, segmentor, images)
    if kind == 'int8':
        added = {'layers': [dataclasses.asdict(layer) for layer in layers], 'calibration': seen}
        if tuning:
            added['fine_tuning'] = {'steps': tuning.steps, 'images': len(tuning.images),
                                    'before': found.to_json()}
            content = tflite_export.fine_tuned(segmentor, size, content, tuning)
            found = _tflite_agreement(kind, content, segmentor, images)
    path = folder / f'model_{kind}.tflite'
    path.write_bytes(content)
    return {path.name: {'bytes': len(content), 'agreement': found.to_json(), **added}}


def _tflite_agreement(kind, content, segmentor, images):
    try:
        return tflite_export.agreement(content, segmentor, images)
    except RuntimeError as error:  # a kernel refuses what eight bits made of the numbers
        raise errors.UserError(
            f'tflite_{kind}: TensorFlow Lite cannot run this network so: '
            f'{str(error).splitlines()[0]}; leave tflite_{kind} out of --format') from error


def _layers_text(layers):
    """Table of `tflite_int8.LayerError`s, the largest last so that it is seen."""
    rows = [(layer['name'].rsplit(';', 1)[-1], f'{layer["step"]:.3f}',
             f'{layer["shift"]:.4f}', f'{layer["left"]:.4f}')
            for layer in sorted(layers, key=lambda layer: layer['left'])]
    return tables.to_text(tables.plain_table(
        ('layer', 'step', 'shift of means', 'left after correction'), rows,
        'what eight bits do to each convolution, in standard deviations of its channels'))


# --- what adversarial training costs at inference -----------------------------------------------


@dataclasses.dataclass(frozen=True)
class Proof:
    """Two exported networks side by side.

    Attributes:
      names: of the two, the one compared with first.
      rows: (what, value of the first, value of the second).
      difference: None where the graphs are equal op by op except for constants' values, else what
        differs first.
    """
    names: tuple
    rows: tuple
    difference: object

    def text(self):
        """The table and the verdict."""
        verdict = ('the graphs are equal op by op; only the values of constants differ: '
                   'adversarial training costs nothing at inference')
        if self.difference is not None:
            verdict = f'the graphs are NOT equal: {self.difference}'
        return f'{tables.to_text(tables.plain_table(("", *self.names), self.rows))}\n{verdict}'


def prove(checkpoint, baseline, which=None, input_size=None, repeats=PROOF_REPEATS):
    """Exports an improved network and its baseline and compares what they cost.

    Args:
      checkpoint, baseline: see `evaluating.load`.
      which: which checkpoint of each run.
      input_size: (height, width) of the image; None is the crop size, or 513x513.
      repeats: runs of each, in turns.

    Returns:
      Proof.
    """
    size = input_size
    facts, runners, graphs = [], [], []
    for segmentor, _, _ in evaluating.load_each((baseline, checkpoint), which):
        size = size or segmentor.crop_size or (513, 513)
        with tempfile.TemporaryDirectory(prefix='tf_advseg-') as folder:
            saved_model.write(pathlib.Path(folder), segmentor)
            runners.append(benchmark.exported_runner(folder))
            written = (pathlib.Path(folder) / saved_model.FILE).stat().st_size
        graph = saved_model.ExportedSegmentor(segmentor).signatures[
            saved_model.CLASS_MAP].graph.as_graph_def()
        graphs.append(structure(graph))
        facts.append((f'{segmentors.parameter_count(segmentor)[0]:,}',
                      f'{flops.total(segmentor, _computed(segmentor, size)) / 1e9:.3f}',
                      f'{len(graphs[-1]):,}', f'{written:,}'))
    image = np.random.default_rng(0).integers(0, 256, (1, *size, 3), np.uint8)
    times = benchmark.interleaved([lambda run=run: run(image) for run in runners], repeats)
    where = f'{size[0]}x{size[1]}'
    rows = [(what, *values) for what, values in zip(
        ('parameters', f'GFLOP of a {where} image', 'operations in the graph', 'bytes on disk'),
        zip(*facts))]
    rows.append((f'ms of a {where} image', *(f'{1e3 * statistics.median(t):.1f}' for t in times)))
    rows.append(('latency ratio', '1.00', f'{np.median(times[1] / times[0]):.2f}'))
    return Proof((str(baseline), str(checkpoint)), tuple(rows), _first_difference(*graphs))


def _computed(segmentor, size):
    """The size that an image is padded to before the exported network sees it."""
    stride = getattr(segmentor, 'output_stride', None) or 16
    crop = segmentor.crop_size or 1
    padded = pipeline.padded_sizes([size], np.broadcast_to(crop, [2]), stride)[0]
    return tuple(int(side) for side in padded)


def structure(graph):
    """A graph without the values of its constants, as comparable lines, one an operation.

    Args:
      graph: tf.compat.v1.GraphDef; its functions are included, under names without the numbers
        that TensorFlow adds.
    """
    blocks = [('', graph.node)] + [(function.signature.name, function.node_def)
                                   for function in graph.library.function]
    # Functions come in the order of a hash; the nodes of each in that of the tracing.
    return [line for block in sorted(_lines(*block) for block in blocks) for line in block]


def _lines(function, nodes):
    lines = []
    for node in nodes:
        attributes = []
        for key in sorted(node.attr):
            value = node.attr[key]
            if node.op == 'Const' and key == 'value':
                value = f'{tf.dtypes.as_dtype(value.tensor.dtype).name} ' + str(
                    [side.size for side in value.tensor.tensor_shape.dim])
            attributes.append(f'{key}={value}')
        line = ' '.join([function, node.name, f'({node.op})', *node.input, *attributes])
        lines.append(re.sub(r'(__inference_\w+?|cond_\w+?)_\d+\b', r'\1', line))
    return lines


def _first_difference(first, second):
    """Where two graphs part: an operation and the words that differ in it, or their lengths."""
    for ours, theirs in zip(first, second):
        if ours != theirs:
            ours, theirs = ours.split(), theirs.split()
            if ours[:2] != theirs[:2]:
                return f'{" ".join(ours[:2])} and {" ".join(theirs[:2])}'
            words = [' '.join(w for w in a if w not in b)[:80] or 'nothing more'
                     for a, b in ((ours, theirs), (theirs, ours))]
            return f'{" ".join(ours[:2])} has {words[0]} in one, {words[1]} in the other'
    if len(first) != len(second):
        return f'{len(first)} operations and {len(second)}'
    return None
