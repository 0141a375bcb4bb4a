"""Offsets measured again: wrong ones are faults, unsure ones are not."""

import re

import numpy as np
import pytest

from shard_tools.make.tar import FinishedPair
from shard_tools.metas import choose
from shard_tools.verify.manifest import check_manifest
from tests.help.made_shards import (
    change_manifest,
    rewrite_shard,
)
from tests.shard_tools.verify.damage import OTHER, TRAIN, VAL, kinds, with_meta


@pytest.mark.parametrize("error", [-400, -3, 3])
def test_a_wrong_offset_is_found_by_measuring_again(manifest_url: str, error: int) -> None:
    def shift(pair: FinishedPair) -> FinishedPair:
        return with_meta(alignment_offset=pair.meta.alignment_offset + error)(pair)

    rewrite_shard(manifest_url, TRAIN, shift)
    faults = check_manifest(manifest_url).faults
    assert [fault.kind for fault in faults] == ["offset"] * 3
    assert check_manifest(manifest_url, offsets=0).faults == ()


def test_offsets_are_looked_for_as_far_as_the_config_said(manifest_url: str) -> None:
    change_manifest(manifest_url, config={"max_offset_seconds": 0.001})
    report = check_manifest(manifest_url)
    assert report.checked_offsets == 4  # 48 samples do not reach the three at -90
    assert report.faults == () and "3 offsets could not be measured" in report.notes[-1]


def noise_like(pair: FinishedPair) -> FinishedPair:
    rng = np.random.default_rng(len(pair.clean))
    noise = rng.integers(-4000, 4000, len(pair.clean), dtype=np.int16)
    return FinishedPair(pair.meta, pair.clean, noise)


def test_sides_that_do_not_belong_together_are_a_fault_though_all_else_agrees(
    manifest_url: str,
) -> None:
    rewrite_shard(manifest_url, OTHER, noise_like)
    report = check_manifest(manifest_url)
    assert [(fault.kind, fault.shard) for fault in report.faults] == [("offset", OTHER)] * 2
    message = r"alignment_confidence 1\.00, but 0\.\d\d is measured"
    assert all(re.match(message, fault.message) for fault in report.faults)
    assert report.checked_offsets == 7
    assert not any("could not be measured" in note for note in report.notes)


def test_what_was_unsure_from_the_start_is_no_fault(manifest_url: str) -> None:
    unsure = with_meta(alignment_confidence=0.49)
    rewrite_shard(manifest_url, OTHER, lambda pair: unsure(noise_like(pair)))
    report = check_manifest(manifest_url)
    assert report.faults == () and "2 offsets could not be measured" in report.notes[-1]


def test_an_offset_within_two_samples_passes(manifest_url: str) -> None:
    rewrite_shard(manifest_url, VAL, with_meta(alignment_offset=-1))
    assert "offset" in kinds(check_manifest(manifest_url))  # of the pair whose offset is -90
    assert [fault.pair for fault in check_manifest(manifest_url).faults] == ["val-000000-0000"]


def test_the_same_pairs_are_chosen_each_time_and_as_many_as_asked() -> None:
    counts = [64, 0, 3, 200]
    choice = choose(counts, 50)
    assert choice == choose(counts, 50)
    assert sum(map(len, choice)) == 50
    for rows, count in zip(choice, counts, strict=True):
        assert len(set(rows)) == len(rows) and all(0 <= row < count for row in rows)
    assert choose(counts, 10**9) == [tuple(range(count)) for count in counts]
