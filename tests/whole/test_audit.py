"""Each row of the audit of the earlier trainer, as a test that fails if the fault comes back.

A row has its essence here; the depth is in test_validate, distributed/ (R1, 4, 14), test_config,
test_stream (R2, 6), test_train, test_descent, test_generators (R3), test_plan, test_editions (1),
test_schedule (2, 12), test_wave_layers (3), test_align (5), test_bank, test_prep (7), test_augment (9),
test_quality, test_verify (10), test_denoise, test_denoise_official, test_degrade (11), and what
training costs in test_train_step_benchmark and benchmarks/."""

import gc
import json
import math
import shutil
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState, PartialState
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from shard_tools.make.tar import build_tar
from tests.conftest import ROOT
from tests.help.made_shards import make_shards, publish_tar, rewrite_shard, stored_pairs
from tests.train.distributed.launch import torchrun
from tests.train.distributed.report_audit import GAINS, STEPS, figures, rates
from timbre import config as configs
from timbre.audio import metrics
from timbre.errors import ConfigError
from timbre.models import checkpoint
from timbre.shards.whole_pairs import load_pair
from timbre.train import checkpoints
from timbre.train.config import TrainConfig
from timbre.train.gan.gan import DTYPES, Precision
from timbre.train.gan.schedule import AdversarialConfig, adversarial_share, resolve_start
from timbre.train.loop import train, train_step
from timbre.train.run import Run, open_run

CPU = torch.device("cpu")
QUICK = (
    "segment_seconds=0.2",
    "steps=8",
    "global_batch=2",
    "optimizer.warmup_steps=1",
    "workers=0",
    "validation={perceptual_pairs: 0, harm_pairs: 2, shown_pairs: 0}",
)
RESTARTS = "optimizer={schedule: warm_restarts, warmup_steps: 1, restart_steps: 2}"


def train_config(urls: Sequence[str], run_dir: Path, *overrides: str) -> TrainConfig:
    data = ", ".join(f"{{manifest: {url}}}" for url in urls)
    given = [f"data=[{data}]", f"run_dir={run_dir}", *QUICK, *overrides]
    return configs.load(TrainConfig, ROOT / "configs/train_tiny.yaml", given)


@contextmanager
def placed_on(device: str) -> Iterator[None]:
    """Have runs placed on a device; what Accelerate had settled before is settled again after."""
    states = (AcceleratorState, PartialState)
    before = [dict(state._shared_state) for state in states]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ACCELERATE_USE_CPU", str(device == "cpu"))
        for state in states:
            state._shared_state.clear()
        yield
    for state, was in zip(states, before, strict=True):
        state._shared_state.clear()
        state._shared_state.update(was)


@pytest.fixture(autouse=True, scope="module")
def _on_the_cpu() -> Iterator[None]:
    """Figures are compared to the last bit with those of ranks on the CPU."""
    with placed_on("cpu"):
        yield


class Ranks(NamedTuple):
    """What every rank of a run of two wrote, and the config that the run goes on with."""

    told: list[dict[str, Any]]
    config: TrainConfig


@pytest.fixture(scope="module")
def urls(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Seven validation pairs: neither even over two ranks, nor of one length, nor alike."""
    folder = tmp_path_factory.mktemp("shards")
    found = [
        make_shards(folder / "1", [4], [3, 2]),
        make_shards(folder / "2", [4], [2], "wav", 0.4),
    ]
    rewrite_shard(
        found[1],
        "val/shard-000000.tar",
        lambda pair: pair._replace(degraded=pair.degraded // 4),
    )
    return found


@pytest.fixture(scope="module")
def two_ranks(urls: list[str], tmp_path_factory: pytest.TempPathFactory) -> Ranks:
    folder = tmp_path_factory.mktemp("ranks")
    config = train_config(urls, folder / "run", RESTARTS)
    (folder / "config.yaml").write_text(configs.dump(config))
    words = ("-m", "tests.train.distributed.report_audit", f"{folder}/config.yaml", str(folder))
    torchrun(2, *words)
    return Ranks([json.loads((folder / f"rank{n}.json").read_text()) for n in (0, 1)], config)


@pytest.fixture(scope="module")
def alone(urls: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """One rank on the same pairs."""
    run = open_run(train_config(urls, tmp_path_factory.mktemp("alone")))
    yield run
    run.close()


def test_row_r1_validation_is_one_number_on_every_rank_and_at_every_world_size(
    two_ranks: Ranks, alone: Run
) -> None:
    first, second = two_ranks.told
    assert first["figures"] == second["figures"] == figures(alone, GAINS[1])
    assert {"val/score", "val/si_sdr", "val/harm/si_sdr", "val/loss/adversarial"} <= first[
        "figures"
    ].keys()
    assert all(math.isfinite(float.fromhex(value)) for value in first["figures"].values())


def test_row_r1_the_best_checkpoint_is_that_of_the_best_validation_on_every_rank(
    two_ranks: Ranks,
) -> None:
    first, second = two_ranks.told
    assert first["best"] == second["best"]
    (unchanged, step), *later = first["best"]
    assert float.fromhex(unchanged) == pytest.approx(1.0) and step == 0
    assert later == [[first["figures"]["val/score"], 1]] * 2  # the third is no better
    assert float.fromhex(later[0][0]) < 0.9
    _, tensors = checkpoint.read_generator(f"{two_ranks.config.run_dir}/{checkpoints.BEST}")
    assert tensors["gain"] == GAINS[1]


def test_row_12_the_rate_moves_once_a_step_on_two_ranks_and_goes_on_exactly_on_one(
    two_ranks: Ranks,
) -> None:
    first, second = two_ranks.told
    assert first["rates"] == second["rates"] and len(first["rates"]) == STEPS
    resumed = open_run(two_ranks.config)
    assert resumed.gan.step == STEPS
    found = first["rates"] + rates(resumed, 3)
    resumed.close()
    assert {int(s["step"]) for s in resumed.gan.generator_descent.optimizer.state.values()} == {7}
    # A warm-up of one step at the peak, then PyTorch's own, stepped once a step.
    c = two_ranks.config.optimizer
    reference = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], c.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(
        reference, c.restart_steps, c.restart_factor, c.final_share * c.learning_rate
    )
    expected = [c.learning_rate]
    for _ in range(6):
        expected.append(reference.param_groups[0]["lr"])
        reference.step()
        schedule.step()
    assert found == pytest.approx(expected)
    assert found[2] < found[3]  # it did restart


def test_row_14_a_ragged_share_neither_drops_nor_repeats_a_pair_and_figures_are_weighted(
    two_ranks: Ranks, alone: Run
) -> None:
    pairs = list(alone.validation.pairs)
    assert len(pairs) == 7
    values, weights = [], []
    for place in pairs:
        pair = load_pair(place, CPU)
        sides = pair.degraded[:, 0], pair.clean[:, 0]
        values.append(float(metrics.log_spectral_distance(*sides, 0, 8000, pair.bandwidth_hz)))
        weights.append(place.entry.samples)
    found = float.fromhex(two_ranks.told[0]["figures"]["val/degraded/lsd_0_8k"])
    assert found == pytest.approx(np.average(values, weights=weights), rel=1e-9)
    assert found != pytest.approx(np.mean(values), rel=0.1)


def test_row_4_validation_reports_gan_losses_and_teaches_the_discriminator_nothing(
    alone: Run,
) -> None:
    before = [parameter.clone() for parameter in alone.gan.discriminator.parameters()]
    measured = alone.validation.measure(alone.gan, alone.reconstruction)
    for name in ("mel", "spectrum", "waveform", "adversarial", "feature_matching"):
        assert 0 < measured[f"val/loss/{name}"] < math.inf, name
    assert {"val/si_sdr", "val/lsd_0_8k", "val/lsd_8_24k", "val/mel_distance"} <= measured.keys()
    for parameter, was in zip(alone.gan.discriminator.parameters(), before, strict=True):
        assert parameter.equal(was) and parameter.grad is None


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("segment_seconds=0.5", ("segment_seconds 0.5", "save_segment_seconds 0.25")),
        ("adversarial.start_step=19", ("start_step 19", "at least 20, 5 epochs of 4 steps")),
        ("optimizer.warmup_steps=8", ("warmup_steps 8", "less than steps 8")),
        ("global_batch=30", ("global_batch 30", "an epoch of 8 pairs")),
        ("augment={gain_low: 0.9, gain_high: 0.8}", ("gain_low 0.9", "gain_high 0.8")),
    ],
)
def test_row_r2_a_contradiction_is_refused_before_any_work_naming_both_values(
    urls: list[str], tmp_path: Path, override: str, told: tuple[str, str]
) -> None:
    with pytest.raises(ConfigError) as refused:
        train(train_config(urls, tmp_path / "run", override))
    assert all(part in str(refused.value) for part in told), refused.value
    assert not (tmp_path / "run").exists()


@pytest.fixture
def device(request: pytest.FixtureRequest) -> Iterator[str]:
    """The device that runs are placed on in a test."""
    with placed_on(request.param):
        yield request.param


no_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")


@pytest.mark.parametrize(
    "device", ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, no_cuda])], indirect=True
)
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_mixed_precision_trains_both_networks_without_an_outdated_call(
    urls: list[str], tmp_path: Path, device: str, precision: Precision
) -> None:
    seen = set()
    with warnings.catch_warnings():
        warnings.filterwarnings("error", category=FutureWarning)
        warnings.filterwarnings("error", category=DeprecationWarning, module="timbre")
        given = ["segment_seconds=0.1", f"precision={precision}"]
        run = open_run(train_config(urls, tmp_path, *given))
        run.adversarial_start = -run.config.adversarial.discriminator_steps
        modules = run.gan.generator.modules()
        inner = next(part for part in modules if isinstance(part, torch.nn.Conv1d))
        inner.register_forward_hook(lambda *given: seen.add((given[2].dtype, given[2].device.type)))
        before = {name: part.detach().clone() for name, part in parameters(run)}
        for batch in islice(run.batches(), 2):
            logged = train_step(run, batch)
    run.close()
    assert seen == {(DTYPES[precision], device)}
    assert {"d/loss", "g/adversarial"} <= logged.keys()
    assert all(value.isfinite() for value in logged.values())
    for name, part in parameters(run):
        assert part.dtype == torch.float32 and part.isfinite().all(), name
    moved = [name for name, part in parameters(run) if not part.equal(before[name])]
    assert {name.partition(".")[0] for name in moved} == {"generator", "discriminator"}
    scalers = run.gan.generator_descent.scaler, run.gan.discriminator_descent.scaler
    assert all(type(scaler) is torch.amp.GradScaler for scaler in scalers)
    assert scalers[0] is not scalers[1]


def parameters(run: Run) -> Iterator[tuple[str, torch.nn.Parameter]]:
    for name in ("generator", "discriminator"):
        yield from getattr(run.gan, name).named_parameters(name)


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, float]]:
    """What nine steps at one step an epoch logged, moved and cost."""
    folder = tmp_path_factory.mktemp("schedule")
    url = make_shards(folder / "shards", [2], [1])
    given = [
        "segment_seconds=0.1",
        "steps=10",
        "adversarial={discriminator_steps: 1, ramp_steps: 2}",
    ]
    run = open_run(train_config([url], folder / "run", *given, "log_gradients_every=1000"))
    network = next(run.gan.discriminator.parameters())
    taken = []
    for batch in islice(run.batches(), 9):
        was = network.detach().clone()
        with Multiplications() as cost:
            metrics_of_step = train_step(run, batch)
        run.watch(metrics_of_step)
        record = {name: value.item() for name, value in metrics_of_step.items()}
        record |= {"moved": float(not network.equal(was)), "cost": float(cost.count)}
        taken.append(record | {"bytes": float(live_bytes())})
    with torch.no_grad(), Multiplications() as cost:
        run.gan.discriminator(torch.zeros(2, 1, 4800))
    taken[0]["discriminator_cost"] = float(cost.count)
    run.close()
    return taken


class Multiplications(TorchDispatchMode):
    """Counts the floating-point operations of matrix products and convolutions, as PyTorch does."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, given: Any = (), named: Any = None
    ) -> Any:
        result = function(*given, **(named or {}))
        if function._overloadpacket in flop_registry:
            cost = flop_registry[function._overloadpacket]
            self.count += cost(*given, **(named or {}), out_val=result)
        return result


def live_bytes() -> int:
    gc.collect()
    kinds = (torch.Tensor, torch.nn.Parameter)
    return sum(thing.nbytes for thing in gc.get_objects() if type(thing) in kinds)


def test_row_2_reconstruction_alone_for_five_epochs_then_the_discriminator_then_a_ramp(
    steps: list[dict[str, float]],
) -> None:
    assert [int("d/loss" in step) for step in steps] == [0] * 5 + [1] * 4
    assert [int(step["moved"]) for step in steps] == [0] * 5 + [1] * 4
    weights = [step.get("g/adversarial_weight", 0.0) for step in steps]
    assert weights == [0.0] * 6 + [0.5, 1.0, 1.0]


def test_row_2_the_start_counts_optimizer_steps_and_none_before_five_epochs_is_accepted() -> None:
    assert resolve_start(AdversarialConfig(), 40) == 200
    assert resolve_start(AdversarialConfig(start_step=201), 40) == 201
    with pytest.raises(ConfigError, match="start_step 199: expected at least 200"):
        resolve_start(AdversarialConfig(start_step=199), 40)
    shares = [adversarial_share(step, 200, AdversarialConfig(ramp_steps=4)) for step in range(1210)]
    assert shares[1199:1205] == [0.0, 0.25, 0.5, 0.75, 1.0, 1.0] and not any(shares[:1200])


def test_also_asked_prepared_speech_trains_and_the_result_loads(
    manifest_url: str, tmp_path: Path
) -> None:
    shutil.copytree(Path(manifest_url).parent, tmp_path / "shards")
    url = f"{tmp_path}/shards/manifest.json"
    held_out = stored_pairs(url, "val/shard-000000.tar")[:2]  # measuring each takes its time
    publish_tar(url, "val/shard-000000.tar", build_tar(held_out, "flac"))
    given = ["segment_seconds=0.4", "validation={perceptual_pairs: 1, harm_pairs: 0}"]
    run = open_run(train_config([url], tmp_path / "run", *given))
    batch = next(run.batches())
    logged = [train_step(run, batch) for _ in range(8)]
    assert logged[-1]["g/loss"].item() < 0.95 * logged[0]["g/loss"].item()
    run.watch(logged[-1])
    run.validate()
    assert run.save() and run.best_step == 8 and math.isfinite(run.best_score)
    run.close()
    generator, config = checkpoint.load_generator(f"{run.config.run_dir}/{checkpoints.BEST}")
    assert config == run.config.generator
    pair = load_pair(run.validation.pairs[0], CPU)
    with torch.inference_mode():
        assert generator(pair.degraded).equal(run.gan.average(pair.degraded))


def test_also_asked_a_step_computes_what_it_must_and_memory_stays_flat(
    steps: list[dict[str, float]],
) -> None:
    """The discriminator's share in passes: 2 batches there and back, 1 real, 1 fake and its way back.

    Back is two passes, or one where the weights need no gradient.
    """
    passes = (steps[8]["cost"] - steps[4]["cost"]) / steps[0]["discriminator_cost"]
    assert passes < 2 * 3 + 1 + 2
    assert steps[4]["bytes"] == steps[2]["bytes"] > 0
    assert steps[8]["bytes"] == steps[7]["bytes"]
