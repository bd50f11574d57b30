"""Algorithm 1 (label-map aggregation) as a pure function on the names of slots: no files.

Jamali-Rad and Szabo, "Lookahead Adversarial Learning", section 3, Algorithm 1; the Retain
policy is from section 7, "Future directions".
"""
import dataclasses

POLICIES = ('flush', 'retain')
PEAK, ENDING = 'peak', 'ending'


@dataclasses.dataclass(frozen=True)
class Entry:
    """One map set in the buffer: the name of the model that drew it, 'peak' or 'ending'."""
    label: str
    role: str


@dataclasses.dataclass(frozen=True)
class Plan:
    """What one call of Algorithm 1 does to the buffer.

    Attributes:
      entries: the buffer afterwards, in order.
      added: those of them that are new: the map sets to be drawn, peak before ending.
      dropped: those that leave, in their old order.
    """
    entries: tuple
    added: tuple
    dropped: tuple


@dataclasses.dataclass(frozen=True)
class BufferPolicy:
    """Which slots to keep.

    The order is: the current peak (slot 0), the previous peaks that are retained (newest first),
    then the endings (oldest first). Without Retain that is Algorithm 1 to the letter: B[1] is the
    oldest ending.

    Args:
      capacity: B_max. With 2 there is the peak and the newest ending. With 1 only the peak's maps:
        Algorithm 1's Delete(B[1]) has nothing to delete and an ending no place, so endings are
        not drawn at all (`Plan.added` leaves them out).
      policy: 'flush' (Algorithm 1) or 'retain': a flush spares previous peaks; g_0 is the 0th.
      retain: how many previous peaks 'retain' spares at most.
      count_peaks: whether spared peaks count in B_max. Endings make room for them then, though
        never the newest one. If not, the buffer holds up to capacity + retain slots.

    Raises:
      ValueError: an argument out of range, or previous peaks that cannot fit.
    """
    capacity: int = 3
    policy: str = 'flush'
    retain: int = 1
    count_peaks: bool = True

    def __post_init__(self):
        if self.policy not in POLICIES:
            raise ValueError(f'policy must be one of {POLICIES}, got {self.policy!r}')
        if self.capacity != int(self.capacity) or self.capacity < 1:
            raise ValueError(f'capacity (B_max) must be a whole number >= 1, got {self.capacity}')
        if self.retain != int(self.retain) or self.retain < 0:
            raise ValueError(f'retain must be a whole number >= 0, got {self.retain}')
        if self.count_peaks and self._retained > max(self.capacity - 2, 0):
            raise ValueError(
                f'retain={self.retain} previous peaks, the current one and an ending do not fit in '
                f'capacity={self.capacity}: raise the capacity, or set count_peaks=False')

    @property
    def _retained(self):
        return self.retain if self.policy == 'retain' else 0

    @property
    def max_slots(self):
        """The most slots the buffer ever holds: B_max, or B_max + retain if peaks do not count."""
        return self.capacity + (0 if self.count_peaks else self._retained)

    @property
    def max_slots_on_disk(self):
        """The most slots that lie on disk at once: the new ones are written before the old go."""
        return self.max_slots + min(2, self.capacity)

    def aggregate(self, entries, peak, end):
        """Algorithm 1: returns the `Plan` for a cycle's peak and ending.

        Args:
          entries: the buffer as it is, a sequence of `Entry`; empty before the initialisation
            B = B[0] = g_0(X), which is aggregate((), 'g0', None).
          peak: the new peak's label, None if the cycle found none (the paper's g^p = 0).
          end: the ending's label; None where there is no ending model (initialisation, or a
            cycle that failed): then nothing is appended.

        Raises:
          ValueError: an ending for an empty buffer, or a label the buffer has already.
        """
        entries = tuple(entries)
        if peak is None and not entries:
            raise ValueError("the buffer is empty: begin with aggregate((), 'g0', None)")
        for label in (peak, end):
            if label is not None and label in [entry.label for entry in entries]:
                raise ValueError(f'the buffer holds maps of {label} already')
        peaks = [entry for entry in entries if entry.role == PEAK]
        endings = [entry for entry in entries if entry.role == ENDING]
        if peak is not None:
            peaks = [Entry(peak, PEAK)] + peaks[:self._retained]    # Flush(B), B[0] <- g^p(X)
            endings = []
        room = self.capacity - (len(peaks) if self.count_peaks else 1)
        if end is not None and room > 0:
            while len(endings) >= room:                             # Size(B) = B_max
                endings.pop(0)                                      # Delete(B[1])
            endings.append(Entry(end, ENDING))                      # B[end] <- g^e(X)
        after = tuple(peaks + endings)
        return Plan(entries=after, added=tuple(entry for entry in after if entry not in entries),
                    dropped=tuple(entry for entry in entries if entry not in after))
