"""Noises and room responses, decoded once per job into memory that every worker shares."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from shard_tools.sources import Clip
from timbre import audio
from timbre.audio import Wave
from timbre.errors import AudioError

DECODE_THREADS = 4


class Bank(NamedTuple):
    """Recordings end to end in one shared tensor, each scaled to a peak of full scale.

    ``edges`` has one more entry than there are recordings; ``paths`` names them.
    """

    samples: torch.Tensor  # (total,) int16
    edges: tuple[int, ...]
    paths: tuple[str, ...]

    def wave(self, number: int) -> Wave:
        """Return recording ``number`` as ``(samples,)`` float32."""
        stretch = self.samples[self.edges[number] : self.edges[number + 1]].numpy()
        wave: Wave = stretch.astype(np.float32) / 32767
        return wave


def load_bank(clips: Sequence[Clip], role: str) -> tuple[Bank, tuple[str, ...]]:
    """Return the recordings that can be decoded, and what is wrong with the others.

    Silent recordings count as wrong: nothing can be scaled from them.
    """
    with ThreadPoolExecutor(DECODE_THREADS) as pool:
        decoded = list(tqdm(pool.map(_decode, clips), f"load {role}", len(clips), disable=None))
    kept = [
        (clip.path, w) for clip, w in zip(clips, decoded, strict=True) if not isinstance(w, str)
    ]
    edges = np.cumsum([0, *(len(wave) for _, wave in kept)])
    samples = torch.empty(int(edges[-1]), dtype=torch.int16)
    samples.share_memory_()  # type: ignore[no-untyped-call]
    for (_, wave), start in zip(kept, edges, strict=False):
        samples[start : start + len(wave)] = wave
    bad = tuple(message for message in decoded if isinstance(message, str))
    return Bank(samples, tuple(int(e) for e in edges), tuple(path for path, _ in kept)), bad


def _decode(clip: Clip) -> torch.Tensor | str:
    try:
        wave = audio.read_mono(clip.url)
    except (AudioError, FileNotFoundError) as error:
        return str(error)
    peak = float(np.abs(wave).max())
    if peak == 0:
        return f"{clip.url}: digital silence"
    return torch.from_numpy(np.rint(wave * (32767 / peak)).astype(np.int16))
