"""The two gradients of the generator measured: for a balanced lambda, and as a diagnostic."""
import contextlib

from tf_advseg.lookahead import settings as settings_lib

NEGLIGIBLE = 1e-8


class GradientMeter:
    """Measures |g_ce|, |g_adv| and their cosine without leaving a trace in the networks.

    Args:
      method: methods.load.LoAd.
      stepper: its training.loop.Stepper.
      data: lookahead.data.LookaheadData.
      settings: LookaheadSettings.
      streams: RandomStreams.
    """

    def __init__(self, method, stepper, data, settings, streams):
        self._method = method
        self._stepper = stepper
        self._data = data
        self._settings = settings
        self._streams = streams

    def balanced_weight(self, step):
        """lambda = balance * |g_ce| / |g_adv| over the batches of the next steps.

        Args:
          step: the budget step the cycle begins at.

        Returns:
          (lambda, |g_adv| / |g_ce|). lambda is at most settings.maximum_weight, and 0 where the
          adversarial gradient has vanished (a discriminator that is fooled, or saturated).
        """
        sums = {'grad/ce': 0.0, 'grad/adv': 0.0}
        batches = self._data.upcoming_batches(step, self._settings.balance_batches)
        with self._untouched():
            for offset, batch in enumerate(batches):
                norms = self._stepper(self._method.gradient_balance, batch,
                                      self._streams.seed('dropout', step + offset))
                for name in sums:
                    sums[name] += norms[name]
        ratio = sums['grad/adv'] / sums['grad/ce'] if sums['grad/ce'] else 0.0
        if not ratio > NEGLIGIBLE:
            return 0.0, ratio
        return min(self._settings.balance / ratio, self._settings.maximum_weight), ratio

    def diagnose(self, step):
        """The figures of `LoAd.gradient_balance` on a batch of the diagnostics' own stream."""
        batch = self._data.diagnostics_batch(step)
        with self._untouched():
            return dict(self._stepper(self._method.gradient_balance, batch,
                                      self._streams.seed('diagnostics', step)))

    def is_balanced(self):
        """Whether lambda is to be measured at all."""
        return self._settings.adversarial_weight == settings_lib.BALANCED

    @contextlib.contextmanager
    def _untouched(self):
        """Puts moving statistics back that a forward pass in training mode has moved."""
        moving = [v for network in (self._method.segmentor, self._method.discriminator)
                  for v in network.non_trainable_variables]
        live = self._method.discriminator_training_mode or getattr(
            self._method.segmentor, 'fine_tune_batch_norm', False)
        kept = [v.numpy() for v in moving] if live else []
        yield
        for variable, value in zip(moving, kept):
            variable.assign(value)
