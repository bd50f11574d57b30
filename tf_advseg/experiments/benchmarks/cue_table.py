"""The cue audit as a table: every method's encodings, those that we recommend marked.

See methods/cue_audit.py. A case is a method with bindings; a gin file gives one of its own.
"""
import dataclasses
from typing import Tuple

import tensorflow as tf

from tf_advseg.adversaries import cues
from tf_advseg.core import configuration
from tf_advseg.core import errors
from tf_advseg.experiments import recipe_registry as recipes
from tf_advseg.experiments import small_methods
from tf_advseg.methods import cue_audit
from tf_advseg.reporting import tables
from tf_advseg.run import networks

NETWORK = 'deeplab_mobilenet_v2'  # of no importance but for its stride


@dataclasses.dataclass(frozen=True)
class Case:
    """An encoding to look at.

    Attributes:
      method: a recipe's name.
      text: what a reader is to know of the encoding.
      bindings: gin bindings over the method's defaults.
      recommended: whether we recommend it: every AUC is to be at most `cues.HARMLESS`.
      output_stride: of the segmentor.
    """
    method: str
    text: str
    bindings: Tuple[str, ...] = ()
    recommended: bool = False
    output_stride: int = 16


def _load(text, size, truth, recommended=False, *further):
    size = f"'{size}'" if isinstance(size, str) else size
    return Case('load', text, (f'input_encoding.size = {size}', f"input_encoding.truth = '{truth}'",
                               "build_discriminator.name = 'patch'", *further), recommended)


CASES = (
    _load('224, as printed', 224, 'sampled'),
    _load('128', 128, 'sampled'),
    _load('64', 64, 'sampled'),
    _load("the logits' grid", 'logits', 'sampled'),
    _load('224, hard', 224, 'sampled', False, "load.map_kind = 'hard'"),
    _load("the logits' grid, hard", 'logits', 'sampled', True, "load.map_kind = 'hard'"),
    _load('64, truth through the bottleneck', 64, 'bottleneck', True),
    _load('224, truth through the bottleneck', 224, 'bottleneck', True),
    _load("the logits' grid, scaling", 'logits', 'scaling', True),
    _load('64, scaling', 64, 'scaling', True),
    Case('luc', "basic, the logits' grid", ("label_maps.kind = 'basic'",)),
    Case('luc', "product, the logits' grid", ("label_maps.kind = 'product'",)),
    Case('luc', "scaling, the logits' grid", ("label_maps.kind = 'scaling'",), True),
    Case('luc', "basic, the logits' grid, stride 8", ("label_maps.kind = 'basic'",), False, 8),
    Case('luc', 'bottleneck', ("label_maps.truth = 'bottleneck'",), True),
    Case('durall', 'every pixel', ('durall.map_stride = 1',)),
    Case('durall', 'every 4th pixel', ('durall.map_stride = 4',)),
    Case('durall', 'every 4th pixel, bottleneck',
         ('durall.map_stride = 4', "durall.truth = 'bottleneck'"), True),
    Case('durall', "the logits' grid, bottleneck",
         ('durall.map_stride = 16', "durall.truth = 'bottleneck'"), True),
    Case('hung', "the logits' grid, scaling", ('hung.map_stride = 16',
                                               "label_maps.kind = 'scaling'"), True),
    Case('hung', 'every 4th pixel', ('hung.map_stride = 4',)),
    Case('hung', 'every 4th pixel, scaling', ('hung.map_stride = 4',
                                              "label_maps.kind = 'scaling'")),
    Case('hung', 'every 4th pixel, bottleneck', ('hung.map_stride = 4',
                                                 "label_maps.truth = 'bottleneck'"), True),
    Case('zhu', 'every 4th pixel', ('zhu_gan.map_stride = 4',)),
    Case('zhu', 'every 4th pixel, bottleneck', ('zhu_gan.map_stride = 4',
                                                'zhu_gan.bottleneck = 16'), True),
    Case('el_gan', "product, the logits' grid", ("label_maps.kind = 'product'",)),
    Case('el_gan', "scaling, the logits' grid", ("label_maps.kind = 'scaling'",), True),
)


def measure(records, ids, crop_size, cases=CASES):
    """The audit of every case.

    Args:
      records: data.records.record_set.RecordSet.
      ids: of labelled images.
      crop_size: (h, w), sides of k * output stride + 1.
      cases: [Case].

    Yields:
      (Case, {statistic: AUC}), in the cases' order.
    """
    recipes.load_all()
    for case in cases:
        segmentor = networks.build(networks.describe(
            NETWORK, num_classes=records.spec.num_classes, output_stride=case.output_stride,
            depth_multiplier=0.25, crop_size=crop_size))
        with small_methods.bound(case.bindings):
            recipe = recipes.find(case.method)
            made = small_methods.make(recipe, segmentor, crop_size, small=_light(recipe, case))
            found = cue_audit.measure(made[recipe.title], records, ids, crop_size)
        yield case, found
        tf.keras.backend.clear_session()


def _light(recipe, case):
    """The recipe's small networks, without settings of its encoding."""
    encoding = ('input_encoding', 'map_stride', 'build_discriminator.name', *(
        line.split('=')[0].strip() for line in case.bindings))
    return tuple(line for line in recipe.small if not any(part in line for part in encoding))


def of_configuration(records, ids, crop_size):
    """(Case, audit) of what is configured by gin now.

    Raises:
      UserError: a method that shows no maps.
    """
    name = configuration.bound('experiment.method') or 'load'
    recipe = recipes.find(name)
    found = None
    description = networks.describe(
        configuration.bound('experiment.network') or NETWORK,
        num_classes=records.spec.num_classes, crop_size=crop_size)
    segmentor = networks.build(description)
    if recipe.trains:
        made = small_methods.make(recipe, segmentor, crop_size, small=())
        found = cue_audit.measure(made[recipe.title], records, ids, crop_size)
    if found is None:
        raise errors.UserError(f'experiment.method = {name!r} shows no label maps to another '
                               'network; expected one that has a discriminator')
    return Case(name, 'as configured', output_stride=segmentor.output_stride), found


def table(results, images, crop_size):
    """tables.Table of [(Case, audit)]."""
    rows = tuple((tables.Cell(f'{case.method}: {case.text}'),
                  tables.Cell('yes' if case.recommended else ''),
                  *(tables.Cell(found[name]) for name in cues.STATISTICS))
                 for case, found in results)
    return tables.Table(
        ('encoding', 'recommended', *cues.STATISTICS), rows,
        'AUC by which a number of a map separates an oracle from what is shown as true; '
        f'{images} images, crop {crop_size[0]}x{crop_size[1]}', 3)
