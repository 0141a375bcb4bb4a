"""Training repairs what the denoiser has damaged."""

from pathlib import Path

from tests.train.runs import config
from timbre.train.loop import train_step
from timbre.train.run import open_run


def test_training_repairs_real_damage_of_the_denoiser(manifest_url: str, tmp_path: Path) -> None:
    """Twenty steps on one batch of speech that DeepFilterNet3 has damaged lower every main term."""
    run = open_run(config(manifest_url, tmp_path, "segment_seconds=1", "steps=20"))
    batch = next(run.batches())
    logs = [train_step(run, batch) for _ in range(20)]
    run.close()
    for name in ("g/loss", "g/mel", "g/spectrum"):
        assert logs[-1][name].item() < 0.93 * logs[0][name].item(), name
