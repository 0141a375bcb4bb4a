"""The output of a live signal: restored hops in time, and the input in place of one that is late."""

from collections import deque
from typing import NamedTuple

import numpy as np

from timbre.audio import Wave

# Hops in hand are looked at for so long before one is left out or played twice: 2 s.
DRIFT_HOPS = 200
# From so many too many on the device stood still, and they are left out at once.
STALLED_HOPS = 10


class Counts(NamedTuple):
    """How often the guard had to act.

    Attributes:
        hops: played in all.
        late: those that were not wholly restored.
        fades: from the restored signal to the input.
        jumps: to another place in the input, where the devices' clocks differ or one stood still.
        stops: as no input came.
    """

    hops: int
    late: int
    fades: int
    jumps: int
    stops: int


class Guard:
    """Plays a signal some hops after its input, restored where that is ready in time.

    While a hop is played the next one must be ready. If it is not, the hop being played fades to the
    input, which lies at the same place in time; once two hops are ready it fades back, within a hop
    again. If no input comes it fades to silence in the same way. So there is always something to play,
    and no step: from sample to sample each share changes by at most ``1 / hop``.

    The input's device and the output's have clocks of their own. Where hops in hand become more or
    fewer, the guard goes over to the input, and there fades to an earlier or later place.

    Three threads put, deliver and take. None waits for another.

    Args:
        channels: rows of the signal.
        hop: samples that are played at a time.
        delay_hops: how many hops of the input are in hand when one is played, itself included.
    """

    def __init__(self, channels: int, hop: int, delay_hops: int) -> None:
        self.hop, self.delay_hops = hop, delay_hops
        self._silence: Wave = np.zeros((channels, hop), np.float32)
        self._rise: Wave = (np.arange(1, hop + 1) / hop).astype(np.float32)
        # Hops by their number; the thread that takes removes them.
        self._dry: dict[int, Wave] = {}
        self._ready: dict[int, Wave] = {}
        self._hops_in = 0
        self._rest: Wave = np.zeros((channels, 0), np.float32)
        self._rest_first = 0  # the number of the rest's first sample
        self._number = 0  # of the hop to play
        self._share = self._gain = 0.0
        self._lags: deque[int] = deque(maxlen=DRIFT_HOPS)
        self._jump_after = 0
        self._hops = self._late = self._fades = self._jumps = self._stops = 0

    def put(self, hop: Wave) -> None:
        """Take the next ``(channels, hop)`` of the input."""
        self._dry[self._hops_in] = hop
        self._hops_in += 1

    def deliver(self, first: int, wave: Wave) -> None:
        """Take restored samples ``(channels, any)``.

        Args:
            first: the number of the first one, counted from the beginning of the input. It is never
                smaller than before; what lies between two deliveries stays the input.
            wave: the samples.
        """
        if first == self._rest_first + self._rest.shape[1]:
            wave, first = np.concatenate([self._rest, wave], axis=1), self._rest_first
        # Only whole hops are played.
        surplus = min(-first % self.hop, wave.shape[1])
        wave, first = wave[:, surplus:], first + surplus
        whole = wave.shape[1] // self.hop * self.hop
        for start in range(0, whole, self.hop):
            number = (first + start) // self.hop
            # What is too late is not kept.
            if number >= self._number:
                self._ready[number] = wave[:, start : start + self.hop]
        self._rest, self._rest_first = wave[:, whole:], first + whole

    def take(self) -> Wave:
        """Return the hop ``(channels, hop)`` to play now."""
        if self._gain == 0:
            if self._hops_in - self._number < self.delay_hops:
                return self._silence
            self._go_to(self._hops_in - self.delay_hops)
        number, before = self._number, self._share
        begins, ends = self._gain == 0, number + 1 not in self._dry
        jump = 0 if before or ends else self._jump_after
        self._share = after = float(not ends and not jump and self._is_ready(number))
        # Where all fades in or out, the restored share stays.
        played = self._mixed(after if begins else before, before if ends else after)
        if jump:
            self._jumps += 1
            played = self._faded(played, self._dry[number + jump])
        if begins or ends:
            played = played * (1 - self._rise if ends else self._rise)
            self._gain, self._stops = float(not ends), self._stops + ends
        self._hops += 1
        self._late += before < 1 or after < 1
        self._fades += before > after
        self._go_to(number + jump + 1)
        self._look_for_drift(bool(jump))
        return played

    def counts(self) -> Counts:
        """Return what has happened so far."""
        return Counts(self._hops, self._late, self._fades, self._jumps, self._stops)

    def _is_ready(self, number: int) -> bool:
        # Until a jump it stays the input.
        return not self._jump_after and number in self._ready and number + 1 in self._ready

    def _mixed(self, before: float, after: float) -> Wave:
        """Return the hop to play: input, restored, or a fade between them."""
        dry, restored = self._dry[self._number], self._ready.get(self._number)
        if restored is None or before == after == 0:
            # The hop before has looked: the share was 0 then.
            return dry
        if before == after:
            return restored
        return self._faded(dry, restored) if after else self._faded(restored, dry)

    def _faded(self, one: Wave, other: Wave) -> Wave:
        return one + self._rise * (other - one)

    def _go_to(self, number: int) -> None:
        """Make ``number`` the hop to play next, and drop those before but one."""
        for hops in (self._dry, self._ready):
            for old in [key for key in list(hops) if key < number - 1]:
                del hops[old]
        self._number = number

    def _look_for_drift(self, jumped: bool) -> None:
        """See whether another place in the input is to be played, and which."""
        self._lags.append(self._hops_in - self._number)
        if jumped or self._gain == 0:
            self._jump_after = 0
            self._lags.clear()
            return
        fewest, most, now = min(self._lags), max(self._lags), self._lags[-1]
        usual = self.delay_hops - 1  # one has just been played
        self._jump_after = 0
        if now > usual + STALLED_HOPS:
            self._jump_after = now - usual
        elif len(self._lags) == DRIFT_HOPS and fewest > usual:
            self._jump_after = fewest - usual
        elif len(self._lags) == DRIFT_HOPS and most < usual:
            self._jump_after = -1
