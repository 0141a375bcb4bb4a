"""The parts that take a stream hop by hop, and carry what they need of its past in a state."""

from typing import Any

import torch
from torch import Tensor, nn

from timbre.audio import HOP
from timbre.denoise import DeepFilterNet3
from timbre.denoise.by_hop import LATENCY_HOPS, LATENCY_SAMPLES, DenoiserByHop, DenoiserState
from timbre.export.denoiser import PortableDenoiser
from timbre.export.generator import portable_by_hop, portable_generator
from timbre.export.part import ExportPart, chain_output, generator_output
from timbre.models import Generator, GeneratorConfig
from timbre.models.spectral_by_hop import SpectralByHop, SpectralState
from timbre.models.wave_by_hop import WaveByHop, WaveState

GeneratorByHop = SpectralByHop | WaveByHop
State = DenoiserState | SpectralState | WaveState
Tensors = list[Tensor]

# The name of the state's first tensor: 1 from the second hop on.
STARTED = "started"


def generator_by_hop(generator: Generator, config: GeneratorConfig) -> ExportPart:
    """Return the causal generator as a part that takes a stream.

    Raises:
        ValueError: the generator looks ahead.
    """
    step = portable_by_hop(portable_generator(generator, config))
    signals = ("degraded", "noisy") if config.noisy_input else ("degraded",)
    module = ZeroStart(GeneratorHop(step), len(signals))
    return ExportPart(
        module=module,
        signals=signals,
        outputs=("restored",),
        state=module.state,
        length=None,
        latency_samples=step.latency_samples,
        whole=generator_output(generator),
        about="causal generator: degraded, which is DeepFilterNet3's output, to restored",
    )


def chain_by_hop(
    denoiser: DeepFilterNet3, generator: Generator, config: GeneratorConfig
) -> ExportPart:
    """Return DeepFilterNet3 and the causal generator as one part that takes a stream.

    Raises:
        ValueError: the generator looks ahead.
    """
    step = portable_by_hop(portable_generator(generator, config))
    chain = ChainHop(PortableDenoiser(DenoiserByHop(denoiser)), step, config.noisy_input)
    module = ZeroStart(chain, signals=1)
    return ExportPart(
        module=module,
        signals=("noisy",),
        outputs=("restored", "denoised"),
        state=module.state,
        length="denoiser_length",
        latency_samples=LATENCY_SAMPLES + step.latency_samples,
        whole=chain_output(denoiser, generator, config.noisy_input),
        about="DeepFilterNet3 and causal generator: noisy to restored, and to denoised on the way",
    )


class GeneratorHop(nn.Module):
    """A generator's step on lists of tensors; ``initial`` is one stream's state by name."""

    def __init__(self, step: GeneratorByHop) -> None:
        super().__init__()
        self.step = step
        self.first = step.initial_state(1)
        self.initial = _with_prefix("generator", self.first)

    def forward(self, signals: Tensors, state: Tensors) -> tuple[Tensors, Tensors]:
        """Return the restored ``(batch, 480)`` and the next state, of degraded and maybe noisy hops."""
        degraded, *noisy = signals
        restored, next_state = self.step(degraded, _with_empty(self.first, state), *noisy)
        return [restored], _without_empty(next_state)


class ChainHop(nn.Module):
    """The denoiser's step and the generator's; ``initial`` is one stream's state by name."""

    def __init__(self, denoiser: PortableDenoiser, step: GeneratorByHop, noisy_input: bool) -> None:
        super().__init__()
        self.denoiser, self.step, self.noisy_input = denoiser, step, noisy_input
        self.first = denoiser.step.initial_state(1), step.initial_state(1, LATENCY_HOPS)
        # What came in and what was denoised, until the outputs that belong to it.
        delays = {"noisy": LATENCY_SAMPLES, "denoised": step.latency_samples}
        self.initial = {
            **_with_prefix("denoiser", self.first[0]),
            **_with_prefix("generator", self.first[1]),
            **{f"waiting_{name}": torch.zeros(1, late) for name, late in delays.items() if late},
        }

    def forward(self, signals: Tensors, state: Tensors) -> tuple[Tensors, Tensors]:
        """Return the restored and denoised ``(batch, 480)``, in time, and the next state."""
        last = len(self.first[0])
        before = DenoiserState(*state[:last])
        middle = last + len(_without_empty(self.first[1]))
        late, after = self.denoiser(signals[0], before)
        # As in the whole, the generator hears silence before the first sample and behind the last.
        sample = (before.seen[:, None] - 1) * HOP + torch.arange(HOP)
        denoised = late * ((sample >= 0) & (sample < before.length[:, None]))
        noisy = torch.cat((state[middle], signals[0]), dim=1)
        delayed = noisy[:, :HOP] if self.noisy_input else None
        inner_state = _with_empty(self.first[1], state[last:middle])
        restored, next_state = self.step(denoised, inner_state, delayed)
        queue = torch.cat((*state[middle + 1 :], denoised), dim=1)
        rest = [queue[:, HOP:]] if self.step.latency_samples else []
        return (
            [restored, queue[:, :HOP]],
            [*after, *_without_empty(next_state), noisy[:, HOP:], *rest],
        )


Hop = GeneratorHop | ChainHop


class ZeroStart(nn.Module):
    """A hop module for export, its state all zeros to begin with, whatever the module's own."""

    def __init__(self, module: Hop, signals: int) -> None:
        super().__init__()
        self.module = module
        self.signals = signals
        self.first = [tensor if tensor.any() else None for tensor in module.initial.values()]
        self.state = {STARTED: torch.zeros(1)} | {
            name: torch.zeros_like(tensor) for name, tensor in module.initial.items()
        }

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs ``(batch, 1, 480)`` and the next state, of signals and the state."""
        signals = [signal[:, 0] for signal in tensors[: self.signals]]
        started, *state_tensors = tensors[self.signals :]
        state = [
            tensor if first is None else _or_first(started, tensor, first)
            for tensor, first in zip(state_tensors, self.first, strict=True)
        ]
        outputs, next_state = self.module(signals, state)
        return (*(o[:, None] for o in outputs), torch.ones_like(started), *next_state)


def _or_first(started: Tensor, tensor: Tensor, first: Tensor) -> Tensor:
    rows = started.reshape(-1, *[1] * (tensor.dim() - 1))
    return torch.where(rows > 0, tensor, first)


def _with_prefix(prefix: str, state: State) -> dict[str, Tensor]:
    pairs = zip(state._fields, state, strict=True)
    return {f"{prefix}_{name}": tensor for name, tensor in pairs if tensor.numel()}


def _without_empty(state: State) -> Tensors:
    """Return the tensors of a state that hold something: no others are inputs and outputs."""
    return [tensor for tensor in state if tensor.numel()]


def _with_empty(first: State, tensors: Tensors) -> Any:
    """Return a state of the kind of ``first`` from what :func:`_without_empty` left of one."""
    rest = iter(tensors)
    return type(first)(*(next(rest) if tensor.numel() else tensor for tensor in first))
