"""Published weights -> a model folder: what tools/import_checkpoint.py does."""
import contextlib
import dataclasses
import inspect
import pathlib
from typing import Tuple

import gin

from tf_advseg.core import errors
from tf_advseg.core import files
from tf_advseg.core import output_folder
from tf_advseg.data import official_specs
from tf_advseg.data import spec as specs
from tf_advseg.data.readers import base
from tf_advseg.data.readers import stanford_background
from tf_advseg.data.records import record_set as record_sets
from tf_advseg.experiments.score import input_files
from tf_advseg.experiments.train import training
from tf_advseg.models import layers
from tf_advseg.models.zoo import ImportReport
from tf_advseg.models.zoo import archive
from tf_advseg.models.zoo import catalogue
from tf_advseg.models.zoo import fetching
from tf_advseg.models.zoo import parity
from tf_advseg.run import networks

REPORT = 'import_report.json'  # beside model.json: every name, every reason
SPECS = {**official_specs.SPECS, 'stanford_background': stanford_background.SPEC}


@dataclasses.dataclass(frozen=True)
class Imported:
    """What an import did.

    Attributes:
      report: ImportReport.
      parities: parity.Parity of each graph of the same weights that was at hand.
      notes: which graphs at hand were not compared, and why.
      folder: Path of the model folder.
    """
    report: ImportReport
    parities: Tuple[parity.Parity, ...]
    notes: Tuple[str, ...]
    folder: pathlib.Path

    def text(self):
        """Lines for people."""
        lines = [self.report.text(), *(f'parity: {p.text()}' for p in self.parities)]
        return '\n'.join(lines + [f'parity: {note}' for note in self.notes])


def import_checkpoint(source, output, model=None, num_classes=None, output_stride=None,
                      dataset=None, backbone_only=False, verify=False, image=None, graph=None,
                      made_of=None):
    """Reads published weights into a network and writes it as a model folder.

    Args:
      source: what `models.zoo.read` takes, or a run directory or model folder.
      output: the folder to write: new, empty, or a model folder, which is replaced.
      model: name in the catalogue; None for the network that gin names (`experiment.network`), or
        else that of the run or model folder.
      num_classes: None for the file's (or the data set's); another starts the logits anew.
      output_stride: 8, 16 or 32; None is 16, gin's, or the folder's. At another stride than the
        one that belongs to them, the atrous rates of the head change with it (`rates_at`).
      dataset: whose class names the model bears: one of SPECS or a folder of records; None is the
        catalogue's, or the folder's.
      backbone_only: take the backbone and let the head start anew.
      verify: also run the frozen graph or TFLite file of the same weights: what came in their
        archive, or has the official name beside them.
      image: path of the image to verify with, or of a folder, whose first is taken; None is a
        synthetic one.
      graph: path of the graph to run, whatever lies beside the weights; implies `verify`.
      made_of: JSON-able, kept in the description: what the folder is recognised by in the cache.

    Returns:
      Imported.

    Raises:
      UserError: one line; nothing is written then.
    """
    entry = catalogue.entry(model) if model is not None else None
    output = output_folder.require_replaceable(
        output, REPORT, 'a model', [p for p in (source, image, graph) if p])
    pixels = base.read_image(input_files.find_images(image)[1][0]) if image else None
    graph = _require_graph(graph) if graph else None
    if not source:
        where = (f', or --download; it was published as {entry.address}' if entry else '')
        raise errors.UserError(f'no weights were given: add --source=PATH{where}')
    spec = _given_spec(dataset, num_classes)
    if spec is not None:
        num_classes = spec.num_classes
    if entry is not None:  # what is not built is said before the file is looked for
        entry.arguments(num_classes, output_stride)
    source = networks.find_weights(source, '--source')
    own = networks.find(source) if source.is_dir() else None
    description = _description(entry, own, num_classes, output_stride)
    if made_of is not None:  # shared by all: nothing that gin says here may be in it
        description = networks.describe(entry.network, False, **entry.arguments())
    segmentor = (networks.build(description) if own is None
                 else networks.build_kept(own, description))
    report = networks.read_weights(source, segmentor, backbone_only=backbone_only)
    if entry is not None and segmentor.num_classes == entry.num_classes and not backbone_only:
        _require_whole(entry, source, report)
    parities, notes = _verified(None if own else source, description, segmentor, report, pixels,
                                graph) if verify or graph else ((), ())
    bad = [p for p in parities if not p.good]
    if bad:
        raise errors.UserError(f'parity is bad, nothing was written: {bad[0].text()}; expected: '
                               f'{bad[0].expected()}')
    if spec is None:
        spec = _default_spec(entry, own, segmentor.num_classes)
    _write(output, segmentor, description, spec, report, origin={
        'model': model, 'source': str(source), 'kind': report.kind,
        'assigned': len(report.assigned), 'reinitialised': len(report.reinitialised),
        'parity': [p.text() for p in parities], **({'made_of': made_of} if made_of else {})})
    return Imported(report, parities, notes, output)


def resolved(checkpoint, which=None):
    """What a --checkpoint means: itself, or the model folder of a name of the zoo.

    Args:
      checkpoint: a path, or 'zoo:NAME'. The archive of a name is downloaded and imported once; both
        are kept in the cache (`models.zoo.fetching`). It is imported anew where the archive, the
        catalogue or the form of a model folder has changed.
      which: of a run's checkpoints; a name has no choice among several.

    Returns:
      the path as it was given, or the Path of the model folder.

    Raises:
      UserError: no such name, no network, a backbone alone, which is no segmentor yet, or `which`
        with a name.
    """
    if checkpoint is None or not fetching.is_name(checkpoint):
        return checkpoint
    entry = fetching.entry_of(checkpoint)
    if entry.backbone_only:
        raise errors.UserError(f'{checkpoint}: a backbone without a head, so it predicts nothing '
                               'yet; train starts from it, or give another name of --list')
    if which is not None:
        raise errors.UserError(f'{checkpoint}: a name of the zoo is one model; leave --which out')
    folder = fetching.cache_folder() / 'models' / entry.name
    archive_ = fetching.fetch(checkpoint)
    made_of = {'sha256': fetching.known_digest(entry), 'format': 1,
               'arguments': files.to_json(entry.arguments())}
    if _is_of(folder, made_of):
        return folder
    with fetching.locked(checkpoint), files.disk_errors(folder):
        if not _is_of(folder, made_of):  # another process may have made it meanwhile
            folder.parent.mkdir(parents=True, exist_ok=True)
            import_checkpoint(archive_, folder, entry.name, made_of=made_of)
    return folder


def _is_of(folder, made_of):
    """Whether a model folder of the cache is of this archive and this network."""
    if not networks.is_model_folder(folder):
        return False
    return networks.read_description(folder).get('origin', {}).get('made_of') == made_of


def _require_graph(path):
    """`path` as the Path of a graph that is there: checked before the work."""
    path = pathlib.Path(path).expanduser()
    if path.suffix not in archive.GRAPHS or not path.is_file():
        there = [p.name for p in path.parent.glob('*')] if path.parent.is_dir() else []
        raise errors.UserError(f'{path}: no such frozen graph (.pb) or TFLite model (.tflite); '
                               f'--graph names one file.{errors.suggest(path.name, there)}')
    return path


def _given_spec(dataset, num_classes):
    """The DatasetSpec that --dataset names, or None."""
    if dataset is None:
        return None
    folder = pathlib.Path(dataset).expanduser()
    if dataset not in SPECS and (folder / files.MANIFEST).is_file():
        spec = record_sets.RecordSet(folder).spec
    else:
        spec = SPECS[errors.require_one_of('data set (or folder of records)', dataset, SPECS)]
    if num_classes not in (None, spec.num_classes):
        raise errors.UserError(f'--num_classes={num_classes}, but {spec.name} has '
                               f'{spec.num_classes} classes; leave one of the two out')
    return spec


def _default_spec(entry, own, num_classes):
    """The catalogue's or the model folder's data set where the classes are as many.

    Otherwise classes by number.
    """
    known = official_specs.SPECS.get(entry.dataset) if entry is not None else None
    if known is None and own is not None:
        known = specs.DatasetSpec.from_json(networks.read_description(own)['dataset'])
    if known is not None and known.num_classes == num_classes:
        return known
    return specs.unnamed(num_classes)


def _description(entry, own, num_classes, output_stride):
    """The network: the catalogue's, else gin's, else that of our own model folder."""
    if entry is not None:
        return networks.describe(entry.network, **entry.arguments(num_classes, output_stride))
    if own is not None and 'network' not in gin.get_bindings(training.experiment):
        return _own_description(own, num_classes, output_stride)
    return _gin_description(num_classes, output_stride)


def _gin_description(num_classes, output_stride):
    """The network that gin names, described with what the command line says."""
    bound = gin.get_bindings(training.experiment)
    if 'network' not in bound:
        raise errors.UserError('no network was given: add --model=ZOO_NAME (see --list), or spell '
                               'it with --gin_file, as gin/models/deeplabv3_mobilenet_v2.gin')
    network = errors.require_one_of('network', bound['network'], networks.NETWORKS)
    builder = networks.NETWORKS[network]
    given = {'num_classes': num_classes, 'output_stride': output_stride,
             'crop_size': bound.get('crop_size')}
    known = inspect.signature(builder).parameters
    for name, value in given.items():
        if value is not None and name not in known:
            raise errors.UserError(f'{network} has no {name}')
    given = {name: value for name, value in given.items() if value is not None}
    if output_stride is not None:
        given.update(_rates(networks.describe(network)['arguments'], output_stride))
    if 'num_classes' not in {**gin.get_bindings(builder), **given}:
        raise errors.UserError(f'{network}: for how many classes? Add --num_classes=N or --dataset')
    return networks.describe(network, **given)


def _own_description(folder, num_classes, output_stride):
    """The network of a model folder, described with what the command line says."""
    description = networks.read_description(folder)['model']
    if description is None:
        raise errors.UserError(f'{folder}: holds the weights of a network that is not of this '
                               'package; it cannot be built here')
    arguments = dict(description['arguments'])
    for name, value in (('num_classes', num_classes), ('output_stride', output_stride)):
        if value is not None and name not in arguments:
            raise errors.UserError(f'{description["network"]} has no {name}')
    if output_stride is not None:
        arguments.update(_rates(arguments, output_stride), output_stride=output_stride)
    if num_classes is not None:
        arguments['num_classes'] = num_classes
    return {**description, 'arguments': arguments}


def _rates(arguments, output_stride):
    """{'atrous_rates': ...} of a head at another output stride, {} for a head without any."""
    rates = arguments.get('atrous_rates')
    if not rates:
        return {}
    return {'atrous_rates': catalogue.rates_at(rates, arguments['output_stride'], output_stride)}


def _require_whole(entry, source, report):
    """Raises UserError where a network of the zoo would start with a new head unasked."""
    for name, reason in report.reinitialised[:1]:
        raise errors.UserError(f'{source}: not the weights of {entry.name}: {name} would start '
                               f'anew ({reason}); give its own file, or another --num_classes')


def _verified(source, description, segmentor, report, image, graph):
    """(parities, notes): every graph of the same weights at hand, compared with the network."""
    if report.reinitialised:
        return (), ('not compared: a part of the network starts anew',)
    parities, notes = [], []
    with contextlib.ExitStack() as stack:
        graphs, others = ([graph] if graph else []), []
        if not graph and source is not None:
            graphs, others = archive.graphs(stack, source)
        for path in others:
            notes.append(f'{path}: not compared: it may be of other weights; if it is of these, '
                         f'say so with --graph={path}')
        if not graphs:
            notes.append('no frozen graph or TFLite file of the same weights: all variables were '
                         'matched by name and shape, and no image was compared')
        for path in graphs:
            try:
                parities.append(parity.compare(path, _twins(description, segmentor), image))
            except parity.CannotCompareError as error:
                raise errors.UserError(
                    f'not verified, nothing was written: {error.message}; leave --verify and '
                    '--graph out to import without this proof') from error
    return tuple(parities), tuple(notes)


def _twins(description, segmentor):
    """Function (output_stride, crop_size) -> the same network and weights at another stride."""
    arguments = description['arguments']
    ours = layers.official_variables(segmentor)

    def build(output_stride, crop_size):
        changes = {'output_stride': output_stride}
        if crop_size is not None:
            changes['crop_size'] = tuple(crop_size)
        changes.update(_rates(arguments, output_stride))
        twin = networks.build(description, **changes)
        for name, variable in layers.official_variables(twin).items():
            variable.assign(ours[name].numpy())
        return twin

    return build


def _write(output, segmentor, description, spec, report, **fields):
    """Writes the model folder whole, its report in it, in the place of an older one."""
    with output_folder.written(output, REPORT) as folder:
        networks.save(folder, segmentor, description, spec, **fields)
        files.write_json(folder / REPORT, report.to_json())
