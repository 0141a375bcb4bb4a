"""`timbre verify`: whole shards pass, and every kind of damage is named, with its shard and pair."""

import io
import json
import re
import resource
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shard_tools.make.tar import FinishedPair, build_tar
from shard_tools.metas import choose
from shard_tools.verify.manifest import Report, examine, main, verify
from tests.help.made_shards import (
    change_manifest,
    make_pair,
    make_shards,
    mixed,
    publish_tar,
    rewrite_shard,
    stored_pairs,
)
from timbre.audio.decode import SAMPLE_RATE, encode_int16
from timbre.shards import records as shards
from timbre.shards import tar as tars
from timbre.shards.records import PairEntry, Rejection, Source
from timbre.storage import files as storage

TRAIN, OTHER, VAL = "train/shard-000000.tar", "train/shard-000001.tar", "val/shard-000000.tar"
OTHER_KEY = "train-000001"


@pytest.fixture
def manifest_url(tmp_path: Path) -> str:
    return make_shards(tmp_path / "shards", [3, 2], audio_format="flac")


def kinds(report: Report) -> set[str]:
    return {fault.kind for fault in report.faults}


def tar_url(manifest_url: str, path: str = TRAIN) -> str:
    return storage.join(shards.folder_of(manifest_url), path)


def pair_entry(manifest_url: str, number: int = 1) -> PairEntry:
    url = tar_url(manifest_url)
    return tars.index_tar(storage.read(url), url).pairs[number]


def with_meta(**says: object) -> Callable[[FinishedPair], FinishedPair]:
    return lambda pair: pair._replace(meta=replace(pair.meta, **says))


def test_whole_shards_have_no_fault_and_every_pair_is_counted(manifest_url: str) -> None:
    report = examine(manifest_url)
    assert report.faults == ()
    assert (report.pairs, report.shards, report.checked_offsets) == (7, 3, 7)
    listed = [s for entries in shards.load_manifest(manifest_url).splits.values() for s in entries]
    assert report.seconds == pytest.approx(sum(shard.seconds for shard in listed), abs=1e-3)


def test_any_number_of_workers_says_the_same(manifest_url: str) -> None:
    storage.publish(tar_url(manifest_url), storage.read(tar_url(manifest_url))[:-20000])
    rewrite_shard(manifest_url, VAL, with_meta(speaker="someone in train"))
    assert examine(manifest_url, workers=1) == examine(manifest_url, workers=4)


def test_a_tar_cut_or_flipped_anywhere_is_noticed(manifest_url: str) -> None:
    """At 60 random places, headers, audio and padding alike."""
    url = tar_url(manifest_url)
    whole = storage.read(url)
    rng = np.random.default_rng(4)
    for place in rng.integers(0, len(whole), 30).tolist():
        flipped = bytearray(whole)
        flipped[place] ^= 1 << int(rng.integers(8))
        for damaged in (whole[:place], bytes(flipped)):
            storage.publish(url, damaged)
            faults = examine(manifest_url).faults
            assert {fault.kind for fault in faults} >= {"tar"}, place
            assert {fault.shard.partition(".")[0] for fault in faults} == {"train/shard-000000"}


def test_the_pairs_that_a_cut_tar_lost_are_named(manifest_url: str) -> None:
    url = tar_url(manifest_url)
    storage.publish(url, storage.read(url)[: pair_entry(manifest_url, 2).members["pair.json"][0]])
    faults = verify(manifest_url)
    assert f"{TRAIN}: 1 of its pairs are cut off or damaged: train-000000-0002" in faults


def test_a_flipped_bit_is_traced_to_its_pair_and_member(manifest_url: str) -> None:
    entry = pair_entry(manifest_url)
    data = bytearray(storage.read(tar_url(manifest_url)))
    data[entry.members["degraded.flac"].offset + 3000] ^= 1
    storage.publish(tar_url(manifest_url), bytes(data))
    told = [fault for fault in examine(manifest_url).faults if fault.pair == entry.key]
    assert any("degraded.flac" in fault.message and "CRC-32" in fault.message for fault in told)


@pytest.mark.parametrize("path", [TRAIN, shards.index_path(TRAIN)])
def test_a_missing_file_is_named(manifest_url: str, path: str) -> None:
    storage.remove(tar_url(manifest_url, path))
    assert [(f.kind, f.shard) for f in examine(manifest_url).faults] == [("missing", path)]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"samples": 999}, "samples 999, but the tar has 12007"),
        ({"alignment_offset": 5}, "alignment_offset 5, but the tar has 0"),
        ({"bandwidth_hz": 8000.0}, "bandwidth_hz 8000.0, but the tar has 20000.0"),
        ({"key": "else"}, "it is in the index, but not in the tar"),
    ],
)
def test_an_index_that_does_not_describe_its_tar_is_a_fault(
    manifest_url: str, change: dict[str, object], told: str
) -> None:
    url = tar_url(manifest_url)
    pairs = tars.index_tar(storage.read(url), url).pairs
    rewrite_shard(manifest_url, TRAIN, pairs=(pairs[0], replace(pairs[1], **change), pairs[2]))
    faults = [fault for fault in examine(manifest_url).faults if fault.kind == "index"]
    assert told in {fault.message for fault in faults}
    assert {fault.shard for fault in faults} == {"train/shard-000000.index"}


def test_a_key_twice_in_a_row_does_not_hide_a_pair(manifest_url: str) -> None:
    """Such a tar's derived index has one pair for the two, so that it agrees with a stored one."""
    pair = make_pair("train-000000-0000", 12000, 0)
    other = FinishedPair(pair.meta, pair.degraded, pair.clean)
    publish_tar(manifest_url, TRAIN, build_tar([pair, other], "flac"))
    assert kinds(examine(manifest_url)) == {"tar"}


@pytest.mark.parametrize(
    ("says", "told"),
    [
        ({"schema": 9}, "schema 9"),
        ({"key": "another"}, "its meta is that of another"),
        ({"samples": 11000}, "samples, but its meta says 11000"),
        ({"alignment_offset": 12000}, "alignment_offset 12000 of 12000 samples"),
    ],
)
def test_a_wrong_meta_is_a_fault(manifest_url: str, says: dict[str, object], told: str) -> None:
    data = storage.read(tar_url(manifest_url))
    name = stored_pairs(manifest_url, TRAIN)[0].meta.key
    publish_tar(manifest_url, TRAIN, replaced_member(data, f"{name}.pair.json", **says))
    faults = verify(manifest_url)
    assert any(told in fault and name in fault for fault in faults)


def replaced_member(data: bytes, name: str, content: bytes = b"", **says: object) -> bytes:
    """Return the tar with one member's content replaced, or its JSON changed."""
    target = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(data)) as old,
        tarfile.open(fileobj=target, mode="w", format=tarfile.USTAR_FORMAT) as new,
    ):
        for info in old:
            file = old.extractfile(info)
            assert file
            body = file.read()
            if info.name == name:
                body = json.dumps({**json.loads(body), **says}).encode() if says else content
            info.size = len(body)
            new.addfile(info, io.BytesIO(body))
    return target.getvalue()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"not audio", "cannot be decoded"),
        (encode_int16(np.ones(12000, np.int16), 16000, "flac"), "16000 Hz"),
        (encode_int16(np.ones((2, 12000), np.int16), SAMPLE_RATE, "flac"), "2 channels"),
        (encode_int16(np.ones(11999, np.int16), SAMPLE_RATE, "flac"), "11999 samples"),
        (encode_int16(np.ones(12001, np.int16), SAMPLE_RATE, "flac"), "12001 samples"),
    ],
    ids=["not audio", "another rate", "stereo", "too short", "too long"],
)
def test_audio_of_another_kind_or_length_is_a_fault(
    manifest_url: str, content: bytes, told: str
) -> None:
    name = "train-000000-0000.degraded.flac"
    data = replaced_member(storage.read(tar_url(manifest_url)), name, content)
    publish_tar(manifest_url, TRAIN, data)
    faults = [fault for fault in examine(manifest_url).faults if fault.kind == "audio"]
    assert len(faults) == 1
    assert told in faults[0].message and faults[0].pair == "train-000000-0000"


@pytest.mark.parametrize("error", [-400, -3, 3])
def test_a_wrong_offset_is_found_by_measuring_again(manifest_url: str, error: int) -> None:
    def shift(pair: FinishedPair) -> FinishedPair:
        return with_meta(alignment_offset=pair.meta.alignment_offset + error)(pair)

    rewrite_shard(manifest_url, TRAIN, shift)
    faults = examine(manifest_url).faults
    assert [fault.kind for fault in faults] == ["offset"] * 3
    assert examine(manifest_url, offsets=0).faults == ()


def test_offsets_are_looked_for_as_far_as_the_config_said(manifest_url: str) -> None:
    change_manifest(manifest_url, config={"max_offset_seconds": 0.001})
    report = examine(manifest_url)
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
    report = examine(manifest_url)
    assert [(fault.kind, fault.shard) for fault in report.faults] == [("offset", OTHER)] * 2
    told = r"alignment_confidence 1\.00, but 0\.\d\d is measured"
    assert all(re.match(told, fault.message) for fault in report.faults)
    assert report.checked_offsets == 7
    assert not any("could not be measured" in note for note in report.notes)


def test_what_was_unsure_from_the_start_is_no_fault(manifest_url: str) -> None:
    unsure = with_meta(alignment_confidence=0.49)
    rewrite_shard(manifest_url, OTHER, lambda pair: unsure(noise_like(pair)))
    report = examine(manifest_url)
    assert report.faults == () and "2 offsets could not be measured" in report.notes[-1]


def test_a_length_that_a_header_makes_up_takes_no_memory(manifest_url: str) -> None:
    """2**35 samples would be 64 GiB, more than this process is allowed here."""
    name = "train-000000-0000.clean.flac"
    data = storage.read(tar_url(manifest_url))
    entry = pair_entry(manifest_url, 0)
    at = entry.members["clean.flac"]
    flac = bytearray(data[at.offset : at.offset + at.length])
    flac[8 + 13] ^= 0b1000  # "fLaC", a block's header, then STREAMINFO: its 36 bits of samples
    publish_tar(manifest_url, TRAIN, replaced_member(data, name, bytes(flac)))
    allowed = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (32 << 30, allowed[1]))
    try:
        faults = examine(manifest_url).faults
    finally:
        resource.setrlimit(resource.RLIMIT_AS, allowed)
    assert [(fault.kind, fault.pair) for fault in faults] == [("audio", entry.key)]
    assert "clean.flac" in faults[0].message


def test_an_offset_within_two_samples_passes(manifest_url: str) -> None:
    rewrite_shard(manifest_url, VAL, with_meta(alignment_offset=-1))
    assert "offset" in kinds(examine(manifest_url))  # of the pair whose offset is -90
    assert [fault.pair for fault in examine(manifest_url).faults] == ["val-000000-0000"]


def test_the_same_pairs_are_chosen_each_time_and_as_many_as_asked() -> None:
    counts = [64, 0, 3, 200]
    chosen = choose(counts, 50)
    assert chosen == choose(counts, 50)
    assert sum(map(len, chosen)) == 50
    for rows, count in zip(chosen, counts, strict=True):
        assert len(set(rows)) == len(rows) and all(0 <= row < count for row in rows)
    assert choose(counts, 10**9) == [tuple(range(count)) for count in counts]


@pytest.mark.parametrize(
    ("field", "value"),
    [("pairs", 4), ("bytes", 1), ("seconds", 99.0), ("sha256", "0"), ("index_sha256", "0")],
)
def test_a_manifest_that_says_something_else_of_a_shard_is_a_fault(
    manifest_url: str, field: str, value: object
) -> None:
    splits = shards.load_manifest(manifest_url).splits
    wrong = replace(splits["train"][0], **{field: value})
    change_manifest(manifest_url, splits={**splits, "train": (wrong, splits["train"][1])})
    faults = examine(manifest_url).faults
    assert len(faults) == 1
    assert "the manifest says" in faults[0].message


def test_a_shard_listed_twice_is_told_once(manifest_url: str) -> None:
    splits = shards.load_manifest(manifest_url).splits
    change_manifest(
        manifest_url, splits={**splits, "train": (*splits["train"], splits["train"][0])}
    )
    assert verify(manifest_url) == [f"{TRAIN}: the manifest lists it 2 times"]


def test_a_manifest_without_shards_is_a_fault(manifest_url: str) -> None:
    change_manifest(manifest_url, splits={})
    assert verify(manifest_url) == ["the manifest lists no shards"]


REFUSED = {"unaligned": (Rejection(3, "a.wav", 0, 0), Rejection(4, "b.wav", 0, 1))}


def test_refused_pairs_are_counted_as_the_indexes_name_them(manifest_url: str) -> None:
    rewrite_shard(manifest_url, TRAIN, rejected=REFUSED)
    assert ["unaligned" in fault for fault in verify(manifest_url)] == [True]
    change_manifest(manifest_url, rejected={"unaligned": 2})
    assert verify(manifest_url) == []
    change_manifest(manifest_url, rejected={"unaligned": 2, "too_short": 1})
    assert ["too_short" in fault for fault in verify(manifest_url)] == [True]


@pytest.mark.parametrize("number", [1, 2])
def test_a_shard_that_was_refused_whole_counts_though_no_manifest_lists_it(
    tmp_path: Path, number: int
) -> None:
    """Both within the numbers and at their end."""
    url = make_shards(tmp_path, [1, 1, 1])
    path = shards.shard_path("train", number)
    publish_tar(url, path, build_tar([], "wav"), rejected=REFUSED)
    splits = shards.load_manifest(url).splits
    kept = tuple(shard for shard in splits["train"] if shard.path != path)
    change_manifest(url, splits={**splits, "train": kept}, rejected={"unaligned": 2})
    report = examine(url)
    assert report.faults == ()
    assert not any("tar" in note for note in report.notes)


def test_an_index_without_a_plan_is_a_fault_if_others_have_one(manifest_url: str) -> None:
    rewrite_shard(manifest_url, OTHER, plan="")
    faults = examine(manifest_url).faults
    assert [(fault.kind, fault.shard) for fault in faults] == [("plan", shards.index_path(OTHER))]


def test_the_noisy_side_is_checked_like_the_others(tmp_path: Path) -> None:
    url = make_shards(tmp_path / "shards", [3, 2], audio_format="flac", noisy=True)
    assert verify(url) == []
    rewrite_shard(url, OTHER, lambda pair: pair._replace(noisy=mixed(pair.clean)[:-5]))
    data = bytearray(storage.read(tar_url(url)))
    data[pair_entry(url).members["noisy.flac"].offset + 3000] ^= 1
    storage.publish(tar_url(url), bytes(data))
    told = {(fault.kind, fault.pair): fault.message for fault in examine(url).faults}
    assert (
        "noisy.flac: 11995 samples, but its meta says 12000" in told["audio", f"{OTHER_KEY}-0000"]
    )
    assert "noisy.flac" in told["index", "train-000000-0001"]
    assert "CRC-32" in told["index", "train-000000-0001"]


def test_a_common_noisy_side_makes_no_duplicates_and_another_one_hides_none(tmp_path: Path) -> None:
    url = make_shards(tmp_path / "shards", [3, 2], noisy=True)
    first = stored_pairs(url, TRAIN)[0]
    rewrite_shard(url, TRAIN, lambda pair: pair._replace(noisy=0 * pair.clean))
    assert verify(url) == []
    rewrite_shard(
        url, OTHER, lambda pair: first._replace(meta=replace(first.meta, key=pair.meta.key))
    )
    assert {fault.pair for fault in examine(url).faults if fault.kind == "duplicate"} == {
        f"{OTHER_KEY}-0000",
        f"{OTHER_KEY}-0001",
    }


def test_two_pairs_of_one_content_are_told(manifest_url: str) -> None:
    first = stored_pairs(manifest_url, TRAIN)[0]

    def copy(pair: FinishedPair) -> FinishedPair:
        return FinishedPair(replace(first.meta, key=pair.meta.key), first.clean, first.degraded)

    rewrite_shard(manifest_url, OTHER, copy)
    faults = [fault for fault in examine(manifest_url).faults if fault.kind == "duplicate"]
    assert [fault.pair for fault in faults] == ["train-000001-0000", "train-000001-0001"]
    assert all("train-000000-0000" in fault.message for fault in faults)


def test_variants_of_one_clean_side_are_no_duplicates(manifest_url: str) -> None:
    clean = stored_pairs(manifest_url, TRAIN)[1].clean

    def variant(pair: FinishedPair) -> FinishedPair:
        meta = replace(pair.meta, samples=len(clean), alignment_offset=0)
        return FinishedPair(meta, clean, np.roll(clean, 1) // (3 + pair.clean[0] % 7))

    rewrite_shard(manifest_url, OTHER, variant)
    assert "duplicate" not in kinds(examine(manifest_url))


def test_a_key_in_two_shards_is_told(manifest_url: str) -> None:
    rewrite_shard(
        manifest_url, OTHER, lambda p: with_meta(key=p.meta.key.replace("000001", "000000"))(p)
    )
    faults = [fault for fault in examine(manifest_url).faults if fault.kind == "duplicate"]
    assert [fault.pair for fault in faults] == ["train-000000-0000", "train-000000-0001"]


@pytest.mark.parametrize(
    ("says", "told"),
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
    manifest_url: str, says: dict[str, object], told: str
) -> None:
    known = {
        "rir": "big.wav",
        "voices": ("chatter.wav",),
        "speaker": "someone else",
        "clean": Source("train-000001-0000.wav", sha256="abc"),
    }
    rewrite_shard(manifest_url, TRAIN, with_meta(rir="small.wav"))
    rewrite_shard(manifest_url, OTHER, with_meta(**known))
    assert verify(manifest_url) == []
    rewrite_shard(manifest_url, VAL, with_meta(**says))
    faults = examine(manifest_url).faults
    assert [fault.kind for fault in faults] == ["leakage"]
    assert told in faults[0].message


def test_the_only_noise_room_and_speaker_may_be_on_both_sides(manifest_url: str) -> None:
    for path in (TRAIN, OTHER, VAL):
        rewrite_shard(manifest_url, path, with_meta(speaker="the only one", rir="room.wav"))
    report = examine(manifest_url)
    assert report.faults == ()
    assert [note.partition(" ")[0] for note in report.notes] == ["speaker", "noise", "room"]


def test_nobody_is_no_speaker_and_a_babble_is_known_by_its_voices(manifest_url: str) -> None:
    for path, voice in [(TRAIN, "a.wav"), (OTHER, "a.wav"), (VAL, "b.wav")]:
        noises = (Source("babble-0000"), Source(f"{path}.wav"))
        rewrite_shard(manifest_url, path, with_meta(speaker="", noises=noises, voices=(voice,)))
    report = examine(manifest_url)
    assert (report.faults, report.notes) == ((), ())


def test_stray_tars_are_a_note_unless_another_version_lists_them(manifest_url: str) -> None:
    whole = storage.read(manifest_url)
    splits = shards.load_manifest(manifest_url).splits
    change_manifest(manifest_url, splits={**splits, "train": splits["train"][:1]})
    report = examine(manifest_url)
    assert report.faults == ()
    assert f"1 tars are in no manifest: {OTHER}" in report.notes
    later = storage.join(shards.folder_of(manifest_url), "manifest-000002.json")
    storage.publish(later, whole)
    assert not any("no manifest" in note for note in examine(manifest_url).notes)


@pytest.mark.parametrize("rejected", [{}, {"unaligned": 2}], ids=["counts agree", "counts differ"])
def test_the_damaged_index_of_a_stray_tar_is_told_beside_all_else(
    manifest_url: str, rejected: dict[str, int]
) -> None:
    splits = shards.load_manifest(manifest_url).splits
    change_manifest(
        manifest_url, splits={**splits, "train": splits["train"][:1]}, rejected=rejected
    )
    index = shards.index_path(OTHER)
    storage.publish(tar_url(manifest_url, index), b"{cut")
    storage.remove(tar_url(manifest_url, VAL))
    report = examine(manifest_url)
    assert ("missing", VAL) in [(fault.kind, fault.shard) for fault in report.faults]
    assert [f.shard for f in report.faults if f.kind == "index"] == [index] * len(rejected)
    assert any("unaligned" in fault.message for fault in report.faults) == bool(rejected)
    assert any(index in note for note in report.notes)
    assert f"1 tars are in no manifest: {OTHER}" in report.notes


def test_any_store_will_do(manifest_url: str, tmp_path: Path) -> None:
    bucket = f"memory://{tmp_path.name}"
    for path, url in storage.find_below(shards.folder_of(manifest_url)).items():
        storage.publish(storage.join(bucket, path), storage.read(url))
    assert verify(bucket) == []
    storage.remove(storage.join(bucket, OTHER))
    assert [fault.partition(":")[0] for fault in verify(bucket)] == [OTHER]


def test_the_command_ends_with_0_1_or_2_and_its_json_names_every_fault(
    manifest_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([manifest_url, "--offsets", "all", "--workers", "1"]) == 0
    assert "7 pairs in 3 shards" in capsys.readouterr().out
    storage.remove(tar_url(manifest_url))
    rewrite_shard(manifest_url, VAL, with_meta(alignment_offset=700))
    assert main([manifest_url, "--json"]) == 1
    shown = capsys.readouterr()
    tree = json.loads(shown.out)
    assert {(f["kind"], f["shard"], f["pair"]) for f in tree["faults"]} == {
        ("missing", TRAIN, ""),
        ("offset", VAL, "val-000000-0000"),
        ("offset", VAL, "val-000000-0001"),
    }
    assert tree["manifest"] == manifest_url and tree["shards"] == 3 and tree["pairs"] == 4
    assert "3 faults" in shown.err and TRAIN not in shown.err
    assert main([manifest_url]) == 1
    assert TRAIN in capsys.readouterr().err
    for wrong in ("0", "-1", "two"):
        with pytest.raises(SystemExit, match="2"):
            main([manifest_url, "--workers", wrong])
        assert "expected a whole number of at least 1" in capsys.readouterr().err
    assert main([str(Path(manifest_url).parents[1])]) == 2
    assert main([shards.folder_of(manifest_url) + "/manifest-000009.json"]) == 2
