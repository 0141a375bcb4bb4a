"""The whole way on speech made on the spot: shards, training, restoring, figures."""

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from timbre import audio
from timbre.audio import SAMPLE_RATE
from timbre.audio.synthetic.corpus import write_corpus
from timbre.audio.synthetic.noise import NoiseKind, noise
from timbre.audio.synthetic.voice import speaker, voice
from timbre.command import restartable_command, say
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


def demo(folder: Path) -> None:
    """Run the commands of the README one after the other in ``folder``.

    Raises:
        WorkError: one of them failed.
        OSError: the folder cannot be written.
    """
    begun = time.monotonic()
    say(f"Everything happens in {folder}/. First a corpus: voices, noises and rooms.")
    write_corpus(folder / "corpus", SEED, SPEAKERS, CLIPS, SECONDS)
    write_unheard(folder / "unheard")
    (folder / "prep.yaml").write_text(PREP)
    (folder / "train.yaml").write_text(TRAIN)
    for meaning, words in [
        ("Mix, denoise, align, write shards", "prep prep.yaml"),
        ("Check them", "verify shards/manifest.json"),
        ("Train for a few minutes", "train train.yaml"),
        (
            "Restore noisy speech of voices that were in no shard",
            "restore unheard/noisy unheard/restored --checkpoint run/best.safetensors",
        ),
        (
            "Restore it with the generator that comes with timbre, trained on real speech",
            "restore unheard/noisy unheard/shipped",
        ),
        (
            "Measure both",
            "evaluate trained=run/best.safetensors shipped=offline --data unheard --out report",
        ),
    ]:
        say(f"\n{meaning}:\n$ timbre {words}")
        if subprocess.run([sys.executable, "-m", "timbre", *words.split()], cwd=folder).returncode:
            raise WorkError(f"demo: timbre {words} failed in {folder}")
    say(
        f"\nDone in {time.monotonic() - begun:.0f} s. A few minutes of training show the way, "
        "not the quality,\nand the voices here are made up.\n"
        f"Listen:  {folder}/unheard/noisy, restored, shipped, clean\n"
        f"Report:  {folder}/report/report.html\n"
        f"Curves:  tensorboard --logdir {folder}/run/tensorboard"
    )


def write_unheard(folder: Path) -> None:
    """Write ``noisy/`` and ``clean/``: new voices with noise at the ratios of ``UNHEARD``."""
    for number, (kind, snr_db) in enumerate(UNHEARD):
        rng = np.random.default_rng([UNHEARD_SEED, number])
        clean = voice(SECONDS, rng, who=speaker(rng))
        heard = noise(kind, SECONDS, rng)
        factor = audio.gain(audio.level_db(clean) - audio.level_db(heard) - snr_db)
        noisy = clean + np.float32(factor) * heard
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
