"""Cross-validation: every image of a data set is tested on once, by one run in `folds.count`."""
import copy
import dataclasses
from typing import Optional

import gin

from tf_advseg.core import arguments
from tf_advseg.core import errors
from tf_advseg.data import readers
from tf_advseg.data import splits


@dataclasses.dataclass(frozen=True)
class Settings:
    """How the labelled images of a data set are cut into folds, and which one is tested on.

    The images of the splits that are trained on, validated and tested on are drawn into `count`
    parts of one size. In a run one part is the test set, the next one val, the others are trained
    on. So the runs of `count` seeds in a row test on every image once.

    Attributes:
      count: parts, at least 3; None for the splits that the data set comes with.
      number: of the part that is tested on, from 0; None for the run's seed modulo `count`.
      seed: of the draw, one for all runs that are compared.

    Raises:
      UserError: a value out of range, or one that has no effect.
    """
    count: Optional[int] = None
    number: Optional[int] = None
    seed: int = 0

    def __post_init__(self):
        if self.count is None:
            for name in ('number', 'seed'):
                if getattr(self, name):
                    raise errors.UserError(f'folds.{name} = {getattr(self, name)!r} has no effect '
                                           'without folds.count; give that, or leave it out')
            return
        arguments.require_number('folds', 'count', self.count, least=3, whole=True,
                                 hint='one part to train on, one for val, one to test on')
        arguments.require_number('folds', 'seed', self.seed, least=0, whole=True)
        if self.number is not None:
            arguments.require_number('folds', 'number', self.number, least=0, most=self.count - 1,
                                     whole=True)

    def of_run(self, run_seed):
        """The number of the part that a run of this seed is tested on; None without folds."""
        if self.count is None:
            return None
        return run_seed % self.count if self.number is None else self.number

    def description(self, run_seed):
        """{'count', 'number'} of a run of this seed, for split.json and results; None without.

        Of a draw of another seed than 0 'seed', too: folds of two draws are different images.
        """
        number = self.of_run(run_seed)
        if number is None:
            return None
        return {'count': self.count, 'number': number, **({'seed': self.seed} if self.seed else {})}


folds = gin.external_configurable(Settings, name='folds', module='tf_advseg.run.folds')


def redrawn(records, names, settings, run_seed):
    """Records whose splits are those of a fold.

    Images that the data set holds twice (`Reader.copies`) are in one part.

    Args:
      records: data.records.record_set.RecordSet.
      names: of the splits (train, val, test) whose images are drawn anew.
      settings: Settings.
      run_seed: the run's seed.

    Returns:
      `records` itself without folds; else a view of it that has these three splits alone.

    Raises:
      UserError: two of the three are one split, one is missing, or there are fewer images than
        folds.
    """
    number = settings.of_run(run_seed)
    if number is None:
        return records
    if len(set(names)) < 3:
        raise errors.UserError(f'folds.count = {settings.count} draws train, val and test anew; '
                               'dataset.train_split, val_split and test_split have to be three')
    ids = sorted({image_id for name in names for image_id in records.split(name)})
    if len(ids) < settings.count:
        raise errors.UserError(f'folds.count = {settings.count}, and {records.folder} has '
                               f'{len(ids)} images in {", ".join(names)}; take fewer folds')
    reader = records.manifest['identity']['reader'].get('reader')
    held = set(ids)
    parts = list(splits.make_split(
        ids, splits.sizes_from_fractions(len(ids), {k: 1 for k in range(settings.count)}),
        settings.seed,
        [pair for pair in readers.copies(reader) if held.issuperset(pair)]).values())
    test, val = parts[number], parts[(number + 1) % settings.count]
    gone = set(test).union(val)
    view = copy.copy(records)
    view.splits = dict(zip(names, ([i for i in ids if i not in gone], val, test)))
    return view
