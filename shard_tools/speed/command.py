"""More voices from few: every recording also played slower and faster.

Speed perturbation (Ko et al. 2015, "Audio augmentation for speech recognition") moves pitch, formants
and pace together, and so makes another speaker of the same words. It is done before the mixing, so
that the denoiser hears the new voice and damages it in its own way. A copy keeps its speaker's name:
validation's speakers are in training at no speed.
"""

import argparse
import json
from collections.abc import Sequence
from functools import partial
from pathlib import PurePosixPath

import numpy as np
from tqdm import tqdm

from shard_tools.executors.local import run_local
from shard_tools.scan.sources import MANIFEST, File, SpeakerRule, list_files, open_source
from timbre import audio, storage
from timbre.audio import SAMPLE_RATE
from timbre.command import print_result, restartable_command
from timbre.errors import ConfigError

# Beyond these nobody speaks so.
SLOWEST, FASTEST = 0.7, 1.4
# Speeds are rounded to this, so that a resampler has few taps.
STEP = 1 / 80
SPEEDLESS = ("kind", "source", "split_hint", "pause_db")


def copy_at_speeds(source: str, target: str, speeds: Sequence[float], workers: int) -> int:
    """Write every recording of ``source`` at every speed below ``target``; return how many.

    The copies, 48 kHz FLAC, lie under ``SPEED/`` and their path in the source; ``manifest.jsonl``
    says of each what the source's says of the recording, and is written last. Copies that are there
    already are left.

    Raises:
        ConfigError: the source holds no audio, or a speed is out of bounds.
        AudioError: a recording cannot be read.
    """
    for speed in speeds:
        if not SLOWEST <= speed <= FASTEST:
            raise ConfigError(f"speed {speed}: expected {SLOWEST} to {FASTEST}")
    files = list_files(open_source(source, "speech"), "speech", SpeakerRule(level=-1))
    tasks = [(file, speed) for file in files for speed in speeds]
    work = partial(_copy, target)
    rows = []
    results = run_local(work, tasks, workers, gpu=False)
    for (file, _), path in tqdm(results, "speed", len(tasks), unit="file", disable=None):
        rows.append({"file": path, "speaker": file.speaker, "licence": file.licence} | _known(file))
    text = "".join(json.dumps(row) + "\n" for row in sorted(rows, key=lambda row: str(row["file"])))
    storage.publish(storage.join(target, MANIFEST), text.encode())
    return len(rows)


def _known(file: File) -> dict[str, object]:
    """Return what else prep reads of a recording's row, which no speed changes."""
    values = {name: getattr(file.row, name, None) for name in SPEEDLESS}
    return {name: value for name, value in values.items() if value is not None}


def _copy(target: str, task: tuple[File, float]) -> str:
    """Write a recording at a speed; return its path below ``target``."""
    file, speed = task
    path = f"{speed:g}/{PurePosixPath(file.path).with_suffix('.flac')}"
    url = storage.join(target, path)
    if not storage.exists(url):
        rate = round(round(speed / STEP) * STEP * SAMPLE_RATE)
        wave = audio.resample(audio.read_mono(file.url), rate, SAMPLE_RATE)
        # A resampled peak may pass full scale.
        audio.write(url, wave / max(float(np.abs(wave).max(initial=0.0)), 1.0), SAMPLE_RATE)
    return path


@restartable_command
def main(argv: Sequence[str] | None = None) -> None:
    """Copy ``SOURCE TARGET --speeds S [S ...]``."""
    parser = argparse.ArgumentParser("python -m shard_tools.speed", description=__doc__)
    parser.add_argument("source", metavar="SOURCE", help="a folder, or a manifest.jsonl")
    parser.add_argument("target", metavar="TARGET", help="the folder to write")
    parser.add_argument(
        "--speeds",
        type=float,
        nargs="+",
        default=[0.875, 1.0, 1.125],
        help="of the copies; 1 is the recording as it is (%(default)s)",
    )
    parser.add_argument("--workers", type=int, default=2, help="processes (%(default)s)")
    options = parser.parse_args(argv)
    count = copy_at_speeds(options.source, options.target, options.speeds, options.workers)
    print_result(f"{count} recordings below {options.target}")
