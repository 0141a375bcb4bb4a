"""Sources: manifests as other programs write them, folders as people have them, and hints."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shard_tools.config import PrepConfig
from shard_tools.executors.local import run_local
from shard_tools.executors.share import Share
from shard_tools.plan.editions import begin_edition
from shard_tools.scan import sources
from shard_tools.scan.scan import scan
from shard_tools.scan.sources import SpeakerRule, list_files, open_source
from timbre import audio
from timbre import config as configs
from timbre.audio.synthetic.voice import voice
from timbre.errors import ConfigError
from timbre.storage import files as storage

NAMES = ["s0/a.wav", "s1/a.wav", "s2/a.wav"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, name in enumerate(NAMES):
        talk = voice(1.0, np.random.default_rng(number))
        audio.write(tmp_path / "speech" / name, talk, 48_000)
    return tmp_path / "speech"


def list_paths(source: Path) -> list[str]:
    files = list_files(open_source(str(source), "speech"), "speech", SpeakerRule())
    return [file.path for file in files]


def write_manifest(path: Path, rows: list[dict[str, Any]], before: bytes = b"") -> Path:
    path.write_bytes(before + "\r\n".join(json.dumps(row) for row in rows).encode())
    return path


def test_a_byte_order_mark_is_no_part_of_a_manifest(folder: Path) -> None:
    rows = [{"file": name} for name in NAMES]
    assert list_paths(write_manifest(folder / "m.jsonl", rows, b"\xef\xbb\xbf")) == NAMES


@pytest.mark.parametrize("path", ["{folder}/{name}", "./{name}", "s0/../{name}"])
def test_paths_below_the_manifest_may_be_written_in_any_way(folder: Path, path: str) -> None:
    rows = [{"file": path.format(folder=folder, name=name)} for name in NAMES]
    assert list_paths(write_manifest(folder / "m.jsonl", rows)) == NAMES


@pytest.mark.parametrize("file", ["/etc/passwd", "../other/a.wav", "s0/../../x.wav", "."])
def test_paths_elsewhere_are_named(folder: Path, file: str) -> None:
    manifest = write_manifest(folder / "m.jsonl", [{"file": NAMES[0]}, {"file": file}])
    with pytest.raises(ConfigError, match=r"line 2.*expected a path below"):
        list_paths(manifest)


def test_one_file_written_in_two_ways_is_listed_twice(folder: Path) -> None:
    rows = [{"file": NAMES[0]}, {"file": f"{folder}/{NAMES[0]}"}]
    with pytest.raises(ConfigError, match="listed twice"):
        list_paths(write_manifest(folder / "m.jsonl", rows))


def test_links_are_followed_and_notes_pipes_and_other_formats_named(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    audio.write(tmp_path / "disk2/b.wav", voice(1.0, np.random.default_rng(9)), 48_000)
    (folder / "linked").symlink_to(tmp_path / "disk2")
    (folder / "loop").symlink_to(".")
    (folder / "._a.wav").write_bytes(b"\0\5\26\7 notes")
    (folder / "c.m4a").write_bytes(b"0")
    os.mkfifo(folder / "live.wav")
    assert list_paths(folder) == ["linked/b.wav", *NAMES]
    output = capsys.readouterr()
    for name in ("._a.wav", "c.m4a", "live.wav"):
        assert name in output.out + output.err
    rows = [{"file": "linked/b.wav"}, {"file": NAMES[0]}]
    assert list_paths(write_manifest(folder / "m.jsonl", rows)) == ["linked/b.wav", NAMES[0]]


def corpus(tmp_path: Path, hints: dict[str, list[str | None]]) -> PrepConfig:
    """Write a corpus whose manifest has a hint for each recording of each role."""
    rng, rows = np.random.default_rng(0), []
    for role, marks in hints.items():
        for number, hint in enumerate(marks):
            wave = (
                voice(1.0, np.random.default_rng(number))
                if role == "speech"
                else (0.1 * rng.standard_normal(24_000)).astype(np.float32)
            )
            name = f"{role}/{number}.wav"
            audio.write(tmp_path / name, wave, 48_000)
            row = {"file": name, "speaker": f"s{number}", "pause_db": -40.0 + 10 * number}
            rows.append(row if hint is None else row | {"split_hint": hint})
    manifest = write_manifest(tmp_path / "manifest.jsonl", rows)
    tree = {
        "speech": str(manifest),
        "noise": str(manifest),
        "output": f"{tmp_path}/out",
        "workers": 1,
        "split_by": "hint",
        "save_segment_seconds": 1.0,
        "clips": {"min_bandwidth_hz": 0.0},
        "denoiser": {"name": "none"},
    }
    return configs.from_tree(PrepConfig, tree, "test")


def test_hints_decide_the_sides_and_leave_out_the_rest(tmp_path: Path) -> None:
    config = corpus(
        tmp_path,
        {"speech": ["train", "train", "val", "spare"], "noise": ["val", "train", None]},
    )
    edition = begin_edition(config, [], "", run_local, Share(0, 1))
    assert edition is not None
    for role, sides in {
        "speech": ["train", "train", "val", None],
        "noise": ["val", "train", None],
    }.items():
        assert [clip.split for clip in edition.clips[role]] == sides
        assert [clip.refused for clip in edition.clips[role]][-1] == "spare"


def test_a_side_without_any_hint_is_named(tmp_path: Path) -> None:
    config = corpus(tmp_path, {"speech": ["train", "val"], "noise": ["train", "train"]})
    with pytest.raises(ConfigError, match=r"split_by hint: noise: .*'val'"):
        begin_edition(config, [], "", run_local, Share(0, 1))


def test_speech_with_loud_pauses_is_left_out(tmp_path: Path) -> None:
    config = corpus(tmp_path, {"speech": ["train", "val", "val"], "noise": ["train", "val"]})
    tree = configs.to_tree(config) | {"clips": {"min_bandwidth_hz": 0.0, "max_pause_db": -30.0}}
    rows = scan(configs.from_tree(PrepConfig, tree, "test"), run_local, Share(0, 1))
    assert [clip.refused for clip in rows["speech"]] == [None, None, "loud_pauses"]
    assert [clip.refused for clip in rows["noise"]] == [None, None]


def test_of_a_speaker_no_more_stays_than_the_config_wants(tmp_path: Path) -> None:
    config = corpus(tmp_path, {"speech": ["train"] * 5 + ["val"], "noise": ["train", "val"]})
    manifest = tmp_path / "manifest.jsonl"
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    for row, speaker in zip(rows, ["ann", "bo", "ann", "ann", None, "bo"], strict=False):
        row["speaker"] = speaker
    write_manifest(manifest, rows)
    limits = {"min_bandwidth_hz": 0.0, "max_speaker_seconds": 2.5}
    tree = configs.to_tree(config) | {"clips": limits}
    result = scan(configs.from_tree(PrepConfig, tree, "test"), run_local, Share(0, 1))
    stays = [clip.speaker for clip in result["speech"] if clip.refused is None]
    assert sorted(map(str, stays)) == ["None", "ann", "ann", "bo", "bo"]
    anns = [clip for clip in result["speech"] if clip.speaker == "ann"]
    surplus = max(anns, key=lambda clip: clip.sha256)
    assert surplus.refused == "surplus" and surplus.detail == "ann has 2.5 s without it"
    assert not any(clip.refused for clip in result["noise"])


def test_noises_are_split_by_kind_and_source(tmp_path: Path) -> None:
    config = corpus(tmp_path, {"speech": ["train", "val"], "noise": ["train"] * 12})
    rows = [json.loads(line) for line in (tmp_path / "manifest.jsonl").read_text().splitlines()]
    noises = [row for row in rows if row["file"].startswith("noise/")]
    for number, row in enumerate(noises):
        row |= {"kind": f"kind {number % 3}", "source": f"source {number // 3}"}
    write_manifest(tmp_path / "manifest.jsonl", rows)
    tree = configs.to_tree(config) | {"split_by": "kind", "val_ratio": 0.4}
    edition = begin_edition(
        configs.from_tree(PrepConfig, tree, "test"), [], "", run_local, Share(0, 1)
    )
    assert edition is not None
    sides = {
        side: {value for clip in edition.usable_clips("noise") if clip.split == side
               for value in (clip.kind, clip.source)}
        for side in ("train", "val")
    }  # fmt: skip
    assert sides["train"] and sides["val"] and not sides["train"] & sides["val"]
    spare = [clip for clip in edition.clips["noise"] if clip.refused == "spare"]
    assert len(spare) + len(edition.usable_clips("noise")) == 12


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (SpeakerRule(level=-1), {"p1", "p2", None}),
        (SpeakerRule(level=0), {"corpus", None}),
        (SpeakerRule(level=None), {None}),
        (SpeakerRule(pattern=r"_(\d+)\."), {"07", "08", "09"}),
        (SpeakerRule(pattern=r"(x)?(?P<speaker>0\d)"), {"07", "08", "09"}),
    ],
)
def test_speakers_come_from_a_folder_or_a_pattern(
    tmp_path: Path, rule: SpeakerRule, expected: set[str | None]
) -> None:
    for name in ["corpus/p1/a_07.wav", "corpus/p2/a_08.wav", "a_09.wav"]:
        storage.publish(tmp_path / name, b"x")
    files = list_files(open_source(str(tmp_path), "speech"), "speech", rule)
    assert {file.speaker for file in files} == expected


def test_a_pattern_that_matches_nothing_is_refused(tmp_path: Path) -> None:
    storage.publish(tmp_path / "a.wav", b"x")
    with pytest.raises(ConfigError, match=r"speaker_pattern: .* matches no path .* a\.wav"):
        list_files(open_source(str(tmp_path), "speech"), "speech", SpeakerRule(None, r"p(\d+)"))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('{"file": ""}', "file"),
        ('{"file": 3}', "file"),
        ('{"file": "a.wav", "speaker": 3}', "speaker"),
        ("[]", "the row"),
    ],
)
def test_a_manifest_row_of_another_shape_is_refused_by_line(
    tmp_path: Path, row: str, message: str
) -> None:
    (tmp_path / "m.jsonl").write_text(f"\n{row}\n")
    with pytest.raises(ConfigError, match=rf"m\.jsonl, line 2: {message}"):
        open_source(f"{tmp_path}/m.jsonl", "speech")


def test_a_manifest_of_all_roles_gives_each_its_own_rows(corpus: Path) -> None:
    for role in sources.ROLES:
        by_manifest, by_folder = (
            list_files(open_source(f"{corpus}/{source}", role), role, SpeakerRule())
            for source in ("manifest.jsonl", role)
        )
        assert by_manifest == by_folder
        assert all(file.path.startswith(role) for file in by_manifest)
    rows = [json.loads(line) for line in (corpus / "manifest.jsonl").read_text().splitlines()]
    speech = list_files(open_source(f"{corpus}/speech", "speech"), "speech", SpeakerRule())
    assert {file.speaker for file in speech} == {
        row["speaker"] for row in rows if row["file"].startswith("speech")
    }


def test_files_that_a_manifest_does_not_list_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("speech/a.wav", "speech/b.wav"):
        storage.publish(tmp_path / name, b"x")
    (tmp_path / "manifest.jsonl").write_text('{"file": "speech/a.wav", "license": "CC0-1.0"}\n')
    (file,) = list_files(open_source(f"{tmp_path}/speech", "speech"), "speech", SpeakerRule())
    assert file.path == "speech/a.wav" and file.licence == "CC0-1.0"
    assert "1 files" in capsys.readouterr().out
