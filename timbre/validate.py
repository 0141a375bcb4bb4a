"""Validation: every pair once, the same figures on every rank and at any number of ranks."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from accelerate import Accelerator
from torch import Tensor

from timbre import losses, metrics
from timbre.gan import Gan, discriminator_view, unwrap
from timbre.losses import ReconstructionLoss
from timbre.order import Corpus
from timbre.pairs import PairPlace, read_whole
from timbre.shards import load_index

# What is measured of the restored side, and of the degraded side under val/degraded/...
QUALITY = ("mel_distance", "lsd_0_8k", "lsd_8_24k", "si_sdr")
LOSSES = ("mel", "spectrum", "waveform", "silence", "adversarial", "feature_matching")
FIGURES = (
    *QUALITY,
    *(f"degraded/{name}" for name in QUALITY),
    *(f"loss/{name}" for name in LOSSES),
)
# SI-SDR may fall this far below DeepFilterNet3's before it counts against a checkpoint.
FREE_SI_SDR_LOSS_DB = 0.3


class AlignedPair(NamedTuple):
    """Two waveforms ``(1, 1, samples)`` float32, and the clean side's bandwidth ``(1,)``."""

    degraded: Tensor
    clean: Tensor
    bandwidth_hz: Tensor


def list_pairs(corpora: Sequence[Corpus]) -> list[PairPlace]:
    """Return where every pair of the corpora lies, in one fixed sequence."""
    return [
        PairPlace(corpus.folder, shard, entry)
        for corpus in corpora
        for shard in corpus.shards
        for entry in load_index(corpus.folder, shard).pairs
    ]


def load_pair(place: PairPlace, device: torch.device) -> AlignedPair:
    """Return a whole pair on a device; raises ShardError if it is damaged."""
    degraded, clean = (
        torch.from_numpy(wave).to(device).float()[None, None] / 32768 for wave in read_whole(place)
    )
    return AlignedPair(degraded, clean, torch.tensor([place.entry.bandwidth_hz], device=device))


@torch.inference_mode()
def validate(
    gan: Gan,
    reconstruction: ReconstructionLoss,
    places: Sequence[PairPlace],
    accelerator: Accelerator,
) -> dict[str, float]:
    """Return the means over all pairs, weighted by their lengths, under ``val/...``.

    Each pair is measured alone and whole by one rank; all ranks then hold every pair's figures and
    add them in the same order, so the result is one and the same number everywhere. A figure that
    a pair does not have (SI-SDR of silence, say) leaves that pair out.
    """
    table = torch.zeros(len(places), len(FIGURES), dtype=torch.float64)
    for row in range(accelerator.process_index, len(places), accelerator.num_processes):
        figures = _measure(gan, reconstruction, load_pair(places[row], accelerator.device))
        table[row] = torch.stack([figures[name].double().cpu() for name in FIGURES])
    # Every row is zero on all ranks but one: the sum over ranks is exact.
    table = accelerator.reduce(table.to(accelerator.device), "sum").cpu()
    weights = torch.tensor([[float(place.entry.samples)] for place in places]).double()
    weights = weights * table.isfinite()
    means = (table.nan_to_num(0, 0, 0) * weights).sum(0) / weights.sum(0)
    return {f"val/{name}": float(mean) for name, mean in zip(FIGURES, means, strict=True)}


def score(figures: dict[str, float]) -> float:
    """Return the composite that the best checkpoint has lowest; 1 is DeepFilterNet3's own output.

    The mean of mel distance and both log-spectral distances, each as a share of the degraded
    side's, plus one for every dB of SI-SDR lost beyond 0.3. A figure that no pair has (the highs of
    narrow-band data) is left out.
    """
    distances = [
        (figures[f"val/{name}"], figures[f"val/degraded/{name}"])
        for name in ("mel_distance", "lsd_0_8k", "lsd_8_24k")
    ]
    shares = [restored / degraded for restored, degraded in distances if degraded > 0]
    lost = figures["val/degraded/si_sdr"] - figures["val/si_sdr"] - FREE_SI_SDR_LOSS_DB
    return sum(shares) / max(len(shares), 1) + (lost if lost > 0 else 0.0)


def _measure(gan: Gan, reconstruction: ReconstructionLoss, pair: AlignedPair) -> dict[str, Tensor]:
    device = pair.clean.device
    with gan.autocast(device):
        restored = gan.average(pair.degraded).float()
    figures = _quality(restored, pair)
    figures |= {f"degraded/{name}": v for name, v in _quality(pair.degraded, pair).items()}
    terms = reconstruction(restored, pair.clean, pair.bandwidth_hz)
    with gan.autocast(device):
        views = discriminator_view(pair.clean, restored, pair.bandwidth_hz)
        real, fake = (unwrap(gan.discriminator)(view) for view in views)
    terms |= {
        "adversarial": losses.adversarial_loss(fake),
        "feature_matching": losses.feature_matching_loss(real, fake),
    }
    return figures | {f"loss/{name}": terms[name] for name in LOSSES}


def _quality(estimate: Tensor, pair: AlignedPair) -> dict[str, Tensor]:
    mine, reference, bandwidth = estimate[:, 0], pair.clean[:, 0], pair.bandwidth_hz
    return {
        "mel_distance": metrics.mel_distance(mine, reference, bandwidth)[0],
        "lsd_0_8k": metrics.log_spectral_distance(mine, reference, 0, 8000, bandwidth)[0],
        "lsd_8_24k": metrics.log_spectral_distance(mine, reference, 8000, 24000, bandwidth)[0],
        "si_sdr": metrics.si_sdr(mine, reference)[0],
    }
