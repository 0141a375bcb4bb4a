"""Pairs cut in clean time, shifted by their own offset."""

from itertools import islice
from pathlib import Path

import numpy as np

from tests.help.made_shards import content, make_shards
from timbre.audio import SAMPLE_RATE
from timbre.shards.corpus import DataSource, open_corpus
from timbre.stream import PairStream, StreamConfig


def test_the_crop_is_drawn_in_clean_time_and_shifted_by_the_pairs_offset(
    tmp_path: Path,
) -> None:
    """Both sides agree at every sample wherever the cut falls, and it falls up to both ends."""
    url = make_shards(tmp_path, [4], [1])  # offsets -90, 0, 35 and 300
    samples = SAMPLE_RATE // 4
    stream = PairStream(
        [open_corpus(DataSource(url), "train")], StreamConfig(samples - 280, 4, 0, 1, 0)
    )
    starts: dict[int, set[int]] = {number: set() for number in range(4)}
    for batch in islice(stream, 60):
        assert not batch.replaced
        for key, degraded, clean in zip(
            batch.keys, batch.degraded.numpy(), batch.clean.numpy(), strict=True
        ):
            number = int(key[-1])
            whole = content(key, samples + 7 * number)
            windows = np.lib.stride_tricks.sliding_window_view(whole, 16)
            (start,) = np.flatnonzero((windows == clean[:16]).all(axis=1)).tolist()
            starts[number].add(start)
            common = min(len(clean), len(whole) - abs((-90, 0, 35, 300)[number]))
            np.testing.assert_array_equal(clean[:common], whole[start : start + common])
            np.testing.assert_array_equal(degraded[:common], clean[:common] // 2)
    for number, offset in enumerate((-90, 0, 35, 300)):
        low = max(0, -offset)
        high = low + max(samples + 7 * number - abs(offset) - (samples - 280), 0)
        assert min(starts[number]) <= low + 30 and max(starts[number]) >= high - 30
        assert low <= min(starts[number]) and max(starts[number]) <= high
