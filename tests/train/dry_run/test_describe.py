"""`timbre train --dry-run` says what will happen, and writes nothing."""

from pathlib import Path

import pytest
import torch

from tests.help.made_shards import make_shards
from tests.train.distributed.launch import launch
from tests.train.runs import config, scalars
from timbre import config as configs
from timbre.errors import ConfigError
from timbre.stream.augment import Sides
from timbre.train import checkpoints
from timbre.train.dry_run.describe import describe_run, find_volume
from timbre.train.dry_run.memory import StorageMeter, step_memory
from timbre.train.loop import train
from timbre.train.run import Run, open_run
from timbre.train.step import descend

# 5 steps of 2 pairs an epoch.
ADVERSARIAL = "adversarial={discriminator_steps: 1, ramp_steps: 1}"
BATCH = 2


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_shards(tmp_path_factory.mktemp("shards"), [6, 5], [2])


def open_small_run(url: str, folder: Path, *overrides: str) -> Run:
    return open_run(config(url, folder / "run", *overrides), writes=False)


def test_several_ranks_tell_one_plan_and_write_nothing(url: str, tmp_path: Path) -> None:
    path = tmp_path / "train.yaml"
    overrides = ["steps=50", "global_batch=4", "validate_every=20", "adversarial.start_step=50"]
    path.write_text(configs.dump(config(url, tmp_path / "run", *overrides)))
    before = sorted(Path(url).parent.rglob("*"))
    process = launch(2, "-m", "timbre.train", str(path), "--dry-run", "seed=1")
    assert process.returncode == 0, process.stderr[-3000:]
    lines = [line.split(maxsplit=1) for line in process.stdout.splitlines()]
    rows = dict(lines)
    assert len(rows) == len(lines)
    assert rows["run"].endswith("run: from step 0 to 50")
    assert rows["steps"] == "50, in fp32: 25.0 epochs, 0.0 h of sound"
    assert rows["batch"] == "4 pairs of 0.2 s: 2 ranks of 2"
    assert rows["epoch"].startswith("11 pairs, 2 steps; the 3 left over")
    assert rows["adversary"] == "never: it would start at step 50"
    assert rows["validation"] == "every 20 steps, 3 times, 2 pairs"
    assert " a rank = parameters " in rows["memory"] and " + buckets " in rows["memory"]
    assert sorted(Path(url).parent.rglob("*")) == before
    assert sorted(tmp_path.iterdir()) == [path]


def test_what_is_read_and_left_on_the_disk_is_what_the_plan_said(url: str, tmp_path: Path) -> None:
    overrides = [
        "steps=30",
        "save_every=30",
        "validate_every=30",
        "segment_seconds=0.1",
        ADVERSARIAL,
    ]
    volume = find_volume(open_small_run(url, tmp_path, *overrides))
    train(config(url, tmp_path / "run", *overrides))
    (state,) = (tmp_path / "run/checkpoints").glob("*.pt")
    # Beside the numbers of a network of 0.3 M parameters, names and shapes weigh something.
    assert volume.checkpoint <= state.stat().st_size < 1.1 * volume.checkpoint
    best = (tmp_path / "run" / checkpoints.BEST).stat().st_size
    assert volume.generator <= best < 1.1 * volume.generator
    bytes_read = scalars(tmp_path / "run").Scalars("data/bytes")[-1].value
    assert bytes_read == pytest.approx(6 * volume.epoch, rel=0.02)
    assert volume.whole_run == 6 * volume.epoch + volume.validation


def test_the_memory_that_is_counted_is_what_a_real_step_fills(url: str, tmp_path: Path) -> None:
    overrides = ["steps=50", "log_gradients_every=10", "precision=bf16"]
    run = open_small_run(url, tmp_path, ADVERSARIAL, *overrides)
    estimate = step_memory(run, BATCH, ranks=1)
    assert run.gan.step == 0 and not run.gan.generator_descent.optimizer.state
    waves = torch.zeros(BATCH, 1, 9600)
    with StorageMeter() as living:
        sides = Sides(torch.zeros_like(waves), waves.clone(), None, torch.full((BATCH,), 24e3))
        for run.gan.step in (31, 30):  # the second looks at the gradients, too
            before = living.most = living.now
            descend(run.step_parts(), sides)
    measurement = living.most - before
    assert estimate.activations == pytest.approx(measurement, rel=0.02)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_memory_that_is_counted_is_what_a_gpu_takes(
    url: str, tmp_path: Path, precision: str
) -> None:
    overrides = ["steps=50", ADVERSARIAL, "log_gradients_every=10", f"precision={precision}"]
    overrides += ["discriminator.preset=full", "generator.size=small"]
    run = open_small_run(url, tmp_path, *overrides)
    estimate = step_memory(run, BATCH, ranks=1)
    device = run.accelerator.device
    waves = [torch.randn(BATCH, 1, 9600, device=device) for _ in range(2)]
    sides = Sides(waves[0], waves[1], None, torch.full((BATCH,), 24e3, device=device))
    for run.gan.step in (31, 30):
        torch.cuda.reset_peak_memory_stats()
        descend(run.step_parts(), sides)
    peak = torch.cuda.max_memory_allocated()
    assert 0.8 * peak < estimate.state + estimate.activations < 1.25 * peak


def test_a_run_that_was_begun_is_planned_from_where_it_is(url: str, tmp_path: Path) -> None:
    assert train(config(url, tmp_path / "run"))
    plan = describe_run(open_small_run(url, tmp_path, "steps=40", ADVERSARIAL), 1)
    assert "from step 8 to 40" in plan
    assert "light, learns alone from step 25, weighs from 26, in full from 27" in plan


def test_what_training_would_refuse_the_plan_refuses(url: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="global_batch 2 does not divide over 3 ranks"):
        describe_run(open_small_run(url, tmp_path), 3)
    with pytest.raises(ConfigError, match="start_step 7: expected at least 25"):
        open_small_run(url, tmp_path, "adversarial.start_step=7")
    assert not (tmp_path / "run").exists()
