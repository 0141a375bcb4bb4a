"""How far restored speech is from clean speech: the terms that the generator makes small, in float32."""

from typing import Literal

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from timbre.audio import SAMPLE_RATE
from timbre.audio.filters import low_pass
from timbre.audio.spectra import (
    COMPRESSION,
    RESOLUTIONS,
    LogMel,
    Stft,
    active_bins,
    bin_power,
    compression_factor,
    pair_gain,
)
from timbre.config import STRICT, NonNegative
from timbre.train.losses.perceptual import PerceptualLoss

# Relative to a voice at unit level: where compression ends, which bounds the gradients.
SPECTRUM_FLOOR = 1e-3
# Mel bands of each window length that ``resolutions`` may name.
BANDS = dict(RESOLUTIONS)
# Share of the complex part in the spectrum term: it holds the phase, but alone it mutes bins whose
# phase cannot be known.
COMPLEX_SHARE = 0.3

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
        self.resolutions = nn.ModuleList(_Resolution(n, BANDS[n]) for n in config.resolutions)
        self.perceptual = PerceptualLoss() if config.perceptual > 0 else None
        differences = config.over_attenuation > 0 or config.leak > 0
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
        # Not both at once: the clean side's spectra would join the gradient's graph.
        restored_view, clean_view = (view(side, clean, bandwidth_hz) for side in (restored, clean))
        return self.terms(restored_view, clean_view, bandwidth_hz)

    def terms(self, restored: Tensor, clean: Tensor, bandwidth_hz: Tensor) -> dict[str, Tensor]:
        """Return the same of what :func:`view` gives of both sides."""
        with torch.autocast(clean.device.type, enabled=False):
            spectral = [
                resolution(restored[:, 0], clean[:, 0], bandwidth_hz)
                for resolution in self.resolutions
            ]
            terms = {name: torch.stack([s[name] for s in spectral]).mean() for name in spectral[0]}
            terms["waveform"] = (restored - clean).abs().mean()
            if self.perceptual is not None:
                terms["perceptual"] = self.perceptual(restored[:, 0], clean[:, 0]).mean()
            if self.level_difference is not None:
                terms |= self.level_difference(restored[:, 0], clean[:, 0], bandwidth_hz)
            return terms


def view(wave: Tensor, clean: Tensor, bandwidth_hz: Tensor) -> Tensor:
    """Return a side ``(batch, 1, samples)`` of a pair as losses and discriminators are to see it.

    At the gain that brings the clean side to unit level, so that level says nothing but a difference
    in level is still there; and without what lies above the clean side's bandwidth ``(batch,)``.
    """
    with torch.autocast(wave.device.type, enabled=False):
        return low_pass(wave.float() * pair_gain(clean.float()), bandwidth_hz)


class _Resolution(nn.Module):
    """The spectral terms at one window length; each spectrum is computed once for all of them."""

    def __init__(self, n_fft: int, bands: int) -> None:
        super().__init__()
        self.stft = Stft(n_fft, n_fft // 4)
        self.mel = LogMel(n_fft, bands)

    def forward(self, restored: Tensor, clean: Tensor, bandwidth_hz: Tensor) -> dict[str, Tensor]:
        """Return the terms of ``(batch, samples)`` at unit level."""
        restored_spectrum, clean_spectrum = self.stft(restored), self.stft(clean)
        restored_power, clean_power = bin_power(restored_spectrum), bin_power(clean_spectrum)
        counted = self.stft.counted(bandwidth_hz)
        silent = counted & ~active_bins(clean_power, counted)

        restored_magnitude = (restored_power + SPECTRUM_FLOOR**2).sqrt()
        clean_magnitude = (clean_power + SPECTRUM_FLOOR**2).sqrt()
        excess = restored_magnitude**COMPRESSION - clean_magnitude**COMPRESSION
        restored_factor = compression_factor(restored_power, SPECTRUM_FLOOR)
        clean_factor = compression_factor(clean_power, SPECTRUM_FLOOR)
        difference = restored_spectrum * restored_factor - clean_spectrum * clean_factor
        distance = (bin_power(difference) + SPECTRUM_FLOOR**2).sqrt() - SPECTRUM_FLOOR

        log_ratio = self.mel(restored_magnitude) - self.mel(clean_magnitude)
        return {
            "mel": _mean_over(log_ratio.abs(), self.mel.counted(bandwidth_hz)),
            "spectrum": _mean_over(excess.abs().lerp(distance, COMPLEX_SHARE), counted),
            "silence": _mean_over(excess.relu(), silent),
        }


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


def weighted_sum(
    terms: dict[str, Tensor], weights: dict[str, float]
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the loss, and the scalars to log: each term as it is, and its weight.

    Args:
        terms: scalars by name.
        weights: the factor of each term in this step, ramps included; others are not looked at.
    """
    loss = torch.stack([weights[name] * term for name, term in terms.items()]).sum()
    logged = {
        # Filled on the device: a copy from the host would wait for it.
        f"{name}_weight": torch.full_like(term, weights[name])
        for name, term in terms.items()
    }
    return loss, terms | logged


def _mean_over(values: Tensor, counted: Tensor) -> Tensor:
    """Return the mean over pairs of the means over counted entries; no entry counts as zero.

    Args:
        values: ``(batch, bins, frames)``.
        counted: bool, broadcast to that.
    """
    counted = counted.expand_as(values)
    totals = values.masked_fill(~counted, 0.0).sum(dim=(1, 2))
    return (totals / counted.sum(dim=(1, 2)).clamp(min=1)).mean()
