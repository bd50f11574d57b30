"""Separate random streams, so that switching one use of chance on or off moves no other."""
import hashlib

import numpy as np

STREAMS = ('data', 'augment', 'dropout', 'disc_data', 'disc_augment', 'disc_dropout', 'init',
           'diagnostics', 'split', 'unlabelled_data', 'unlabelled_augment', 'truth_data',
           'truth_augment', 'interleave', 'disc_holdout', 'disc_null', 'cutmix')


class RandomStreams:
    """Named streams of seeds: what is drawn depends on (seed, name, step, salt) alone.

    There is no state to save: a run that resumes at step t draws what it would have drawn.
    The streams in use are listed in STREAMS; any other name makes a stream of its own.
    """

    def __init__(self, seed):
        """Args: seed: an integer, the run's --seed."""
        self.seed_value = int(seed)

    def _digest(self, *parts):
        """Returns 32 bytes: SHA-256 of the run's seed and `parts`, separated unambiguously."""
        text = '\x1f'.join([str(self.seed_value), *[str(part) for part in parts]])
        return hashlib.sha256(text.encode('utf-8')).digest()

    def seed(self, name, step, salt=0):
        """Returns np.int32 [2], the seed for TensorFlow's stateless operations.

        Args:
          name: the stream.
          step: integer; the budget step, which a rewind never sets back.
          salt: integer or string that makes several draws of one step differ.
        """
        digest = self._digest('stateless', name, salt, int(step))
        return np.frombuffer(digest[:8], dtype='<i4').astype(np.int32)

    def generator(self, name, step=0):
        """Returns a fresh np.random.Generator for (name, step)."""
        digest = self._digest('generator', name, int(step))
        # PCG64 by name: default_rng may change its bit generator between NumPy versions.
        return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], 'little')))

    def __repr__(self):
        return f'RandomStreams(seed={self.seed_value})'
