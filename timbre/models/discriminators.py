"""Discriminators that tell clean from restored speech, over periods and over spectra.

Multi-period as in HiFi-GAN (Kong et al. 2020), at a quarter of its width; multi-band complex STFT
as in the Descript Audio Codec (Kumar et al. 2023), on compressed spectra, so that the highs, 40 dB
below the lows, are seen. They judge waveforms at the level they come in: give both sides of a pair
the one gain of :func:`timbre.audio.spectra.pair_gain`, never each its own.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, NamedTuple, cast

import torch
import torch.nn.functional as F
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from timbre.audio.spectra import Stft, compressed
from timbre.config import STRICT
from timbre.models.stacked_convolutions import PlainConvolution, StackedConvolutions

SLOPE = 0.1
# Bins below -40 dB of a voice at unit level are not raised further.
FLOOR = 1e-2
BAND_EDGES = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)


# A list of modules, for which PyTorch has no type.
Parts = Sequence["SubDiscriminator"]


class Judgement(NamedTuple):
    """What one discriminator says of a batch, and the activations and convolutions that led to it."""

    logits: Tensor
    features: list[Tensor]
    convolutions: list[PlainConvolution]


@dataclass(config=STRICT)
class DiscriminatorConfig:
    """How much discriminator: ``light`` (0.16 M parameters) or ``full`` (4.0 M)."""

    preset: Literal["light", "full"] = "light"


class Preset(NamedTuple):
    """Sizes of the discriminators of one preset."""

    periods: tuple[int, ...]
    period_channels: tuple[int, ...]
    # Inharmonic to each other and to the generators' hop of 480: common multiples leave stripes.
    n_ffts: tuple[int, ...]
    spectral_channels: int
    frames_per_window: int


PRESETS = {
    "light": Preset((2, 3, 5, 7, 11), (4, 16, 32, 64), (2296, 1418, 542), 8, 2),
    "full": Preset((2, 3, 5, 7, 11), (8, 32, 128, 256, 256), (2296, 1418, 542), 32, 4),
}


def build_discriminator(config: DiscriminatorConfig) -> "Discriminators":
    """Return fresh discriminators of the configured preset."""
    return Discriminators(PRESETS[config.preset])


class Discriminators(StackedConvolutions):
    """All discriminators of a preset as one module.

    Each makes planes of the waveforms, without any weights, and judges the planes by convolutions.
    """

    def __init__(self, preset: Preset) -> None:
        parts: dict[str, PeriodDiscriminator | SpectralDiscriminator] = {
            f"periods.{number}": PeriodDiscriminator(period, preset.period_channels)
            for number, period in enumerate(preset.periods)
        }
        for number, n_fft in enumerate(preset.n_ffts):
            hop = n_fft // preset.frames_per_window
            parts[f"spectra.{number}"] = SpectralDiscriminator(n_fft, hop, preset.spectral_channels)
        plain = {name: part.initial() for name, part in parts.items()}
        super().__init__(
            {
                f"{name}.{own}": layer
                for name, layers in plain.items()
                for own, layer in layers.items()
            }
        )
        self.counts = [len(layers) for layers in plain.values()]
        self.parts = cast(Parts, nn.ModuleList(parts.values()))

    def forward(self, planes: list[Tensor]) -> list[Judgement]:
        """Return one judgement per discriminator of what :meth:`planes` gives."""
        convolutions = self.convolutions()
        judgements = []
        for part, count, plane in zip(self.parts, self.counts, planes, strict=True):
            own, convolutions = convolutions[:count], convolutions[count:]
            judgements.append(part.judge(plane.to(own[0].weight.dtype), own))
        return judgements

    def planes(self, waves: Tensor) -> list[Tensor]:
        """Return what each discriminator sees of ``(batch, 1, samples)``, samples ≥ 1, in float32.

        ``(batch, channels, height, width)`` each; no weights take part.
        """
        with torch.autocast(waves.device.type, enabled=False):
            return [part(waves.float()) for part in self.parts]

    def judge(self, waves: Tensor) -> list[Judgement]:
        """Return one judgement per discriminator of ``(batch, 1, samples)``, samples ≥ 1."""
        judgements: list[Judgement] = self(self.planes(waves))
        return judgements

    def gradients(
        self,
        planes: list[Tensor],
        judgements: list[Judgement],
        of_logits: list[Tensor],
        of_features: list[Tensor] | None,
    ) -> list[Tensor]:
        """Return the gradients with respect to the planes; the weights get none.

        By hand, so that activations of one pass serve the gradients of both networks.

        Args:
            planes: of each discriminator.
            judgements: of these planes.
            of_logits: the gradient with respect to each judgement's logits.
            of_features: that with respect to all judgements' features, on end; None: zero.
        """
        of_planes = []
        for part, plane, judgement, of_logit in zip(
            self.parts, planes, judgements, of_logits, strict=True
        ):
            count = len(judgement.features)
            own = of_features[:count] if of_features else None
            of_features = of_features[count:] if of_features else None
            of_planes.append(part.gradient(plane, judgement, of_logit, own))
        return of_planes


class SubDiscriminator(nn.Module):
    """A discriminator: branches of convolutions, and a last one over all of them.

    Args:
        name: what it looks at.
        widths: of each branch in the plane; their tops lie beside each other again.
    """

    def __init__(self, name: str, widths: list[int]) -> None:
        super().__init__()
        self.name, self.widths = name, widths

    def judge(self, plane: Tensor, convolutions: list[PlainConvolution]) -> Judgement:
        """Return logits ``(batch, 1, …)`` and activations of a plane."""
        features: list[Tensor] = []
        tops: list[Tensor] = []
        depth = (len(convolutions) - 1) // len(self.widths)
        for number, hidden in enumerate(self._branches(plane)):
            for convolution in convolutions[depth * number : depth * (number + 1)]:
                # In place: nobody needs what a convolution gives before.
                hidden = F.leaky_relu_(convolution(hidden), SLOPE)
                features.append(hidden)
            tops.append(hidden)
        top = tops[0] if len(tops) == 1 else torch.cat(tops, dim=3)
        return Judgement(convolutions[-1](top), features, convolutions)

    def gradient(
        self,
        plane: Tensor,
        judgement: Judgement,
        of_logits: Tensor,
        of_features: list[Tensor] | None,
    ) -> Tensor:
        """Return the gradient with respect to the plane, in its precision."""
        features, convolutions = judgement.features, judgement.convolutions
        depth, leaky_relu_back = (
            len(features) // len(self.widths),
            torch.ops.aten.leaky_relu_backward,
        )
        tops = features[depth - 1 :: depth]
        top = tops[0] if len(tops) == 1 else torch.cat(tops, dim=3)
        of_top = convolutions[-1].input_gradient(of_logits, top)
        parts = (
            torch.split(of_top, [t.shape[3] for t in tops], dim=3) if len(tops) > 1 else [of_top]
        )
        of_planes = []
        for number, (gradient, hidden) in enumerate(zip(parts, self._branches(plane), strict=True)):
            first = depth * number
            inputs = [hidden.to(of_logits.dtype), *features[first : first + depth - 1]]
            for layer in reversed(range(depth)):
                output = features[first + layer]
                if of_features is not None:
                    gradient = gradient + of_features[first + layer]
                gradient = leaky_relu_back(gradient, output, SLOPE, True)
                gradient = convolutions[first + layer].input_gradient(gradient, inputs[layer])
            of_planes.append(gradient)
        together = of_planes[0] if len(of_planes) == 1 else torch.cat(of_planes, dim=3)
        return together.to(plane.dtype)

    def _branches(self, plane: Tensor) -> tuple[Tensor, ...]:
        return (plane,) if len(self.widths) == 1 else torch.split(plane, self.widths, dim=3)


class PeriodDiscriminator(SubDiscriminator):
    """Compares samples that lie one period apart."""

    def __init__(self, period: int, channels: tuple[int, ...]) -> None:
        super().__init__(f"period {period}", [period])
        self.period, self.channels = period, channels

    def initial(self) -> dict[str, nn.Conv2d]:
        """Return fresh convolutions."""
        strides = [3] * (len(self.channels) - 1) + [1]
        sizes = zip(pairwise((1, *self.channels)), strides, strict=True)
        layers = {
            f"layers.{number}": nn.Conv2d(before, after, (5, 1), (stride, 1), (2, 0))
            for number, ((before, after), stride) in enumerate(sizes)
        }
        return layers | {"last": nn.Conv2d(self.channels[-1], 1, (3, 1), padding=(1, 0))}

    def forward(self, waves: Tensor) -> Tensor:
        """Return the plane ``(batch, 1, time, period)`` of ``(batch, 1, samples)``."""
        padded = F.pad(waves, (0, -waves.shape[-1] % self.period))
        return padded.view(waves.shape[0], 1, -1, self.period)


class SpectralDiscriminator(SubDiscriminator):
    """Looks at the complex spectrum in five bands, each with its own weights.

    Convolutions keep the frames of a band and divide its bins by eight.
    """

    def __init__(self, n_fft: int, hop: int, channels: int) -> None:
        bins = n_fft // 2 + 1
        edges = [round(edge * bins) for edge in BAND_EDGES]
        super().__init__(f"spectrum {n_fft}", [high - low for low, high in pairwise(edges)])
        self.stft, self.channels = Stft(n_fft, hop), channels

    def initial(self) -> dict[str, nn.Conv2d]:
        """Return fresh convolutions."""
        channels, layers = self.channels, {}
        for band in range(len(self.widths)):
            halves = [nn.Conv2d(channels, channels, (3, 9), (1, 2), (1, 4)) for _ in range(3)]
            first = nn.Conv2d(2, channels, (3, 9), padding=(1, 4))
            last = nn.Conv2d(channels, channels, (3, 3), padding=(1, 1))
            for number, layer in enumerate((first, *halves, last)):
                layers[f"bands.{band}.layers.{number}"] = layer
        return layers | {"last": nn.Conv2d(channels, 1, (3, 3), padding=(1, 1))}

    def forward(self, waves: Tensor) -> Tensor:
        """Return the plane ``(batch, 2, frames, bins)`` of ``(batch, 1, samples)``: compressed."""
        parts = torch.view_as_real(self.stft.by_frame(waves[:, 0]))
        return compressed(parts, FLOOR).permute(0, 3, 1, 2)
