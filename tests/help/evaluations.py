"""Evaluations run as a user would, of generators whose effect is known."""

import csv
import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from tests.help.made_shards import rewrite_shard
from timbre import audio, shards
from timbre.audio import SAMPLE_RATE, Wave
from timbre.audio.synthetic.noise import noise
from timbre.audio.synthetic.voice import voice
from timbre.evaluate import command as evaluate
from timbre.models.checkpoint import save_generator
from timbre.models.generator import GeneratorConfig, build_generator

PAIRS = 8
GAIN_OF_TWO = math.log(2)
# Quick ones; the others have tests of their own.
QUICK = ("--figures", "si_sdr,lsd_0_8k,lsd_8_24k,mel_distance,over_suppressed_0_4k")


def save_with_gain(url: Path, log_gain: float) -> str:
    """A generator that multiplies every bin; the degraded side of made shards is half the clean."""
    config = GeneratorConfig("spectral", "tiny")
    generator = build_generator(config)
    bins = generator.head.out_features // 4
    generator.head.bias.data[:bins] = log_gain
    save_generator(str(url), generator, config, None)
    return str(url)


def run(systems: str | list[str], data: str, out: Path, *more: str) -> dict[str, Any]:
    words = [systems] if isinstance(systems, str) else systems
    if "--figures" not in more:
        more = (*more, *QUICK)
    if "--harm-pairs" not in more:
        more = (*more, "--harm-pairs", "0")
    assert evaluate.main([*words, "--data", data, "--out", str(out), "--workers", "1", *more]) == 0
    metrics: dict[str, Any] = json.loads((out / "metrics.json").read_text())
    return metrics


def lines_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text())))


def write_stereo(path: Path, wave: Wave, sample_rate: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.stack([wave, 0.5 * wave], axis=1), sample_rate)


def noisy_folder(folder: Path, files: int = 1) -> str:
    """Voices at 44.1 kHz in noise, in stereo."""
    for number in range(files):
        rng = np.random.default_rng(number)
        clean, hiss = voice(1.0, rng), noise("pink", 1.0, rng)
        for side, wave in [("clean", clean), ("noisy", clean + 0.5 * hiss)]:
            at_44_khz = audio.resample(wave, SAMPLE_RATE, 44_100)
            write_stereo(folder / side / "a" / f"{number}.wav", at_44_khz, 44_100)
    return str(folder)


def several_speakers(manifest: str) -> str:
    """Make each pair of the validation shards that of a speaker of its own, at an SNR of its own."""

    def change(pair: Any) -> Any:
        number = int(pair.meta.key.rpartition("-")[2])
        meta = pair.meta
        meta = type(meta)(
            **{
                **meta.__dict__,
                "speaker": f"speaker {pair.meta.key}",
                "snr_reached_db": 4.0 * number,
                "bandwidth_hz": 21_000.0 if number % 2 else 15_000.0,
                "rir": "hall.wav" if number % 2 else None,
                "noises": (shards.Source("noise/rain_01.wav" if number < 2 else "babble-val-1"),),
            }
        )
        return pair._replace(meta=meta)

    for shard in shards.load_manifest(manifest).shards("val"):
        rewrite_shard(manifest, shard.path, change)
    return manifest
