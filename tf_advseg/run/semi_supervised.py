"""Which training images count as labelled, for every method alike (Hung et al., section 4).

What is settled here holds for the whole run: Stage 1, class counts, the control and whatever
supervised method there is see the labelled images and no other label.
"""
import dataclasses
import pathlib
from typing import Optional

import gin
import numpy as np
from absl import logging

from tf_advseg.core import arguments
from tf_advseg.core import configuration
from tf_advseg.core import errors
from tf_advseg.core import files
from tf_advseg.data import splits
from tf_advseg.evaluation import metrics as figures
from tf_advseg.models.zoo import fetching
from tf_advseg.run import networks

PART = 'unlabelled'  # in split.json
WITHOUT_RARE = 'miou_without_rare'


@dataclasses.dataclass(frozen=True)
class Settings:
    """Which labels a run is given.

    Attributes:
      fraction: share of the training images that are labelled, above 0; with one seed 1/8 lies in
        1/4 and that in 1/2 (`splits.labelled_fraction`). The others are the unlabelled ones.
      seed: of that choice; None for the run's, since the paper averages over "random seeds".
      stratified: whether the choice sees to it that every class is shown by a labelled image, as
        far as there are so many (`splits.labelled_fraction`); the fractions lie in each other as
        before. It looks at which classes the other images show, as only a benchmark can.
      labelled_split: name of a split of the records, part of dataset.train_split, whose images
        are the labelled ones: 'train' in 'train_aug' (Table 4). `fraction` is taken of it then, and
        all other training images are unlabelled. None for all of dataset.train_split.
      unlabelled_dir: a folder (of any depth) or an archive of images without labels, or records.
        These alone are the unlabelled images then: training images that a fraction leaves without
        label are not used at all, so that the worth of a label and the worth of an image can be
        measured apart. Records may have labels; they are not read.
      rare_below: a class is rare if fewer labelled training images than this show it; scores are
        given with and without rare classes, which carry most of the noise between runs.

    Raises:
      UserError: a value out of range.
    """
    fraction: float = 1.0
    seed: Optional[int] = None
    labelled_split: Optional[str] = None
    unlabelled_dir: Optional[str] = None
    rare_below: int = 10
    stratified: bool = False

    def __post_init__(self):
        arguments.require_number('semi_supervised', 'fraction', self.fraction, above=0, most=1,
                                 hint='the share of the training images that are labelled')
        if self.seed is not None:
            arguments.require_number('semi_supervised', 'seed', self.seed, 0, whole=True,
                                     hint="or None for the run's")
        arguments.require_number('semi_supervised', 'rare_below', self.rare_below, 0, whole=True)
        arguments.require_flag('semi_supervised', 'stratified', self.stratified)
        if self.stratified and self.fraction == 1:
            raise errors.UserError('semi_supervised.stratified = True has no effect with '
                                   'semi_supervised.fraction = 1, which labels all images; leave '
                                   'it out')
        for name, expected in (('labelled_split', 'the name of a split'),
                               ('unlabelled_dir', 'the path of a folder')):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, str) and value):
                raise errors.UserError(f'semi_supervised.{name} = {value!r}: expected {expected}, '
                                       'or None')

    @property
    def withholds_labels(self):
        """Whether some training images have labels that the run does not see."""
        return self.fraction < 1 or self.labelled_split is not None

    @property
    def in_use(self):
        """Whether a run is any different from one in which every training image is labelled."""
        return self.withholds_labels or self.unlabelled_dir is not None

    def seed_of(self, run_seed):
        """The seed of the choice of labelled images, in a run of seed `run_seed`."""
        return run_seed if self.seed is None else self.seed


semi_supervised = gin.external_configurable(Settings, name='semi_supervised',
                                            module='tf_advseg.run.semi_supervised')


def divide(records, train_split, settings, run_seed):
    """The training images in two.

    Args:
      records: data.records.record_set.RecordSet.
      train_split: name of the split that is trained on.
      settings: Settings.
      run_seed: the run's seed.

    Returns:
      (ids of the labelled images, ids of the others), both in the order of the split.

    Raises:
      UserError: no such split, labelled images that are not trained on, or no labelled one.
    """
    pool = records.split(train_split)
    labelled = settings.labelled_split
    candidates = pool
    if labelled is not None:
        errors.require_one_of('split (semi_supervised.labelled_split)', labelled, records.splits)
        candidates = records.split(labelled)
        strange = len(set(candidates) - set(pool))
        if strange:
            raise errors.UserError(
                f'semi_supervised.labelled_split = {labelled!r}: {strange} of its '
                f'{len(candidates)} images are not in dataset.train_split = {train_split!r}; '
                'expected a part of the images that are trained on')
    presence = records.class_presence(candidates) if settings.stratified else None
    chosen, _ = splits.labelled_fraction(candidates, settings.fraction, settings.seed_of(run_seed),
                                         presence)
    if presence is not None:
        _warn_of_missing(records, chosen, presence)
    given = set(chosen)
    return chosen, [image_id for image_id in pool if image_id not in given]


def _warn_of_missing(records, chosen, presence):
    """Logs the classes that no labelled image shows, where there are too few of these."""
    shown = set().union(*(presence[i] for i in chosen))
    missing = sorted(set().union(*presence.values()) - shown)
    if missing:
        names = ', '.join(records.spec.class_names[c] for c in missing)
        logging.warning('semi_supervised.stratified: %d labelled images are too few to show every '
                        'class; none shows %s', len(chosen), names)


def split_fields(settings, run_seed):
    """What split.json says beside its parts; {} where every training image is labelled."""
    if not settings.in_use:
        return {}
    return {'labelled_fraction': float(settings.fraction),
            'labelled_split': settings.labelled_split,
            'labelled_seed': settings.seed_of(run_seed),
            **({'labelled_stratified': True} if settings.stratified else {})}


def copies(data):
    """How many unlabelled images are a hold-out, rest or test image, byte for byte.

    Args:
      data: run.dataset.ExperimentData with `unlabelled_records`.

    Returns:
      int. Reads all of these images once.
    """
    judged = {data.records.image_digest(image_id)
              for image_id in dict.fromkeys([*data.holdout, *data.rest, *data.test])}
    return sum(data.unlabelled_records.image_digest(image_id) in judged
               for image_id in data.unlabelled)


def require_unseen(checkpoint, data):
    """Raises UserError where the starting weights have seen labels that the run is not to see.

    These are labels that it withholds and, of a run on a fold (`run.folds`), those of val and test:
    another fold's run was trained on them.

    Looked at are the run directory that the checkpoint lies in, and those that it started from in
    turn, as far as they are of a data set of the same name and still there. What weights from
    elsewhere (a zoo's of the same data set, a renamed copy) have seen, nobody knows.

    Args:
      checkpoint: path of the starting weights, or None.
      data: run.dataset.ExperimentData of the run that is to start.

    Raises:
      UserError: a run in that line trained on labels of images that are here unlabelled, in the
        hold-out, the rest of val or test, or in no part at all.
    """
    if checkpoint is None or not (semi_supervised().withholds_labels or data.fold):
        return
    withheld = set(data.records.ids) - set(data.train)
    known = list(_lineage(checkpoint))
    if not known and networks.is_model_folder(pathlib.Path(checkpoint).expanduser()):
        logging.warning('%s: a model folder outside of its run, so it is not known which labels '
                        'it has seen; if it is of this data set, some may be labels that this run '
                        'is not to see', checkpoint)
    for run in known:
        content = files.read_json(run / 'split.json')
        with files.as_written(run / 'split.json'):
            other = content.get('dataset') != data.spec.name
            train = content.get('splits', {}).get('train', [])
            seen = withheld.intersection(train)
        if other:
            continue
        if seen:
            raise errors.UserError(
                f'{checkpoint}: labels would leak: {run} was trained on {len(seen)} labelled '
                f'images (of {len(train)}) whose labels this run is not to see '
                '(semi_supervised.fraction or labelled_split, or folds.count); start from weights '
                'of other data with a new head (experiment.backbone_only), or from a run with the '
                'same semi_supervised and folds settings and seed')


def _lineage(checkpoint):
    """The run directory that a checkpoint lies in, that one's start, and so on."""
    known = []
    while checkpoint is not None and not fetching.is_name(checkpoint):  # a name is of no run
        path = pathlib.Path(checkpoint).expanduser().resolve()
        run = next((place for place in (path, *path.parents)
                    if (place / 'config.gin').is_file() and (place / 'split.json').is_file()), None)
        if run is None or run in known:
            return
        known.append(run)
        yield run
        found = configuration.bindings(configuration.read(run / 'config.gin'))
        checkpoint = next((value for name, value in found.items()
                           if name.endswith('experiment.checkpoint')), None)
        try:
            checkpoint = checkpoint and networks.find_weights(checkpoint)
        except errors.UserError:  # it has been moved or deleted since
            return


def rare_classes(data, rare_below):
    """Names of the classes that fewer than `rare_below` of the labelled images show.

    Args:
      data: run.dataset.ExperimentData.
      rare_below: number of images.

    Returns:
      [str], in the order of the classes.
    """
    shown = data.records.class_presence(data.train).values()
    return [name for number, name in enumerate(data.spec.class_names)
            if sum(number in classes for classes in shown) < rare_below]


def miou_without(summary, rare, absent='left_out'):
    """mIoU over the classes that are not rare.

    Args:
      summary: from `evaluation.metrics.summary`.
      rare: names of classes.
      absent: see `evaluation.metrics.mean_iou`.

    Returns:
      float in 0..1; None where no other class has a figure.
    """
    rest = [np.nan if iou is None else iou for name, iou in summary['class_iou'].items()
            if name not in rare]
    return figures.plain(figures.mean_over_classes(np.array(rest), absent)) if rest else None


def add_rare_classes(results, data):
    """Adds figures without rare classes to a run's results, where the run withholds labels or has
    unlabelled images.

    Which classes are rare depends on the labelled images, and so on the seed and the fraction: runs
    of one seed and fraction compare; means over seeds are over somewhat different classes, and
    fractions do not compare by it.

    Args:
      results: from `outcome.scores`; 'rare_classes', 'rare_below', 'training_images' and, in
        each summary, 'miou_without_rare' are added in place.
      data: run.dataset.ExperimentData.
    """
    settings = semi_supervised()
    if not settings.in_use:
        return
    rare = rare_classes(data, settings.rare_below)
    results.update(rare_classes=rare, rare_below=settings.rare_below,
                   training_images={'labelled': len(data.train),
                                      'unlabelled': len(data.unlabelled)})
    for parts in results['models'].values():
        for summary in parts.values():
            summary[WITHOUT_RARE] = miou_without(summary, rare, data.spec.absent)


def label_sentences(results):
    """[str]: sentences on how many images had labels, and on rare classes; [] for neither."""
    given = results.get('training_images') or results.get('training_pictures')  # as it once was
    rare = results.get('rare_classes')
    numbers = [f'Training images: {given["labelled"]} with labels, {given["unlabelled"]} without.'
               ] if given else []
    if not rare:
        return numbers
    found = [f'{column} {100 * parts["test"][WITHOUT_RARE]:.2f}'
             for column, parts in results['models'].items()
             if parts.get('test', {}).get(WITHOUT_RARE) is not None]
    without = (f'test mIoU without them: {", ".join(found)}' if found
               else 'no other class is left')
    return [*numbers,
            f'Rare, shown by fewer than {results["rare_below"]} labelled training images: '
            f'{", ".join(rare)}; {without}.']
