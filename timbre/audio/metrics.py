"""How near an estimate comes to its reference, pair by pair.

Every function takes ``(samples,)`` or ``(batch, samples)`` at 48 kHz in float32 or float64 and
returns one float64 number per pair, ``()`` or ``(batch,)``, which depends on no other pair. Where
nothing can be measured, as on a silent reference, the number is NaN, so that a weighted mean can
leave the pair out.
"""

import warnings
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor
from torchaudio.functional import resample

from timbre import packages
from timbre.audio.spectra import RESOLUTIONS, LogMel, Stft, active_bins, bin_power, pair_gain
from timbre.audio.waveform import SAMPLE_RATE

N_FFT = 2048
STFT_HOP = 512
# Ratios are reported within ±100 dB.
LIMIT_DB = 100.0
# An estimate's bins count as at least this far below the reference's highest: 20 dB under the
# quietest active bin, so that a zeroed bin is a bounded error.
ESTIMATE_FLOOR_DB = 80.0
PERCEPTUAL_RATE = 16_000


class Comparison(NamedTuple):
    """What spectral metrics share, so that several bands cost one transform of each side.

    ``ratio_db`` is estimate over reference and ``active`` where the reference sounds, both
    ``(batch, bins, frames)``; ``shape`` is that of the results.
    """

    ratio_db: Tensor
    active: Tensor
    frequencies_hz: Tensor
    shape: torch.Size

    def in_band(self, low_hz: float, high_hz: float) -> Tensor:
        """Return the active bins within ``low_hz ≤ f ≤ high_hz``."""
        inside = (self.frequencies_hz >= low_hz) & (self.frequencies_hz <= high_hz)
        return self.active & inside[:, None]


class Leak(NamedTuple):
    """What is added where nothing should be, in dB between -100 and 100.

    ``overall`` is all of its energy, relative to the reference's; ``pauses`` its mean power in frames
    that are silent as a whole, relative to the reference's mean power in the others, NaN without
    any.
    """

    overall: Tensor
    pauses: Tensor


def compare(estimate: Tensor, reference: Tensor, bandwidth_hz: float | Tensor) -> Comparison:
    """Return what :func:`distance_in` and :func:`lost_share_in` look at.

    Args:
        estimate: ``(samples,)`` or ``(batch, samples)``.
        reference: likewise.
        bandwidth_hz: of the reference, one or ``(batch,)``; bins above it do not count.
    """
    stft = _stft(N_FFT, STFT_HOP, reference.device)
    power, reference_power = (bin_power(stft(_rows(x))) for x in (estimate, reference))
    bins = stft.counted(_bandwidths(bandwidth_hz, reference))
    peak = (reference_power * bins).amax(dim=(1, 2), keepdim=True)
    active = active_bins(reference_power, bins)
    power = power.maximum(peak * 10 ** (-ESTIMATE_FLOOR_DB / 10))
    ratio = torch.where(active, power / reference_power, 1.0)
    return Comparison(10 * torch.log10(ratio), active, stft.frequencies_hz, reference.shape[:-1])


def distance_in(comparison: Comparison, low_hz: float, high_hz: float) -> Tensor:
    """Return :func:`log_spectral_distance` of one band."""
    active = comparison.in_band(low_hz, high_hz)
    per_frame = active.sum(dim=1)
    frames = (comparison.ratio_db.square() * active).sum(dim=1) / per_frame.clamp(min=1)
    distance = frames.sqrt().sum(dim=1) / (per_frame > 0).sum(dim=1)
    return distance.reshape(comparison.shape)


def lost_share_in(
    comparison: Comparison, low_hz: float, high_hz: float, drop_db: float = 6.0
) -> Tensor:
    """Return the share, 0 to 1, of the reference's active bins in a band that the estimate lost.

    Lost is what is more than ``drop_db`` under the reference.
    """
    active = comparison.in_band(low_hz, high_hz)
    lost_bins = ((comparison.ratio_db < -drop_db) & active).sum(dim=(1, 2))
    return (lost_bins.double() / active.sum(dim=(1, 2))).reshape(comparison.shape)


def si_sdr(estimate: Tensor, reference: Tensor) -> Tensor:
    """Return the scale-invariant signal-to-distortion ratio in dB (Le Roux et al. 2019).

    Means are removed first. A silent estimate has -100, a silent reference NaN.
    """
    estimate, reference = (x.double() - x.double().mean(-1, True) for x in (estimate, reference))
    energy = reference.square().sum(-1, keepdim=True)
    target = (estimate * reference).sum(-1, keepdim=True) / energy * reference
    decibels = _decibels((estimate - target).square().sum(-1), target.square().sum(-1))
    ratio = torch.where(target.square().sum(-1) > 0, -decibels, -LIMIT_DB)
    return torch.where(energy[..., 0] > 0, ratio, torch.nan)


def log_spectral_distance(
    estimate: Tensor,
    reference: Tensor,
    low_hz: float,
    high_hz: float,
    bandwidth_hz: float | Tensor,
) -> Tensor:
    """Return the log-spectral distance in dB over the reference's active bins.

    Root mean square over the active bins of a frame, then the mean over frames that have any. Bins
    in which the reference is silent do not count: a noise floor under both would flatter.

    Args:
        estimate: ``(samples,)`` or ``(batch, samples)``.
        reference: likewise.
        low_hz: lower edge of the bins that count.
        high_hz: upper edge.
        bandwidth_hz: of the reference, one or ``(batch,)``; bins above it do not count.
    """
    return distance_in(compare(estimate, reference, bandwidth_hz), low_hz, high_hz)


def mel_distance(estimate: Tensor, reference: Tensor, bandwidth_hz: float | Tensor) -> Tensor:
    """Return the mean absolute difference of log-mel spectra in dB, over four resolutions.

    The ``mel`` term of :class:`timbre.train.losses.reconstruction.ReconstructionLoss` in other units, silence included.
    """
    gain = pair_gain(_rows(reference))
    bandwidths = _bandwidths(bandwidth_hz, reference)
    distances = []
    for n_fft, bands in RESOLUTIONS:
        stft = _stft(n_fft, n_fft // 4, reference.device)
        log_mel = _log_mel(n_fft, bands, reference.device)
        first, second = (
            log_mel(bin_power(stft(_rows(x) * gain)).sqrt()) for x in (estimate, reference)
        )
        bins = log_mel.counted(bandwidths)
        difference = ((first - second).abs() * bins).sum(dim=(1, 2))
        distances.append(difference / (bins.sum(dim=(1, 2)) * first.shape[2]))
    decibels = torch.stack(distances).mean(dim=0) * (20 / torch.tensor(10.0).log())
    audible = _rows(reference).any(dim=1)
    return torch.where(audible, decibels, torch.nan).reshape(reference.shape[:-1])


def leak_db(estimate: Tensor, reference: Tensor, bandwidth_hz: float | Tensor) -> Leak:
    """Return what the estimate adds where the reference is silent.

    Silent are the bins more than 60 dB below the reference's highest; above the bandwidth none
    counts. What a recording has there itself is no leak: over many bins it adds up to -38 dB.
    """
    stft = _stft(N_FFT, STFT_HOP, reference.device)
    power, reference_power = (bin_power(stft(_rows(x))) for x in (estimate, reference))
    bins = stft.counted(_bandwidths(bandwidth_hz, reference))
    active = active_bins(reference_power, bins)
    added_power = ((power - reference_power).relu() * (bins & ~active)).sum(dim=1)
    meant_power = (reference_power * bins).sum(dim=1)

    pause = ~active.any(dim=1)
    pauses, others = pause.sum(dim=1), (~pause).sum(dim=1)
    in_pauses = (added_power * pause).sum(dim=1) / pauses.clamp(min=1)
    in_others = (meant_power * ~pause).sum(dim=1) / others.clamp(min=1)
    audible = meant_power.any(dim=1)
    overall = torch.where(
        audible, _decibels(added_power.sum(dim=1), meant_power.sum(dim=1)), torch.nan
    )
    level = torch.where(audible & (pauses > 0), _decibels(in_pauses, in_others), torch.nan)
    shape = reference.shape[:-1]
    return Leak(overall.reshape(shape), level.reshape(shape))


def pesq_wideband(estimate: Tensor, reference: Tensor) -> Tensor:
    """Return wide-band PESQ, 1.0 to 4.6 (ITU-T P.862.2), at 16 kHz: blind above 8 kHz.

    NaN where it finds no speech, on either side, or less than a quarter of a second.

    Raises:
        MissingPackageError: the package ``pesq`` is not installed.
    """
    packages.require("pesq", "PESQ")
    from pesq import NoUtterancesError, pesq

    def score(estimate_wave: Tensor, reference_wave: Tensor) -> float:
        if len(reference_wave) < PERCEPTUAL_RATE // 4:
            return torch.nan
        try:
            waves = (reference_wave.numpy(), estimate_wave.numpy())
            return float(pesq(PERCEPTUAL_RATE, *waves, "wb"))
        except NoUtterancesError:
            return torch.nan

    return at_16_khz(score, estimate, reference)


def estoi(estimate: Tensor, reference: Tensor) -> Tensor:
    """Return extended short-time intelligibility, up to 1 (Jensen and Taal 2016); up to 5 kHz.

    NaN where less than 0.4 s of speech is found.

    Raises:
        MissingPackageError: the package ``pystoi`` is not installed.
    """
    return _intelligibility(estimate, reference, extended=True)


def stoi(estimate: Tensor, reference: Tensor) -> Tensor:
    """Return short-time intelligibility (Taal et al. 2011); otherwise like :func:`estoi`."""
    return _intelligibility(estimate, reference, extended=False)


def perceptual_gap() -> str | None:
    """Return which packages PESQ and ESTOI need and how to get them, or None if they are there."""
    gaps = (packages.missing("pesq", "PESQ"), packages.missing("pystoi", "STOI"))
    return "; ".join(gap for gap in gaps if gap) or None


def at_16_khz(
    score: Callable[[Tensor, Tensor], float], estimate: Tensor, reference: Tensor
) -> Tensor:
    """Return ``score(estimate, reference)`` of each pair of ``(samples,)`` at 16 kHz.

    A side that is silent or not finite, on which the packages fail in various ways, makes it NaN.
    """
    rows = [
        resample(_rows(x).float().cpu(), SAMPLE_RATE, PERCEPTUAL_RATE).unbind()
        for x in (estimate, reference)
    ]
    scores = [
        score(*pair) if all(side.any() and side.isfinite().all() for side in pair) else torch.nan
        for pair in zip(*rows, strict=True)
    ]
    return torch.tensor(scores, dtype=torch.float64).reshape(reference.shape[:-1])


@lru_cache(maxsize=16)
def _stft(n_fft: int, hop: int, device: torch.device) -> Stft:
    """Return the transform, whose window costs more to make than to use."""
    with torch.inference_mode(False):  # it outlives the call, and others may want gradients
        return Stft(n_fft, hop).to(device)


@lru_cache(maxsize=16)
def _log_mel(n_fft: int, bands: int, device: torch.device) -> LogMel:
    with torch.inference_mode(False):
        return LogMel(n_fft, bands).to(device)


def _decibels(power: Tensor, relative_to: Tensor) -> Tensor:
    """Return ``10 log10(power / relative_to)`` within ±100; 0/0 is -100."""
    tiny = torch.finfo(power.dtype).tiny
    ratio = power / relative_to.clamp(min=tiny)
    return (10 * torch.log10(ratio.clamp(min=tiny))).clamp(-LIMIT_DB, LIMIT_DB)


def _intelligibility(estimate: Tensor, reference: Tensor, extended: bool) -> Tensor:
    packages.require("pystoi", "STOI")
    from pystoi import stoi as pystoi

    def score(estimate_wave: Tensor, reference_wave: Tensor) -> float:
        with warnings.catch_warnings():
            # Too little speech is a warning and a score of 1e-5 there.
            warnings.simplefilter("error", RuntimeWarning)
            try:
                waves = (reference_wave.numpy(), estimate_wave.numpy())
                return float(pystoi(*waves, PERCEPTUAL_RATE, extended=extended))
            except RuntimeWarning:
                return torch.nan

    return at_16_khz(score, estimate, reference)


def _rows(waves: Tensor) -> Tensor:
    return waves.double().reshape(-1, waves.shape[-1])


def _bandwidths(bandwidth_hz: float | Tensor, reference: Tensor) -> Tensor:
    """Return one bandwidth per row, ``(batch,)``."""
    bandwidths = torch.as_tensor(bandwidth_hz, dtype=torch.float64, device=reference.device)
    return bandwidths.reshape(-1).expand(len(_rows(reference)))
