"""The whole way on speech made on the spot: shards, training, restoring, figures."""

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from timbre import audio, storage
from timbre.audio import SAMPLE_RATE
from timbre.audio.synthetic.corpus import write_corpus
from timbre.audio.synthetic.noise import NoiseKind, noise
from timbre.audio.synthetic.voice import speaker, voice
from timbre.cli import COMMANDS
from timbre.command import print_result, restartable_command, start
from timbre.errors import WorkError

SEED = 0
SPEAKERS, CLIPS, SECONDS = 6, 4, 5.0
# What is restored in the end: voices and noises that are in no shard.
UNHEARD: list[tuple[NoiseKind, float]] = [("hum", 5.0), ("pink", 10.0), ("babble", 10.0)]
UNHEARD_SEED = 1

PREP = """\
# A small set in a minute: what `timbre demo` and the tests make from their own corpus.

speech: corpus/speech
noise: corpus/noise
rir: corpus/rir
output: shards

variants: 2
workers: 2
shard_pairs: 12
save_segment_seconds: 2.0
val_ratio: 0.2
"""

TRAIN = """\
# A few minutes on two CPU cores: what `timbre demo` trains, and the tests' regression run.

data:
  - manifest: shards/manifest.json
run_dir: run
steps: 200
global_batch: 4
segment_seconds: 1.0
precision: fp32
generator: {name: spectral, size: tiny}
discriminator: {preset: light}
optimizer: {learning_rate: 2.0e-3, warmup_steps: 20, ema_decay: 0.98}
adversarial: {start_step: 130, discriminator_steps: 10, ramp_steps: 20}
workers: 1
log_every: 10
validate_every: 100
save_every: 100
"""


class DemoCommand(NamedTuple):
    """A command of the demo: what it is for, its words, and its seconds on two idle cores."""

    purpose: str
    words: str
    seconds: int


STEPS = (
    DemoCommand("Mix, denoise, align, write shards", "prep prep.yaml", 20),
    DemoCommand("Check them", "verify shards/manifest.json", 3),
    DemoCommand(
        "Train for a minute; the adversarial phase begins at step 80",
        "train train.yaml steps=120 adversarial.start_step=80 validate_every=60 save_every=60",
        45,
    ),
    DemoCommand(
        "Restore noisy speech of voices that were in no shard",
        "restore unheard/noisy unheard/restored --checkpoint run/best.safetensors",
        3,
    ),
    DemoCommand(
        "Restore it with the generator that comes with timbre, trained on real speech",
        "restore unheard/noisy unheard/shipped",
        3,
    ),
    DemoCommand(
        "Measure both, by the figures that are quick; without --figures it measures all",
        "evaluate trained=run/best.safetensors shipped=offline --data unheard --out report "
        "--figures si_sdr,lsd_0_8k,lsd_8_24k,mel_distance,over_suppressed",
        12,
    ),
)
CORPUS_SECONDS = 6
# The commands that are finished, one a line: a demo that was cut goes on after them.
DIARY = "finished.txt"


def demo(folder: Path) -> None:
    """Run the commands of the README one after the other in ``folder``.

    Run again, it goes on where it stopped.

    Raises:
        WorkError: one of them failed.
        OSError: the folder cannot be written.
    """
    start_time = time.monotonic()
    seconds = CORPUS_SECONDS + sum(step.seconds for step in STEPS)
    print_result(
        f"Everything happens in {folder}/, in about {seconds} s on two idle cores. "
        "Cut it and run it again, and it goes on."
    )
    folder.mkdir(parents=True, exist_ok=True)
    with _working_in(folder):
        _run_once(
            "corpus", f"Make up voices, noises and rooms (about {CORPUS_SECONDS} s)", _write_sources
        )
        for step in STEPS:
            title = f"{step.purpose} (about {step.seconds} s):\n$ timbre {step.words}"
            _run_once(step.words, title, partial(_run_command, step.words))
    print_result(
        f"\nDone in {time.monotonic() - start_time:.0f} s. A minute of training shows the way, "
        "not the quality,\nand the voices here are made up.\n"
        f"Listen:  {folder}/unheard/noisy, restored, shipped, clean\n"
        f"Report:  {folder}/report/report.html\n"
        f"Curves:  tensorboard --logdir {folder}/run/tensorboard"
    )


def _run_once(name: str, title: str, run: Callable[[], None]) -> None:
    """Say what comes and do it, unless an earlier demo in this folder has finished it."""
    diary = Path(DIARY)
    names = diary.read_text().splitlines() if diary.exists() else []
    if name in names:
        print_result(f"\nFinished before: {name}")
        return
    print_result(f"\n{title}")
    run()
    storage.publish(DIARY, "".join(f"{line}\n" for line in [*names, name]).encode())


def _run_command(words: str) -> None:
    """Run a command in this process: torch is loaded once for all of them."""
    name, *rest = words.split()
    if start(COMMANDS[name].module, rest):
        raise WorkError(f"demo: timbre {words} failed in {Path.cwd()}")


def _write_sources() -> None:
    write_corpus(Path("corpus"), SEED, SPEAKERS, CLIPS, SECONDS)
    write_unheard(Path("unheard"))
    Path("prep.yaml").write_text(PREP)
    Path("train.yaml").write_text(TRAIN)


@contextmanager
def _working_in(folder: Path) -> Iterator[None]:
    """Make ``folder`` the working directory meanwhile."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def write_unheard(folder: Path) -> None:
    """Write ``noisy/`` and ``clean/``: new voices with noise at the ratios of ``UNHEARD``."""
    for number, (kind, snr_db) in enumerate(UNHEARD):
        rng = np.random.default_rng([UNHEARD_SEED, number])
        clean = voice(SECONDS, rng, who=speaker(rng))
        interference = noise(kind, SECONDS, rng)
        factor = audio.gain(audio.level_db(clean) - audio.level_db(interference) - snr_db)
        noisy = clean + np.float32(factor) * interference
        for side, wave in [("noisy", noisy), ("clean", clean)]:
            audio.write(folder / side / f"{kind}_{snr_db:.0f}db.wav", wave, SAMPLE_RATE)


@restartable_command
def main(argv: Sequence[str] | None = None) -> None:
    """Run the demo in a folder."""
    parser = argparse.ArgumentParser("timbre demo", description=__doc__)
    parser.add_argument(
        "folder", metavar="FOLDER", nargs="?", default="demo", help="where (%(default)s)"
    )
    demo(Path(parser.parse_args(argv).folder))


if __name__ == "__main__":
    sys.exit(main())
