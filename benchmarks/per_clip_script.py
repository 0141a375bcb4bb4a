"""What `benchmarks.prep` compares with: the script that one would write in an afternoon.

Clip by clip it reads with soundfile, resamples and convolves with torchaudio, takes a noise (and for
some a room) from disk, denoises with the official package, finds the offset by correlation, and writes
two FLAC files and a JSON. It has no lead-in, one noise a pair, and no judgement. Which stretches of
speech, at which ratio and level, and which of them in a room, it is told.
"""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
import torch
import torchaudio.functional as F
from scipy.signal import correlate  # type: ignore[import-untyped]

from shard_tools.make.shard import ShardTask
from timbre import audio
from timbre.audio import SAMPLE_RATE, Wave

REACH = 960


def run_script(
    task: ShardTask, data: Path, speech_root: str, enhance: Callable[[Wave], Wave], folder: Path
) -> tuple[int, float]:
    """Make a shard's pairs as files in a folder; return their number and seconds of speech."""
    folder.mkdir()
    rng = np.random.default_rng(task.number)
    noises, rooms = (
        sorted(audio.find_below(str(data / role)).values()) for role in ("noise", "rir")
    )
    samples = 0
    for number, (piece, recipe) in enumerate(zip(task.pieces, task.recipes, strict=True)):
        clean = read_part(f"{speech_root}/{piece.clip.path}", piece.start, piece.samples)
        speech = clean
        if recipe.rir is not None:
            speech = in_room(clean, read_part(str(rng.choice(rooms)), 0, None))
        path = str(rng.choice(noises))
        noise = read_part(path, int(rng.integers(soundfile.info(path).frames)), len(clean))
        noise *= np.sqrt(np.mean(speech**2) / np.mean(noise**2)) * 10 ** (-recipe.snr_db / 20)
        noisy = speech + noise
        gain = min(10 ** (recipe.level_db / 20) / clean.std(), 0.99 / np.abs(noisy).max())
        clean, degraded = clean * gain, enhance(noisy * gain)
        agreement = correlate(degraded, clean, method="fft")[len(clean) - 1 - REACH :][
            : 2 * REACH + 1
        ]
        meta = {"clip": piece.clip.path, "offset": int(agreement.argmax()) - REACH}
        soundfile.write(folder / f"{number}.clean.flac", clean, SAMPLE_RATE)
        soundfile.write(folder / f"{number}.degraded.flac", degraded, SAMPLE_RATE)
        (folder / f"{number}.json").write_text(json.dumps(meta | {"snr_db": recipe.snr_db}))
        samples += len(clean)
    return len(task.pieces), samples / SAMPLE_RATE


def read_part(path: str, start: int, samples: int | None) -> Wave:
    """Return ``(samples,)`` at 48 kHz of a file, which goes round where it is too short; None: all."""
    rate = soundfile.info(path).samplerate
    first = max(start, 0) * rate // SAMPLE_RATE
    frames = -1 if samples is None else -(-samples * rate // SAMPLE_RATE)
    wave = soundfile.read(path, frames, first, dtype="float32", always_2d=True)[0].mean(axis=1)
    wave = F.resample(torch.from_numpy(wave), rate, SAMPLE_RATE).numpy()
    return wave if samples is None else np.resize(wave, samples)


def in_room(speech: Wave, response: Wave) -> Wave:
    """Return speech through a room's response, ``(samples,)``, in time with the direct path."""
    direct = int(np.abs(response).argmax())
    signals = (torch.from_numpy(wave) for wave in (speech, response / response[direct]))
    wave: Wave = F.fftconvolve(*signals)[direct:][: len(speech)].numpy()
    return wave
