"""LoAd's phases around the discriminator: the buffer's maps (Algorithm 1), and its retraining."""
from tf_advseg.training import strategy as strategies


class DiscriminatorPhases:
    """The part of `orchestrator.LookAhead` that draws maps and trains the discriminator on them."""

    def _phase_aggregate(self):
        """Algorithm 1 on the models the last cycle left (B = g_0(X) at first).

        After the last cycle nothing is drawn, as nothing will be trained on it. What was to be
        drawn stays in the state: a run that goes on under a raised cap draws it then.
        """
        pending = self.state.pending
        if self.controller.finished and len(self.buffer or ()):
            self._durable('begin')
            return
        if self.adversarial:
            with self.watch.time('map generation'):
                for entry in self.buffer.plan(pending['peak'], pending['end']).added:
                    self._write_slot(entry.label, pending['roles'][entry.label])
                self.buffer.aggregate(pending['peak'], pending['end'])
            self._log('aggregate', slots=list(self.buffer.labels), bytes=self._buffer_bytes())
            if self._monitor:
                self._monitor.scalars(self.state.budget_step,
                                      {'buffer/slots': len(self.buffer),
                                       'buffer/bytes': self._buffer_bytes()})
        self.state.pending = {}
        # Line 35 after the last cycle would train a discriminator that nothing will use.
        self.state.retrain_due = self.adversarial
        self._durable('begin')

    def _buffer_bytes(self):
        """Size of the slots that count; those that have just left are deleted a little later."""
        return sum(slot.bytes() for slot in self.buffer.slots)

    def _prepare_retraining(self):
        """Line 35 comes next: the discriminator, and a copy of it in case its loss diverges."""
        self.state.retraining = self._trainer.begin(self.state.retrains)
        self.store.save('disc', self.method.discriminator, self.method.discriminator_optimizer)
        self.store.alias('disc_start', 'disc')
        self._durable('retrain')

    def _write_slot(self, label, role):
        """One worker draws and writes a model's maps; the others read what it wrote."""
        if self._chief:
            self.store.restore(role, self.method.segmentor)
            ids = self.data.map_ids(self.state.seen.get(role, []))
            self.buffer.write_slot(
                label, self.data.generate_maps(self.stepper, self.method, ids),
                num_maps=sum(len(part) for part in ids.values()),
                num_classes=self.method.segmentor.num_classes,
                stride=self.method.segmentor.logits_stride)
        strategies.barrier(self._strategy)
        if not self._chief:
            self.buffer.adopt_slot(label)

    def _phase_retrain(self):
        """Lines 2 and 35: the discriminator on D_t and B, one durable epoch after another."""
        while True:
            with self.watch.time('discriminator training'):
                last, bad = self._trainer.epoch(self.state.retraining,
                                                self.state.discriminator_epochs,
                                                self.controller.cycles)
            self.state.discriminator_epochs += 1
            if last or bad:
                break
            self._durable()
        if bad:
            self._record_non_finite('a retraining of the discriminator', bad)
            self.store.alias('disc', 'disc_start')
            self.store.restore('disc', self.method.discriminator,
                               self.method.discriminator_optimizer)
        else:
            outcome = self._trainer.finish(self.state.retraining)
            self._log('retrain', **outcome)
            if self._monitor:
                self._monitor.scalars(self.state.budget_step, {
                    k: v for k, v in outcome.items() if k.startswith('disc/')})
            if not self.state.retrains and self._screen is not None:
                self._report_screening({name: outcome[f'disc/{name}']
                                        for name in ('accuracy', 'log_loss')})
        self.state.retrains += 1
        self.state.retrain_due = False
        self.store.drop('disc_best')
        self.store.drop('disc_start')
        self._durable('begin')

    def _report_screening(self, judged):
        """Screens the first discriminator; see lookahead/screening.py.

        Of shuffled targets a discriminator is to learn nothing: what it was judged by is left out.
        """
        if self.settings.null == 'shuffled':
            judged = None
        with self.watch.time('screening'):
            self.store.restore('start', self.method.segmentor, self.method.optimizer)
            found = self._screen(self.method, self.stepper, judged=judged)
        self._log('screening', **found.to_json())
        if self._chief:
            print(found.text(), flush=True)
