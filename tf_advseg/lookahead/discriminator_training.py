"""Train_Discriminator(D_t and B): line 2 and 35 of Algorithm 3, with early stopping.

"Per cycle [...] we train MobileNet (discriminator) until sufficient performance is reached based
on an early-stopping criterion evaluated on a hold-out set" (section 4). The hold-out's real maps
are its truth; its fakes are drawn by the very models whose maps are in the buffer (every slot
keeps the hold-out's maps too), so early stopping sees the mixture that D is trained on.
"""
import numpy as np

from tf_advseg.core import errors
from tf_advseg.core import progress
from tf_advseg.losses import adversarial
from tf_advseg.lookahead import discriminator_data
from tf_advseg.training import health
from tf_advseg.training import loop


class DiscriminatorTrainer:
    """Retrains D epoch by epoch; what is needed to go on after each epoch is in `progress_state`.

    Args:
      method: methods.load.LoAd.
      stepper: its training.loop.Stepper.
      data: `DiscriminatorData`, the pictures and the buffer.
      store: SnapshotStore.
      settings: LookaheadSettings.
      streams: RandomStreams.
      metrics: Journal for the epochs' figures.
    """

    def __init__(self, method, stepper, data, store, settings, streams, metrics):
        self._method = method
        self._stepper = stepper
        self._data = data
        self._store = store
        self._settings = settings
        self._streams = streams
        self._metrics = metrics
        # An optimizer can be emptied only by putting its first values back.
        optimizer = method.discriminator_optimizer
        self._fresh_optimizer = [v.numpy() for v in optimizer.variables]
        self._fresh_weights = [v.numpy() for v in method.discriminator.variables]

    def begin(self, retrains):
        """Prepares a retraining; returns its progress state."""
        fate = self._settings.discriminator_at_retrain
        if retrains:
            if fate in ('reset_optimizer', 'reinitialise'):
                assign(self._method.discriminator_optimizer.variables, self._fresh_optimizer)
            if fate == 'reinitialise':
                assign(self._method.discriminator.variables, self._fresh_weights)
        return {'epoch': 0, 'best': None, 'waited': 0}

    def epoch(self, state, serial, cycle):
        """One epoch of training and its figures on the hold-out.

        Args:
          state: from `begin` or an earlier epoch; changed in place.
          serial: number of this epoch in the run, never used twice: seeds its order and draws.
          cycle: for the metrics.

        Returns:
          True when early stopping says that this was the last epoch.
        """
        settings = self._settings
        order = self._order(serial)
        fake_sets = self._data.num_slots
        weight_real, weight_fake = adversarial.fake_set_weights(fake_sets)
        totals = {}
        batches = self._data.training(order, self._streams.seed('disc_augment', serial))
        steps = len(order) // settings.discriminator_batch_size or 1
        description = f'discriminator, cycle {cycle}, epoch {state["epoch"] + 1}'
        with progress.Progress(steps, description) as bar:
            for step, batch in enumerate(batches):
                scalars = self._stepper(
                    'adversary', batch, self._streams.seed('disc_dropout', step, salt=serial),
                    weight_real=weight_real, weight_fake=weight_fake)
                if not health.is_finite(scalars):
                    raise errors.UserError(
                        f'the discriminator\'s loss is not finite in epoch {state["epoch"] + 1} '
                        'of a retraining; lower discriminator_optimizer.learning_rate')
                for name, value in scalars.items():
                    totals[name] = totals.get(name, 0.0) + value / steps
                bar.update(1, loss=scalars['loss/disc'])
        self._reestimate(order, serial)
        held_out = self._hold_out()
        state['epoch'] += 1
        self._metrics.append('discriminator', cycle=cycle, epoch=state['epoch'],
                             **{'loss/disc': totals['loss/disc']},
                             **{f'train/{k}': v for k, v in totals.items() if k != 'loss/disc'},
                             **held_out)
        return self._judge(state, held_out)

    def finish(self, state):
        """Puts the best epoch's discriminator and optimizer back; returns its figures."""
        self._store.restore('disc_best', self._method.discriminator,
                            self._method.discriminator_optimizer)
        self._store.alias('disc', 'disc_best')
        return {'epochs': state['epoch'], 'best_epoch': state['best']['epoch'],
                **state['best']['figures']}

    def _order(self, serial):
        pairs = self._data.training_items()
        generator = self._streams.generator('disc_data', serial)
        return pairs[generator.permutation(len(pairs))]

    def _reestimate(self, order, serial):
        if not self._settings.reestimate_batches:
            return
        count = self._settings.reestimate_batches * self._settings.discriminator_batch_size
        # A seed of its own: the same flips again would re-estimate on the very batches trained on.
        seed = self._streams.seed('disc_augment', serial, salt='reestimate')
        self._method.reestimate_discriminator(self._data.local(order[:count], seed))

    def _hold_out(self):
        counts = {'right_real': 0.0, 'real': 0.0, 'right_fake': 0.0, 'fake': 0.0}
        for batch in self._data.hold_out():
            for name, value in self._stepper(self._method.adversary_counts, batch).items():
                counts[name] += value
        real = counts['right_real'] / max(1.0, counts['real'])
        fake = counts['right_fake'] / max(1.0, counts['fake'])
        return {'disc/accuracy': (real + fake) / 2, 'disc/acc_real': real, 'disc/acc_fake': fake}

    def _judge(self, state, figures):
        best = state['best']
        self._store.save('disc', self._method.discriminator, self._method.discriminator_optimizer)
        if best is None or figures['disc/accuracy'] > best['figures']['disc/accuracy']:
            state['best'] = {'epoch': state['epoch'], 'figures': figures}
            state['waited'] = 0
            self._store.alias('disc_best', 'disc')
        else:
            state['waited'] += 1
        settings = self._settings
        return state['epoch'] >= settings.max_epochs or (
            state['epoch'] >= settings.min_epochs and state['waited'] >= settings.patience)


class DiscriminatorData:
    """Pictures and buffer joined, for training and for the hold-out.

    Args:
      records, train_ids, holdout_ids: the pictures.
      buffer: MapBuffer.
      map_shape, map_dtype: of a stored map where the picture is padded to the crop.
      stride: picture pixels per map pixel.
      settings: LookaheadSettings.
      crop_size: (h, w).
      strategy: batches of `training` and `hold_out` are distributed over it.
    """

    def __init__(self, records, train_ids, holdout_ids, buffer, map_shape, map_dtype, stride,
                 settings, crop_size, strategy):
        self._records = records
        self._ids = {'train': list(train_ids), 'hold_out': list(holdout_ids)}
        self._buffer = buffer
        self._map = (tuple(map_shape), np.dtype(map_dtype))
        self._stride = stride
        self._settings = settings
        self._crop_size = crop_size
        self._strategy = strategy
        self._kept_lookup = self._lookup  # one object for all data sets: see `batches`

    @property
    def num_slots(self):
        """Map sets in the buffer now."""
        return len(self._buffer.slots)

    def training_items(self):
        """All (picture, slot) pairs of the training set, see `discriminator_data.items`."""
        ids = self._ids['train']
        seen = None
        if self._settings.map_images == 'seen':
            place = {image_id: position for position, image_id in enumerate(ids)}
            seen = [{place[i] for i in slot.ids_of('train')} for slot in self._buffer.slots]
        return discriminator_data.items(len(ids), self.num_slots, seen)

    def training(self, pairs, seed):
        """Distributed training batches in the order of `pairs`."""
        whole = len(pairs) >= self._settings.discriminator_batch_size
        return loop.distribute(
            self._batches('train', pairs, seed, self._settings.flip, whole), self._strategy)

    def local(self, pairs, seed):
        """The same kind of batches, not distributed."""
        return self._batches('train', pairs, seed, self._settings.flip, False)

    def hold_out(self):
        """Distributed batches of the hold-out's truths and of every slot's maps of it."""
        pairs = discriminator_data.items(len(self._ids['hold_out']), self.num_slots)
        return loop.distribute(
            self._batches('hold_out', pairs, np.zeros(2, np.int32), False, False), self._strategy)

    def _lookup(self, slot, image_id):
        """A stored map of B[slot], or an empty one in the place of a truth's."""
        if slot == discriminator_data.REAL:
            return np.zeros(*self._map)
        stored = self._buffer.slots[slot].read(image_id.decode(), decoded=False)
        return np.ascontiguousarray(stored, self._map[1])

    def _batches(self, part, pairs, seed, flip, drop_remainder):
        return discriminator_data.batches(
            self._records, self._ids[part], pairs, self._kept_lookup, *self._map,
            self._settings.discriminator_batch_size, self._crop_size, self._stride, seed, flip,
            drop_remainder)


def assign(variables, values):
    """Puts NumPy values into variables."""
    for variable, value in zip(variables, values):
        variable.assign(value)
