"""What a LoAd run remembers, and how it is written down: state.json, from which a killed run goes
on.

state.json names the folders that count (snapshots, buffer slots) and how long the journals are.
It is written after those folders and before anything they replace is deleted, so that at any
moment the state on disk is whole.
"""
import dataclasses

from tf_advseg.core import errors
from tf_advseg.core import files
from tf_advseg.lookahead import outcomes

STATE = 'state.json'
VERSION = 2
PHASES = ('start', 'aggregate', 'begin', 'retrain', 'cycle', 'end', 'finished')


@dataclasses.dataclass
class RunState:
    """What the orchestrator itself remembers between two durable states (JSON-able).

    Attributes:
      phase: the next phase.
      budget_step: generator steps taken; never goes back.
      discriminator_epochs: epochs of all retrainings; numbers their random draws.
      retrains: retrainings finished.
      retrain_due: the last buffer has not been trained on yet.
      adversarial_weight: lambda of this cycle.
      pending: whose maps are to be drawn next.
      retraining: the retraining under way.
      seen: per role, the spans of budget steps behind its weights in stage 2.
      non_finite: cycles and retrainings that a loss that is no number has ended.
    """
    phase: str = 'start'
    budget_step: int = 0
    discriminator_epochs: int = 0
    retrains: int = 0
    retrain_due: bool = False
    adversarial_weight: float = 0.0
    pending: dict = dataclasses.field(default_factory=dict)
    retraining: dict = dataclasses.field(default_factory=dict)
    seen: dict = dataclasses.field(default_factory=dict)
    non_finite: int = 0


@dataclasses.dataclass
class Durable:
    """The parts of a run that state.json speaks of.

    Attributes:
      folder: where state.json lives.
      controller, store, buffer: with state_dict/load_state_dict (to_state/from_state); buffer may
        be None.
      journal, metrics: core.journal.Journal, cut back when a run goes on.
      chief: whether this process writes.
    """
    folder: object
    controller: object
    store: object
    buffer: object
    journal: object
    metrics: object
    chief: bool

    def write(self, run, seconds):
        """Writes the state; then what it does not name any more is deleted.

        Args:
          run: RunState.
          seconds: dict of wall times so far.
        """
        if not self.chief:
            return
        files.write_json(self.folder / STATE, {
            'version': VERSION, 'run': dataclasses.asdict(run),
            'controller': self.controller.state_dict(), 'snapshots': self.store.state_dict(),
            'buffer': None if self.buffer is None else self.buffer.to_state(),
            'journal': self.journal.position(), 'metrics': self.metrics.position(),
            'seconds': seconds})
        self._collect_garbage()

    def read(self):
        """Puts every part back to the last durable state.

        Returns:
          (RunState, seconds), or None where there is no state yet.

        Raises:
          UserError: the state is of another version, or a slot or journal is damaged.
        """
        if not (self.folder / STATE).exists():
            return None
        state = files.read_json(self.folder / STATE)
        with files.as_written(self.folder / STATE):
            self._put_back(state)
            run, seconds = outcomes.restored(RunState, state['run']), dict(state['seconds'])
            if run.phase not in PHASES:
                raise ValueError(f'there is no phase {run.phase!r}')
            lengths = int(state['journal']), int(state['metrics'])
        if self.chief:
            self.journal.cut_back(lengths[0])
            # Lines of other stages, the ordinary control's for one, stay.
            self.metrics.cut_back(lengths[1], keep=lambda line: 'stage' in line)
            self._collect_garbage()
        return run, seconds

    def _put_back(self, state):
        """Gives controller, snapshots and buffer what the state says of them."""
        if state.get('version') != VERSION:
            raise errors.UserError(
                f'{self.folder / STATE}: is of version {state.get("version")}, this package reads '
                f'version {VERSION}; finish the run with the package it was begun with')
        self.controller.load_state_dict(state['controller'])
        self.store.load_state_dict(state['snapshots'])
        if self.buffer is not None:
            self.buffer.from_state(state['buffer'])

    def _collect_garbage(self):
        self.store.collect_garbage()
        if self.buffer is not None:
            self.buffer.collect_garbage()
