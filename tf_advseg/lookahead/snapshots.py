"""Snapshots by role: g0, g^s, g*, g^e, the model in the midst of a cycle, the discriminator.

A snapshot is a folder with a serial number; roles point at folders. Several roles may share one.
What no role points at is deleted once the new roles are on disk.
"""
import pathlib
import shutil

from tf_advseg.core import files
from tf_advseg.training import checkpoints


class SnapshotStore:
    """Keeps networks with their optimizers on disk.

    Args:
      folder: where; made if absent.
      chief: see `checkpoints.write_state`.
      barrier: function that waits for the other workers: what the chief writes is read by all.
      average: the segmentor's training.averaging.WeightAverage or None. It is a part of each of its
        snapshots and goes back with it: in the end it is the average along the way that led to g*.
    """

    def __init__(self, folder, chief=True, barrier=lambda: None, average=None):
        self.folder = pathlib.Path(folder)
        self.average = average
        self._chief = chief
        self._barrier = barrier
        if chief:
            with files.disk_errors(self.folder):
                self.folder.mkdir(parents=True, exist_ok=True)
        self.roles = {}
        self.serial = 0

    def save(self, role, network, optimizer):
        """Writes a new snapshot ('g-…'; 'd-…' if the role begins with 'disc'); returns its name."""
        self.serial += 1
        name = f'{"d" if _of_discriminator(role) else "g"}-{self.serial:06d}'
        checkpoints.write_state(self.folder / name, self._chief, network=network,
                                optimizer=optimizer, **self._average(role))
        self._barrier()
        self.roles[role] = name
        return name

    def alias(self, role, other):
        """Points `role` at what `other` points at."""
        self.roles[role] = self.roles[other]

    def drop(self, role):
        """Forgets a role, if it is there."""
        self.roles.pop(role, None)

    def restore(self, role, network, optimizer=None):
        """Puts a snapshot back; without `optimizer` the weights alone.

        Raises:
          UserError: the snapshot is missing or damaged.
        """
        objects = {'network': network, **self._average(role)}
        if optimizer is not None:
            objects['optimizer'] = optimizer
        checkpoints.read_state(self.folder / self.roles[role], **objects)

    def _average(self, role):
        """What a role's snapshots hold beside a network and its optimizer."""
        with_it = self.average is not None and not _of_discriminator(role)
        return {'average': self.average} if with_it else {}

    def restore_optimizer(self, role, optimizer):
        """Puts only the optimizer of a snapshot back."""
        checkpoints.read_state(self.folder / self.roles[role], optimizer=optimizer)

    def state_dict(self):
        """JSON-able: the roles and the serial number."""
        return {'roles': dict(self.roles), 'serial': self.serial}

    def load_state_dict(self, state):
        """Takes over what `state_dict` gave."""
        self.roles = dict(state['roles'])
        self.serial = state['serial']

    def collect_garbage(self):
        """Deletes what no role points at; call it once the state that names them is durable."""
        if not self._chief:
            return
        files.remove_temporaries(self.folder)
        alive = set(self.roles.values())
        for path in self.folder.iterdir():
            if path.is_dir() and path.name not in alive:
                shutil.rmtree(path)


def _of_discriminator(role):
    return role.startswith('disc')
