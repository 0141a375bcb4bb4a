"""A step in fixed memory equals the step operator by operator: losses, skips, resumes."""

from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from tests.train.runs import check_same, config
from timbre.errors import ConfigError
from timbre.train.loop import train, train_step
from timbre.train.run import Run, open_run
from timbre.train.stepping import FixedSteps, choose, describe

no_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
STEPS = 200
CHEAP = "validation={perceptual_pairs: 0, harm_pairs: 0, shown_pairs: 0}"
BROKEN = (50, 180)


def trained(url: str, run_dir: Path, mode: str) -> tuple[Run, list[dict[str, float]]]:
    """A run of all three phases, in which two batches are broken, and what its steps logged."""
    says = [
        *("segment_seconds=0.1", f"steps={STEPS}", f"step={mode}", "log_gradients_every=55"),
        "adversarial={start_step: 150, discriminator_steps: 10, ramp_steps: 30}",
        "loss.resolutions=[256]",
    ]
    run = open_run(config(url, run_dir, *says))
    logged = []
    for batch in run.batches():
        if run.gan.step in BROKEN:
            batch = batch._replace(bandwidth_hz=batch.bandwidth_hz * float("nan"))
        metrics = train_step(run, batch)
        run.watch(metrics)
        logged.append({name: value.item() for name, value in metrics.items()})
        if run.gan.step == 170:
            run.steps.renew()  # as after validation
    run.close()
    return run, logged


def test_200_steps_are_those_of_operator_by_operator(noise_url: str, tmp_path: Path) -> None:
    (eager, expected), (fixed, logged) = (
        trained(noise_url, tmp_path / mode, mode) for mode in ("eager", "graph")
    )
    assert isinstance(fixed.steps, FixedSteps) and not isinstance(eager.steps, FixedSteps)
    assert len(logged) == STEPS
    skipped = [n for n, own in enumerate(logged) if not torch.tensor(own["g/grad_norm"]).isfinite()]
    assert skipped == [*BROKEN]
    for step, (one, other) in enumerate(zip(logged, expected, strict=True)):
        assert one.keys() == other.keys(), step
        assert one == pytest.approx(other, rel=1e-4, abs=1e-6, nan_ok=True), step
    # Where nothing is captured, it is even the same to the last bit.
    check_same(fixed.gan.state_dict(), eager.gan.state_dict())
    check_same(fixed.alarms.state_dict(), eager.alarms.state_dict())
    rates = [own["g/adversarial_weight"] for own in logged[160:]]
    assert rates == sorted(rates) and len({*rates}) == 30


def test_a_run_in_fixed_memory_resumes_as_if_it_had_not_ended(
    pair_url: str, tmp_path: Path
) -> None:
    adversarial = "adversarial={discriminator_steps: 1, ramp_steps: 4}"
    for folder, ends in (("whole", [12]), ("parts", [8, 12])):
        for steps in ends:
            schedule = "optimizer={schedule: warm_restarts, warmup_steps: 1, restart_steps: 99}"
            says = [
                f"steps={steps}",
                "step=graph",
                "validate_every=12",
                adversarial,
                schedule,
                CHEAP,
            ]
            train(config(pair_url, tmp_path / folder, *says))
    whole, parts = (
        torch.load(tmp_path / name / "checkpoints/step-00000012.pt") for name in ("whole", "parts")
    )
    check_same(whole["gan"], parts["gan"])


def test_what_is_taken_and_why_is_in_the_log(noise_url: str, tmp_path: Path) -> None:
    for mode, line in {
        "auto": "steps: operator by operator (step is auto, and cpu has no graphs)",
        "eager": "steps: operator by operator (step is eager)",
        "graph": "steps: in fixed memory, operator by operator (step is graph)",
    }.items():
        open_run(config(noise_url, tmp_path / mode, f"step={mode}")).close()
        assert line in (tmp_path / mode / "logs/rank-00000.log").read_text()


def test_graph_where_none_can_be_is_refused_and_auto_says_why() -> None:
    accelerator = Accelerator()
    for says, reason in (((True, False), "balancer.enabled"), ((False, True), "compile true")):
        with pytest.raises(ConfigError, match=f"step graph with {reason}.*expected step: auto"):
            choose("graph", accelerator, *says)
        assert not choose("auto", accelerator, *says).fixed
        assert not choose("eager", accelerator, *says).fixed
    assert choose("graph", accelerator, False, False).fixed


@pytest.mark.gpu
@no_cuda
def test_a_captured_step_repeats_the_eager_ones(noise_url: str, tmp_path: Path) -> None:
    (_, expected), (run, logged) = (
        trained(noise_url, tmp_path / mode, mode) for mode in ("eager", "graph")
    )
    assert "CUDA graph" in describe(choose("auto", run.accelerator, False, False), run.accelerator)
    for one, other in zip(logged, expected, strict=True):
        assert one["g/loss"] == pytest.approx(other["g/loss"], rel=1e-4, nan_ok=True)
