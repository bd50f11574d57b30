"""The best model of a stage by its hold-out, kept aside while it trains, and when to end by it."""
import shutil

from tf_advseg.training import loop

PREFIX = 'best-'  # models kept aside in the stage's folder


def remove_aside(folder, kept=None):
    """Deletes the models that a stage kept aside, but the named one."""
    for path in folder.glob(f'{PREFIX}*'):
        if path.name != kept:
            shutil.rmtree(path)


class BestModel:
    """Keeps the best of the models that it is offered; the first of equals stays.

    Args:
      folder: the stage's.
      memory: dict of `loop.train`, durable; of the best so far 'miou', 'step' and 'folder'.
      save: function(folder, steps taken, mIoU) that writes the model; all workers take part.
      chief: whether this process deletes.
    """

    def __init__(self, folder, memory, save, chief):
        self._folder, self._memory, self._save, self._chief = folder, memory, save, chief

    def offer(self, done, miou):
        """Keeps the model aside if it is the best so far; returns whether it is.

        It counts once the loop's durable state names it; until then the one before it does, which
        is why that stays.

        Args:
          done: steps of the segmentor taken.
          miou: on the hold-out; None where it has no labelled pixel.
        """
        if self._chief:
            remove_aside(self._folder, self._memory.get('folder'))
        better = miou is not None and miou > self._memory.get('miou', -1.0)
        if better:
            name = f'{PREFIX}{done:07d}'
            self._save(self._folder / name, done, miou)
            self._memory.update(miou=miou, step=done, folder=name)
        return better

    @property
    def path(self):
        """Of the model that is kept; None before the first."""
        return self._folder / self._memory['folder'] if 'folder' in self._memory else None


class EarlyStopping:
    """Ends a stage whose hold-out mIoU has not risen for some evaluations (Prechelt 1998, UP_s).

    Prechelt's criterion UP_s ends after s rises of the error in a row; here, as in Keras, an
    evaluation counts if it does not beat the best so far, whether or not it beats the last.

    Args:
      patience: how many evaluations in a row.
      first: evaluations after so many steps or fewer are not looked at.
      best: `BestModel`, which is offered the model at every other.
      memory: dict of `loop.train`.
    """

    def __init__(self, patience, first, best, memory):
        self._patience, self._first, self._best, self._memory = patience, first, best, memory

    def look(self, done, miou):
        """Takes in an evaluation after `done` steps; the loop ends if it was one too many.

        Returns:
          dict for a line of metrics.jsonl.
        """
        waited = 0
        if done > self._first and not self._best.offer(done, miou):
            waited = self._memory.get('waited', 0) + 1
        self._memory['waited'] = waited
        if waited >= self._patience:
            self._memory[loop.ENDED] = done
        return {'event': 'early_stopping', 'waited': waited, 'patience': self._patience,
                'kept_step': self._memory.get('step'), 'ended': loop.ENDED in self._memory}

    def result(self, planned):
        """JSON-able: {'patience', 'planned', 'steps' taken, 'kept_step', 'holdout_miou'}."""
        return {'patience': self._patience, 'planned': planned,
                'steps': self._memory.get(loop.ENDED, planned),
                'kept_step': self._memory['step'], 'holdout_miou': self._memory['miou']}


def sentence(title, found):
    """A sentence without its stop on what `EarlyStopping.result` says.

    Args:
      title: of the stage.
      found: see there.
    """
    patience, taken, planned = found['patience'], found['steps'], found['planned']
    evaluations = f'{patience} evaluation{"" if patience == 1 else "s"}'
    text = (f'{title} ended after {taken} of {planned} steps: {evaluations} without a higher '
            'hold-out mIoU' if taken < planned else
            f'{title} took all of its {planned} steps (patience: {evaluations})')
    return f'{text}; kept is the best by the hold-out, of step {found["kept_step"]}'
