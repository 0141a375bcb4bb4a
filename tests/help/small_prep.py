"""A small prep job with the real denoiser, for tests that run it in many ways: 24 voices of 2 s."""

from pathlib import Path

import numpy as np

from timbre import audio
from timbre.audio.synthetic.voice import voice


def write_sources(folder: Path) -> Path:
    """Write ``speech`` and ``noise`` below the folder, and return it."""
    rng = np.random.default_rng(0)
    for number in range(24):
        talk = voice(2.2, np.random.default_rng(number))
        audio.write(folder / f"speech/s{number % 8}/{number}.flac", talk, 48_000)
    for number in range(3):
        noise = rng.standard_normal(48_000).astype(np.float32) / 9
        audio.write(folder / f"noise/{number}.flac", noise, 48_000)
    return folder


def write_config(sources: Path, output: Path) -> Path:
    """Write the job's config beside its output, and return it."""
    config = output.parent / f"{output.name}.yaml"
    config.write_text(
        f"speech: {sources}/speech\nnoise: {sources}/noise\noutput: {output}\n"
        "workers: 2\nshard_pairs: 2\nvariants: 1\nsave_segment_seconds: 1.0\nval_ratio: 0.2\n"
        "clips: {min_bandwidth_hz: 8000.0}\nmix: {babble_share: 0.3}\n"
    )
    return config


def contents(output: Path) -> dict[str, bytes]:
    """Return the finished files of a job, with the output's own name taken out of the JSON."""
    return {
        str(path.relative_to(output)): path.read_bytes().replace(
            str(output).encode() if path.suffix == ".json" else b"\0never\0", b"OUT"
        )
        for path in output.rglob("*")
        if path.suffix in (".tar", ".index", ".json") and not path.name.startswith(".")
    }
