"""Pauses of speech: where they are, lowered in a target, and longer ones put in."""

import numpy as np
from numpy.typing import NDArray

from timbre import audio
from timbre.audio import Wave

# Speech begins above the first and lasts until it falls below the second, in dB against its own
# loud frames (the 98th percentile of the 30-ms levels).
BEGINS_DB = -38.0
LASTS_DB = -46.0
LOUD_PERCENTILE = 98.0
FRAME = 480
# What lies so near to speech counts as speech: a breath, a closure, the tail of a word.
FRAMES_BEFORE = 9
FRAMES_AFTER = 13
# Louder to quieter and back takes this many samples.
RAMP = 2 * FRAME


def speech_activity(voice: Wave) -> Wave:
    """Return ``(samples,)``: 1 where there is speech, 0 in its pauses, with ramps between.

    A ramp lies in the pause: wherever a frame counts as speech, the activity is exactly 1.
    """
    count = len(voice) // FRAME
    if not count:
        return np.ones(len(voice), np.float32)
    power = np.square(voice[: count * FRAME].reshape(count, FRAME), dtype=np.float64).mean(axis=1)
    levels_db = 10 * np.log10(np.convolve(power, np.ones(3) / 3, "same") + 1e-20)
    loud_db = float(np.percentile(levels_db, LOUD_PERCENTILE))
    speech = _hold(levels_db > loud_db + BEGINS_DB, levels_db > loud_db + LASTS_DB)
    near = np.convolve(speech, np.ones(FRAMES_BEFORE + 1 + FRAMES_AFTER))
    is_speech = near[FRAMES_BEFORE:][:count] > 0.5
    return _with_ramps(is_speech, len(voice))


def lower_pauses(voice: Wave, gain_db: float) -> Wave:
    """Return speech ``(samples,)`` whose pauses are changed by ``gain_db``; speech itself no bit."""
    floor = np.float32(audio.gain(gain_db))
    quieter: Wave = voice * (floor + (1 - floor) * speech_activity(voice))
    return quieter


def insert_gap(voice: Wave, start: int, samples: int) -> Wave:
    """Return speech with ``samples`` of silence put in at ``start``; what is behind moves back."""
    gap = np.zeros(min(samples, len(voice) - start), np.float32)
    return np.concatenate([voice[:start], gap, voice[start : len(voice) - len(gap)]])


def _hold(begins: NDArray[np.bool_], lasts: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the runs of ``lasts`` in which at least one frame ``begins``."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], lasts | begins, [False]])))
    runs = np.zeros(len(begins), np.bool_)
    for start, stop in zip(edges[::2], edges[1::2], strict=True):
        runs[start:stop] = bool(begins[start:stop].any())
    return runs


def _with_ramps(is_speech: NDArray[np.bool_], samples: int) -> Wave:
    """Return one value a sample, going from 0 to 1 within the pauses along half a cosine."""
    gate = np.repeat(is_speech, FRAME)
    gate = np.pad(gate, (0, samples - len(gate)), "edge")
    if gate.all() or not gate.any():
        return gate.astype(np.float32)
    ramp = np.sin(np.linspace(0, np.pi / 2, RAMP, endpoint=False)) ** 2
    away = np.minimum(_distance(gate), _distance(gate[::-1])[::-1])
    activity = np.where(away < RAMP, ramp[::-1][np.minimum(away, RAMP - 1)], 0.0)
    return np.where(gate, 1.0, activity).astype(np.float32)


def _distance(gate: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return how many samples lie between each sample and the last speech before it."""
    places = np.arange(len(gate))
    last = np.maximum.accumulate(np.where(gate, places, -RAMP - 1))
    distance: NDArray[np.int64] = np.maximum(places - last - 1, 0)
    return distance
