"""Train_Discriminator(D_t and B): line 2 and 35 of Algorithm 3, with early stopping.

"Per cycle [...] we train MobileNet (discriminator) until sufficient performance is reached based
on an early-stopping criterion evaluated on a hold-out set" (section 4). The hold-out's real maps
are its truth; its fakes are drawn by the very models whose maps are in the buffer (every slot
keeps the hold-out's maps too), so early stopping sees the mixture that D is trained on.

A discriminator that has become sure of every map has hardly a gradient, and what it has is of cues
that no segmentor can follow; `target_accuracy` ends its training where it is good enough.
"""
import numpy as np

from tf_advseg.adversaries import discriminators
from tf_advseg.core import progress
from tf_advseg.losses import adversarial
from tf_advseg.lookahead import discriminator_data
from tf_advseg.training import checkpoints
from tf_advseg.training import health
from tf_advseg.training import loop
from tf_advseg.training import loss_scale

READ_EVERY = 10  # steps between looks at what they computed: each look waits for the device


class DiscriminatorTrainer:
    """Retrains D epoch by epoch; what is needed to go on after each epoch is in `progress_state`.

    Args:
      method: methods.load.LoAd.
      stepper: its training.loop.Stepper.
      data: `DiscriminatorData`, the images and the buffer.
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
        self._fresh_optimizer = [v.numpy() for v in loss_scale.variables(optimizer)]
        self._fresh_weights = [v.numpy() for v in method.discriminator.variables]

    def begin(self, retrains):
        """Prepares a retraining; returns its progress state."""
        fate = self._settings.discriminator_at_retrain
        if retrains:
            if fate in ('reset_optimizer', 'reinitialise'):
                checkpoints.assign(loss_scale.variables(self._method.discriminator_optimizer),
                                   self._fresh_optimizer)
            if fate == 'reinitialise':
                checkpoints.assign(self._method.discriminator.variables, self._fresh_weights)
        return {'epoch': 0, 'best': None, 'waited': 0}

    def epoch(self, state, serial, cycle):
        """One epoch of training and its figures on the hold-out.

        Args:
          state: from `begin` or an earlier epoch; changed in place.
          serial: number of this epoch in the run, never used twice: seeds its order and draws.
          cycle: for the metrics.

        Returns:
          (whether early stopping says that this was the last epoch, the scalars of a step whose
          loss was no number or None; the epoch ends there).
        """
        settings = self._settings
        order = self._order(serial)
        real = int((order[:, 1] == discriminator_data.REAL).sum())
        weight_real, weight_fake = adversarial.fake_set_weights((len(order) - real) / real)
        taken = []
        batches = self._data.training(order, self._streams.seed('disc_augment', serial),
                                      self._targets(order, cycle))
        steps = len(order) // settings.discriminator_batch_size or 1
        description = f'discriminator, cycle {cycle}, epoch {state["epoch"] + 1}'
        with progress.Progress(steps, description) as bar:
            for step, batch in enumerate(batches):
                taken.append(self._stepper(
                    'discriminator', batch, self._streams.seed('disc_dropout', step, salt=serial),
                    weight_real=weight_real, weight_fake=weight_fake))
                if len(taken) % READ_EVERY:
                    bar.update(1)
                    continue
                bad = health.first_bad(taken[-READ_EVERY:])
                if bad:
                    return False, bad
                bar.update(1, loss=taken[-1]['loss/disc'])
        bad = health.first_bad(taken)
        if bad:
            return False, bad
        totals = loop.means(taken, steps)
        self._reestimate(order, serial)
        held_out = self._hold_out()
        state['epoch'] += 1
        self._metrics.append('discriminator', cycle=cycle, epoch=state['epoch'],
                             **{'loss/disc': totals['loss/disc']},
                             **{f'train/{k}': v for k, v in totals.items() if k != 'loss/disc'},
                             **held_out)
        last = self._judge(state, held_out)
        return last or self._reached(held_out), None

    def finish(self, state):
        """Puts the best epoch's discriminator and optimizer back; returns its figures."""
        self._store.restore('disc_best', self._method.discriminator,
                            self._method.discriminator_optimizer)
        self._store.alias('disc', 'disc_best')
        self._data.release()
        return {'epochs': state['epoch'], 'best_epoch': state['best']['epoch'],
                **state['best']['figures']}

    def _order(self, serial):
        pairs = self._data.training_items()
        generator = self._streams.generator('disc_data', serial)
        if not self._settings.discriminator_pairs:
            return pairs[generator.permutation(len(pairs))]
        rank = generator.permutation(pairs[:, 0].max() + 1)
        return pairs[np.argsort(rank[pairs[:, 0]], kind='stable')]

    def _targets(self, order, cycle):
        """What D is asked for of the items in `order`; None for the truth of them.

        Of the null with shuffled targets each item keeps its drawn target throughout a retraining:
        targets drawn anew would leave nothing to learn, and no gradient.
        """
        if self._settings.null != 'shuffled':
            return None
        pairs = self._data.training_items()
        drawn = self._streams.generator('disc_null', cycle).permutation(
            (pairs[:, 1] == discriminator_data.REAL).astype(np.float32))
        of_pair = {tuple(pair): target for pair, target in zip(pairs.tolist(), drawn)}
        return np.array([of_pair[tuple(pair)] for pair in order.tolist()], np.float32)

    def _reached(self, figures):
        """Whether D is good enough by its figures on the hold-out."""
        target = self._settings.target_accuracy
        if target is None or self._settings.null == 'shuffled':
            return False
        return figures['disc/accuracy'] >= target

    def _reestimate(self, order, serial):
        if not self._settings.reestimate_batches:
            return
        count = self._settings.reestimate_batches * self._settings.discriminator_batch_size
        # A seed of its own: the same flips again would re-estimate on the very batches trained on.
        seed = self._streams.seed('disc_augment', serial, salt='reestimate')
        inputs = self._stepper.local(self._method.mixed_input)
        discriminators.reestimate_batch_norm(
            self._method.discriminator,
            (inputs(batch) for batch in self._data.local(order[:count], seed)))

    def _hold_out(self):
        counts = dict.fromkeys(
            ('right_real', 'real', 'right_fake', 'fake', 'loss_real', 'loss_fake'), 0.0)
        for batch in self._data.hold_out():
            for name, value in self._stepper(self._method.discriminator_counts, batch).items():
                counts[name] += value
        real = counts['right_real'] / max(1.0, counts['real'])
        fake = counts['right_fake'] / max(1.0, counts['fake'])
        log_loss = (counts['loss_real'] / max(1.0, counts['real'])
                    + counts['loss_fake'] / max(1.0, counts['fake'])) / 2
        return {'disc/accuracy': (real + fake) / 2, 'disc/acc_real': real, 'disc/acc_fake': fake,
                'disc/log_loss': log_loss}

    def _worth(self, figures):
        """What an epoch is judged by; more is better."""
        if self._settings.criterion == 'log_loss':
            return -figures['disc/log_loss']
        return figures['disc/accuracy']

    def _judge(self, state, figures):
        best = state['best']
        self._store.save('disc', self._method.discriminator, self._method.discriminator_optimizer)
        shuffled = self._settings.null == 'shuffled'
        # What was learnt of shuffled targets is worth nothing on the hold-out: the last epoch
        # counts.
        if shuffled or best is None or self._worth(figures) > self._worth(best['figures']):
            state['best'] = {'epoch': state['epoch'], 'figures': figures}
            state['waited'] = 0
            self._store.alias('disc_best', 'disc')
        else:
            state['waited'] += 1
        settings = self._settings
        if shuffled:
            return state['epoch'] >= settings.min_epochs
        return state['epoch'] >= settings.max_epochs or (
            state['epoch'] >= settings.min_epochs and state['waited'] >= settings.patience)
