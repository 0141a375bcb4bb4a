"""The parts that take whole signals: the generator, and DeepFilterNet3 and generator in a chain."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from timbre.audio import HOP
from timbre.denoise import DeepFilterNet3
from timbre.denoise.by_hop import LATENCY_SAMPLES, DenoiserByHop
from timbre.export.denoiser import PortableDenoiser
from timbre.export.generator import portable_generator
from timbre.export.part import ExportPart, chain_output, generator_output
from timbre.models import Generator, GeneratorConfig


def whole_generator(generator: Generator, config: GeneratorConfig) -> ExportPart:
    """Return the generator as a part; it takes the noisy signal too where it was built so."""
    return ExportPart(
        module=portable_generator(generator, config),
        signals=("degraded", "noisy") if config.noisy_input else ("degraded",),
        outputs=("restored",),
        state={},
        length=None,
        latency_samples=generator.latency_samples,
        whole=generator_output(generator),
        about="generator: degraded, which is DeepFilterNet3's output, to restored",
    )


def whole_chain(
    denoiser: DeepFilterNet3, generator: Generator, config: GeneratorConfig
) -> ExportPart:
    """Return DeepFilterNet3 and the generator as one part, which gives the outputs of both."""
    return ExportPart(
        module=WholeChain(denoiser, portable_generator(generator, config), config.noisy_input),
        signals=("noisy",),
        outputs=("restored", "denoised"),
        state={},
        length=None,
        latency_samples=LATENCY_SAMPLES + generator.latency_samples,
        whole=chain_output(denoiser, generator, config.noisy_input),
        about="DeepFilterNet3 and generator: noisy to restored, and to denoised on the way",
    )


class WholeChain(nn.Module):
    """DeepFilterNet3 and a portable generator, for export."""

    def __init__(self, denoiser: DeepFilterNet3, generator: Generator, noisy_input: bool) -> None:
        super().__init__()
        self.denoiser = PortableDenoiser(DenoiserByHop(denoiser))
        self.generator = generator
        self.noisy_input = noisy_input

    def forward(self, noisy: Tensor) -> tuple[Tensor, Tensor]:
        """Return the restored and denoised of noisy, each ``(batch, 1, samples)``."""
        batch, _, samples = noisy.shape
        whole_hops = (samples + HOP - 1) // HOP * HOP
        padded = F.pad(noisy, (0, whole_hops - samples))
        state = self.denoiser.step.initial_state(batch)
        ended = state._replace(length=state.length.new_full((batch,), samples))
        late, _ = self.denoiser(F.pad(padded[:, 0], (0, LATENCY_SAMPLES)), ended)
        # The generator hears silence behind the last sample.
        inside = torch.arange(whole_hops) < samples
        denoised = (late[:, LATENCY_SAMPLES:] * inside)[:, None]
        restored: Tensor = self.generator(denoised, padded if self.noisy_input else None)
        return restored[..., :samples], denoised[..., :samples]
