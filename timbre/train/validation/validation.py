"""Validation: every pair once, the same figures on every rank and at any number of ranks."""

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from pydantic.dataclasses import dataclass
from torch import Tensor
from tqdm import tqdm

from timbre.audio import metrics
from timbre.config import STRICT, Natural
from timbre.shards import AlignedPair, Corpus, PairList, load_pair, spread
from timbre.train.agreement import raise_together
from timbre.train.gan.gan import Gan, discriminator_view, unwrap
from timbre.train.losses import reconstruction as losses
from timbre.train.losses.reconstruction import ReconstructionLoss
from timbre.train.validation import score as scoring
from timbre.train.validation.stress import measure_stress, stress_penalty

QUALITY = ("mel_distance", "lsd_0_8k", "lsd_8_24k", "si_sdr")
PERCEPTUAL = ("pesq", "estoi")
# Only the terms that every run has; PESQ and log-spectral distances are measured anyway.
LOSSES = ("mel", "spectrum", "waveform", "silence", "adversarial", "feature_matching")
# Of clean speech that went through the generator: how far it is from what it was.
HARM = ("lsd_0_8k", "lsd_8_24k", "si_sdr")
# What is measured of the restored side, each time, and of the degraded side, once.
RESTORED = (
    *QUALITY,
    *PERCEPTUAL,
    *(f"loss/{name}" for name in LOSSES),
    *(f"harm/{name}" for name in HARM),
)
DEGRADED = tuple(f"degraded/{name}" for name in (*QUALITY, *PERCEPTUAL))
SAMPLES = "samples"

# One number a pair ``()``, or one a row of the table ``(pairs,)``; float64.
Figures = dict[str, Tensor]


@dataclass(config=STRICT)
class ValidationConfig:
    """How many pairs are looked at more closely, the same ones every time; all are measured."""

    # PESQ and ESTOI, on the CPU.
    perceptual_pairs: Natural = 16
    # Their clean side goes through the generator too, and should come back as it was.
    harm_pairs: Natural = 16
    # Written as sound and picture.
    shown_pairs: Natural = 4


class Validation:
    """What outlives one validation: DeepFilterNet3's own figures, and the pairs to show.

    All ranks must make it, and call :meth:`measure`, together.

    Args:
        noisy: whether the generator also hears what the denoiser heard, of pairs that hold it.

    Attributes:
        warning: why PESQ and ESTOI are not measured though they were asked for, or None.

    Raises:
        ShardError: on every rank, if a shard's index cannot be read.
    """

    def __init__(
        self,
        corpora: Sequence[Corpus],
        config: ValidationConfig,
        accelerator: Accelerator,
        noisy: bool = False,
    ) -> None:
        self.pairs, self.accelerator, self.noisy = PairList(corpora), accelerator, noisy
        self._look_at_indexes()
        gaps = [metrics.perceptual_gap() if config.perceptual_pairs else None]
        gap = next((gap for gap in gather_object(gaps) if gap), None)
        self.warning = None if gap is None else f"validation leaves out PESQ and ESTOI: {gap}"
        total = len(self.pairs)
        self.perceptual = frozenset(spread(total, 0 if gap else config.perceptual_pairs))
        self.harm = frozenset(spread(total, config.harm_pairs))
        self.shown_pairs = config.shown_pairs
        self.known: Figures = {}
        self.shown: dict[str, AlignedPair] = {}

    @torch.inference_mode()
    def measure(self, gan: Gan, reconstruction: ReconstructionLoss) -> dict[str, float]:
        """Return the means over all pairs, weighted by their lengths, under ``val/...``.

        Each pair is measured alone and whole by one rank; all ranks then hold every pair's figures
        and add them exactly, so the result is one and the same number everywhere. What a pair does
        not have (SI-SDR of silence, say) leaves it out, on both sides; a figure that no pair has is
        not there. The degraded side is measured the first time and remembered.

        Raises:
            ShardError: on every rank, if any of them cannot read a pair.
            WorkError: on the other ranks, if one failed in another way.
        """
        names = RESTORED if self.known else (SAMPLES, *DEGRADED, *RESTORED)
        table = torch.zeros(len(self.pairs), len(names), dtype=torch.float64)
        failure = None
        try:
            for row in self._share():
                measured = self._measure_pair(gan, reconstruction, row)
                table[row] = torch.stack([measured[name] for name in names])
        except Exception as error:  # whatever it is: the other ranks would wait forever
            failure = error
        raise_together(failure, self.accelerator)
        # Every row is zero on all ranks but one: the sum over ranks is exact.
        table = self.accelerator.reduce(table.to(self.accelerator.device), "sum").cpu()
        columns = dict(zip(names, table.unbind(1), strict=True))
        if not self.known:
            self.known = {name: columns[name].clone() for name in (SAMPLES, *DEGRADED)}
            self._load_shown()
        figures = self._means(columns | self.known) | self._stress(gan)
        return figures | {
            "val/score": scoring.score(figures),
            "val/penalty/si_sdr": scoring.si_sdr_penalty(figures),
            "val/penalty/harm": scoring.harm_penalty(figures),
            "val/penalty/stress": stress_penalty(figures),
        }

    @torch.inference_mode()
    def show(self, gan: Gan) -> Iterator[tuple[str, AlignedPair, Tensor]]:
        """Yield (key, pair, restored ``(1, 1, samples)``) of the pairs to show, on the main process.

        They are spread over the degraded side's SI-SDR: from bad to good. On other ranks, and before
        the first :meth:`measure`, there are none.
        """
        for key, pair in self.shown.items():
            device = self.accelerator.device
            noisy = None if pair.noisy is None else pair.noisy.to(device)
            yield key, pair, restore(gan, pair.degraded.to(device), noisy)

    def _look_at_indexes(self) -> None:
        """Read every index once, each on one rank: a run should not end at its first validation."""
        failure = None
        rank, ranks = self.accelerator.process_index, self.accelerator.num_processes
        try:
            for number in range(rank, len(self.pairs.shards), ranks):
                self.pairs.index(number)
        except Exception as error:
            failure = error
        raise_together(failure, self.accelerator)

    def _share(self) -> Iterator[int]:
        """Yield this rank's rows: all are dealt out in turn, those with the most work first."""
        rank, ranks = self.accelerator.process_index, self.accelerator.num_processes
        work = np.zeros(len(self.pairs), np.int8)
        for rows in (self.perceptual, self.harm):
            work[list(rows)] += 1
        mine = np.argsort(-work, kind="stable")[rank::ranks].tolist()
        hidden = None if self.accelerator.is_main_process else True
        yield from tqdm(mine, "validate", unit="pair", leave=False, disable=hidden)

    def _measure_pair(self, gan: Gan, reconstruction: ReconstructionLoss, row: int) -> Figures:
        """Return every figure of a pair, on the host; NaN is what it does not have."""
        place = self.pairs[row]
        pair = load_pair(place, self.accelerator.device, self.noisy)
        restored = restore(gan, pair.degraded, pair.noisy)
        sides = {"": restored} if self.known else {"": restored, "degraded/": pair.degraded}
        figures: Figures = {SAMPLES: torch.tensor(float(place.entry.samples))}
        for side, wave in sides.items():
            quality = _quality(wave, pair) | _perceptual(wave, pair, row in self.perceptual)
            figures |= {side + name: value for name, value in quality.items()}
        terms = _losses(gan, reconstruction, restored, pair)
        figures |= {f"loss/{name}": terms[name] for name in LOSSES}
        # Of clean speech the denoiser would have heard what it gave.
        unharmed = None if pair.noisy is None else pair.clean
        harmed = _difference(restore(gan, pair.clean, unharmed), pair) if row in self.harm else {}
        nothing = torch.tensor(math.nan)
        figures |= {f"harm/{name}": harmed.get(name, nothing) for name in HARM}
        # One wait for the device.
        on_device = torch.stack(
            [value.double().to(pair.clean.device) for value in figures.values()]
        )
        return dict(zip(figures, on_device.cpu().unbind(), strict=True))

    def _load_shown(self) -> None:
        """Choose the pairs to show; the main process keeps them on its host."""
        quality = self.known["degraded/si_sdr"].nan_to_num(-metrics.LIMIT_DB)
        ranked = quality.argsort(stable=True).tolist()
        failure = None
        try:
            if self.accelerator.is_main_process:
                for number in spread(len(ranked), self.shown_pairs):
                    place = self.pairs[ranked[number]]
                    pair = load_pair(place, torch.device("cpu"), self.noisy)
                    self.shown[place.entry.key] = pair
        except Exception as error:
            failure = error
        raise_together(failure, self.accelerator)

    def _stress(self, gan: Gan) -> dict[str, float]:
        """Return what the generator makes of probes; the main process's, so that all have the same."""
        device = self.accelerator.device
        lifts = measure_stress(partial(restore, gan), device, self.noisy)
        values = torch.tensor(list(lifts.values()), dtype=torch.float64, device=device)
        if not self.accelerator.is_main_process:
            values.zero_()
        values = self.accelerator.reduce(values, "sum")
        return dict(zip(lifts, values.tolist(), strict=True))

    def _means(self, columns: Figures) -> dict[str, float]:
        """Return the weighted means of ``(pairs,)`` each, over the pairs that have the figure."""
        means = {}
        for name in (*RESTORED, *DEGRADED):
            covered = self._covered(name, columns)
            if covered.any():
                weights = columns[SAMPLES][covered]
                # fsum adds without rounding: no thread count or sequence changes a bit.
                total = math.fsum((columns[name][covered] * weights).tolist())
                means[f"val/{name}"] = total / math.fsum(weights.tolist())
        for name in PERCEPTUAL if self.perceptual else ():
            left_out = len(self.perceptual) - int(self._covered(name, columns).sum())
            means[f"val/{name}_left_out"] = float(left_out)
        return means

    def _covered(self, name: str, columns: Figures) -> Tensor:
        """Return which pairs count for a figure: bool ``(pairs,)``.

        It is the degraded side that tells what a pair has: NaN on the restored side alone is a
        broken generator's, and must show.
        """
        side, _, plain = name.rpartition("/")
        if side == "loss":
            return torch.ones_like(columns[name], dtype=torch.bool)
        covered = columns[f"degraded/{plain}"].isfinite()
        if plain in PERCEPTUAL:  # they find no speech in a side, or do; compared like with like
            covered &= columns[plain].isfinite()
        if side == "harm":
            chosen = torch.zeros_like(covered)
            chosen[sorted(self.harm)] = True
            covered &= chosen
        return covered


def restore(gan: Gan, degraded: Tensor, noisy: Tensor | None) -> Tensor:
    """Return what the averaged generator makes of ``(1, 1, samples)`` each, float32.

    The one place where validation runs it.
    """
    with gan.autocast(degraded.device):
        restored: Tensor = gan.average(degraded, noisy)
    return restored.float()


def summary(figures: Mapping[str, float]) -> str:
    """Return the line that tells a user how far the run is."""
    told = [
        f"{name} {figures[f'val/{name}']:.3f} (degraded {figures[f'val/degraded/{name}']:.3f})"
        for name in (*QUALITY, *PERCEPTUAL)
        if f"val/{name}" in figures
    ]
    told += [
        f"{name} had no speech in {figures[key]:.0f}"
        for name in PERCEPTUAL
        if figures.get(key := f"val/{name}_left_out")
    ]
    told.append(f"harm {figures['val/penalty/harm']:.3f}  score {figures['val/score']:.4f}")
    return "  ".join(told)


def _losses(
    gan: Gan, reconstruction: ReconstructionLoss, restored: Tensor, pair: AlignedPair
) -> Figures:
    """Return the generator's loss terms, unweighted, by the discriminator as it stands."""
    target, bandwidth_hz = reconstruction.target(pair.clean, pair.degraded, pair.bandwidth_hz)
    terms: Figures = reconstruction(restored, target, bandwidth_hz)
    with gan.autocast(restored.device):
        views = discriminator_view(target, restored, bandwidth_hz)
        real, fake = (unwrap(gan.discriminator)(view) for view in views)
    return terms | {
        "adversarial": losses.adversarial_loss(fake),
        "feature_matching": losses.feature_matching_loss(real, fake),
    }


def _quality(estimate: Tensor, pair: AlignedPair) -> Figures:
    mel = metrics.mel_distance(estimate[:, 0], pair.clean[:, 0], pair.bandwidth_hz)[0]
    return {"mel_distance": mel} | _difference(estimate, pair)


def _difference(estimate: Tensor, pair: AlignedPair) -> Figures:
    """Return the figures of ``HARM``."""
    mine, reference, bandwidth = estimate[:, 0], pair.clean[:, 0], pair.bandwidth_hz
    return {
        "lsd_0_8k": metrics.log_spectral_distance(mine, reference, 0, 8000, bandwidth)[0],
        "lsd_8_24k": metrics.log_spectral_distance(mine, reference, 8000, 24000, bandwidth)[0],
        "si_sdr": metrics.si_sdr(mine, reference)[0],
    }


def _perceptual(estimate: Tensor, pair: AlignedPair, chosen: bool) -> Figures:
    if not chosen:
        return dict.fromkeys(PERCEPTUAL, torch.tensor(math.nan))
    mine, reference = estimate[0, 0], pair.clean[0, 0]
    return {
        "pesq": metrics.pesq_wideband(mine, reference),
        "estoi": metrics.estoi(mine, reference),
    }
