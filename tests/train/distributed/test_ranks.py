"""Several real ranks, by torchrun and gloo: the same figures and the same training as one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file

from tests.help.made_shards import make_shards
from tests.train.distributed.launch import ROOT, launch, run_ranks
from timbre import config as configs
from timbre.models import checkpoint
from timbre.train.config import TrainConfig
from timbre.train.gan.schedule import cosine_share


def write_config(folder: Path, url: str, *overrides: str) -> str:
    all_overrides = [
        f"data=[{{manifest: {url}}}]",
        f"run_dir={folder}/run",
        "segment_seconds=0.2",
        "steps=5",
        "global_batch=6",
        "optimizer.warmup_steps=2",
        "optimizer.learning_rate=1e-4",
        "log_every=1",
        "validate_every=5",
        "save_every=5",
        *overrides,
    ]
    config = configs.load(TrainConfig, ROOT / "configs/train_tiny.yaml", all_overrides)
    folder.mkdir(exist_ok=True)
    (folder / "config.yaml").write_text(configs.dump(config))
    return str(folder / "config.yaml")


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_shards(tmp_path_factory.mktemp("shards"), [7, 7, 7], [3, 2])


Reports = dict[str, dict[str, str]]


@pytest.fixture(scope="module")
def validations(tmp_path_factory: pytest.TempPathFactory) -> dict[int, list[Reports]]:
    """The figures of every rank of 2 and of 3, which validate the same 5 pairs."""
    reports = {}
    for ranks in (2, 3):
        folder = tmp_path_factory.mktemp("validation")
        # None of these numbers can be divided by 2 and 3.
        closely = "validation={perceptual_pairs: 2, harm_pairs: 3, shown_pairs: 2}"
        config = write_config(folder, make_shards(folder / "shards", [7], [3, 2]), closely)
        run_ranks(ranks, "tests.train.distributed.report_validation", config, str(folder))
        files = [folder / f"rank{rank}.json" for rank in range(ranks)]
        reports[ranks] = [json.loads(file.read_text()) for file in files]
    return reports


def test_validation_is_one_number_on_every_rank_of_two_and_of_three(
    validations: dict[int, list[Reports]],
) -> None:
    reports = [rank for ranks in validations.values() for rank in ranks]
    assert len(reports) == 5
    first = reports[0]["first"]
    assert all(rank[turn] == first for rank in reports for turn in ("first", "second"))
    assert first["val/si_sdr"] != first["val/degraded/si_sdr"]
    assert {"val/harm/si_sdr", "val/score", "val/loss/adversarial"} <= first.keys()
    # Only the main process shows pairs, and the same ones.
    assert [len(rank["shown"]) for rank in reports] == [2, 0, 2, 0, 0]
    assert reports[0]["shown"] == reports[2]["shown"]


def test_a_pair_that_one_rank_cannot_read_stops_all_of_them_with_the_same_words(
    validations: dict[int, list[Reports]],
) -> None:
    for ranks in validations.values():
        words = ranks[0]["unreadable"]["ShardError"]
        assert "val/shard-000000.tar: pair val-000000-0001 cannot be read" in words
        assert all(rank["unreadable"] == ranks[0]["unreadable"] for rank in ranks)


def test_any_other_fault_of_one_rank_stops_all_of_them(
    validations: dict[int, list[Reports]],
) -> None:
    for faulty, *others in validations.values():
        assert "shapes cannot be multiplied" in faulty["fault"]["RuntimeError"]
        for other in others:
            assert "rank 0 failed: RuntimeError: " in other["fault"]["WorkError"]


def test_two_ranks_train_like_one_and_each_resumes_the_other(url: str, tmp_path: Path) -> None:
    for ranks in (1, 2):
        run_ranks(ranks, "timbre.train", write_config(tmp_path / str(ranks), url))
    one, two = (
        checkpoint.load(f"{tmp_path}/{ranks}/run/checkpoints/step-00000005.pt") for ranks in (1, 2)
    )
    assert one["stream"] == two["stream"]
    # Not the weights: where a gradient is nearly zero, Adam makes a whole step of its rounding.
    for number, state in one["gan"]["generator_optimizer"]["state"].items():
        expected = state["exp_avg"]
        average = two["gan"]["generator_optimizer"]["state"][number]["exp_avg"]
        assert (average - expected).norm() < 1e-3 * expected.norm(), number
    # One step of the schedule a step of the optimizer, however many ranks: the rate of the fifth.
    expected_rate = 1e-4 * cosine_share(4, 2, 5, 0.02)
    for state in (one, two):
        optimizer = state["gan"]["generator_optimizer"]
        assert optimizer["param_groups"][0]["lr"] == pytest.approx(expected_rate, rel=1e-6)
        assert all(moments["step"] == 5 for moments in optimizer["state"].values())
    # Two ranks go on from what one rank saved, with the pairs that come next.
    config = write_config(tmp_path / "1", url, "steps=7")
    run_ranks(2, "timbre.train", config)
    later = checkpoint.load(f"{tmp_path}/1/run/checkpoints/step-00000007.pt")
    assert later["gan"]["step"] == 7
    optimizer = later["gan"]["generator_optimizer"]
    assert optimizer["param_groups"][0]["lr"] == pytest.approx(
        1e-4 * cosine_share(6, 2, 7, 0.02), rel=1e-6
    )
    assert all(moments["step"] == 7 for moments in optimizer["state"].values())
    assert (later["stream"]["epoch"], later["stream"]["sample_in_epoch"]) == (2, 6)


def test_gradients_that_are_not_finite_stop_all_ranks_alike(url: str, tmp_path: Path) -> None:
    """With the balancer, whose averages go over the ranks."""
    overrides = ["optimizer.learning_rate=1e30", "max_skipped_steps=1", "balancer.enabled=true"]
    process = launch(2, "-m", "timbre.train", write_config(tmp_path, url, *overrides))
    assert process.returncode != 0
    message = "step 3: the gradient of the generator was not finite for 2 steps in a row"
    assert process.stderr.count(message) == 1
    assert not (tmp_path / "run/checkpoints").exists()
    for rank in range(2):
        log = (tmp_path / f"run/logs/rank-0000{rank}.log").read_text()
        assert f"rank {rank} of 2 on " in log and "step 2 of 5: loss " in log
        assert f"WorkError: {message}" in log


def test_ranks_train_a_generator_that_never_hears_its_noisy_side(tmp_path: Path) -> None:
    """It is withheld from every pair: silent, not left out, so all parameters are in use."""
    url = make_shards(tmp_path / "shards", [7, 7], [2], noisy=True)
    overrides = ["generator.noisy_input=true", "augment.noisy_dropout=1", "steps=3", "save_every=3"]
    overrides += ["validation.perceptual_pairs=0", "workers=0"]
    run_ranks(2, "timbre.train", write_config(tmp_path, url, *overrides))
    state = checkpoint.load(f"{tmp_path}/run/checkpoints/step-00000003.pt")
    optimizer = state["gan"]["generator_optimizer"]
    assert len(optimizer["state"]) == len(state["gan"]["generator"])
    assert state["gan"]["generator"]["noisy_path.share.weight"].count_nonzero() == 0


def test_shards_without_a_noisy_side_are_refused_on_all_ranks(url: str, tmp_path: Path) -> None:
    config = write_config(tmp_path, url, "generator.noisy_input=true")
    process = launch(2, "-m", "timbre.train", config)
    assert process.returncode != 0 and not (tmp_path / "run").exists()
    assert f"noisy_input true: {url}: its shards hold no noisy side" in process.stderr
    assert "store_noisy: true" in process.stderr


def test_an_indivisible_global_batch_is_refused_on_all_ranks_and_told_once(
    url: str, tmp_path: Path
) -> None:
    process = accelerate("one_node.yaml", 2, write_config(tmp_path, url, "global_batch=5"))
    assert process.returncode == 1
    message = "timbre: error: global_batch 5 does not divide over 2 ranks; near it are 4 and 6"
    assert process.stderr.count(message) == 1
    assert "exitcode  : 2" in process.stderr  # of a rank, as of the command
    assert not (tmp_path / "run").exists()


def test_accelerate_launch_is_the_same_function_as_the_command(url: str, tmp_path: Path) -> None:
    for name in ("command", "launch"):
        config = write_config(tmp_path / name, url, "workers=0")
        if name == "launch":
            process = accelerate("one_gpu.yaml", 1, config)
            assert process.returncode == 0, process.stderr[-3000:]
        else:
            words = [sys.executable, "-m", "timbre", "train", config]
            variables = os.environ | {"OMP_NUM_THREADS": "1"}
            subprocess.run(words, cwd=ROOT, env=variables, check=True, timeout=300)
    one, other = (
        checkpoint.load(f"{tmp_path}/{name}/run/checkpoints/step-00000005.pt")
        for name in ("command", "launch")
    )
    assert one["stream"] == other["stream"]
    for name, tensor in one["gan"]["generator"].items():
        assert tensor.equal(other["gan"]["generator"][name]), name


def accelerate(name: str, ranks: int, config: str) -> "subprocess.CompletedProcess[str]":
    """Train by one of the configs in launch/accelerate, on processors where it says GPUs."""
    words = [sys.executable, "-m", "accelerate.commands.launch"]
    words += ["--config_file", f"launch/accelerate/{name}", f"--num_processes={ranks}"]
    words += ["--main_process_port=0", "-m", "timbre.train", config]
    variables = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        words, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=300, check=False
    )


@pytest.mark.parametrize(
    "path", sorted((ROOT / "launch/accelerate").glob("*.yaml")), ids=lambda p: p.name
)
def test_accelerate_reads_the_launch_configs(path: Path) -> None:
    config = load_config_from_file(str(path))
    assert config.mixed_precision == "no"  # the training config says it
    assert config.num_machines == (2 if path.name == "many_nodes.yaml" else 1)


def test_a_rank_that_does_not_answer_is_lost_after_the_timeout() -> None:
    process = launch(2, "-m", "tests.train.distributed.report_lost_rank", "4")
    message = "lost another rank: no answer for 4 s (ranks.timeout_seconds), or it has gone: "
    assert message in process.stdout, process.stderr[-3000:]
    assert (
        "Run the same command again, with any number of ranks that divides global_batch"
        in process.stdout
    )
