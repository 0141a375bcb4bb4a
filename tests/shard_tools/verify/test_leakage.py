"""What pairs may not share: content, keys, and origins on both sides."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shard_tools.make.tar import FinishedPair
from shard_tools.verify.manifest import check_manifest, verify
from tests.help.made_shards import (
    make_shards,
    rewrite_shard,
    stored_pairs,
)
from tests.shard_tools.verify.damage import OTHER, OTHER_KEY, TRAIN, VAL, kinds, with_meta
from timbre.shards import Source


def test_a_common_noisy_side_makes_no_duplicates_and_another_one_hides_none(tmp_path: Path) -> None:
    url = make_shards(tmp_path / "shards", [3, 2], noisy=True)
    first = stored_pairs(url, TRAIN)[0]
    rewrite_shard(url, TRAIN, lambda pair: pair._replace(noisy=0 * pair.clean))
    assert verify(url) == []
    rewrite_shard(
        url, OTHER, lambda pair: first._replace(meta=replace(first.meta, key=pair.meta.key))
    )
    assert {fault.pair for fault in check_manifest(url).faults if fault.kind == "duplicate"} == {
        f"{OTHER_KEY}-0000",
        f"{OTHER_KEY}-0001",
    }


def test_two_pairs_of_one_content_are_told(manifest_url: str) -> None:
    first = stored_pairs(manifest_url, TRAIN)[0]

    def copy(pair: FinishedPair) -> FinishedPair:
        return FinishedPair(replace(first.meta, key=pair.meta.key), first.clean, first.degraded)

    rewrite_shard(manifest_url, OTHER, copy)
    faults = [fault for fault in check_manifest(manifest_url).faults if fault.kind == "duplicate"]
    assert [fault.pair for fault in faults] == ["train-000001-0000", "train-000001-0001"]
    assert all("train-000000-0000" in fault.message for fault in faults)


def test_variants_of_one_clean_side_are_no_duplicates(manifest_url: str) -> None:
    clean = stored_pairs(manifest_url, TRAIN)[1].clean

    def variant(pair: FinishedPair) -> FinishedPair:
        meta = replace(pair.meta, samples=len(clean), alignment_offset=0)
        return FinishedPair(meta, clean, np.roll(clean, 1) // (3 + pair.clean[0] % 7))

    rewrite_shard(manifest_url, OTHER, variant)
    assert "duplicate" not in kinds(check_manifest(manifest_url))


def test_a_key_in_two_shards_is_told(manifest_url: str) -> None:
    rewrite_shard(
        manifest_url, OTHER, lambda p: with_meta(key=p.meta.key.replace("000001", "000000"))(p)
    )
    faults = [fault for fault in check_manifest(manifest_url).faults if fault.kind == "duplicate"]
    assert [fault.pair for fault in faults] == ["train-000000-0000", "train-000000-0001"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"speaker": "someone in train"}, "speaker 'someone in train' is in train (3 pairs) and"),
        ({"clean": Source("train-000000-0000.wav")}, "recording 'train-000000-0000.wav' is in"),
        ({"noises": (Source("x.wav"), Source("noise.wav"))}, "noise 'noise.wav' is in train (5"),
        ({"rir": "big.wav"}, "room 'big.wav' is in train (2 pairs) and val (2 pairs)"),
        ({"voices": ("train-000000-0000.wav",)}, "speaks in train (1 pair)"),
        ({"voices": ("chatter.wav",)}, "'chatter.wav' is in the babble of train (2 pairs) and val"),
        ({"clean": Source("copy.wav", sha256="abc")}, "'copy.wav' of val are one file by SHA-256"),
    ],
)
def test_what_validation_shares_with_training_is_told_once(
    manifest_url: str, fields: dict[str, object], message: str
) -> None:
    defaults = {
        "rir": "big.wav",
        "voices": ("chatter.wav",),
        "speaker": "someone else",
        "clean": Source("train-000001-0000.wav", sha256="abc"),
    }
    rewrite_shard(manifest_url, TRAIN, with_meta(rir="small.wav"))
    rewrite_shard(manifest_url, OTHER, with_meta(**defaults))
    assert verify(manifest_url) == []
    rewrite_shard(manifest_url, VAL, with_meta(**fields))
    faults = check_manifest(manifest_url).faults
    assert [fault.kind for fault in faults] == ["leakage"]
    assert message in faults[0].message


def test_the_only_noise_room_and_speaker_may_be_on_both_sides(manifest_url: str) -> None:
    for path in (TRAIN, OTHER, VAL):
        rewrite_shard(manifest_url, path, with_meta(speaker="the only one", rir="room.wav"))
    report = check_manifest(manifest_url)
    assert report.faults == ()
    assert [note.partition(" ")[0] for note in report.notes] == ["speaker", "noise", "room"]


def test_nobody_is_no_speaker_and_a_babble_is_known_by_its_voices(manifest_url: str) -> None:
    for path, voice in [(TRAIN, "a.wav"), (OTHER, "a.wav"), (VAL, "b.wav")]:
        noises = (Source("babble-0000"), Source(f"{path}.wav"))
        rewrite_shard(manifest_url, path, with_meta(speaker="", noises=noises, voices=(voice,)))
    report = check_manifest(manifest_url)
    assert (report.faults, report.notes) == ((), ())
