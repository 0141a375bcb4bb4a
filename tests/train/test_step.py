"""What a step does: phases, precision, cost, and no wait for the device."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests.train.runs import ADVERSARIAL, check_same, config, scalars
from timbre.audio.metrics import log_spectral_distance
from timbre.errors import WorkError
from timbre.shards.whole_pairs import load_pair
from timbre.train.gan.schedule import cosine_share
from timbre.train.loop import train, train_step
from timbre.train.run import Run, open_run


@pytest.fixture(scope="module")
def in_fp32(pair_url: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, torch.Tensor]:
    return train_some_steps(pair_url, tmp_path_factory.mktemp("fp32"), "precision=fp32")


def train_some_steps(url: str, run_dir: Path, *overrides: str) -> tuple[Run, torch.Tensor]:
    """Return a run after ten steps, half of them adversarial, and its output for a new pair."""
    # At a high rate two runs part whatever the precision.
    slowly = ["steps=10", "optimizer.learning_rate=2e-4", ADVERSARIAL]
    run = open_run(config(url, run_dir, *slowly, *overrides))
    for batch in run.batches():
        run.watch(train_step(run, batch))
    run.close()
    pair = load_pair(run.validation.pairs[0], torch.device("cpu"))
    with torch.inference_mode(), run.gan.autocast(torch.device("cpu")):
        restored: torch.Tensor = run.gan.generator(pair.degraded)[:, 0]
    return run, restored


def test_the_discriminator_learns_first_and_weighs_in_later(noise_url: str, tmp_path: Path) -> None:
    run = open_run(config(noise_url, tmp_path, "steps=26", ADVERSARIAL))
    before = [p.detach().clone() for p in run.gan.discriminator.parameters()]
    logs: list[dict[str, torch.Tensor]] = []
    rates: list[float] = []
    for batch in run.batches():
        logs.append(train_step(run, batch))
        rates.append(float(run.gan.discriminator_descent.learning_rate))
        if run.gan.step == 20:
            check_same(before, list(run.gan.discriminator.parameters()))
    run.close()
    # A schedule of its own, from its own start on: a warm-up of two steps, then down to the end.
    peak = run.config.optimizer.discriminator_learning_rate
    expected = [peak * cosine_share(n, 2, 6, run.config.optimizer.final_share) for n in range(6)]
    assert rates[20:] == pytest.approx(expected) and max(rates) == pytest.approx(peak)
    assert [n for n, metrics in enumerate(logs) if "d/loss" in metrics] == list(range(20, 26))
    assert [n for n, metrics in enumerate(logs) if "g/adversarial" in metrics] == list(
        range(22, 26)
    )
    assert not all(
        a.equal(b) for a, b in zip(before, run.gan.discriminator.parameters(), strict=True)
    )
    # Taught nothing by the generator's steps, it still takes gradients of its own.
    assert all(p.requires_grad for p in run.gan.discriminator.parameters())


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_every_precision_trains_to_the_spectra_of_fp32(
    pair_url: str, tmp_path: Path, in_fp32: tuple[Run, torch.Tensor], precision: str
) -> None:
    run, restored = train_some_steps(pair_url, tmp_path, f"precision={precision}")
    expected = in_fp32[1]
    for low, high in [(0, 8000), (8000, 24000)]:
        distance = log_spectral_distance(restored, expected, low, high, torch.tensor([24000.0]))
        # They moved by 0.6 dB; with the head under autocast the distance is 0.025 and more.
        assert float(distance) < 0.015, (low, high)
    assert all(
        p.dtype == torch.float32 and p.isfinite().all() for p in run.gan.generator.parameters()
    )
    descents = [run.gan.generator_descent, run.gan.discriminator_descent]
    scalers = [descent.scaler for descent in descents]
    assert scalers[0] is not scalers[1]
    if precision == "fp16":  # both scales have been at work
        assert all(scaler.state_dict()["_growth_tracker"] > 0 for scaler in scalers)


def test_a_run_without_finite_gradients_stops_and_nothing_broken_is_saved(
    noise_url: str, tmp_path: Path
) -> None:
    train(config(noise_url, tmp_path))
    overrides = ["optimizer.learning_rate=1e30", "max_skipped_steps=6", "steps=40"]
    with pytest.raises(WorkError, match=r"step 16: .* not finite for 7 steps in a row"):
        train(config(noise_url, tmp_path, *overrides))
    assert [path.name for path in (tmp_path / "checkpoints").glob("*.pt")] == [
        "step-00000004.pt",
        "step-00000008.pt",
    ]
    with pytest.raises(WorkError, match="step 12: not saved, for the loss is not finite"):
        train(config(noise_url, tmp_path, *overrides, "steps=12"))


def test_one_bad_batch_is_skipped_counted_and_forgotten(
    pair_url: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = open_run(config(pair_url, tmp_path, "steps=10", ADVERSARIAL))
    for batch in run.batches():
        bad = run.gan.step in (2, 8)
        before = [p.detach().clone() for p in run.gan.generator.parameters()]
        degraded = batch.degraded * float("nan") if bad else batch.degraded
        run.watch(train_step(run, batch._replace(degraded=degraded)))
        same = [p.equal(q) for p, q in zip(before, run.gan.generator.parameters(), strict=True)]
        assert all(same) == bad
    run.log()
    run.close()
    events = scalars(tmp_path)
    assert [events.Scalars(f"{n}/skipped_steps")[-1].value for n in "gd"] == [2, 1]
    assert np.isfinite(events.Scalars("g/loss")[-1].value)
    assert "2 steps of the generator skipped" in capfd.readouterr().err


@pytest.mark.parametrize("balance", ["false", "true"])
def test_a_step_never_waits_for_the_device(pair_url: str, tmp_path: Path, balance: str) -> None:
    """No value of a tensor becomes a Python number, except those that lie on the host anyway."""
    overrides = [f"balancer.enabled={balance}", "steps=10", "log_gradients_every=1", ADVERSARIAL]
    run = open_run(config(pair_url, tmp_path, *overrides))
    reads: list[str] = []
    hosts: list[torch.Tensor] = []

    def count_reads(name: str) -> Any:
        original = getattr(torch.Tensor, name)

        def method(tensor: torch.Tensor, *positional: Any, **keywords: Any) -> Any:
            if not any(tensor is host for host in hosts):
                reads.append(name)
            return original(tensor, *positional, **keywords)

        return method

    with pytest.MonkeyPatch.context() as patch, ScalarReads(reads):
        batches = run.batches()
        for name in ("item", "cpu", "tolist", "numpy", "__bool__", "__float__", "__int__"):
            patch.setattr(torch.Tensor, name, count_reads(name))
        for _ in range(10):
            reads_before = len(reads)
            batch = next(batches)
            del reads[reads_before:]  # reading is the host's
            hosts[:] = [batch.positions]
            run.watch(train_step(run, batch))
        assert run.gan.step == 10
        assert reads == []
        assert float(next(iter(run.meter.sums.values()))[1, 0]) > 0  # what is caught: a read
        assert set(reads) == {"__float__", "aten._local_scalar_dense.default"}
    run.close()


@pytest.mark.parametrize("balance", ["false", "true"])
def test_each_terms_share_in_the_gradient_is_logged(
    pair_url: str, tmp_path: Path, balance: str
) -> None:
    overrides = [f"balancer.enabled={balance}", "log_gradients_every=9", "steps=10", ADVERSARIAL]
    train(config(pair_url, tmp_path, *overrides, "loss.mel=3", "loss.spectrum=1"))
    events = scalars(tmp_path)
    tags = [tag for tag in events.Tags()["scalars"] if tag.startswith("g/gradient_share/")]
    assert len(tags) == 6
    points = {tag: {e.step: e.value for e in events.Scalars(tag)} for tag in tags}
    assert {tag.rpartition("/")[2] for tag in tags if 2 in points[tag]} == {
        "mel",
        "spectrum",
        "waveform",
        "silence",
    }
    assert all(10 in values for values in points.values())
    for step in (2, 10):
        values_of_step = [values[step] for values in points.values() if step in values]
        assert sum(values_of_step) == pytest.approx(1.0, abs=1e-4)
    first = points["g/gradient_share/mel"][2]
    if (
        balance == "true"
    ):  # exact where the average is of one step; what has no gradient has no share
        weights = {"mel": 3, "spectrum": 1, "waveform": 10, "silence": 2}
        has = {name for name in weights if points[f"g/gradient_share/{name}"][2] > 0}
        assert {"mel", "spectrum", "waveform"} <= has
        assert first == pytest.approx(3 / sum(weights[name] for name in has), rel=1e-3)


class ScalarReads(TorchDispatchMode):
    """Appends to a list whenever a scalar is read from the device."""

    def __init__(self, reads: list[str]) -> None:
        super().__init__()
        self.reads = reads

    def __torch_dispatch__(
        self, function: Any, types: Any, positional: Any = (), keywords: Any = None
    ) -> Any:
        if function is torch.ops.aten._local_scalar_dense.default:
            self.reads.append(str(function))
        return function(*positional, **(keywords or {}))
