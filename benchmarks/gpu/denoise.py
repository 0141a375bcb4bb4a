"""Cases in which the GPU denoises: DeepFilterNet3 by batch, and shard preparation end to end."""

import subprocess
import sys
import time
from pathlib import Path

from benchmarks.denoise import SECONDS, noisy_clips
from benchmarks.gpu.setting import Setting, Tell, allow_tf32
from benchmarks.train_step import clock, peak_gib
from tests.help.denoise_inputs import si_sdr_db
from timbre import shards
from timbre.audio.synthetic.corpus import write_corpus
from timbre.denoise import DeepFilterNet3

ROOT = Path(__file__).parents[2]
BATCHES = (1, 4, 16, 64)
WORKERS = 4


def denoiser_by_batch(setting: Setting, tell: Tell) -> None:
    """Speed on clips of 4 s, and how near the result is to that of the CPU."""
    allow_tf32(False)
    model = DeepFilterNet3.load(cache_dir=setting.folder / "weights")
    clips = noisy_clips(2 if setting.quick else max(BATCHES))
    on_host = model(clips[:2])
    model, clips = model.to(setting.device), clips.to(setting.device)
    on_device = model(clips[:2]).cpu()
    for number in range(2):
        if not on_device[number].equal(on_host[number]):
            agreement = si_sdr_db(on_device[number], on_host[number])
            tell(f"clip {number}: SI-SDR to the CPU's", agreement, "dB")
    tell("largest difference to the CPU's", float((on_device - on_host).abs().max()), "")
    for batch in (size for size in BATCHES if size <= len(clips)):
        side = lambda batch=batch: model(clips[:batch])  # noqa: E731
        clock(side, setting.device)
        seconds_spent = min(clock(side, setting.device) for _ in range(1 if setting.quick else 5))
        tell(f"batch {batch}: speed", batch * SECONDS / seconds_spent, "x real time")
        if setting.on_gpu:
            tell(f"batch {batch}: peak memory", peak_gib(side), "GiB")

    # What training allows, the denoiser must not use; last, for it is the least sure to work.
    allow_tf32(True)
    apart = float((model(clips[:2]).cpu() - on_device).abs().max())
    tell("largest difference where TF32 is allowed", apart, "")


def prep_end_to_end(setting: Setting, tell: Tell) -> None:
    """`timbre prep` on a made-up corpus: all of the command, processes starting included."""
    clips = (2, 1, 3.0) if setting.quick else (8, 4, 5.0)
    corpus = setting.folder / "corpus"
    write_corpus(corpus, 0, *clips)
    for device in dict.fromkeys((setting.device.type, "cpu")):
        output = setting.folder / f"prepared-{device}"
        roles = [f"{role}={corpus / role}" for role in ("speech", "noise", "rir")]
        words = ["timbre", "prep", str(ROOT / "configs/prep_tiny.yaml"), *roles]
        words += [f"output={output}", f"denoiser.device={device}", "val_ratio=0.3"]
        words += (
            ["variants=1", "workers=1"] if setting.quick else [f"workers={WORKERS}", "variants=8"]
        )
        begun = time.perf_counter()
        subprocess.run([sys.executable, "-m", *words], cwd=ROOT, stdout=sys.stderr, check=True)
        seconds_spent = time.perf_counter() - begun
        manifest = shards.load_manifest(str(output / shards.MANIFEST_NAME))
        made = [shard for split in ("train", "val") for shard in manifest.shards(split)]
        seconds = sum(shard.seconds for shard in made)
        tell(f"denoiser on {device}: made", seconds, "s of speech")
        tell(f"denoiser on {device}: taken", seconds_spent, "s")
        tell(f"denoiser on {device}: speed", seconds / seconds_spent, "x real time")
