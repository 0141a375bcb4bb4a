from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from shard_tools.degrade.degrade import degrade, weights_hash
from tests.help.degrade_inputs import (
    MAX_OFFSET,
    Clips,
    assert_in_time,
    make_clips,
    onnx_config,
    speech,
)
from tests.help.onnx_models import TAPS, write_filter, write_model
from timbre.audio import Wave
from timbre.audio.align import estimate_offset
from timbre.denoise.onnx_model import OnnxDenoiser
from timbre.errors import ConfigError, WorkError
from timbre.storage import files as storage

pytest.importorskip("onnxruntime")
# Delays, lengths and shapes that a model of others may have.
FILTERS: dict[str, dict[str, Any]] = {
    "in time": {},
    "480 late": {"delay": 480},
    "1440 late": {"delay": 1440},
    "480 late and longer": {"delay": 480, "surplus": 480},
    "longer": {"delay": 1440, "surplus": 700},
    "early and shorter": {"delay": -333},
    "batch of 1": {"delay": 480, "batch": 1},
    "rank 3": {"delay": 480, "rank": 3},
    "rank 3, batch of 1": {"delay": 1440, "rank": 3, "batch": 1},
}


@pytest.fixture(scope="module")
def clips() -> Clips:
    return make_clips()


@pytest.fixture(scope="module")
def noisy(clips: Clips) -> list[Wave]:
    return [pair[1] for pair in clips]


@pytest.mark.parametrize("fields", FILTERS.values(), ids=FILTERS)
def test_an_onnx_result_is_as_long_as_its_input_and_in_time(
    clips: Clips, fields: dict[str, Any], tmp_path: Path
) -> None:
    assert_in_time(clips, onnx_config(write_filter(tmp_path / "f.onnx", **fields)))


@pytest.mark.parametrize("fields", FILTERS.values(), ids=FILTERS)
def test_an_onnx_result_holds_the_whole_clip_to_its_last_sample(
    noisy: list[Wave], fields: dict[str, Any], tmp_path: Path
) -> None:
    config = onnx_config(write_filter(tmp_path / "f.onnx", **fields))
    for wave, result in zip(noisy, degrade(noisy, config), strict=True):
        np.testing.assert_allclose(result, np.convolve(wave, TAPS, "same"), atol=1e-6)


def test_what_a_model_leaves_off_at_the_end_is_silence(noisy: list[Wave], tmp_path: Path) -> None:
    url = write_filter(tmp_path / "f.onnx", surplus=-250)
    (result,) = degrade(noisy[:1], onnx_config(url))
    expected = np.convolve(noisy[0], TAPS, "same")
    np.testing.assert_allclose(result[:-250], expected[:-250], atol=1e-6)
    assert not result[-250:].any()
    assert len(result) == len(noisy[0])


@pytest.mark.parametrize("delay", [-12, 0, 480, 1440, 11_900])
def test_the_delay_is_measured_to_the_sample_and_alike_each_time(
    delay: int, tmp_path: Path
) -> None:
    url = write_filter(tmp_path / "f.onnx", delay=delay)
    assert [OnnxDenoiser(url).latency_samples for _ in range(2)] == [delay, delay]


def test_a_delay_that_is_given_is_taken_in_place_of_the_measured_one(tmp_path: Path) -> None:
    clean, noisy = speech(1.5, 0)
    url = write_filter(tmp_path / "f.onnx", delay=480)
    (wave,) = degrade([noisy], onnx_config(url, delay_samples=100))
    assert estimate_offset(clean, wave, MAX_OFFSET).offset == 380


def test_a_delay_that_cannot_be_measured_has_to_be_given(noisy: list[Wave], tmp_path: Path) -> None:
    url = write_model(
        tmp_path / "minus.onnx", [helper.make_node("Neg", ["x"], ["out"])], {"x": ("b", "n")}
    )
    with pytest.raises(ConfigError, match=r"confidence 0\.00.*set denoiser\.delay_samples"):
        degrade(noisy, onnx_config(url))
    (wave,) = degrade(noisy[:1], onnx_config(url, delay_samples=0))
    np.testing.assert_array_equal(wave, -noisy[0])


def write_foreign(path: Path, kind: str) -> str:
    """Write a model that is not a denoiser as expected; ``kind`` says in what."""
    same = [helper.make_node("Identity", ["x"], ["out"])]
    shape = ("b", "n")
    if kind == "two inputs":
        nodes = [helper.make_node("Add", ["x", "state"], ["out"])]
        return write_model(path, nodes, {"x": shape, "state": shape})
    if kind == "two outputs":
        nodes = [*same, helper.make_node("Neg", ["x"], ["more"])]
        return write_model(path, nodes, {"x": shape}, outputs=("out", "more"))
    if kind == "float64":
        return write_model(path, same, {"x": shape}, kind=TensorProto.DOUBLE)
    if kind == "other rank out":
        nodes = [helper.make_node("Unsqueeze", ["x", "axis"], ["out"])]
        return write_model(path, nodes, {"x": shape}, {"axis": [1]})
    if kind == "half the rate":
        weights = {"from": [0], "to": [10**9], "axis": [1], "step": [2]}
        nodes = [helper.make_node("Slice", ["x", *weights], ["out"])]
        return write_model(path, nodes, {"x": shape}, weights)
    if kind == "NaN":
        return write_model(path, [helper.make_node("Log", ["x"], ["out"])], {"x": shape})
    shapes = {
        "rank 1": ("n",),
        "rank 4": ("b", 1, 1, "n"),
        "fixed length": ("b", 48_000),
        "batch of 2": (2, "n"),
        "stereo": ("b", 2, "n"),
    }
    return write_model(path, same, {"x": shapes[kind]})


CONTRACT = r"expected one float32 input \(batch, samples\) or \(batch, 1, samples\)"


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("two inputs", rf"inputs \['x', 'state'\].*{CONTRACT}"),
        ("two outputs", rf"outputs \['out', 'more'\].*{CONTRACT}"),
        ("float64", rf"tensor\(double\).*{CONTRACT}"),
        ("rank 1", rf"\['n'\].*{CONTRACT}"),
        ("rank 4", rf"\['b', 1, 1, 'n'\].*{CONTRACT}"),
        ("fixed length", rf"\['b', 48000\].*{CONTRACT}"),
        ("batch of 2", rf"\[2, 'n'\].*{CONTRACT}"),
        ("stereo", rf"\['b', 2, 'n'\].*{CONTRACT}"),
        ("other rank out", r"gives shape \(1, 1, 192000\) for \(1, 192000\)"),
        ("half the rate", r"gives 96000 samples for 192000; expected about as many, at 48000 Hz"),
        ("NaN", r"gives NaN or infinite samples"),
    ],
)
def test_a_model_that_is_no_such_denoiser_is_refused(
    kind: str, message: str, tmp_path: Path
) -> None:
    url = write_foreign(tmp_path / "Foreign.onnx", kind)
    for fields in ({}, {"delay_samples": 0}):
        with pytest.raises(ConfigError, match=message) as failure:
            weights_hash(onnx_config(url, **fields))
        assert f"denoiser onnx:{url}: " in str(failure.value)


@pytest.mark.parametrize("content", [b"", b"no such thing", None])
def test_a_file_that_is_no_model_is_refused(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "a.onnx").write_bytes(content)
    message = "cannot be read" if content is None else "cannot load it as one ONNX file"
    with pytest.raises(ConfigError, match=rf"denoiser onnx:.*a\.onnx: .*{message}"):
        weights_hash(onnx_config(str(tmp_path / "a.onnx")))


def test_weights_beside_the_file_are_refused_even_where_they_would_be_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime

    # A gain that is the sum of many weights.
    nodes = [
        helper.make_node("ReduceSum", ["many"], ["gain"]),
        helper.make_node("Mul", ["x", "gain"], ["out"]),
    ]
    weights = {"many": np.full(1000, 1e-3, np.float32)}
    whole = onnx.load(write_model(tmp_path / "whole.onnx", nodes, {"x": ("b", "n")}, weights))
    split = tmp_path / "split.onnx"
    onnx.save(whole, split, save_as_external_data=True, size_threshold=1000, location="many")
    monkeypatch.chdir(tmp_path)
    onnxruntime.InferenceSession(split.read_bytes(), providers=["CPUExecutionProvider"])
    weights_hash(onnx_config("whole.onnx"))
    with pytest.raises(ConfigError, match="with all its weights inside"):
        weights_hash(onnx_config("split.onnx"))


def test_a_model_comes_from_any_store(noisy: list[Wave], tmp_path: Path) -> None:
    path = write_filter(tmp_path / "f.onnx", delay=480)
    storage.publish("memory://models/f.onnx", Path(path).read_bytes())
    config = onnx_config("memory://models/f.onnx")
    (result,) = degrade(noisy[:1], config)
    np.testing.assert_array_equal(result, degrade(noisy[:1], onnx_config(path))[0])
    assert weights_hash(config) == weights_hash(onnx_config(path))


def test_a_clip_on_which_a_model_fails_ends_the_work(noisy: list[Wave], tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Reshape", ["x", "frames"], ["y"]),
        helper.make_node("Reshape", ["y", "flat"], ["out"]),
    ]
    weights = {"frames": [1, -1, 480], "flat": [1, -1]}
    url = write_model(tmp_path / "hops.onnx", nodes, {"x": ("b", "n")}, weights)
    config = onnx_config(url)
    assert len(degrade([noisy[0][:48_000]], config)[0]) == 48_000
    with pytest.raises(WorkError, match=r"hops\.onnx: fails on 48001 samples"):
        degrade([noisy[0][:48_001]], config)


def test_a_model_that_cuts_long_clips_ends_the_work_in_place_of_giving_silence(
    noisy: list[Wave], tmp_path: Path
) -> None:
    """The clip on which the model is tried is 4 s long."""
    weights = {"from": [0], "to": [200_000], "axis": [1]}
    nodes = [helper.make_node("Slice", ["x", *weights], ["out"])]
    config = onnx_config(write_model(tmp_path / "cuts.onnx", nodes, {"x": ("b", "n")}, weights))
    long = np.tile(noisy[0], 3)
    assert len(degrade([long[:192_000]], config)[0]) == 192_000
    with pytest.raises(WorkError, match=r"cuts\.onnx: gives 200000 samples for 288000; expected"):
        degrade([long], config)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("sample_rate", "16000", "its metadata say sample_rate 16000, expected 48000"),
        ("latency_samples", "0", "its metadata say latency_samples 0, expected 480, as it is"),
        ("sample_rate", "48000", None),
        ("latency_samples", "480", None),
    ],
)
def test_what_a_file_says_of_itself_is_true_or_refused(
    key: str, value: str, message: str | None, tmp_path: Path
) -> None:
    path = tmp_path / "f.onnx"
    model = onnx.load(write_filter(path, delay=480))
    model.metadata_props.add(key=key, value=value)
    onnx.save(model, path)
    if message is None:
        assert weights_hash(onnx_config(str(path)))
        return
    with pytest.raises(ConfigError, match=message):
        weights_hash(onnx_config(str(path)))
