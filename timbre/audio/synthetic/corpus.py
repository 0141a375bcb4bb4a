"""A folder of made-up voices, noises and rooms, for tests and the demo, in place of a corpus."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
import soundfile

from timbre import storage
from timbre.audio.synthetic.noise import NoiseKind, noise
from timbre.audio.synthetic.room import room_response
from timbre.audio.synthetic.voice import speaker, voice
from timbre.audio.waveform import SAMPLE_RATE, Wave

CORPUS_RT60_SECONDS = (0.2, 0.35, 0.5, 0.8)


def write_corpus(
    folder: Path, seed: int, speakers: int, clips_per_speaker: int, seconds: float
) -> None:
    """Write ``speech/ noise/ rir/`` as FLAC and ``manifest.jsonl``, one row a file, into ``folder``.

    Each file has its own random stream, so adding speakers or clips changes none of the others.
    """
    rows = []
    for name, wave, facts in _corpus(seed, speakers, clips_per_speaker, seconds):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        # A peak of an impulse response is 1.0, which PCM_16 does not reach.
        wave = wave * np.float32(min(1.0, 0.999 / np.abs(wave).max()))
        soundfile.write(path, wave, SAMPLE_RATE, subtype="PCM_16")
        row = {
            "file": name,
            "source": "timbre.signals",
            "licence": "CC0-1.0",
            "duration_s": round(len(wave) / SAMPLE_RATE, 3),
            "original_rate": SAMPLE_RATE,
            "bandwidth_hz": SAMPLE_RATE // 2,
        }
        rows.append(json.dumps(row | facts))
    storage.publish(folder / "manifest.jsonl", "".join(f"{row}\n" for row in rows).encode())


def _corpus(
    seed: int, speakers: int, clips_per_speaker: int, seconds: float
) -> Iterator[tuple[str, Wave, dict[str, Any]]]:
    """Yield the name, the sound and the particular manifest entries of each file."""
    for number in range(speakers):
        who = speaker(np.random.default_rng([seed, 0, number]))
        label = f"synthetic_{number:02d}"
        for clip in range(clips_per_speaker):
            wave = voice(seconds, np.random.default_rng([seed, 1, number, clip]), who=who)
            yield f"speech/{label}_{clip:03d}.flac", wave, {"speaker": label}
    for number, kind in enumerate(get_args(NoiseKind)):
        wave = noise(kind, 2 * seconds, np.random.default_rng([seed, 2, number]))
        yield f"noise/{kind}.flac", wave, {"speaker": None}
    for number, rt60_seconds in enumerate(CORPUS_RT60_SECONDS):
        wave = room_response(rt60_seconds, np.random.default_rng([seed, 3, number]))
        yield f"rir/room_{number}.flac", wave, {"speaker": None, "rt60_s": rt60_seconds}
