"""An audio filter for voice agents that are built with pipecat: what a user says, without the noise.

Importing this needs the package ``pipecat-ai``; nothing else in timbre imports it.
"""

import asyncio

import numpy as np

from timbre.audio import SAMPLE_RATE, BlockResampler, from_int16, to_int16
from timbre.denoise import DeepFilterNet3, Denoiser
from timbre.models import CAUSAL
from timbre.packages import require
from timbre.restore.live.restorer import FULL_MIX, LiveRestorer, Mix

require("pipecat", "timbre.agents")

from pipecat.audio.filters.base_audio_filter import BaseAudioFilter  # noqa: E402
from pipecat.frames.frames import FilterControlFrame, FilterEnableFrame  # noqa: E402


class TimbreFilter(BaseAudioFilter):
    """Denoises and repairs the audio of an input transport: 16-bit mono at any rate, in any pieces.

    It works in a thread, so the agent's other tasks go on. ``FilterEnableFrame`` turns it off and on.

    Args:
        checkpoint, denoise, mix: as :meth:`LiveRestorer.load` takes them.
    """

    def __init__(
        self,
        checkpoint: str | None = CAUSAL,
        denoise: bool | str | DeepFilterNet3 | Denoiser = True,
        mix: Mix = FULL_MIX,
    ) -> None:
        self._load = (checkpoint, denoise, 1, mix)
        self._is_on = True
        self._live: LiveRestorer | None = None

    async def start(self, sample_rate: int) -> None:
        """Load the networks, for a signal at ``sample_rate``; raises like :meth:`LiveRestorer.load`."""
        self._up = BlockResampler(sample_rate, SAMPLE_RATE)
        self._down = BlockResampler(SAMPLE_RATE, sample_rate)
        self._live = await asyncio.to_thread(LiveRestorer.load, *self._load)

    async def stop(self) -> None:
        """Let the networks go."""
        self._live = None

    async def process_frame(self, frame: FilterControlFrame) -> None:
        """Turn the filter off or on."""
        if isinstance(frame, FilterEnableFrame):
            self._is_on = frame.enable

    async def filter(self, audio: bytes) -> bytes:
        """Return what has become ready, 16-bit samples as they come; nothing for the first 50 ms."""
        if self._live is None or not self._is_on:
            return audio
        return await asyncio.to_thread(self._restore, self._live, audio)

    def _restore(self, live: LiveRestorer, audio: bytes) -> bytes:
        piece = self._up.push(from_int16(np.frombuffer(audio, np.int16))[None])
        return to_int16(self._down.push(live.push(piece))[0]).tobytes()
