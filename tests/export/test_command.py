"""`timbre export`: a file gives what PyTorch gives, for any batch, length and stream."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import soundfile
import torch

from tests.help.denoise_inputs import noisy_voice

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

from tests.help.exported_parts import (
    CASES,
    SPECTRAL,
    WAVE,
    Waves,
    export_case,
    moved_generator,
    session_of,
    step,
    zero_state,
)
from timbre import config
from timbre.audio import HOP
from timbre.denoise import DeepFilterNet3
from timbre.errors import WorkError
from timbre.export import command as export
from timbre.export.parity import parity
from timbre.models.checkpoint import load_checkpoint, load_generator, save_generator
from timbre.models.generator import GeneratorConfig, build_generator
from timbre.train import checkpoints

WHOLE = [name for name, case in CASES.items() if not case.stream]
STREAMS = [name for name, case in CASES.items() if case.stream]
LATENCY = {
    "wave stream": 0,
    "chain stream": 4 * HOP,
    "limited chain stream": 4 * HOP,
}


def signals(batch: int, samples: int) -> dict[str, Waves]:
    noisy = torch.stack([noisy_voice(samples, seed) for seed in range(batch)])[:, None]
    degraded = torch.stack([noisy_voice(samples, seed, 0.001) for seed in range(batch)])[:, None]
    return {"noisy": noisy.numpy(), "degraded": degraded.numpy()}


def by_pytorch(name: str, waves: dict[str, Waves]) -> list[Waves]:
    """Return the outputs of a case's networks in PyTorch for whole signals."""
    case = export_case(name).case
    generator, _ = load_generator(export_case(name).checkpoint)
    noisy, degraded = (torch.from_numpy(waves[which]) for which in ("noisy", "degraded"))
    with torch.no_grad():
        if case.part == "chain":
            degraded = DeepFilterNet3.load()(noisy[:, 0])[:, None]
        restored = generator(degraded, noisy if case.config.noisy_input else None)
    outputs = [restored, degraded] if case.part == "chain" else [restored]
    return [output.numpy() for output in outputs]


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize(("batch", "samples"), [(1, 1), (1, 479), (3, 4800), (1, 100_003)])
def test_a_whole_file_equals_pytorch_for_any_batch_and_length(
    name: str, batch: int, samples: int
) -> None:
    waves = signals(batch, samples)
    session = session_of(name)
    feed = {entry.name: waves[entry.name] for entry in session.get_inputs()}
    outputs, expected = session.run(None, feed), by_pytorch(name, waves)
    for ours, theirs in zip(outputs, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4, rtol=0)
    degraded = expected[-1] if len(expected) == 2 else waves["degraded"]
    if samples > 1:  # not merely the identity
        assert np.abs(outputs[0] - degraded).max() > 1e-4


@pytest.mark.parametrize("name", STREAMS)
def test_a_streamed_file_equals_pytorch_on_the_whole_signal_at_its_latency(name: str) -> None:
    waves = signals(2, 200 * HOP)
    session = session_of(name)
    names = [i.name for i in session.get_inputs() if i.name in waves]
    state, hops = zero_state(session, 2), []
    for start in range(0, 200 * HOP, HOP):
        feed = {signal: waves[signal][..., start : start + HOP] for signal in names}
        outputs, state = step(session, feed, state)
        hops.append(outputs)
    late = LATENCY[name]
    # The last hops that are out hear nothing of what comes behind the signal.
    for ours, theirs in zip(zip(*hops, strict=True), by_pytorch(name, waves), strict=True):
        whole = np.concatenate(ours, axis=2)
        np.testing.assert_allclose(
            whole[..., late:], theirs[..., : 200 * HOP - late], atol=1e-4, rtol=0
        )
        assert np.abs(theirs).max() > 0.01


def test_a_stream_ends_like_the_whole_once_it_is_told_its_length() -> None:
    samples = 10 * HOP - 77
    waves = signals(1, samples)
    session = session_of("chain stream")
    longer = np.pad(waves["noisy"], ((0, 0), (0, 0), (0, 77 + 4 * HOP)))
    state, hops = zero_state(session, 1), []
    for number, start in enumerate(range(0, longer.shape[2], HOP)):
        if number == 10:
            state["denoiser_length"][:] = samples
        outputs, state = step(session, {"noisy": longer[..., start : start + HOP]}, state)
        hops.append(outputs[0])
    output = np.concatenate(hops, axis=2)[..., 4 * HOP :][..., :samples]
    np.testing.assert_allclose(output, by_pytorch("chain stream", waves)[0], atol=1e-4, rtol=0)


def test_a_row_whose_state_is_zeroed_begins_anew_and_leaves_the_others_alone() -> None:
    noisy = signals(1, 20 * HOP)["noisy"]
    session = session_of("chain stream")

    def run(rows: Waves, restart: int | None) -> Waves:
        state, hops = zero_state(session, len(rows)), []
        for start in range(0, rows.shape[2], HOP):
            if start == restart:
                for tensor in state.values():
                    tensor[1] = 0
            outputs, state = step(session, {"noisy": rows[..., start : start + HOP]}, state)
            hops.append(outputs[0])
        return np.concatenate(hops, axis=2)

    alone = run(noisy, None)
    later = np.concatenate([np.ones_like(noisy[..., : 7 * HOP]), noisy[..., : 13 * HOP]], axis=2)
    both = run(np.concatenate([noisy, later]), 7 * HOP)
    np.testing.assert_allclose(both[:1], alone, atol=1e-4, rtol=0)
    np.testing.assert_allclose(both[1:, :, 7 * HOP :], alone[..., : 13 * HOP], atol=1e-4, rtol=0)


def test_digital_silence_gives_what_pytorch_gives() -> None:
    # A level of silence is finite thanks to an added constant, which onnxruntime might drop.
    silence = np.zeros((1, 1, 48_000), np.float32)
    expected = by_pytorch("chain", {"noisy": silence, "degraded": silence})
    outputs = session_of("chain").run(None, {"noisy": silence})
    np.testing.assert_allclose(outputs, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", CASES)
def test_the_exported_file_is_one_and_says_what_it_is(name: str) -> None:
    file = export_case(name)
    assert [path.name for path in file.path.parent.iterdir()] == ["made.onnx"]
    model = onnx.load(file.path, load_external_data=False)
    onnx.checker.check_model(model)
    (opset,) = (entry.version for entry in model.opset_import if entry.domain == "")
    facts = {entry.key: entry.value for entry in model.metadata_props}
    assert facts["opset"] == str(opset) and f"opset {opset}" in file.text
    assert facts["sample_rate"] == "48000" and "-25 dBFS" in facts["level"]
    assert json.loads(facts["generator"]) == config.to_tree(file.case.config)
    if name in LATENCY:
        assert facts["latency_samples"] == str(LATENCY[name])
        assert f"late by {LATENCY[name]} samples" in file.text
    state = json.loads(facts["state"])
    shapes = {place.name: place.shape for place in session_of(name).get_inputs()}
    assert {key: shapes[key][1:] for key in state} == {key: s[1:] for key, s in state.items()}
    assert shapes.keys() - state.keys() <= {"noisy", "degraded"}
    assert bool(state) == file.case.stream


@pytest.mark.parametrize("out", ["g.onnx", "out.safetensors"])
def test_weights_that_are_not_finite_are_refused_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], out: str
) -> None:
    generator = moved_generator(SPECTRAL)
    generator.head.bias.data.fill_(torch.nan)  # type: ignore[union-attr]
    save_generator(str(tmp_path / "g.safetensors"), generator, SPECTRAL, None)
    assert export.main([str(tmp_path / "g.safetensors"), str(tmp_path / out)]) == 1
    assert "weight 'head.bias' holds NaN or infinite values" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["g.safetensors"]


def test_a_part_that_differs_from_pytorch_is_refused() -> None:
    generator = moved_generator(SPECTRAL)
    part = export.build_part(generator, SPECTRAL)
    generator.head.bias.data.fill_(torch.nan)  # type: ignore[union-attr]
    with pytest.raises(WorkError, match="onnxruntime and PyTorch differ by nan"):
        export.to_onnx(part, {})


@pytest.mark.parametrize("name", ["spectral", "wave stream"])
def test_parity_is_the_largest_difference_from_another_generator(name: str) -> None:
    file = export_case(name)
    generator, generator_config = load_generator(file.checkpoint)
    part = export.build_part(generator, generator_config, stream=file.case.stream)
    data = file.path.read_bytes()
    assert parity(data, part) <= 1e-4
    # The output's last layer moves every sample.
    last = generator.head if name == "spectral" else generator.last.convolution  # type: ignore[union-attr]
    last.bias += 0.05
    assert parity(data, part) > 1e-4


@pytest.mark.parametrize("generator_config", [SPECTRAL, WAVE], ids=lambda c: c.name)
def test_an_exported_safetensors_file_loads_back_equal(
    generator_config: GeneratorConfig, tmp_path: Path
) -> None:
    state = {
        "config": {"generator": config.to_tree(generator_config)},
        "gan": {"average": moved_generator(generator_config).state_dict()},
        "stream": {},
        "best_score": 1.0,
    }
    url = checkpoints.save(str(tmp_path), 1, state, keep=1)
    out = str(tmp_path / "generator.safetensors")
    assert export.main([url, out]) == 0
    (expected, _), (generator, loaded_config) = load_generator(url), load_generator(out)
    assert loaded_config == generator_config
    for name, tensor in expected.state_dict().items():
        torch.testing.assert_close(generator.state_dict()[name], tensor, atol=0, rtol=0)


def test_an_export_may_bake_in_a_limit(tmp_path: Path) -> None:
    url, out = str(tmp_path / "g.safetensors"), str(tmp_path / "out.safetensors")
    save_generator(url, moved_generator(SPECTRAL), SPECTRAL, None)
    assert export.main([url, out, "--max-lift-db", "6"]) == 0
    generator, loaded_config = load_generator(out)
    assert loaded_config == dataclasses.replace(SPECTRAL, max_lift_db=6.0)
    before = load_generator(url)[0].state_dict()
    assert all(torch.equal(before[name], t) for name, t in generator.state_dict().items())


@pytest.mark.parametrize(
    ("checkpoint_name", "out", "code", "message"),
    [
        ("foreign.safetensors", ["out.pt"], 2, "out.pt: expected a name that ends in .onnx"),
        ("foreign.safetensors", ["out.onnx"], 1, "not a generator of timbre"),
        ("missing.safetensors", ["out.onnx"], 1, "missing.safetensors"),
        ("ahead.safetensors", ["out.onnx", "--stream"], 2, "generator.causal=true"),
        ("ahead.safetensors", ["out.safetensors", "--stream"], 2, "expected OUT.onnx"),
        ("ahead.safetensors", ["out.safetensors", "--part", "chain"], 2, "expected OUT.onnx"),
        ("ahead.safetensors", ["out.onnx", "--denoiser-weights", "a"], 2, "expected --part chain"),
        ("ahead.safetensors", ["out.onnx", "--denoiser", "df3"], 2, "expected --part chain"),
        (
            "ahead.safetensors",
            ["out.onnx", "--part", "chain", "--denoiser", "rnnoise"],
            2,
            "--denoiser rnnoise: cannot be written into an ONNX file; expected df3 or official",
        ),
        (
            "ahead.safetensors",
            ["out.onnx", "--part", "chain", "--denoiser", "dpdfnet"],
            2,
            "--denoiser: expected df3, official, rnnoise, gate, none or onnx:PATH, got 'dpdfnet'",
        ),
        ("ahead.safetensors", ["out.onnx", "--max-lift-db", "0"], 2, "max_lift_db: expected"),
    ],
)
def test_bad_usage_is_refused_with_its_exit_code(
    checkpoint_name: str,
    out: list[str],
    code: int,
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "foreign.safetensors").write_bytes(b"no such thing")
    save_generator(str(tmp_path / "ahead.safetensors"), build_generator(SPECTRAL), SPECTRAL, None)
    path = tmp_path / out[0]
    assert export.main([str(tmp_path / checkpoint_name), str(path), *out[1:]]) == code
    assert message in capsys.readouterr().err
    assert not path.exists()


def test_what_a_checkpoint_has_learned_behind_travels_along(tmp_path: Path) -> None:
    save_generator(
        str(tmp_path / "a.safetensors"), build_generator(SPECTRAL), SPECTRAL, None, ["gate"]
    )
    assert export.main([str(tmp_path / "a.safetensors"), str(tmp_path / "b.safetensors")]) == 0
    assert load_checkpoint(str(tmp_path / "b.safetensors")).denoisers == ("gate",)


def test_a_missing_package_is_named_with_the_way_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url = str(tmp_path / "g.safetensors")
    save_generator(url, build_generator(SPECTRAL), SPECTRAL, None)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert export.main([url, str(tmp_path / "g.onnx")]) == 1
    assert "pip install 'timbre[export]'" in capsys.readouterr().err
    assert not (tmp_path / "g.onnx").exists()


def test_the_program_in_the_readme_runs_as_it_is_written(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs/restoring.md").read_text()
    section = text.partition("## `timbre export")[2].partition("\n## ")[0]
    code = section.partition("```python\n")[2].partition("```")[0]
    assert "timbre" not in code and "soundfile.write" in code
    (tmp_path / "chain.onnx").symlink_to(export_case("chain").path)
    (tmp_path / "stream.onnx").symlink_to(export_case("chain stream").path)
    noisy = signals(1, 48_000)["noisy"][0, 0]
    soundfile.write(tmp_path / "noisy.wav", noisy, 48_000, "FLOAT")
    save_live = "\nnp.save('live.npy', np.concatenate(live))\n"
    subprocess.run([sys.executable, "-c", code + save_live], cwd=tmp_path, check=True)

    gain = 10 ** (-25 / 20) / float(np.sqrt(np.mean(noisy**2)))
    waves = {"noisy": (gain * noisy)[None, None], "degraded": noisy[None, None]}
    restored, rate = soundfile.read(tmp_path / "restored.wav", dtype="float32")
    assert rate == 48_000
    expected = by_pytorch("chain", waves)[0][0, 0] / gain
    np.testing.assert_allclose(restored, expected, atol=2e-4, rtol=0)
    expected = by_pytorch("chain stream", waves)[0][0, 0] / gain
    live = np.load(tmp_path / "live.npy")
    np.testing.assert_allclose(live[4 * HOP :], expected[: -4 * HOP], atol=2e-4, rtol=0)
