import io
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import pytest
import torch

from timbre import checkpoint, config, export
from timbre.checkpoint import load_generator, save_generator
from timbre.models import GeneratorConfig, build_generator

CONFIGS = (
    GeneratorConfig("spectral", "tiny"),
    GeneratorConfig("wave", "tiny", causal=True, noisy_input=True),
)


def moved_generator(generator_config: GeneratorConfig) -> torch.nn.Module:
    """A generator away from its identity start."""
    rng = torch.Generator().manual_seed(0)
    generator = build_generator(generator_config)
    for parameter in generator.parameters():
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=rng)
    return generator


def save_state(run_dir: Path, generator_config: GeneratorConfig) -> str:
    """A training state, as far as a generator is loaded from it."""
    state = {
        "config": {"generator": config.to_tree(generator_config)},
        "gan": {"average": moved_generator(generator_config).state_dict()},
        "stream": {},
        "best_score": 1.0,
    }
    return checkpoint.save(str(run_dir), 1, state, keep=1)


class Exported(NamedTuple):
    config: GeneratorConfig
    checkpoint: str
    path: Path
    told: str


@pytest.fixture(scope="module", params=CONFIGS, ids=lambda c: c.name)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    folder = tmp_path_factory.mktemp(request.param.name)
    saved = save_state(folder, request.param)
    path = folder / "out" / "generator.onnx"
    with redirect_stdout(io.StringIO()) as told:
        assert export.main([saved, str(path)]) == 0
    return Exported(request.param, saved, path, told.getvalue())


@pytest.mark.parametrize(
    "shape", [(1, 1, 1), (1, 1, 479), (2, 1, 4799), (3, 1, 4800), (1, 1, 48000)]
)
def test_the_exported_file_equals_the_generator_for_any_batch_and_length(
    exported: Exported, shape: tuple[int, ...]
) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(exported.path, providers=["CPUExecutionProvider"])
    degraded = 0.1 * torch.randn(shape, generator=torch.Generator().manual_seed(1))
    (restored,) = session.run(None, {"degraded": degraded.numpy()})
    with torch.no_grad():
        expected = load_generator(exported.checkpoint)[0](degraded).numpy()
    np.testing.assert_allclose(restored, expected, atol=1e-4, rtol=0)
    assert np.abs(restored - degraded.numpy()).max() > 1e-4  # not merely the identity


def test_the_exported_file_is_one_and_says_what_it_is(exported: Exported) -> None:
    assert [path.name for path in exported.path.parent.iterdir()] == ["generator.onnx"]
    model = onnx.load(exported.path, load_external_data=False)
    onnx.checker.check_model(model)
    (opset,) = (entry.version for entry in model.opset_import if entry.domain == "")
    facts = {entry.key: entry.value for entry in model.metadata_props}
    assert facts["opset"] == str(opset)
    assert f"opset {opset}" in exported.told
    assert facts["sample_rate"] == "48000"
    latency = build_generator(exported.config).latency_samples
    assert facts["latency_samples"] == str(latency)
    assert exported.config.name in facts["generator"]


def test_a_generator_that_differs_is_refused_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime")
    generator = moved_generator(CONFIGS[0])
    generator.head.bias.data.fill_(torch.nan)
    save_generator(str(tmp_path / "g.safetensors"), generator, CONFIGS[0], None)
    assert export.main([str(tmp_path / "g.safetensors"), str(tmp_path / "g.onnx")]) == 1
    assert "onnxruntime and PyTorch differ by nan" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["g.safetensors"]


def test_parity_is_the_largest_difference_from_another_generator(exported: Exported) -> None:
    generator, _ = load_generator(exported.checkpoint)
    data = exported.path.read_bytes()
    assert export.parity(data, generator) <= 1e-4
    # The output's last layer moves every sample.
    last = generator.head if exported.config.name == "spectral" else generator.last.convolution
    last.bias += 0.05
    assert export.parity(data, generator) > 1e-4


@pytest.mark.parametrize("generator_config", CONFIGS, ids=lambda c: c.name)
def test_an_exported_safetensors_file_loads_back_equal(
    generator_config: GeneratorConfig, tmp_path: Path
) -> None:
    saved = save_state(tmp_path, generator_config)
    out = str(tmp_path / "generator.safetensors")
    assert export.main([saved, out]) == 0
    (expected, _), (found, found_config) = load_generator(saved), load_generator(out)
    assert found_config == generator_config
    for name, tensor in expected.state_dict().items():
        torch.testing.assert_close(found.state_dict()[name], tensor, atol=0, rtol=0)


@pytest.mark.parametrize(
    ("checkpoint_name", "out", "code", "told"),
    [
        ("foreign.safetensors", "out.pt", 2, "out.pt: expected a name that ends in .onnx"),
        ("foreign.safetensors", "out.onnx", 1, "not a generator of timbre"),
        ("missing.safetensors", "out.onnx", 1, "missing.safetensors"),
    ],
)
def test_bad_usage_is_refused_with_its_exit_code(
    checkpoint_name: str,
    out: str,
    code: int,
    told: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "foreign.safetensors").write_bytes(b"no such thing")
    assert export.main([str(tmp_path / checkpoint_name), str(tmp_path / out)]) == code
    assert told in capsys.readouterr().err
    assert not (tmp_path / out).exists()


def test_a_missing_package_is_named_with_the_way_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = save_state(tmp_path, CONFIGS[0])
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert export.main([saved, str(tmp_path / "g.onnx")]) == 1
    assert "pip install 'timbre[export]'" in capsys.readouterr().err
    assert not (tmp_path / "g.onnx").exists()
