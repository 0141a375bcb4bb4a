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
    if rate_in == rate_out:
        yield from blocks
        return
    common = math.gcd(rate_in, rate_out)
    down, up = rate_in // common, rate_out // common
    # Both ends of the rest lie on samples that both rates share, so that the phase is the same.
    reach = -(-RESAMPLER_REACH * max(down, up) // (up * down)) * down
    rest: Wave | None = None
    start = 0  # samples at the front of the rest whose results are out
    for block in blocks:
        rest = block if rest is None else np.concatenate([rest, block], axis=-1)
        ready = (rest.shape[-1] - reach) // down * down
        if ready > start:
            result = resample(rest, rate_in, rate_out)
            yield result[..., start // down * up : ready // down * up]
            surplus = max(ready - reach, 0)
            rest, start = rest[..., surplus:], ready - surplus
    if rest is not None and rest.shape[-1] > start:
        yield resample(rest, rate_in, rate_out)[..., start // down * up :]


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
