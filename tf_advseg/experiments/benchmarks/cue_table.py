"""The cue audit as a table: every method's encodings, those that we recommend marked.

See methods/cue_audit.py. The encodings are the recipes' own; a gin file gives another.
"""
import dataclasses

import tensorflow as tf
from absl import logging

from tf_advseg.adversaries import cues
from tf_advseg.core import configuration
from tf_advseg.core import errors
from tf_advseg.experiments import recipe_registry as recipes
from tf_advseg.experiments import small_methods
from tf_advseg.methods import cue_audit
from tf_advseg.methods import recipe as recipe_lib
from tf_advseg.reporting import tables
from tf_advseg.run import networks

NETWORK = 'deeplab_mobilenet_v2'  # of no importance but for its stride


@dataclasses.dataclass(frozen=True)
class Case:
    """An encoding to look at: a recipe's name, and the `methods.recipe.ShownAs`."""
    method: str
    shown: object


def cases():
    """[Case] of every method, those of one method together."""
    return [Case(name, shown) for name, recipe in recipes.load_all().items()
            for shown in recipe.encodings]


def measure(records, ids, crop_size, chosen=None):
    """The audit of every case.

    Args:
      records: data.records.record_set.RecordSet.
      ids: of labelled images.
      crop_size: (h, w), sides of k * output stride + 1.
      chosen: [Case]; None for `cases`.

    Yields:
      (Case, {statistic: AUC}), in the cases' order; {} of one that this crop does not allow.
    """
    for case in cases() if chosen is None else chosen:
        description = networks.describe(
            NETWORK, num_classes=records.spec.num_classes, output_stride=case.shown.output_stride,
            depth_multiplier=0.25, crop_size=crop_size)
        segmentor = networks.build(description)
        recipe = recipes.find(case.method)
        try:
            with small_methods.bound(case.shown.bindings):
                made = small_methods.make(recipe, segmentor, crop_size, small=_light(recipe, case),
                                          description=description)
                found = cue_audit.measure(made[recipe.title], records, ids, crop_size)
        except errors.UserError as error:  # maps of so small a crop are too small for its network
            logging.warning('%s: %s: left out: %s', case.method, case.shown.text, error)
            found = {}
        yield case, found
        tf.keras.backend.clear_session()


def _light(recipe, case):
    """The recipe's small networks, without settings of its encoding."""
    encoding = ('input_encoding', 'map_stride', 'build_discriminator.name', *(
        line.split('=')[0].strip() for line in case.shown.bindings))
    return tuple(line for line in recipe.small if not any(part in line for part in encoding))


def of_configuration(name, records, ids, crop_size):
    """(Case, audit) of the method `name` as gin configures it now.

    Raises:
      UserError: a method that shows no maps.
    """
    recipe = recipes.find(name)
    found = None
    description = networks.describe(
        configuration.bound('experiment.network') or NETWORK,
        num_classes=records.spec.num_classes, crop_size=crop_size)
    segmentor = networks.build(description)
    if recipe.trains:
        made = small_methods.make(recipe, segmentor, crop_size, small=(), description=description)
        found = cue_audit.measure(made[recipe.title], records, ids, crop_size)
    if found is None:
        raise errors.UserError(f'experiment.method = {name!r} shows no label maps to another '
                               'network; expected one that has a discriminator')
    return Case(name, recipe_lib.ShownAs('as configured')), found


def table(results, images, crop_size):
    """tables.Table of [(Case, audit)]."""
    rows = tuple((tables.Cell(f'{case.method}: {case.shown.text}'),
                  tables.Cell('yes' if case.shown.recommended else ''),
                  *(tables.Cell(found.get(name, tables.MISSING)) for name in cues.STATISTICS))
                 for case, found in results)
    return tables.Table(
        ('encoding', 'recommended', *cues.STATISTICS), rows,
        'AUC by which a number of a map separates an oracle from what is shown as true; '
        f'{images} images, crop {crop_size[0]}x{crop_size[1]}', 3)
