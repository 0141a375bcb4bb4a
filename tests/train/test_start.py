"""What a run starts from, and what is refused before any work."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.help.made_shards import make_shards
from tests.train.runs import ADVERSARIAL, TINY, check_same, config
from timbre import cli
from timbre.errors import CheckpointError, ConfigError, ShardError
from timbre.models import checkpoint
from timbre.train import checkpoints
from timbre.train.loop import train, train_step
from timbre.train.run import open_run


def test_fine_tuning_takes_over_networks_average_and_moments_but_not_the_step(
    pair_url: str, whole_run: Path, tmp_path: Path
) -> None:
    url = whole_run / "checkpoints/step-00000010.pt"
    overrides = [f"init_from={url}", "steps=3", "save_every=3", "optimizer.learning_rate=1e-4"]
    overrides.append(ADVERSARIAL)
    run = open_run(config(pair_url, tmp_path, *overrides))
    state = checkpoint.load(str(url))["gan"]
    now = run.gan.state_dict()
    assert now["step"] == 0 and state["step"] == 10
    for part in ("generator", "average", "discriminator"):
        check_same(now[part], state[part], part)
    for part in ("generator_optimizer", "discriminator_optimizer"):
        check_same(now[part]["state"], state[part]["state"], part)
    # The discriminator has learned: there is nothing to wait for.
    assert run.adversarial_start == 0
    metrics = train_step(run, next(run.batches()))
    assert "d/loss" in metrics
    rate = run.gan.generator_descent.optimizer.param_groups[0]["lr"]
    assert rate == pytest.approx(1e-4 / 2)  # the new run's, in its warm-up of two steps
    run.save()
    run.close()
    # A run with a checkpoint of its own goes on from that.
    later = open_run(config(pair_url, tmp_path, *overrides[1:], "init_from=gone.pt"))
    assert (later.gan.step, later.adversarial_start) == (1, 0)
    later.close()


def test_fine_tuning_from_a_generator_alone_starts_with_its_weights(
    pair_url: str, whole_run: Path, tmp_path: Path
) -> None:
    url = str(whole_run / "best.safetensors")
    run = open_run(config(pair_url, tmp_path, f"init_from={url}", ADVERSARIAL))
    expected = checkpoint.load_generator(url)[0].state_dict()
    check_same(dict(run.gan.state_dict()["generator"]), dict(expected))
    check_same(dict(run.gan.state_dict()["average"]), dict(expected))
    assert run.adversarial_start == 5 and not run.gan.state_dict()["generator_optimizer"]["state"]
    run.close()


@pytest.mark.parametrize("name", ["best.safetensors", "checkpoints/step-00000010.pt"])
def test_fine_tuning_may_add_limits_which_have_no_weights_and_resuming_may_not(
    pair_url: str, whole_run: Path, tmp_path: Path, name: str
) -> None:
    lift, url = "generator.max_lift_db=12", f"init_from={whole_run}/{name}"
    run = open_run(config(pair_url, tmp_path, url, lift))
    expected = checkpoint.load_generator(f"{whole_run}/{name}")[0].state_dict()
    check_same(dict(run.gan.state_dict()["average"]), dict(expected))
    assert run.gan.generator.max_lift_db == run.gan.average.max_lift_db == 12
    run.save()
    run.close()
    with pytest.raises(CheckpointError, match=r"max_lift_db was 12.0, the config says None"):
        open_run(config(pair_url, tmp_path))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{run}/checkpoints/step-00000010.pt", "generator.size=small"],
         r"step-00000010\.pt: .* generator\.size was 'tiny', the config says 'small'"),
        (["{run}/checkpoints/step-00000010.pt", "discriminator.preset=full"],
         r"discriminator\.preset was 'light', the config says 'full'"),
        (["{run}/best.safetensors", "generator.causal=true"],
         r"best\.safetensors: .* generator\.causal was False, the config says True"),
        (["{run}/config.yaml"], r"config\.yaml: not a generator of timbre"),
    ],
)  # fmt: skip
def test_fine_tuning_from_something_else_is_refused_before_any_work(
    pair_url: str, whole_run: Path, tmp_path: Path, words: list[str], message: str
) -> None:
    url, *others = words
    with pytest.raises(CheckpointError, match=message):
        train(config(pair_url, tmp_path / "run", f"init_from={url.format(run=whole_run)}", *others))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["segment_seconds=0.5"], r"segment_seconds 0\.5 .* save_segment_seconds 0\.25"),
        (["adversarial.start_step=7"], r"start_step 7: expected at least 20, 5 epochs of 4 steps"),
        (["global_batch=100"], "global_batch 100 is larger than an epoch of 8 pairs"),
        (
            ["generator.noisy_input=true"],
            r"noisy_input true: .*/manifest\.json: .* no noisy side; .* prep with store_noisy: true",
        ),
    ],
)
def test_contradictions_with_the_data_are_refused_before_any_work(
    noise_url: str, tmp_path: Path, overrides: Sequence[str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        train(config(noise_url, tmp_path / "run", *overrides))
    assert not (tmp_path / "run").exists()


def test_a_run_of_another_architecture_is_not_continued(noise_url: str, tmp_path: Path) -> None:
    train(config(noise_url, tmp_path))
    with pytest.raises(
        CheckpointError,
        match=r"another architecture: generator.name was 'spectral', the config says 'wave'",
    ):
        train(config(noise_url, tmp_path, "generator.name=wave", "steps=9"))


def test_a_run_is_continued_in_another_precision(noise_url: str, tmp_path: Path) -> None:
    for precision, steps in [("fp32", 8), ("fp16", 9), ("bf16", 10)]:
        train(config(noise_url, tmp_path, f"precision={precision}", f"steps={steps}"))
    assert checkpoint.load(str(checkpoints.latest(str(tmp_path))))["gan"]["step"] == 10


def test_a_run_is_not_continued_on_changed_data(noise_url: str, tmp_path: Path) -> None:
    train(config(noise_url, tmp_path / "run"))
    other = make_shards(tmp_path / "other", [4, 5], [2])
    with pytest.raises(ConfigError, match="manifests"):
        train(config(other, tmp_path / "run", "steps=9"))


def test_too_many_unreadable_pairs_end_the_run_with_their_name(tmp_path: Path) -> None:
    url = make_shards(tmp_path / "shards", [4, 4], [2])
    (tmp_path / "shards/train/shard-000001.tar").unlink()
    with pytest.raises(
        ShardError, match=r"max_bad_fraction 0\.02; for example .*shard-000001\.tar"
    ):
        train(config(url, tmp_path / "run", "steps=40"))


@pytest.mark.parametrize(
    ("arguments", "message", "code"),
    [
        (["{tmp}/none.yaml"], "none.yaml", 2),
        ([TINY, "data=[{{manifest: {tmp}/none/manifest.json}}]"], "none/manifest.json", 1),
        ([TINY, "stpes=3", "precision=fp8", "segment_seconds=-1"], "did you mean 'steps'", 2),
    ],
)
def test_bad_input_gets_one_clear_error(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
    code: int,
) -> None:
    words = [word.format(tmp=tmp_path) for word in arguments] + [f"run_dir={tmp_path}/run"] * (
        len(arguments) > 1
    )
    assert cli.main(["train", *words]) == code
    error = capsys.readouterr().err
    assert error.count("timbre: error:") == 1 and message in error and "Traceback" not in error
    assert not (tmp_path / "run").exists()
