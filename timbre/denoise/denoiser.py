"""What every denoiser can do, and each of them by its name."""

import tempfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from torch import Tensor

from timbre import storage
from timbre.audio import Wave
from timbre.denoise.df3 import USUAL_BATCH, Df3
from timbre.denoise.gate import Gate
from timbre.denoise.model import DeepFilterNet3
from timbre.denoise.official_package import Official
from timbre.denoise.onnx_model import OnnxDenoiser
from timbre.denoise.rnnoise import Rnnoise
from timbre.denoiser_names import (
    DF3,
    GATE,
    NAMES,
    NONE,
    OFFICIAL,
    ONNX,
    RNNOISE,
    check_name,
    kind_of,
)
from timbre.errors import CheckpointError, ConfigError


class ByHop(Protocol):
    """A network that keeps what it needs of the past in a state, a named tuple.

    Its output is late by ``latency_samples``, a multiple of the hop. If the state has a field
    ``length``, the runner writes there, at the end, how many samples the signal had.
    """

    latency_samples: int

    def initial_state(self, batch: int) -> Any:
        """Return the state before the first hop of ``batch`` signals."""

    def __call__(self, *inputs: Any, **options: Any) -> tuple[Tensor, Any]:
        """Return the output for hops ``(batch, hops * HOP)``, of that shape, and the next state.

        Args:
            inputs: the hops, the state, and for some networks a second signal of the same shape.
            options: none; the signatures of networks differ, and this admits all of them.
        """


class Denoiser(Protocol):
    """Takes noise from speech.

    Attributes:
        name: one of :mod:`timbre.denoiser_names`.
        sample_rate: of its input and output, in Hz.
        latency_samples: how late its own output is, before :meth:`denoise_clips` makes up for it.
        weights_sha256: changes with what it computes.
    """

    name: str
    sample_rate: int
    latency_samples: int
    weights_sha256: str

    def denoise_clips(self, clips: Sequence[Wave]) -> list[Wave]:
        """Return each ``(samples,)`` denoised, as long as it was, with no delay left.

        A clip comes out as if it were alone.
        """

    def by_hop(self) -> ByHop | None:
        """Return the denoiser for live signals; None where it looks further ahead than some hops."""


def load_denoiser(
    name: str,
    weights: str | None = None,
    delay_samples: int | None = None,
    device: str = "cpu",
    batch_size: int = USUAL_BATCH,
) -> Denoiser | None:
    """Return a denoiser, ready for use; None for ``none``.

    Args:
        name: one of :mod:`timbre.denoiser_names`.
        weights: of ``df3`` or ``official``: a path or URL; None for those of the installed package.
        delay_samples: how late an ONNX model's output is; None measures it.
        device: ``cpu``, or ``cuda:N`` for those that can use it.
        batch_size: clips of 4 s that ``df3`` takes at a time; the others take one.

    Raises:
        ConfigError: it cannot be used; the message says why.
        MissingPackageError: its package is not installed; the message says how to install it.
        CheckpointError: its weights are not what they should be.
    """
    if weights is not None and name not in (DF3, OFFICIAL):
        raise ConfigError(f"denoiser {name}: takes no weights of its own, got {weights!r}")
    if kind_of(name) == ONNX:
        return OnnxDenoiser(name.removeprefix(f"{ONNX}:"), delay_samples, device)
    if name == NONE:
        return None
    if name == OFFICIAL:
        return Official(weights, device)
    if name == DF3:
        return Df3(_deepfilternet3(weights).to(device), batch_size)
    if name == RNNOISE:
        return Rnnoise()
    if name == GATE:
        return Gate()
    raise ConfigError(f"denoiser {name}: expected {', '.join(NAMES)} or {ONNX}:PATH")


def as_denoiser(
    denoise: bool | str | DeepFilterNet3 | Denoiser, weights: str | None = None
) -> Denoiser | None:
    """Return what a caller means: True is ``df3``, False ``none``, a name is loaded.

    Raises like :func:`load_denoiser`.

    Args:
        denoise: what comes before the generator.
        weights: of a denoiser that is loaded here.
    """
    if isinstance(denoise, bool):
        denoise = DF3 if denoise else NONE
    if isinstance(denoise, DeepFilterNet3):
        return Df3(denoise)
    if not isinstance(denoise, str):
        return denoise
    try:
        name = check_name(denoise)
    except ValueError as error:
        raise ConfigError(f"denoiser: {error}") from None
    return load_denoiser(name, weights)


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
