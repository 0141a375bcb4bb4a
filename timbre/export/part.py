"""What an ONNX file can hold, and how PyTorch computes the same."""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor, nn

from timbre.denoise import DeepFilterNet3
from timbre.models import Generator

# What PyTorch makes of whole signals.
Whole = Callable[..., tuple[Tensor, ...]]


class ExportPart(NamedTuple):
    """A module to export, beside what it has to agree with.

    All signals are ``(batch, 1, samples)`` float32 at 48 kHz.

    module: from the signals, and then the state, to the outputs, and then the next state; in hops
        of 480 samples, or without a state in signals of any length.
    signals, outputs: their names.
    state: the state's tensors of one stream by name, all zero; none for whole signals.
    length: which of them holds the signal's samples, once they are known, if one does.
    latency_samples: how late the outputs are, with a state; without, how far they look ahead.
    whole: the outputs that PyTorch gives of whole signals.
    about: what it is.
    """

    module: nn.Module
    signals: tuple[str, ...]
    outputs: tuple[str, ...]
    state: dict[str, Tensor]
    length: str | None
    latency_samples: int
    whole: Whole
    about: str


def generator_output(generator: Generator) -> Whole:
    """Return what gives restored of degraded, or of degraded and noisy, in PyTorch."""

    def whole(*signals: Tensor) -> tuple[Tensor, ...]:
        return (generator(*signals),)

    return whole


def chain_output(denoiser: DeepFilterNet3, generator: Generator, noisy_input: bool) -> Whole:
    """Return what gives restored and denoised of noisy in PyTorch."""

    def whole(noisy: Tensor) -> tuple[Tensor, ...]:
        denoised = denoiser(noisy[:, 0])[:, None]
        return generator(denoised, noisy if noisy_input else None), denoised

    return whole
