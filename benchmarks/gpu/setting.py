"""What every case of the GPU benchmark is given, and what several of them are made of."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from benchmarks.train_step import Size, open_adversarial_run
from shard_tools.make.tar import build_tar
from tests.help.made_shards import half_at_offset, make_pair, make_shards, publish_tar
from timbre import shards
from timbre.audio.synthetic.voice import speaker, voice
from timbre.shards import AudioFormat
from timbre.stream import PairBatch
from timbre.train.run import Run

# (metric, value, unit)
Tell = Callable[[str, float, str], None]

# By name, what a run is told, and whether what is float32 there may be rounded to TF32.
PRECISIONS = {
    "fp32": ("fp32", False),
    "tf32": ("fp32", True),
    "bf16": ("bf16", True),
    "fp16": ("fp16", True),
}
VOICES = 8


class Setting(NamedTuple):
    """Where the cases run: ``folder`` is theirs; ``manifests`` are shards made beforehand."""

    device: torch.device
    quick: bool
    folder: Path
    manifests: tuple[str, ...]

    @property
    def on_gpu(self) -> bool:
        """Whether there is something to synchronise with."""
        return self.device.type == "cuda"

    def size(self, batch: int, seconds: float) -> Size:
        """What is measured: as asked for, or so little that it only shows that it runs."""
        if self.quick:
            return Size("tiny", 1, 0.1, 1, 0)
        return Size("small", batch, seconds, 5, 1, 3 if self.on_gpu else 1)

    def noise_shards(self, size: Size) -> str:
        """Return the manifest of one batch of noise, made the first time."""
        folder = self.folder / f"noise-{size.batch}x{size.seconds:g}"
        manifest = folder / shards.MANIFEST_NAME
        if manifest.is_file():
            return str(manifest)
        return make_shards(folder, [size.batch], [1], seconds=size.seconds)

    def speech_shards(self, audio_format: AudioFormat) -> str:
        """Return the manifest that was given in this format, or of speech made up the first time."""
        for url in self.manifests:
            if shards.load_manifest(url).audio_format == audio_format:
                return url
        folder = self.folder / f"speech-{audio_format}"
        if (folder / shards.MANIFEST_NAME).is_file():
            return str(folder / shards.MANIFEST_NAME)
        count, seconds = (4, 0.25) if self.quick else (64, 4.0)
        url = make_shards(folder, [1], [2], audio_format, seconds)
        rng = np.random.default_rng(0)
        spoken = [voice(seconds, rng, who=speaker(rng)) for _ in range(VOICES)]
        pairs = []
        for number in range(count):
            clean = np.roll(spoken[number % VOICES], 1000 * number)
            pair = make_pair(f"speech-{number:04d}", len(clean), 0)
            clean_int16 = (clean * 32767).astype(np.int16)
            pairs.append(pair._replace(clean=clean_int16, degraded=half_at_offset(clean_int16, 0)))
        publish_tar(url, shards.shard_path("train", 0), build_tar(pairs, audio_format))
        return url

    @contextmanager
    def adversarial(
        self, url: str, preset: str, size: Size, precision: str, **says: Any
    ) -> Iterator[tuple[Run, Iterator[PairBatch]]]:
        """Lend a run whose next step has every term in it, and its batches; ``says`` are keys."""
        told, tf32 = PRECISIONS[precision]
        if self.quick and not self.on_gpu:
            told = "fp32"  # a CPU's convolutions in 16 bit take ten times as long
        if self.quick:
            says = {"workers": 0} | says  # starting one takes longer than all else
        number = len(list(self.folder.glob("run-*")))
        run_dir = self.folder / f"run-{number}"
        run_dir.mkdir()
        run = open_adversarial_run(url, str(run_dir), preset, size, told, **says)
        if run.accelerator.device.type != self.device.type:
            raise RuntimeError(f"accelerate chose {run.accelerator.device}, not {self.device}")
        allow_tf32(tf32)
        try:
            yield run, run.batches()
        finally:
            run.close()


def allow_tf32(allowed: bool) -> None:
    """Say whether products and convolutions in float32 may be rounded to TF32 on a GPU."""
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed
