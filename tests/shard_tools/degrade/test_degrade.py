import io
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.modules.module import register_module_forward_pre_hook

from shard_tools.degrade.degrade import (
    DenoiserConfig,
    degrade,
    weights_hash,
)
from tests.help.degrade_inputs import Clips, assert_in_time, make_clips, onnx_config
from tests.help.denoise_inputs import si_sdr_db
from tests.help.official_deepfilternet import INSTALLED, randomize
from tests.help.onnx_models import write_filter
from timbre import config as configs
from timbre.audio import Wave
from timbre.denoise import DeepFilterNet3
from timbre.denoise.df3 import CLIP_SAMPLES, LENGTH_STEP
from timbre.denoise.official_package import Official
from timbre.denoise.weights import ARCHIVE_SHA256, wheel_archive
from timbre.errors import CheckpointError, ConfigError
from timbre.storage import files as storage

needs_official = pytest.mark.skipif(
    not INSTALLED, reason="deepfilternet is not installed (extra `official`; Python below 3.12)"
)


@pytest.fixture(scope="module")
def clips() -> Clips:
    return make_clips()


@pytest.fixture(scope="module")
def noisy(clips: Clips) -> list[Wave]:
    return [pair[1] for pair in clips]


@pytest.mark.parametrize("name", ["none", "df3", pytest.param("official", marks=needs_official)])
def test_result_is_as_long_as_its_input_and_in_time(clips: Clips, name: str) -> None:
    assert_in_time(clips, DenoiserConfig(name=name, batch_size=3))


@pytest.mark.official
@needs_official
def test_official_equals_deepfilternet3(noisy: list[Wave]) -> None:
    ours = degrade(noisy, DenoiserConfig())
    theirs = degrade(noisy, DenoiserConfig(name="official"))
    for one, other, source in zip(ours, theirs, noisy, strict=True):
        assert si_sdr_db(torch.from_numpy(one), torch.from_numpy(other)) >= 100
        assert si_sdr_db(torch.from_numpy(one), torch.from_numpy(source)) < 20  # it did something


@pytest.fixture(scope="module")
def other_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive as `DeepFilterNet3.zip` is, with other weights."""
    with tarfile.open(wheel_archive()) as tar:
        (name,) = (name for name in tar.getnames() if name.endswith("config.ini"))
        member = tar.extractfile(name)
        assert member is not None
        config_ini = member.read()
    model = Official().model
    randomize(model, seed=3)
    checkpoint = io.BytesIO()
    torch.save(model.state_dict(), checkpoint)
    path = tmp_path_factory.mktemp("weights") / "Other.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("Other/config.ini", config_ini)
        archive.writestr("Other/checkpoints/model_7.ckpt.best", checkpoint.getvalue())
    return path


@pytest.mark.official
@needs_official
def test_both_deepfilternets_take_another_archive_by_path_or_url(
    noisy: list[Wave], other_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(other_weights.parent / "hub"))
    url = "memory://weights/Other.zip"
    storage.publish(url, other_weights.read_bytes())
    results, hashes = [], set()
    for name in ("df3", "official"):
        for weights in (str(other_weights), url):
            config = DenoiserConfig(name=name, weights=weights)
            results.append(torch.from_numpy(degrade(noisy[:1], config)[0]))
            hashes.add(weights_hash(config))
    official_output = torch.from_numpy(degrade(noisy[:1], DenoiserConfig())[0])
    for result in results:
        assert si_sdr_db(result, results[0]) >= 100
        assert si_sdr_db(result, official_output) < 20
    assert len(hashes) == 1
    assert hashes != {ARCHIVE_SHA256}


@pytest.mark.parametrize(
    ("name", "url", "content", "message"),
    [
        ("df3", "missing.zip", None, r"denoiser\.weights: .*missing\.zip"),
        ("df3", "memory://missing.zip", None, r"denoiser\.weights: memory://missing"),
        ("df3", "memory://bad.zip", b"PK?", "memory://bad.zip is not a zip file"),
        pytest.param(
            "official", "memory://missing.zip", None, r"denoiser\.weights: .*memory://missing\.zip",
            marks=needs_official,
        ),
        pytest.param(
            "official", "memory://bad.zip", b"PK?", r"memory://bad\.zip holds config\.ini 0 times",
            marks=needs_official,
        ),
    ],
)  # fmt: skip
def test_weights_that_cannot_be_used_are_named(
    name: str, url: str, content: bytes | None, message: str, tmp_path: Path
) -> None:
    url = url if "://" in url else str(tmp_path / url)
    if content is not None:
        storage.publish(url, content)
    with pytest.raises((ConfigError, CheckpointError), match=message):
        weights_hash(DenoiserConfig(name=name, weights=url))


def test_a_folder_as_weights_is_told_as_one(tmp_path: Path) -> None:
    storage.publish("memory://weights-folder/a", b"x")
    for folder in (str(tmp_path), "memory://weights-folder"):
        message = rf"denoiser\.weights: {folder}: a folder, expected a file"
        with pytest.raises(ConfigError, match=message):
            weights_hash(DenoiserConfig(weights=folder))


@pytest.mark.parametrize("batch_size", [1, 2, 5])
@pytest.mark.parametrize("name", ["df3", "onnx", pytest.param("official", marks=needs_official)])
def test_a_result_does_not_depend_on_the_clips_beside_it(
    noisy: list[Wave], name: str, batch_size: int, tmp_path: Path
) -> None:
    if name == "onnx":
        pytest.importorskip("onnxruntime")
        name = f"onnx:{write_filter(tmp_path / 'f.onnx', delay=480)}"
    config = DenoiserConfig(name=name, batch_size=batch_size)
    together = degrade(noisy[::-1], config)[::-1]
    for wave, expected in zip(together, noisy, strict=True):
        (alone,) = degrade([expected], config)
        np.testing.assert_allclose(wave, alone, atol=1e-6, rtol=0)


def batches_of(waves: list[Wave], batch_size: int) -> list[tuple[int, int]]:
    """Return the shape ``(clips, samples)`` of each batch that DeepFilterNet3 gets."""
    shapes: list[tuple[int, int]] = []

    def note(module: torch.nn.Module, inputs: tuple[Any, ...]) -> None:
        if isinstance(module, DeepFilterNet3):
            shapes.append(tuple(inputs[0].shape))

    hook = register_module_forward_pre_hook(note)
    try:
        degrade(waves, DenoiserConfig(batch_size=batch_size))
    finally:
        hook.remove()
    return shapes


def test_batches_hold_little_padding() -> None:
    """Batches hold little more than the clips rounded up, and less than in their own order."""
    rng = np.random.default_rng(3)
    # As planned: from one to two times the shortest.
    waves = [np.zeros(n, np.float32) for n in rng.integers(48_000, 96_000, 32)]
    lengths = [-(-len(wave) // LENGTH_STEP) * LENGTH_STEP for wave in waves]
    shapes = batches_of(waves, 8)
    assert [clips for clips, _ in shapes] == [8] * 4
    samples_in_batches = sum(clips * samples for clips, samples in shapes)
    samples_in_order = sum(8 * max(lengths[first : first + 8]) for first in range(0, 32, 8))
    assert (
        sum(lengths)
        <= samples_in_batches
        < 1.08 * sum(lengths)
        < 1.2 * sum(lengths)
        < samples_in_order
    )


def test_no_batch_is_longer_than_its_clips_of_four_seconds_but_a_single_clip() -> None:
    lengths = [30_000, 500_000, 200_000, 190_000, 40_000, 100_000, 90_000, 192_000, 20_000]
    shapes = batches_of([np.zeros(n, np.float32) for n in lengths], 2)
    assert sum(clips for clips, _ in shapes) == len(lengths)
    assert all(n * samples <= 2 * CLIP_SAMPLES or n == 1 for n, samples in shapes)
    assert all(n <= 2 and samples % LENGTH_STEP == 0 for n, samples in shapes)
    assert (1, 504_000) in shapes and (2, 192_000) in shapes


def test_results_come_in_the_order_of_the_input(noisy: list[Wave]) -> None:
    """The clips have several lengths, so the batches come in another order."""
    results = degrade(noisy, DenoiserConfig(batch_size=2))
    for wave, source in zip(results, noisy, strict=True):
        match = [np.corrcoef(wave[:50_000], other[:50_000])[0, 1] for other in noisy]
        assert noisy[int(np.argmax(match))] is source


def test_no_denoiser_returns_what_it_got(noisy: list[Wave]) -> None:
    config = DenoiserConfig(name="none")
    for wave, source in zip(degrade(noisy, config), noisy, strict=True):
        np.testing.assert_array_equal(wave, source)
    assert weights_hash(config) == ""


def test_a_model_is_read_once_a_process(noisy: list[Wave], tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    config = onnx_config(write_filter(tmp_path / "f.onnx"), device="cpu")
    sha256 = weights_hash(config)
    (tmp_path / "f.onnx").unlink()
    assert len(degrade(noisy, config)) == len(noisy)
    assert weights_hash(config) == sha256


def test_a_hash_tells_weights_and_delays_apart_but_not_places(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    one = write_filter(tmp_path / "one.onnx", delay=480)
    same = write_filter(tmp_path / "same.onnx", delay=480)
    other = write_filter(tmp_path / "other.onnx", delay=480, surplus=5)
    first = weights_hash(onnx_config(one))
    assert weights_hash(onnx_config(one, delay_samples=480)) == first
    assert weights_hash(onnx_config(same)) == first
    different = [onnx_config(one, delay_samples=479), onnx_config(other), DenoiserConfig()]
    hashes = {first, *map(weights_hash, different)}
    assert len(hashes) == 4
    assert all(len(sha256) == 64 for sha256 in hashes)
    assert weights_hash(DenoiserConfig()) == ARCHIVE_SHA256


@pytest.mark.parametrize("name", ["DeepFilterNet3", "", "onnx", "onnx:", "ONNX:a.onnx"])
def test_an_unknown_name_is_refused_with_those_that_are_known(name: str) -> None:
    with pytest.raises(ConfigError) as failure:
        configs.from_tree(DenoiserConfig, {"name": name, "batch_size": 0}, "prep.yaml")
    message = f"name: expected df3, official, rnnoise, gate, none or onnx:PATH, got {name!r}"
    assert message in str(failure.value)
    assert "batch_size" in str(failure.value)  # all mistakes at once


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"name": "onnx:a.onnx", "weights": "b"}, "weights: onnx:a.onnx has them inside"),
        ({"delay_samples": 3}, "delay_samples: only for onnx:PATH, df3 needs none"),
        ({"name": "onnx:a.onnx", "delay_samples": 1.5}, "delay_samples: "),
        ({"device": "gpu"}, "device: expected 'auto', 'cpu' or 'cuda', got 'gpu'"),
    ],
)
def test_fields_that_do_not_go_together_are_refused(tree: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as failure:
        configs.from_tree(DenoiserConfig, tree, "prep.yaml")
    assert message in str(failure.value)


def test_the_path_of_a_model_keeps_its_case_and_survives_a_dump(tmp_path: Path) -> None:
    config = onnx_config("s3://Bucket/My.ONNX", delay_samples=-7)
    assert config.name == "onnx:s3://Bucket/My.ONNX"
    (tmp_path / "c.yaml").write_text(configs.dump(config))
    assert configs.load(DenoiserConfig, tmp_path / "c.yaml") == config


def test_a_missing_package_is_named_with_the_way_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = write_filter(tmp_path / "f.onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ConfigError, match=r"onnxruntime.*pip install 'timbre\[onnx\]'"):
        weights_hash(onnx_config(url))
    monkeypatch.setitem(sys.modules, "df", None)
    message = r"deepfilternet.*pip install 'timbre\[official\]', with Python < 3\.12"
    with pytest.raises(ConfigError, match=message):
        weights_hash(DenoiserConfig(name="official", weights="any"))


@pytest.mark.official
@needs_official
def test_the_official_package_leaves_no_stand_in_for_torchaudio_behind() -> None:
    Official()
    assert not [name for name in sys.modules if name.startswith("torchaudio.backend")]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused_when_asked_for(noisy: list[Wave]) -> None:
    config = DenoiserConfig(device="cuda")
    assert weights_hash(config) == ARCHIVE_SHA256  # needs none
    with pytest.raises(ConfigError, match=r"denoiser\.device: cuda"):
        degrade(noisy, config)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", ["df3", pytest.param("official", marks=needs_official)])
def test_a_gpu_gives_what_the_cpu_gives(noisy: list[Wave], name: str) -> None:
    there = degrade(noisy, DenoiserConfig(name=name, device="cuda"))
    here = degrade(noisy, DenoiserConfig(name=name, device="cpu"))
    for one, other in zip(there, here, strict=True):
        assert si_sdr_db(torch.from_numpy(one), torch.from_numpy(other)) >= 60
