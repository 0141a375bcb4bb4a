"""Where the denoiser's weights come from. Everything else is refused by its name."""

import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor

from timbre.denoise.network import Network
from timbre.denoise.onnx_archive import read_archive
from timbre.denoise.weights import ARCHIVE_SHA256, METADATA_KEY, load_weights, wheel_archive
from timbre.errors import CheckpointError

CONFIG = """[df]
sr = 48000
fft_size = 960
hop_size = 480
min_nb_erb_freqs = 2
norm_tau = 1
df_lookahead = 2
[deepfilternet]
conv_lookahead = 2
"""


@pytest.fixture(scope="module")
def checkpoint() -> dict[str, Tensor]:
    return read_archive(wheel_archive().read_bytes())


def test_cached_bytes_are_reproducible_and_loadable(tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as pool:  # two jobs that find the cache empty do no harm
        first, second = pool.map(lambda _: load_weights(cache_dir=tmp_path / "one"), range(2))
    load_weights(wheel_archive(), tmp_path / "other")
    (one,) = (tmp_path / "one").iterdir()
    (other,) = (tmp_path / "other").iterdir()
    assert ARCHIVE_SHA256[:16] in one.name
    assert one.read_bytes() == other.read_bytes()
    state, sha256 = load_weights(one)
    assert sha256 == first[1] == second[1] == ARCHIVE_SHA256
    assert all(torch.equal(state[name], first[0][name]) for name in first[0])


def test_default_cache_lies_in_the_folder_of_torch_hub(tmp_path: Path) -> None:
    before = torch.hub.get_dir()
    torch.hub.set_dir(str(tmp_path))
    try:
        load_weights()
    finally:
        torch.hub.set_dir(before)
    assert len(list((tmp_path / "timbre").glob("*.safetensors"))) == 1


@pytest.mark.parametrize("damage", ["truncated", "flipped", "emptied", "replaced"])
def test_damaged_cache_is_rebuilt(tmp_path: Path, damage: str) -> None:
    load_weights(cache_dir=tmp_path)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    middle = len(whole) // 2
    content = {
        "truncated": whole[:middle],
        "flipped": whole[:middle] + bytes([whole[middle] ^ 64]) + whole[middle + 1 :],
        "emptied": b"",
        "replaced": safetensors.torch.save({"weight": torch.zeros(3)}),
    }[damage]
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=path.name):
        load_weights(path)
    load_weights(cache_dir=tmp_path)
    assert path.read_bytes() == whole


@pytest.mark.parametrize("content", [b"404: Not Found\n", b"", None])
def test_an_archive_with_another_hash_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "DeepFilterNet3_onnx.tar.gz"
    path.write_bytes(wheel_archive().read_bytes()[:100_000] if content is None else content)
    with pytest.raises(CheckpointError, match=rf"{path.name} has SHA-256 .*{ARCHIVE_SHA256}"):
        load_weights(path, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.tar\.gz"):
        load_weights(tmp_path / "nowhere.tar.gz", tmp_path)


def test_checkpoint_and_zip_give_the_weights_of_the_archive(
    tmp_path: Path, checkpoint: dict[str, Tensor]
) -> None:
    path = tmp_path / "model_120.ckpt.best"
    torch.save(checkpoint, path)
    archive = tmp_path / "DeepFilterNet3.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("DeepFilterNet3/config.ini", CONFIG)
        file.writestr("DeepFilterNet3/checkpoints/model_9.ckpt", b"an older one")
        file.write(path, "DeepFilterNet3/checkpoints/model_120.ckpt.best")
    expected, _ = load_weights(cache_dir=tmp_path)
    hashes = {ARCHIVE_SHA256}
    for source in (path, archive):
        state, sha256 = load_weights(source, tmp_path)
        hashes.add(sha256)
        assert state.keys() == expected.keys()
        assert all(torch.equal(state[name], expected[name]) for name in expected)
    assert len(hashes) == 3


def test_a_checkpoint_of_something_else_is_refused_by_name(
    tmp_path: Path, checkpoint: dict[str, Tensor]
) -> None:
    name = "enc.df_conv0.2.weight"
    cases: list[tuple[object, str]] = [
        ({k: v for k, v in checkpoint.items() if k != name}, f"{name} is missing"),
        ({**checkpoint, name: torch.zeros(64, 32, 1, 1)}, rf"{name} is \(64, 32, 1, 1\), expected"),
        ({**checkpoint, "enc.more": torch.zeros(1)}, r"enc\.more is \(1,\), expected no such"),
        ({"state": 3}, "and [0-9]+ more"),
        ([1, 2], "holds a list"),
    ]
    for content, message in cases:
        path = tmp_path / "model_1.ckpt"
        torch.save(content, path)
        with pytest.raises(CheckpointError, match=message):
            load_weights(path, tmp_path)


def test_files_that_are_no_checkpoint_are_refused(
    tmp_path: Path, checkpoint: dict[str, Tensor]
) -> None:
    good = tmp_path / "model_1.ckpt"
    torch.save(checkpoint, good)
    empty_zip = b"PK\5\6" + bytes(18)
    whole = good.read_bytes()
    for content in (b"", b"hello there, this is text", whole[:200_000], empty_zip):
        path = tmp_path / "broken.ckpt"
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"broken\.ckpt is no whole PyTorch checkpoint"):
            load_weights(path, tmp_path)


def test_a_zip_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "DeepFilterNet3.zip"
    path.write_bytes(b"<html>")
    with pytest.raises(CheckpointError, match="not a zip file"):
        load_weights(path, tmp_path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(CheckpointError, match=r"readme\.txt.*expected config\.ini"):
        load_weights(path, tmp_path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.ini", CONFIG.replace("freqs = 2", "freqs = 1"))
        archive.writestr("checkpoints/model_1.ckpt", b"")
    with pytest.raises(CheckpointError, match=r"df\.min_nb_erb_freqs = 1; expected 2"):
        load_weights(path, tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t * torch.nan, "not finite"),
        (lambda t: t.to(torch.int8), "torch.int8"),
        (lambda t: t.to(torch.complex64), "torch.complex64"),
        (lambda t: t.to_sparse(), "not dense"),
        (lambda t: {"inner": t}, "dict"),
        (lambda t: t.tolist(), "list"),
    ],
)
def test_weights_of_another_kind_are_refused_by_name(
    tmp_path: Path,
    checkpoint: dict[str, Tensor],
    change: Callable[[Tensor], object],
    message: str,
) -> None:
    name = "enc.df_conv0.2.weight"
    torch.save({**checkpoint, name: change(checkpoint[name])}, tmp_path / "model_1.ckpt")
    with pytest.raises(CheckpointError, match=rf"model_1\.ckpt .*{name} is {message}"):
        load_weights(tmp_path / "model_1.ckpt", tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"source_sha256": 1}', "[" * 100_000])
def test_converted_weights_with_other_metadata_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(safetensors.torch.save({"a": torch.ones(1)}, {METADATA_KEY: text}))
    with pytest.raises(CheckpointError, match=r"weights\.safetensors"):
        load_weights(path)


@pytest.mark.parametrize("text", ["no section", "[df]\nsr = many", "[df]\nsr = %(sr)s", "[df]\nsr"])
def test_an_unreadable_config_in_the_zip_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "DeepFilterNet3.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.ini", text)
        archive.writestr("checkpoints/model_1.ckpt", b"")
    with pytest.raises(CheckpointError, match=r"DeepFilterNet3\.zip: config\.ini"):
        load_weights(path, tmp_path)


def test_a_cache_that_cannot_be_written_costs_time_and_no_more(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("no folder")
    state, sha256 = load_weights(cache_dir=tmp_path / "file")
    assert sha256 == ARCHIVE_SHA256
    assert state.keys() == Network().state_dict().keys()
    assert "converted again next time" in caplog.text
