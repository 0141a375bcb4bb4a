"""What a checkpoint may hold. Everything else is refused by its name before anything is restored."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import timbre
from tests.help.moved_generators import build
from timbre import config as configs
from timbre.errors import CheckpointError, ConfigError
from timbre.models.checkpoint import NAMES_OF_OURS, load, load_generator, resolve, save_generator
from timbre.models.generator import GeneratorConfig
from timbre.models.spectral import SpectralGenerator

CONFIG = GeneratorConfig("spectral", "tiny", causal=True)
TREE = configs.to_tree(CONFIG)
Weights = dict[Any, Any]


def weights() -> Weights:
    return dict(build("spectral", causal=True, moved=True).state_dict())


def state(tensors: object, **parts: object) -> dict[str, object]:
    """A training state as far as a generator is read from it."""
    return {
        "config": {"generator": TREE},
        "gan": {"average": tensors},
        "stream": {},
        "best_score": 1.0,
        **parts,
    }


def nest(tensors: Weights) -> None:
    tensors["head.weight"] = {"inner": tensors["head.weight"]}


def with_change(name: str, change: Callable[[Tensor], object]) -> Callable[[Weights], None]:
    def apply(tensors: Weights) -> None:
        tensors[name] = change(tensors[name])

    return apply


def with_nan(tensor: Tensor) -> Tensor:
    tensor = tensor.clone()
    tensor.view(-1)[7] = torch.nan
    return tensor


WRONG = {
    "nan": (with_change("head.weight", with_nan), "'head.weight' holds NaN or infinite"),
    "infinite": (with_change("head.bias", lambda t: t + torch.inf), "'head.bias' holds NaN or infinite"),
    "beyond float32": (
        with_change("head.bias", lambda t: t.double() + 1e300), "'head.bias' holds NaN or infinite"
    ),
    "complex": (with_change("head.bias", lambda t: t.to(torch.complex64)), "'head.bias' is torch.complex64"),
    "int8": (with_change("head.bias", lambda t: t.to(torch.int8)), "'head.bias' is torch.int8"),
    "bool": (with_change("head.bias", lambda t: t > 0), "'head.bias' is torch.bool"),
    "sparse": (with_change("head.weight", lambda t: t.to_sparse()), "not dense"),
    "nested": (nest, "'head.weight' is a dict; expected a tensor"),
    "numbers": (with_change("head.bias", lambda t: t.tolist()), "'head.bias' is a list"),
    "nested tensor": (
        # From torch 2.15 on no such tensor is read without running code.
        with_change("head.bias", lambda t: torch.nested.as_nested_tensor([t[:2], t[:3]])),
        "not dense|could run code",
    ),
    "number for a name": (lambda tensors: tensors.update({7: torch.ones(1)}), "another architecture|'7'"),
    "other shape": (with_change("head.bias", lambda t: t[:5]), "another architecture"),
    "missing": (lambda tensors: tensors.pop("head.bias"), "another architecture"),
    "one value for all": (
        with_change("head.weight", lambda t: t[:1, :1].expand(10**6, 10**6)), "another architecture"
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", WRONG)
def test_weights_of_another_kind_are_refused_by_name(tmp_path: Path, fault: str) -> None:
    break_them, message = WRONG[fault]
    tensors = weights()
    break_them(tensors)
    torch.save(state(tensors), tmp_path / "state.pt")
    with pytest.raises(CheckpointError, match=rf"state\.pt: .*({message})") as refusal:
        load_generator(str(tmp_path / "state.pt"))
    assert "weights_only" not in str(refusal.value)
    if fault in ("nan", "infinite", "beyond float32", "complex", "int8", "bool"):
        metadata = {"generator": json.dumps(TREE)}
        save_file(tensors, tmp_path / "g.safetensors", metadata)
        with pytest.raises(CheckpointError, match=rf"g\.safetensors: .*({message})"):
            load_generator(str(tmp_path / "g.safetensors"))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_another_precision_load_as_float32(tmp_path: Path, dtype: torch.dtype) -> None:
    tensors = {name: tensor.to(dtype) for name, tensor in weights().items()}
    torch.save(state(tensors), tmp_path / "state.pt")
    generator, _ = load_generator(str(tmp_path / "state.pt"))
    for name, tensor in generator.state_dict().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, tensors[name].float())


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"config": 3}, "config is a int; expected keys"),
        ({"config": {"generator": ["spectral"]}}, "generator: expected keys, got list"),
        ({"config": {"generator": {"size": 7}}}, "another architecture"),
        ({"config": {"generator": {"width": 7}}}, "another architecture"),
        ({"gan": []}, "gan is a list; expected keys"),
        ({"gan": {}}, "expected weights by name, got NoneType"),
        ({"gan": {"average": torch.ones(3)}}, "expected weights by name, got Tensor"),
        ({"stream": None}, "stream is a NoneType"),
    ],
)
def test_a_training_state_with_other_things_inside_is_refused(
    tmp_path: Path, parts: dict[str, object], message: str
) -> None:
    torch.save(state(weights(), **parts), tmp_path / "state.pt")
    with pytest.raises(CheckpointError, match=rf"state\.pt: .*{message}"):
        load_generator(str(tmp_path / "state.pt"))


def test_a_file_that_could_run_code_is_refused_without_advice_to_run_it(tmp_path: Path) -> None:
    torch.save(state(weights(), more=Path("a")), tmp_path / "state.pt")
    with pytest.raises(CheckpointError, match="could run code") as refusal:
        load(str(tmp_path / "state.pt"))
    assert "weights_only" not in str(refusal.value) and "\n" not in str(refusal.value)


def test_damaged_files_are_refused_whatever_was_hit(tmp_path: Path) -> None:
    torch.save(state(weights()), tmp_path / "state.pt")
    whole = (tmp_path / "state.pt").read_bytes()
    draw = torch.Generator().manual_seed(0)
    for _ in range(60):
        data = bytearray(whole)
        # The pickle and the zip's directory lie at the ends.
        for place in torch.randint(0, 3000, (4,), generator=draw).tolist():
            data[place] ^= 1 << (place % 8)
            data[-place - 1] ^= 1 << (place % 8)
        (tmp_path / "broken.pt").write_bytes(data)
        try:
            load_generator(str(tmp_path / "broken.pt"))
        except CheckpointError as error:
            assert "broken.pt" in str(error) and "weights_only" not in str(error)


@pytest.mark.parametrize("text", ["[1]", "null", "{", "[" * 100_000, '{"name": {"a": []}}', "7"])
def test_metadata_that_describe_no_generator_are_refused(tmp_path: Path, text: str) -> None:
    save_file(weights(), tmp_path / "g.safetensors", {"generator": text})
    with pytest.raises(CheckpointError, match=r"g\.safetensors: "):
        load_generator(str(tmp_path / "g.safetensors"))


def test_an_old_checkpoint_runs_with_a_limit_and_keeps_its_weights(tmp_path: Path) -> None:
    path = str(tmp_path / "old.safetensors")
    save_generator(path, build("spectral", causal=True, moved=True), CONFIG, {})
    (old, old_config), (new, config) = load_generator(path), load_generator(path, 6.0)
    assert isinstance(old, SpectralGenerator) and isinstance(new, SpectralGenerator)
    assert (old.max_lift_db, old_config.max_lift_db) == (None, None)
    assert (new.max_lift_db, config.max_lift_db) == (6.0, 6.0)
    assert all(torch.equal(a, b) for a, b in zip(old.parameters(), new.parameters(), strict=True))


@pytest.mark.parametrize("limit", [0.0, -3.0, float("nan"), float("inf")])
def test_a_limit_that_cannot_be_is_refused(tmp_path: Path, limit: float) -> None:
    path = str(tmp_path / "old.safetensors")
    save_generator(path, build("spectral", causal=True), CONFIG, {})
    with pytest.raises(ConfigError, match="max_lift_db"):
        load_generator(path, limit)


def test_a_wave_generator_cannot_have_a_limit(tmp_path: Path) -> None:
    path = str(tmp_path / "wave.safetensors")
    save_generator(path, build("wave"), GeneratorConfig("wave", "tiny"), {})
    with pytest.raises(ConfigError, match="wave generator adds samples"):
        load_generator(path, 6.0)


@pytest.mark.parametrize("name", NAMES_OF_OURS)
def test_shipped_checkpoints_go_by_name_and_one_that_lacks_is_named(name: str) -> None:
    path = Path(timbre.__file__).parent / "checkpoints" / f"{name}.safetensors"
    assert resolve("runs/best.safetensors") == "runs/best.safetensors"
    if path.is_file():
        assert resolve(name) == str(path)
        assert load_generator(name)[1].noisy_input
    else:
        with pytest.raises(CheckpointError, match=f"lacks its {name} checkpoint"):
            resolve(name)
