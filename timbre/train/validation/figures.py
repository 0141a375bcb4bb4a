"""What is measured of a validation pair, and how it reads."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from timbre.audio import metrics
from timbre.shards import AlignedPair
from timbre.train.gan.gan import Gan
from timbre.train.losses.adversarial import generator_losses
from timbre.train.losses.reconstruction import ReconstructionLoss, view_of

QUALITY = ("mel_distance", "lsd_0_8k", "lsd_8_24k", "si_sdr")
PERCEPTUAL = ("pesq", "estoi")
# Only the terms that every run has; PESQ and log-spectral distances are measured anyway.
LOSSES = ("mel", "spectrum", "waveform", "silence", "adversarial", "feature_matching")
# Of clean speech that went through the generator: how far it is from what it was.
HARM_METRICS = ("lsd_0_8k", "lsd_8_24k", "si_sdr")
# What is measured of the restored side, each time, and of the degraded side, once.
RESTORED_FIGURES = (
    *QUALITY,
    *PERCEPTUAL,
    *(f"loss/{name}" for name in LOSSES),
    *(f"harm/{name}" for name in HARM_METRICS),
)
DEGRADED_FIGURES = tuple(f"degraded/{name}" for name in (*QUALITY, *PERCEPTUAL))
SAMPLES = "samples"

# One number a pair ``()``, or one a row of the table ``(pairs,)``; float64.
Columns = dict[str, Tensor]


def restore(gan: Gan, degraded: Tensor, noisy: Tensor | None) -> Tensor:
    """Return what the averaged generator makes of ``(1, 1, samples)`` each, float32.

    The one place where validation runs it.
    """
    with gan.autocast(degraded.device):
        restored: Tensor = gan.average(degraded, noisy)
    return restored.float()


def losses(
    gan: Gan, reconstruction: ReconstructionLoss, restored: Tensor, pair: AlignedPair
) -> Columns:
    """Return the generator's loss terms, unweighted, by the discriminator as it stands."""
    target, bandwidth_hz = reconstruction.target(pair.clean, pair.degraded, pair.bandwidth_hz)
    view = view_of(target, bandwidth_hz)
    clean, restored_view = view(target), view(restored)
    terms: Columns = reconstruction.terms(restored_view, clean, bandwidth_hz)
    planes = gan.critic.planes(torch.cat([clean, restored_view]))
    with gan.autocast(restored.device):
        judgements = gan.critic(planes)
    adversarial, matching = generator_losses(gan.critic, judgements, planes)
    return terms | {"adversarial": adversarial, "feature_matching": matching}


def quality(estimate: Tensor, pair: AlignedPair) -> Columns:
    """Return the figures of ``QUALITY``."""
    mel = metrics.mel_distance(estimate[:, 0], pair.clean[:, 0], pair.bandwidth_hz)[0]
    return {"mel_distance": mel} | difference(estimate, pair)


def difference(estimate: Tensor, pair: AlignedPair) -> Columns:
    """Return the figures of ``HARM_METRICS``."""
    mine, reference = estimate[:, 0], pair.clean[:, 0]
    comparison = metrics.compare(mine, reference, pair.bandwidth_hz)  # one transform for both
    return {
        "lsd_0_8k": metrics.distance_in(comparison, 0, 8000)[0],
        "lsd_8_24k": metrics.distance_in(comparison, 8000, 24000)[0],
        "si_sdr": metrics.si_sdr(mine, reference)[0],
    }


def perceptual(estimate: Tensor, pair: AlignedPair, is_chosen: bool) -> Columns:
    """Return the figures of ``PERCEPTUAL``; NaN unless the pair is among those."""
    if not is_chosen:
        return dict.fromkeys(PERCEPTUAL, torch.tensor(math.nan))
    mine, reference = estimate[0, 0], pair.clean[0, 0]
    return {
        "pesq": metrics.pesq_wideband(mine, reference),
        "estoi": metrics.estoi(mine, reference),
    }


def summary(figures: Mapping[str, float]) -> str:
    """Return the line that says how far the run is."""
    parts = [
        f"{name} {figures[f'val/{name}']:.3f} (degraded {figures[f'val/degraded/{name}']:.3f})"
        for name in (*QUALITY, *PERCEPTUAL)
        if f"val/{name}" in figures
    ]
    parts += [
        f"{name} had no speech in {figures[key]:.0f}"
        for name in PERCEPTUAL
        if figures.get(key := f"val/{name}_left_out")
    ]
    parts.append(f"harm {figures['val/penalty/harm']:.3f}  score {figures['val/score']:.4f}")
    return "  ".join(parts)
