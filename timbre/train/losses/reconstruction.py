"""How far restored speech is from clean speech: the terms that the generator makes small, in float32."""

from typing import Literal, NamedTuple

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from timbre.audio import SAMPLE_RATE
from timbre.audio.filters import apply_response, frequencies_hz, low_pass, low_pass_response
from timbre.audio.spectra import (
    Stft,
    active_bins,
    bin_power,
    pair_gain,
)
from timbre.config import STRICT, NonNegative
from timbre.train.losses.perceptual import PerceptualLoss
from timbre.train.losses.spectral_terms import BANDS, SpectralTerms

# Level differences count from here on, and in these units; beyond the range they count no more.
FREE_DIFFERENCE_DB = 3.0
DIFFERENCE_UNIT_DB = 10.0
OVER_ATTENUATION_RANGE_DB = 30.0
LEAK_RANGE_DB = 40.0
# Added to both magnitudes: so many dB below the clean side's highest bin, at least the floor.
DIFFERENCE_FLOOR_DB = -80.0
LOWEST_DIFFERENCE_FLOOR = 1e-4
DIFFERENCE_N_FFT = 1024


@dataclass(config=STRICT)
class LossConfig:
    """The factor of each term in the generator's loss, and what the terms compare.

    On DF3's output the reconstruction terms are about 0.70, 0.10, 0.15 and 0.02. ``waveform`` holds
    the phase: in short runs of the tiny spectral generator on unknown speakers, 1 lost 0.3 dB of
    SI-SDR against DF3, 10 lost 0.05, and 30 lost none but gained half as much log-spectral distance.

    ``perceptual`` is in MOS, about 2 on DF3's output. It hears noise between words more than the
    others do, and nothing above 8 kHz, nor any phase: it is to be added to them, not to replace them.

    ``over_attenuation`` and ``leak`` are means of level differences, in units of 10 dB beyond 3 dB.
    The first counts bins that hold the clean side's sound and come out too quiet, the second bins
    that are silent there and come out too loud. Together they may stand in place of ``spectrum``,
    0.5 each.

    ``above_bandwidth`` is what the losses do above a pair's bandwidth, where the recording does not
    say what there was. ``left_out``: nothing there counts. ``degraded``: the target there is the
    denoiser's output, and all terms count to 24 kHz, so that the generator learns neither to let
    noise through there nor to cut.

    ``resolutions`` are the window lengths of ``mel``, ``spectrum`` and ``silence``; two of the four
    save a quarter of a step's time.
    """

    mel: NonNegative = 1.0
    spectrum: NonNegative = 10.0
    waveform: NonNegative = 10.0
    silence: NonNegative = 2.0
    perceptual: NonNegative = 0.0
    over_attenuation: NonNegative = 0.0
    leak: NonNegative = 0.0
    adversarial: NonNegative = 1.0
    feature_matching: NonNegative = 2.0
    above_bandwidth: Literal["left_out", "degraded"] = "left_out"
    resolutions: tuple[int, ...] = tuple(BANDS)

    def __post_init__(self) -> None:
        unknown = [n_fft for n_fft in self.resolutions if n_fft not in BANDS]
        if unknown or not self.resolutions or len(set(self.resolutions)) < len(self.resolutions):
            raise ValueError(
                f"loss.resolutions {list(self.resolutions)}: expected one or more of {list(BANDS)}, "
                "each once"
            )


class ReconstructionLoss(nn.Module):
    """How far restored speech is from clean speech, in four terms, and three that weights ask for.

    Each pair is brought to one level by its clean side, so that quiet clips count like loud ones.
    A term is the mean over each pair's counted bins, then over pairs: a narrow pair counts as much
    as a wide one, and the loss of a batch is the mean of the losses of its parts.

    What lies above a pair's bandwidth is unknown there, not silent, and must neither be punished
    nor rewarded. So both sides lose it first, as before the discriminators: leaving its bins out
    does not suffice, because windows smear (a tone 50 Hz above a bandwidth of 16 kHz moved
    ``spectrum`` by 5 %) and because ``waveform`` has no bins.
    """

    def __init__(self, config: LossConfig | None = None) -> None:
        super().__init__()
        config = config or LossConfig()
        self.above_bandwidth = config.above_bandwidth
        perceptual, differences = config.perceptual > 0, config.over_attenuation + config.leak > 0
        # Of the terms, in their order.
        self.names = (
            *("mel", "spectrum", "silence", "waveform"),
            *(("perceptual",) if perceptual else ()),
            *(("over_attenuation", "leak") if differences else ()),
        )
        self.spectral = SpectralTerms(config.resolutions)
        self.perceptual = PerceptualLoss() if perceptual else None
        self.level_difference = _LevelDifference() if differences else None

    def target(
        self, clean: Tensor, degraded: Tensor, bandwidth_hz: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return what all losses compare with, and up to where: as ``above_bandwidth`` says.

        Args:
            clean: ``(batch, 1, samples)``.
            degraded: the denoiser's output, likewise.
            bandwidth_hz: ``(batch,)``, of the clean side.
        """
        if self.above_bandwidth == "left_out":
            return clean, bandwidth_hz
        above = degraded - low_pass(degraded, bandwidth_hz)
        return low_pass(clean, bandwidth_hz) + above, torch.full_like(bandwidth_hz, SAMPLE_RATE / 2)

    def forward(self, restored: Tensor, clean: Tensor, bandwidth_hz: Tensor) -> dict[str, Tensor]:
        """Return the unweighted terms, named like the fields of :class:`LossConfig`.

        - ``mel``: L1 between log mel magnitudes, in nepers;
        - ``spectrum``: L1 between compressed magnitudes and between compressed complex spectra;
        - ``silence``: compressed magnitude above the clean side's where that is silent;
        - ``waveform``: L1 between waveforms, relative to the clean side's level;
        - ``perceptual``, if asked for: the MOS lost (:class:`timbre.train.losses.perceptual.PerceptualLoss`);
        - ``over_attenuation`` and ``leak``, if either is asked for: see :class:`LossConfig`.

        Args:
            restored: ``(batch, 1, samples)``.
            clean: ``(batch, 1, samples)``.
            bandwidth_hz: ``(batch,)``, of the clean side; nothing above it counts in any term.
        """
        view = view_of(clean, bandwidth_hz)
        return self.terms(view(restored), view(clean), bandwidth_hz)

    def terms(self, restored: Tensor, clean: Tensor, bandwidth_hz: Tensor) -> dict[str, Tensor]:
        """Return the same of both sides as :class:`View` shows them."""
        with torch.autocast(clean.device.type, enabled=False):
            terms: dict[str, Tensor] = self.spectral(restored[:, 0], clean[:, 0], bandwidth_hz)
            terms["waveform"] = (restored - clean).abs().mean()
            if self.perceptual is not None:
                terms["perceptual"] = self.perceptual(restored[:, 0], clean[:, 0]).mean()
            if self.level_difference is not None:
                terms |= self.level_difference(restored[:, 0], clean[:, 0], bandwidth_hz)
            return terms


class View(NamedTuple):
    """How losses and discriminators see both sides of pairs.

    At the gain that brings the clean side to unit level, so that level says nothing but a difference
    in level is still there; and without what lies above the clean side's bandwidth.
    """

    gain: Tensor
    response: Tensor

    def __call__(self, wave: Tensor) -> Tensor:
        """Return a side ``(batch, 1, samples)`` as it is seen."""
        with torch.autocast(wave.device.type, enabled=False):
            return apply_response(wave.float() * self.gain, self.response)


def view_of(clean: Tensor, bandwidth_hz: Tensor) -> View:
    """Return the view of pairs with these clean sides ``(batch, 1, samples)`` and bandwidths."""
    with torch.autocast(clean.device.type, enabled=False):
        clean = clean.float()
        return View(pair_gain(clean), low_pass_response(frequencies_hz(clean), bandwidth_hz))


class _LevelDifference(nn.Module):
    """How much too quiet and how much too loud each bin is, in units of 10 dB beyond 3 dB."""

    def __init__(self) -> None:
        super().__init__()
        self.stft = Stft(DIFFERENCE_N_FFT, DIFFERENCE_N_FFT // 4)

    def forward(self, restored: Tensor, clean: Tensor, bandwidth_hz: Tensor) -> dict[str, Tensor]:
        """Return both terms of ``(batch, samples)`` at unit level."""
        restored_power, clean_power = bin_power(self.stft(restored)), bin_power(self.stft(clean))
        counted = self.stft.counted(bandwidth_hz)
        active = active_bins(clean_power, counted)
        peak = clean_power.masked_fill(~counted, 0.0).amax(dim=(1, 2), keepdim=True).sqrt()
        floor = (peak * 10 ** (DIFFERENCE_FLOOR_DB / 20)).clamp(min=LOWEST_DIFFERENCE_FLOOR)
        difference_db = _decibel(restored_power, floor) - _decibel(clean_power, floor)
        lost = (-difference_db - FREE_DIFFERENCE_DB).clamp(0, OVER_ATTENUATION_RANGE_DB)
        leaked = (difference_db - FREE_DIFFERENCE_DB).clamp(0, LEAK_RANGE_DB)
        return {
            "over_attenuation": _mean_over(lost / DIFFERENCE_UNIT_DB, active),
            "leak": _mean_over(leaked / DIFFERENCE_UNIT_DB, counted & ~active),
        }


def _decibel(power: Tensor, floor: Tensor) -> Tensor:
    """Return levels of magnitudes with ``floor`` added to each; the gradient at zero is zero."""
    magnitude = power.clamp(min=torch.finfo(torch.float32).tiny).sqrt()
    return 20 * torch.log10(magnitude + floor)


def _mean_over(values: Tensor, counted: Tensor) -> Tensor:
    """Return the mean over pairs of the means over counted entries; no entry counts as zero.

    Args:
        values: ``(batch, bins, frames)``.
        counted: bool, broadcast to that.
    """
    counted = counted.expand_as(values)
    totals = values.masked_fill(~counted, 0.0).sum(dim=(1, 2))
    return (totals / counted.sum(dim=(1, 2)).clamp(min=1)).mean()
