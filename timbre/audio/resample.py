"""Waveforms at another rate, whole or in blocks: the same samples either way."""

import math
from collections.abc import Iterable, Iterator
from functools import lru_cache

import numpy as np
import torch
from torchaudio.transforms import Resample

from timbre.audio.waveform import Wave
from timbre.errors import AudioError

# A polyphase resampler holds rate_in/gcd x rate_out/gcd taps; past this a rate is not one in use.
MAX_RESAMPLER_TAPS = 5_000_000
# Samples at the lower rate that a resampled one depends on, on either side.
RESAMPLER_REACH = 80


def resample(wave: Wave, rate_in: int, rate_out: int) -> Wave:
    """Return ``(..., samples)`` at another rate, by a windowed sinc (Kaiser, 64 zero crossings).

    Raises:
        AudioError: the ratio of the rates is too odd for a polyphase filter.
    """
    if rate_in == rate_out:
        return wave
    check_rates(rate_in, rate_out)
    result: Wave = _resampler(rate_in, rate_out)(torch.from_numpy(wave)).numpy()
    return result


def check_rates(rate_in: int, rate_out: int) -> None:
    """Raise AudioError where the ratio of two rates is too odd for a polyphase filter."""
    common = math.gcd(rate_in, rate_out)
    if (rate_in // common) * (rate_out // common) > MAX_RESAMPLER_TAPS:
        raise AudioError(f"cannot resample from {rate_in} Hz to {rate_out} Hz: no common multiple")


def resampled_length(samples: int, rate_in: int, rate_out: int) -> int:
    """Return how many samples :func:`resample` makes of so many."""
    return -(-samples * rate_out // rate_in)


def resample_blocks(blocks: Iterable[Wave], rate_in: int, rate_out: int) -> Iterator[Wave]:
    """Yield in blocks what :func:`resample` gives of ``blocks`` joined; raises like it.

    Args:
        blocks: ``(rows, samples)`` each, of any lengths.
        rate_in: theirs.
        rate_out: that of the result.
    """
    resampler = BlockResampler(rate_in, rate_out)
    for block in blocks:
        ready = resampler.push(block)
        if ready.shape[-1] or rate_in == rate_out:
            yield ready
    rest = resampler.flush()
    if rest is not None:
        yield rest


class BlockResampler:
    """A signal at another rate, block by block: :func:`resample_blocks` for whoever is handed them.

    Args:
        rate_in: of the blocks.
        rate_out: that of the result.
    """

    def __init__(self, rate_in: int, rate_out: int) -> None:
        self._rates = rate_in, rate_out
        common = math.gcd(rate_in, rate_out)
        self._down, self._up = rate_in // common, rate_out // common
        # Both ends of the rest lie on samples that both rates share, so that the phase is the same.
        down, up = self._down, self._up
        self._reach = -(-RESAMPLER_REACH * max(down, up) // (up * down)) * down
        self._rest: Wave | None = None
        self._start = 0  # samples at the front of the rest whose results are out

    def push(self, block: Wave) -> Wave:
        """Return the samples ``(rows, any)`` that are ready with the next ``(rows, any)``."""
        if self._down == self._up:
            return block
        rest = block if self._rest is None else np.concatenate([self._rest, block], axis=-1)
        start = self._start
        ready = (rest.shape[-1] - self._reach) // self._down * self._down
        result = rest[..., :0]
        if ready > start:
            result = resample(rest, *self._rates)
            result = result[..., start // self._down * self._up : ready // self._down * self._up]
            surplus = max(ready - self._reach, 0)
            rest, self._start = rest[..., surplus:], ready - surplus
        self._rest = rest
        return result

    def flush(self) -> Wave | None:
        """Return the rest ``(rows, any)``, or None without one; the signal is over."""
        rest, start = self._rest, self._start
        self._rest = None
        if rest is None or rest.shape[-1] <= start:
            return None
        return resample(rest, *self._rates)[..., start // self._down * self._up :]


@lru_cache(maxsize=8)
def _resampler(rate_in: int, rate_out: int) -> Resample:
    """Return the filter between two rates, which costs more to make than to use."""
    return Resample(
        rate_in,
        rate_out,
        lowpass_filter_width=64,
        rolloff=0.9475937167399596,  # "kaiser_best" of librosa/resampy
        resampling_method="sinc_interp_kaiser",
        beta=14.769656459379492,
    )
