"""A sound card, the guard and the worker together: a live signal until it is stopped."""

import math
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import numpy as np

from timbre.audio import Wave
from timbre.live.devices import Device, DeviceError, Layout, open_input, open_output
from timbre.live.guard import Counts, Guard
from timbre.live.worker import Worker, lag_in_hops
from timbre.restore.live.restorer import LiveRestorer

# How often what is going on is shown and looked at.
LOOK_SECONDS = 0.1
# A device that gives nothing for so long has gone. Some need two seconds to begin.
PATIENCE_SECONDS = 5.0
# Hops that wait for the other output; it may be a little late, and its clock another.
MONITOR_HOPS = 8
SILENCE_DB = -100.0
# A thread that waits for the interpreter gets it after so long. Usually it is half a hop.
SWITCH_SECONDS = 0.0005


class Look(NamedTuple):
    """What is shown of a running signal.

    Attributes:
        input_db, output_db: the highest sample since the last look, in dBFS.
        counts: of the guard.
        underruns: how often the device had nothing to play, or lost input.
        p50_ms, p99_ms: the time that a hop took, and nearly all hops at most.
        latency_ms: from a sample at the input to the same at the output, with what the devices say of
            themselves.
    """

    input_db: float
    output_db: float
    counts: Counts
    underruns: int
    p50_ms: float
    p99_ms: float
    latency_ms: float


class Places(NamedTuple):
    """The devices of a signal: recorded, played on, and a second one that plays it too, or None."""

    source: Device
    target: Device
    monitor: Device | None


class Session:
    """A signal from one device to another, restored on the way.

    Args:
        places: the devices.
        layout: of the signal on all of them.
        restorer: for the layout's channels, that has not been used yet.
        slack_hops: how many hops late the restorer may be before the guard acts.
    """

    def __init__(
        self,
        places: Places,
        layout: Layout,
        restorer: LiveRestorer,
        slack_hops: int,
    ) -> None:
        self._places, self._layout = places, layout
        lag = lag_in_hops(restorer.latency_samples, *layout)
        # One can be worked on only once it is in, and the guard looks one ahead.
        self._guard = Guard(layout.channels, layout.hop, lag + 3 + slack_hops)
        self._worker = Worker(restorer, layout.sample_rate, self._guard)
        self._monitor: deque[Wave] = deque(maxlen=MONITOR_HOPS)
        self._peaks = [0.0, 0.0]
        self._calls, self._underruns = [0, 0], 0
        self._streams: list[Any] = []

    def run(self, seconds: float, show: Callable[[Look], None]) -> Look:
        """Restore until the time is over or Ctrl-C is pressed, and return the last look.

        Args:
            seconds: how long; ``math.inf`` is for ever.
            show: called ten times a second.

        Raises:
            DeviceError: a device cannot be opened, or has gone.
            AudioError: what came out is not finite.
        """
        places, layout = self._places, self._layout
        self._streams = [
            open_input(layout, places.source, self._record),
            open_output(layout, places.target, self._play),
        ]
        extra = [open_output(layout, places.monitor, self._play_again)] if places.monitor else []
        with ExitStack() as stack:
            stack.enter_context(_quick_switches())
            stack.callback(self._worker.end)
            self._worker.start()
            for stream in [*self._streams, *extra]:
                stack.enter_context(stream)
            self._watch(seconds, show)
            # Afterwards a stream has no latency.
            last = self.look()
        return last

    def look(self) -> Look:
        """Return what is going on."""
        input_db, output_db = (max(20 * math.log10(max(p, 1e-9)), SILENCE_DB) for p in self._peaks)
        self._peaks = [0.0, 0.0]
        own = self._guard.delay_hops * self._layout.hop / self._layout.sample_rate
        return Look(
            input_db,
            output_db,
            self._guard.counts(),
            self._underruns,
            self._worker.milliseconds(0.5),
            self._worker.milliseconds(0.99),
            1000 * (own + sum(stream.latency for stream in self._streams)),
        )

    def _watch(self, seconds: float, show: Callable[[Look], None]) -> None:
        pause = threading.Event()
        calls, quiet, went = [0, 0], [0.0, 0.0], 0.0
        try:
            while went < seconds:
                pause.wait(min(LOOK_SECONDS, seconds - went))
                went += LOOK_SECONDS
                show(self.look())
                if self._worker.error is not None:
                    raise self._worker.error
                for side, device in enumerate((self._places.source, self._places.target)):
                    same = self._calls[side] == calls[side]
                    quiet[side] = quiet[side] + LOOK_SECONDS if same else 0.0
                    if quiet[side] >= PATIENCE_SECONDS or not self._streams[side].active:
                        does = ("gives", "takes")[side]
                        raise DeviceError(
                            f"{device.name}: {does} no sound any more; was it unplugged, or has its "
                            "sound server ended?"
                        )
                calls = list(self._calls)
        except KeyboardInterrupt:
            return

    # PortAudio calls these, each in a thread of its own, with (samples, channels).

    def _record(self, noisy: Wave, _frames: int, _times: Any, status: Any) -> None:
        hop = np.ascontiguousarray(np.nan_to_num(noisy.T, posinf=1.0, neginf=-1.0))
        self._guard.put(hop)
        self._worker.put(hop)
        self._note(0, hop, status)

    def _play(self, output: Wave, _frames: int, _times: Any, status: Any) -> None:
        hop = self._guard.take()
        output[:] = hop.T
        if self._places.monitor:
            self._monitor.append(hop)
        self._note(1, hop, status)

    def _play_again(self, output: Wave, *_: Any) -> None:
        output[:] = self._monitor.popleft().T if self._monitor else 0

    def _note(self, side: int, hop: Wave, status: Any) -> None:
        self._calls[side] += 1
        self._underruns += bool(status)
        self._peaks[side] = max(self._peaks[side], float(np.abs(hop).max()))


@contextmanager
def _quick_switches() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_SECONDS)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
