"""The generators as ONNX files hold them: no weight norm, small transforms."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from timbre.audio import HOP
from timbre.audio.spectra import sine_window
from timbre.export.fourier import N_FFT, FactoredFourier
from timbre.models import Generator, GeneratorConfig, build_generator
from timbre.models.spectral import SpectralGenerator
from timbre.models.spectral_by_hop import SCALE, SpectralByHop
from timbre.models.wave import WaveGenerator
from timbre.models.wave_by_hop import WaveByHop


def portable_generator(generator: Generator, config: GeneratorConfig) -> Generator:
    """Return a copy of a generator, which gives the same output, for export."""
    # Built anew: a deep copy shares the class whose weight norm is taken off here.
    plain = build_generator(config)
    plain.load_state_dict(generator.state_dict())
    if isinstance(plain, WaveGenerator):
        plain.remove_weight_norm()
    else:
        plain.fourier = PortableFourier()  # type: ignore[assignment]
    return plain.requires_grad_(False).eval()


def portable_by_hop(generator: Generator) -> SpectralByHop | WaveByHop:
    """Return the step of a portable generator, for export.

    Raises:
        ValueError: the generator looks ahead.
    """
    if isinstance(generator, SpectralGenerator):
        return PortableSpectralByHop(generator)
    return WaveByHop(generator)


class PortableFourier(nn.Module):
    """What ``timbre.audio.spectra.FramedFourier`` gives, with a hop of 480, from small matrices."""

    def __init__(self) -> None:
        super().__init__()
        window = sine_window(HOP).float()
        self.fourier = FactoredFourier(window / SCALE, window * (SCALE / N_FFT))
        self.bins = N_FFT // 2 + 1

    def analyse(self, waves: Tensor) -> tuple[Tensor, Tensor]:
        """Return real and imaginary parts ``(batch, frames, 481)`` of ``(batch, 1, samples)``."""
        samples = waves.shape[-1]
        hops = (samples + HOP - 1) // HOP
        return self.spectra(F.pad(waves[:, 0], (HOP, (hops + 1) * HOP - samples)))

    def synthesise(self, real: Tensor, imaginary: Tensor, samples: int) -> Tensor:
        """Return waveforms ``(batch, 1, samples)`` of spectra ``(batch, frames, 481)``."""
        first, second = self.fourier.frames(real, imaginary).chunk(2, dim=2)
        waves = (second[:, :-1] + first[:, 1:]).flatten(1)
        return waves[:, None, :samples]

    def spectra(self, waves: Tensor) -> tuple[Tensor, Tensor]:
        """Return real and imaginary parts ``(batch, hops - 1, 481)`` of ``(batch, hops · 480)``."""
        blocks = torch.unflatten(waves, 1, (-1, HOP))
        return self.fourier.spectra(torch.cat((blocks[:, :-1], blocks[:, 1:]), dim=2))


class PortableSpectralByHop(SpectralByHop):
    """The step with the transforms of a portable generator in place of torch's FFT."""

    fourier: PortableFourier

    def __init__(self, generator: SpectralGenerator) -> None:
        super().__init__(generator)
        self.fourier = generator.fourier  # type: ignore[assignment]

    def analyse(self, past: Tensor, hops: Tensor) -> tuple[Tensor, Tensor]:
        """As ``SpectralByHop.analyse``."""
        return self.fourier.spectra(torch.cat((past, hops), dim=1))

    def synthesise(self, real: Tensor, imaginary: Tensor, overlap: Tensor) -> tuple[Tensor, Tensor]:
        """As ``SpectralByHop.synthesise``."""
        frames = self.fourier.fourier.frames(real, imaginary)
        ends = torch.cat((overlap[:, None], frames[..., HOP:]), dim=1)
        return (frames[..., :HOP] + ends[:, :-1]).flatten(1), ends[:, -1]
