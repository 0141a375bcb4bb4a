"""A manifest checked: lists, counts, refused pairs, stray tars, the command."""

import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from shard_tools.make.tar import build_tar
from shard_tools.verify.command import main
from shard_tools.verify.manifest import check_manifest, verify
from tests.help.made_shards import (
    change_manifest,
    make_shards,
    publish_tar,
    rewrite_shard,
)
from tests.shard_tools.verify.damage import OTHER, TRAIN, VAL, kinds, tar_url, with_meta
from timbre import shards
from timbre.errors import ShardError
from timbre.shards import Rejection
from timbre.shards.foreign import open_or_adopt
from timbre.storage import files as storage


def test_whole_shards_have_no_fault_and_every_pair_is_counted(manifest_url: str) -> None:
    report = check_manifest(manifest_url)
    assert report.faults == ()
    assert (report.pairs, report.shards, report.checked_offsets) == (7, 3, 7)
    all_shards = [
        s for entries in shards.load_manifest(manifest_url).splits.values() for s in entries
    ]
    assert report.seconds == pytest.approx(sum(shard.seconds for shard in all_shards), abs=1e-3)


def test_any_number_of_workers_says_the_same(manifest_url: str) -> None:
    storage.publish(tar_url(manifest_url), storage.read(tar_url(manifest_url))[:-20000])
    rewrite_shard(manifest_url, VAL, with_meta(speaker="someone in train"))
    assert check_manifest(manifest_url, workers=1) == check_manifest(manifest_url, workers=4)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("pairs", 4),
        ("bytes", 1),
        ("seconds", 99.0),
        ("sha256", "0" * 64),
        ("index_sha256", "0" * 64),
    ],
)
def test_a_manifest_that_says_something_else_of_a_shard_is_a_fault(
    manifest_url: str, field: str, value: object
) -> None:
    splits = shards.load_manifest(manifest_url).splits
    wrong = replace(splits["train"][0], **{field: value})
    change_manifest(manifest_url, splits={**splits, "train": (wrong, splits["train"][1])})
    faults = check_manifest(manifest_url).faults
    assert len(faults) == 1
    assert "the manifest says" in faults[0].message


def test_a_shard_listed_twice_is_told_once(manifest_url: str) -> None:
    splits = shards.load_manifest(manifest_url).splits
    change_manifest(
        manifest_url, splits={**splits, "train": (*splits["train"], splits["train"][0])}
    )
    with pytest.raises(ShardError, match="is listed twice"):
        verify(manifest_url)


def test_a_manifest_without_shards_is_a_fault(manifest_url: str) -> None:
    change_manifest(manifest_url, splits={})
    assert verify(manifest_url) == ["the manifest lists no shards"]


REJECTIONS = {"unaligned": (Rejection(3, "a.wav", 0, 0), Rejection(4, "b.wav", 0, 1))}


def test_refused_pairs_are_counted_as_the_indexes_name_them(manifest_url: str) -> None:
    rewrite_shard(manifest_url, TRAIN, rejected=REJECTIONS)
    assert ["unaligned" in fault for fault in verify(manifest_url)] == [True]
    change_manifest(manifest_url, rejected={"unaligned": 2})
    assert verify(manifest_url) == []
    change_manifest(manifest_url, rejected={"unaligned": 2, "too_short": 1})
    assert ["too_short" in fault for fault in verify(manifest_url)] == [True]


@pytest.mark.parametrize("number", [1, 2])
def test_a_shard_that_was_refused_whole_counts_though_no_manifest_lists_it(
    tmp_path: Path, number: int
) -> None:
    """Shards are refused both between others and at the end."""
    url = make_shards(tmp_path, [1, 1, 1])
    path = shards.shard_path("train", number)
    publish_tar(url, path, build_tar([], "wav"), rejected=REJECTIONS)
    splits = shards.load_manifest(url).splits
    rest = tuple(shard for shard in splits["train"] if shard.path != path)
    change_manifest(url, splits={**splits, "train": rest}, rejected={"unaligned": 2})
    report = check_manifest(url)
    assert report.faults == ()
    assert not any("tar" in note for note in report.notes)


def test_an_odd_name_and_one_refusal_too_many_take_few_look_ups(
    manifest_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No listed path has the name that its number would give, so that none is ever met."""
    folder = Path(shards.folder_of(manifest_url))
    (folder / "train/odd.tar").write_bytes((folder / OTHER).read_bytes())
    (folder / "train/odd.index").write_bytes((folder / shards.index_path(OTHER)).read_bytes())
    splits = shards.load_manifest(manifest_url).splits
    odd = replace(splits["train"][1], path="train/odd.tar")
    splits = {**splits, "train": (splits["train"][0], odd)}
    change_manifest(manifest_url, splits=splits, rejected={"unaligned": 1})
    look_ups = []
    original = storage.read
    monkeypatch.setattr("timbre.storage.read", lambda url: (look_ups.append(url), original(url))[1])
    assert any("unaligned" in fault for fault in verify(manifest_url))
    assert 3 < len(look_ups) < 500


def test_a_plan_says_how_many_shards_may_have_been_refused_whole(tmp_path: Path) -> None:
    url = make_shards(tmp_path, [1])
    for number in (1, 150):
        path = shards.shard_path("train", number)
        publish_tar(url, path, build_tar([], "wav"), rejected=REJECTIONS)
    plan = json.dumps({"first_shard": {"train": 100}, "shards": {"train": 51}, "seed": 3}).encode()
    (tmp_path / "plan-000001.json").write_bytes(plan)
    hashes = {"plan": storage.sha256(plan)}
    change_manifest(url, rejected={"unaligned": 4}, hashes=hashes)
    assert verify(url) == []


def test_anybodys_tars_that_train_well_have_no_fault(tmp_path: Path) -> None:
    """The metas hold only the offset, keys repeat in each tar, and a file lies beside them."""
    url = make_shards(tmp_path, [3, 2])
    manifest = shards.load_manifest(url)
    for split, entries in manifest.splits.items():
        for number, shard in enumerate(entries):
            (tmp_path / shards.index_path(shard.path)).unlink()
            data = (tmp_path / shard.path).read_bytes()
            (tmp_path / shard.path).write_bytes(as_foreign(data, f"{split}{number}"))
    Path(url).unlink()
    open_or_adopt(str(tmp_path))
    report = check_manifest(str(tmp_path))
    assert report.faults == () and report.pairs == 7
    assert any("7 pairs say only how they are aligned" in note for note in report.notes)
    data = bytearray((tmp_path / TRAIN).read_bytes())
    data[9000] ^= 1
    (tmp_path / TRAIN).write_bytes(data)
    assert kinds(check_manifest(str(tmp_path))) >= {"tar"}


def as_foreign(data: bytes, note: str) -> bytes:
    target = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(data)) as old,
        tarfile.open(fileobj=target, mode="w", format=tarfile.PAX_FORMAT) as new,
    ):
        for info in old:
            file = old.extractfile(info)
            assert file
            body = file.read()
            if info.name.endswith(".json"):
                body = json.dumps(
                    {"alignment_offset": json.loads(body)["alignment_offset"]}
                ).encode()
            name = info.name.rpartition("-")[2]
            member = tarfile.TarInfo(name)
            member.size, member.pax_headers = len(body), {"comment": note}
            new.addfile(member, io.BytesIO(body))
        readme = tarfile.TarInfo("README")
        readme.size = len(note)
        new.addfile(readme, io.BytesIO(note.encode()))
    return target.getvalue()


def test_an_index_without_a_plan_is_a_fault_if_others_have_one(manifest_url: str) -> None:
    rewrite_shard(manifest_url, OTHER, plan="")
    faults = check_manifest(manifest_url).faults
    assert [(fault.kind, fault.shard) for fault in faults] == [("plan", shards.index_path(OTHER))]


def test_stray_tars_are_a_note_unless_another_version_lists_them(manifest_url: str) -> None:
    whole = storage.read(manifest_url)
    splits = shards.load_manifest(manifest_url).splits
    change_manifest(manifest_url, splits={**splits, "train": splits["train"][:1]})
    report = check_manifest(manifest_url)
    assert report.faults == ()
    assert f"1 tars are in no manifest: {OTHER}" in report.notes
    later = storage.join(shards.folder_of(manifest_url), "manifest-000002.json")
    storage.publish(later, whole)
    assert not any("no manifest" in note for note in check_manifest(manifest_url).notes)


@pytest.mark.parametrize("counts", [{}, {"unaligned": 2}], ids=["counts agree", "counts differ"])
def test_the_damaged_index_of_a_stray_tar_is_told_beside_all_else(
    manifest_url: str, counts: dict[str, int]
) -> None:
    splits = shards.load_manifest(manifest_url).splits
    change_manifest(manifest_url, splits={**splits, "train": splits["train"][:1]}, rejected=counts)
    index = shards.index_path(OTHER)
    storage.publish(tar_url(manifest_url, index), b"{cut")
    storage.remove(tar_url(manifest_url, VAL))
    report = check_manifest(manifest_url)
    assert ("missing", VAL) in [(fault.kind, fault.shard) for fault in report.faults]
    assert [f.shard for f in report.faults if f.kind == "index"] == [index] * len(counts)
    assert any("unaligned" in fault.message for fault in report.faults) == bool(counts)
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
    output = capsys.readouterr()
    tree = json.loads(output.out)
    assert {(f["kind"], f["shard"], f["pair"]) for f in tree["faults"]} == {
        ("missing", TRAIN, ""),
        ("offset", VAL, "val-000000-0000"),
        ("offset", VAL, "val-000000-0001"),
    }
    assert tree["manifest"] == manifest_url and tree["shards"] == 3 and tree["pairs"] == 4
    assert "3 faults" in output.err and TRAIN not in output.err
    assert main([manifest_url]) == 1
    assert TRAIN in capsys.readouterr().err
    for wrong in ("0", "-1", "two"):
        with pytest.raises(SystemExit, match="2"):
            main([manifest_url, "--workers", wrong])
        assert "expected a whole number of at least 1" in capsys.readouterr().err
    assert main([str(Path(manifest_url).parents[1])]) == 2
    assert main([shards.folder_of(manifest_url) + "/manifest-000009.json"]) == 2
