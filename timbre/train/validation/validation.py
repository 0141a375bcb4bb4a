"""Validation: every pair once, the same figures on every rank and at any number of ranks."""

import math
from collections.abc import Callable, Iterator, Sequence
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
from timbre.train.gan.gan import Gan
from timbre.train.losses.reconstruction import ReconstructionLoss
from timbre.train.ranks import failing_together
from timbre.train.validation import figures, score
from timbre.train.validation.figures import (
    DEGRADED_FIGURES,
    HARM_METRICS,
    LOSSES,
    PERCEPTUAL,
    RESTORED_FIGURES,
    SAMPLES,
    Columns,
    restore,
)
from timbre.train.validation.groups import GROUPED, GROUPS, Groups
from timbre.train.validation.stress import measure_stress, stress_penalty


@dataclass(config=STRICT)
class ValidationConfig:
    """How many pairs are looked at more closely, the same ones every time; all are measured."""

    # PESQ and ESTOI, on the CPU.
    perceptual_pairs: Natural = 16
    # Their clean side goes through the generator too, and should come back as it was.
    harm_pairs: Natural = 16
    # Written as sound and picture.
    shown_pairs: Natural = 4


class ValidationStoppedError(Exception):
    """A validation that somebody stopped; it has no figures."""


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
        self.groups = Groups(corpora)
        self.degraded_figures: Columns = {}
        self.excerpts: dict[str, AlignedPair] = {}

    @torch.inference_mode()
    def measure(
        self, gan: Gan, reconstruction: ReconstructionLoss, stop: Callable[[], bool] | None = None
    ) -> dict[str, float]:
        """Return the means over all pairs, weighted by their lengths, under ``val/...``.

        Each pair is measured alone and whole by one rank; all ranks then hold every pair's figures
        and add them exactly, so the result is one and the same number everywhere. What a pair does
        not have (SI-SDR of silence, say) leaves it out, on both sides; a figure that no pair has is
        not there. The degraded side is measured the first time and remembered.

        Args:
            gan: whose averaged generator is measured.
            reconstruction: the loss terms.
            stop: asked between pairs; where any rank says yes there are no figures.

        Raises:
            ShardError: on every rank, if any of them cannot read a pair.
            WorkError: on the other ranks, if one failed in another way.
            ValidationStoppedError: on every rank, if ``stop`` said yes on any.
        """
        names = (
            RESTORED_FIGURES
            if self.degraded_figures
            else (SAMPLES, *GROUPS, *DEGRADED_FIGURES, *RESTORED_FIGURES)
        )
        table = torch.zeros(len(self.pairs) + 1, len(names), dtype=torch.float64)
        with failing_together(self.accelerator):
            for row in self._share():
                if stop is not None and stop():
                    table[-1] = 1  # the last row says that some rank stops
                    break
                columns_of_pair = self._measure_pair(gan, reconstruction, row)
                table[row] = torch.stack([columns_of_pair[name] for name in names])
        # Every row is zero on all ranks but one: the sum over ranks is exact.
        table = self.accelerator.reduce(table.to(self.accelerator.device), "sum").cpu()
        if table[-1].any():
            raise ValidationStoppedError("stopped before its last pair")
        columns = dict(zip(names, table[:-1].unbind(1), strict=True))
        if not self.degraded_figures:
            self.degraded_figures = {
                name: columns[name].clone() for name in (SAMPLES, *GROUPS, *DEGRADED_FIGURES)
            }
            self._load_excerpts()
        means = self._means(columns | self.degraded_figures) | self._stress(gan)
        return means | {
            "val/score": score.score(means),
            "val/penalty/si_sdr": score.si_sdr_penalty(means),
            "val/penalty/harm": score.harm_penalty(means),
            "val/penalty/stress": stress_penalty(means),
        }

    @torch.inference_mode()
    def show(self, gan: Gan) -> Iterator[tuple[str, AlignedPair, Tensor]]:
        """Yield (key, pair, restored ``(1, 1, samples)``) of the pairs to show, on the main process.

        They are spread over the degraded side's SI-SDR: from bad to good. On other ranks, and before
        the first :meth:`measure`, there are none.
        """
        for key, pair in self.excerpts.items():
            device = self.accelerator.device
            noisy = None if pair.noisy is None else pair.noisy.to(device)
            yield key, pair, restore(gan, pair.degraded.to(device), noisy)

    def _look_at_indexes(self) -> None:
        """Read every index once, each on one rank: a run should not end at its first validation."""
        rank, ranks = self.accelerator.process_index, self.accelerator.num_processes
        with failing_together(self.accelerator):
            for number in range(rank, len(self.pairs.shards), ranks):
                self.pairs.index(number)

    def _share(self) -> Iterator[int]:
        """Yield this rank's rows: all are dealt out in turn, those with the most work first."""
        rank, ranks = self.accelerator.process_index, self.accelerator.num_processes
        work = np.zeros(len(self.pairs), np.int8)
        for rows in (self.perceptual, self.harm):
            work[list(rows)] += 1
        mine = np.argsort(-work, kind="stable")[rank::ranks].tolist()
        hidden = None if self.accelerator.is_main_process else True
        yield from tqdm(mine, "validate", unit="pair", leave=False, disable=hidden)

    def _measure_pair(self, gan: Gan, reconstruction: ReconstructionLoss, row: int) -> Columns:
        """Return every figure of a pair, on the host; NaN is what it does not have."""
        place = self.pairs[row]
        pair = load_pair(place, self.accelerator.device, self.noisy)
        restored = restore(gan, pair.degraded, pair.noisy)
        sides = (
            {"": restored} if self.degraded_figures else {"": restored, "degraded/": pair.degraded}
        )
        columns_of_pair: Columns = {SAMPLES: torch.tensor(float(place.entry.samples))}
        if not self.degraded_figures:
            columns_of_pair |= self.groups.columns(place)
        for side, wave in sides.items():
            of_side = figures.quality(wave, pair)
            of_side |= figures.perceptual(wave, pair, row in self.perceptual)
            columns_of_pair |= {side + name: value for name, value in of_side.items()}
        terms = figures.losses(gan, reconstruction, restored, pair)
        columns_of_pair |= {f"loss/{name}": terms[name] for name in LOSSES}
        nothing = torch.tensor(math.nan)
        harm = self._harm(gan, pair) if row in self.harm else {}
        columns_of_pair |= {f"harm/{name}": harm.get(name, nothing) for name in HARM_METRICS}
        # One wait for the device.
        on_device = torch.stack(
            [value.double().to(pair.clean.device) for value in columns_of_pair.values()]
        )
        return dict(zip(columns_of_pair, on_device.cpu().unbind(), strict=True))

    def _harm(self, gan: Gan, pair: AlignedPair) -> Columns:
        """Return what becomes of clean speech; the denoiser's input was clean as well, then."""
        noisy = None if pair.noisy is None else pair.clean
        return figures.difference(restore(gan, pair.clean, noisy), pair)

    def _load_excerpts(self) -> None:
        """Choose the pairs to show; the main process keeps them on its host."""
        quality = self.degraded_figures["degraded/si_sdr"].nan_to_num(-metrics.LIMIT_DB)
        rows_by_quality = quality.argsort(stable=True).tolist()
        with failing_together(self.accelerator):
            if self.accelerator.is_main_process:
                for number in spread(len(rows_by_quality), self.shown_pairs):
                    place = self.pairs[rows_by_quality[number]]
                    pair = load_pair(place, torch.device("cpu"), self.noisy)
                    self.excerpts[place.entry.key] = pair

    def _stress(self, gan: Gan) -> dict[str, float]:
        """Return what the generator makes of probes; the main process's, so that all have the same."""
        device = self.accelerator.device
        lifts = measure_stress(partial(restore, gan), device, self.noisy)
        values = torch.tensor(list(lifts.values()), dtype=torch.float64, device=device)
        if not self.accelerator.is_main_process:
            values.zero_()
        values = self.accelerator.reduce(values, "sum")
        return dict(zip(lifts, values.tolist(), strict=True))

    def _means(self, columns: Columns) -> dict[str, float]:
        """Return the weighted means of ``(pairs,)`` each, over the pairs that have the figure.

        Then those of each group, where there are several: ``val/behind_rnnoise/pesq``.
        """
        everything = torch.ones_like(columns[SAMPLES], dtype=torch.bool)
        means = self._means_of(everything, columns, (*RESTORED_FIGURES, *DEGRADED_FIGURES), "val")
        for group, rows in self.groups.rows(columns).items():
            means |= self._means_of(rows, columns, GROUPED, f"val/{group}")
        for name in PERCEPTUAL if self.perceptual else ():
            left_out = len(self.perceptual) - int(self._find_covered(name, columns).sum())
            means[f"val/{name}_left_out"] = float(left_out)
        return means

    def _means_of(
        self, rows: Tensor, columns: Columns, names: Sequence[str], prefix: str
    ) -> dict[str, float]:
        means = {}
        for name in names:
            covered_pairs = self._find_covered(name, columns) & rows
            if covered_pairs.any():
                weights = columns[SAMPLES][covered_pairs]
                # fsum adds without rounding: no thread count or sequence changes a bit.
                total = math.fsum((columns[name][covered_pairs] * weights).tolist())
                means[f"{prefix}/{name}"] = total / math.fsum(weights.tolist())
        return means

    def _find_covered(self, name: str, columns: Columns) -> Tensor:
        """Return which pairs count for a figure: bool ``(pairs,)``.

        The degraded side decides whether a pair counts. If only the restored side is NaN, the
        generator is broken, and the figure must show it.
        """
        side, _, plain = name.rpartition("/")
        if side == "loss":
            return torch.ones_like(columns[name], dtype=torch.bool)
        covered_pairs = columns[f"degraded/{plain}"].isfinite()
        if plain in PERCEPTUAL:  # they find no speech in a side, or do; compared like with like
            covered_pairs &= columns[plain].isfinite()
        if side == "harm":
            chosen_pairs = torch.zeros_like(covered_pairs)
            chosen_pairs[sorted(self.harm)] = True
            covered_pairs &= chosen_pairs
        return covered_pairs
