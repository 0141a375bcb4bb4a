"""A step's phases, numbers and cost, in each precision and on each device."""

import gc
import warnings
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from tests.help.made_shards import make_shards
from tests.train.runs import config_of, placed_on
from timbre.train.gan.gan import DTYPES, Precision
from timbre.train.loop import train_step
from timbre.train.run import Run, open_run

no_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")


@pytest.fixture
def device(request: pytest.FixtureRequest) -> Iterator[str]:
    """The device that runs are placed on in a test."""
    with placed_on(request.param):
        yield request.param


@pytest.mark.parametrize(
    "device", ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, no_cuda])], indirect=True
)
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_mixed_precision_trains_both_networks_without_an_outdated_call(
    urls: list[str], tmp_path: Path, device: str, precision: Precision
) -> None:
    dtypes = set()
    with warnings.catch_warnings():
        warnings.filterwarnings("error", category=FutureWarning)
        warnings.filterwarnings("error", category=DeprecationWarning, module="timbre")
        overrides = ["segment_seconds=0.1", f"precision={precision}"]
        run = open_run(config_of(urls, tmp_path, *overrides))
        run.adversarial_start = -run.config.adversarial.discriminator_steps
        modules = run.gan.generator.modules()
        inner = next(part for part in modules if isinstance(part, torch.nn.Conv1d))
        inner.register_forward_hook(lambda *call: dtypes.add((call[2].dtype, call[2].device.type)))
        before = {name: part.detach().clone() for name, part in parameters(run)}
        for batch in islice(run.batches(), 2):
            log = train_step(run, batch)
    run.close()
    assert dtypes == {(DTYPES[precision], device)}
    assert {"d/loss", "g/adversarial"} <= log.keys()
    assert all(value.isfinite() for value in log.values())
    for name, part in parameters(run):
        assert part.dtype == torch.float32 and part.isfinite().all(), name
    names = [name for name, part in parameters(run) if not part.equal(before[name])]
    assert {name.partition(".")[0] for name in names} == {"generator", "discriminator"}
    scalers = run.gan.generator_descent.scaler, run.gan.discriminator_descent.scaler
    assert all(type(scaler) is torch.amp.GradScaler for scaler in scalers)
    assert scalers[0] is not scalers[1]


def parameters(run: Run) -> Iterator[tuple[str, torch.nn.Parameter]]:
    for name in ("generator", "discriminator"):
        yield from getattr(run.gan, name).named_parameters(name)


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, float]]:
    """The log, the cost and the moved networks of nine steps, one an epoch."""
    folder = tmp_path_factory.mktemp("schedule")
    url = make_shards(folder / "shards", [2], [1])
    overrides = [
        "segment_seconds=0.1",
        "steps=10",
        "adversarial={discriminator_steps: 1, ramp_steps: 2}",
    ]
    run = open_run(config_of([url], folder / "run", *overrides, "log_gradients_every=1000"))
    network = next(run.gan.discriminator.parameters())
    records = []
    for batch in islice(run.batches(), 9):
        was = network.detach().clone()
        with Multiplications() as cost:
            metrics_of_step = train_step(run, batch)
        run.watch(metrics_of_step)
        record = {name: value.item() for name, value in metrics_of_step.items()}
        record |= {"moved": float(not network.equal(was)), "cost": float(cost.count)}
        records.append(record | {"bytes": float(live_bytes())})
    with torch.no_grad(), Multiplications() as cost:
        run.gan.critic.judge(torch.zeros(2, 1, 4800))
    records[0]["discriminator_cost"] = float(cost.count)
    run.close()
    return records


class Multiplications(TorchDispatchMode):
    """Count of floating-point operations in matrix products and convolutions, as PyTorch counts them."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, positional: Any = (), keywords: Any = None
    ) -> Any:
        result = function(*positional, **(keywords or {}))
        if function._overloadpacket in flop_registry:
            cost = flop_registry[function._overloadpacket]
            self.count += cost(*positional, **(keywords or {}), out_val=result)
        return result


def live_bytes() -> int:
    gc.collect()
    kinds = (torch.Tensor, torch.nn.Parameter)
    return sum(thing.nbytes for thing in gc.get_objects() if type(thing) in kinds)


def test_reconstruction_alone_for_five_epochs_then_the_discriminator_then_a_ramp(
    steps: list[dict[str, float]],
) -> None:
    assert [int("d/loss" in step) for step in steps] == [0] * 5 + [1] * 4
    assert [int(step["moved"]) for step in steps] == [0] * 5 + [1] * 4
    weights = [step.get("g/adversarial_weight", 0.0) for step in steps]
    assert weights == [0.0] * 6 + [0.5, 1.0, 1.0]


def test_a_step_computes_what_it_must_and_memory_stays_flat(
    steps: list[dict[str, float]],
) -> None:
    """The discriminator's share in passes: 2 batches there and back, and the fake one's way back.

    Back is two passes, or one where the weights need no gradient.
    """
    passes = (steps[8]["cost"] - steps[4]["cost"]) / steps[0]["discriminator_cost"]
    assert passes < 2 * 3 + 1
    assert steps[4]["bytes"] == steps[2]["bytes"] > 0
    assert steps[8]["bytes"] == steps[7]["bytes"]
