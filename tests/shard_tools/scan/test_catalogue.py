"""Catalogues: every file measured once, whatever its format, length and place."""

import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from shard_tools.config import PrepConfig
from shard_tools.executors.local import run_local
from shard_tools.executors.share import Share
from shard_tools.scan import measure as measuring
from shard_tools.scan import parts, scan, sources
from shard_tools.scan.catalogue import Clip, dump_rows, load_rows, read_stretch
from shard_tools.scan.measure import measure
from shard_tools.scan.parts import cut_into_parts
from shard_tools.scan.scan import PARTS
from shard_tools.scan.sources import File, SpeakerRule, list_files, open_source
from timbre import audio
from timbre import config as configs
from timbre.audio import Wave
from timbre.audio.synthetic.voice import voice
from timbre.errors import ConfigError, ShardError
from timbre.storage import files as storage

FORMATS = [
    ("wav", "WAV", "PCM_16"),
    ("wav", "WAV", "FLOAT"),
    ("flac", "FLAC", "PCM_24"),
    ("ogg", "OGG", "VORBIS"),
    ("opus", "OGG", "OPUS"),
    ("mp3", "MP3", "MPEG_LAYER_III"),
]


@pytest.fixture(scope="module")
def speech() -> Wave:
    """2 s of silence, 4 s of a voice, 1 s of silence."""
    talk = voice(4.0, np.random.default_rng(0))
    return np.concatenate([np.zeros(96_000, np.float32), talk, np.zeros(48_000, np.float32)])


def write(path: Path, wave: Wave, rate: int, format: str, subtype: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with soundfile.SoundFile(path, "w", rate, 1, format=format, subtype=subtype) as file:
        for start in range(0, len(wave), 4800):  # libsndfile crashes on long Vorbis writes
            file.write(wave[start : start + 4800])


def file_of(path: Path) -> File:
    return File(path.name, str(path), path.stat().st_size, "", None, None)


@pytest.mark.parametrize(("ending", "format", "subtype"), FORMATS)
@pytest.mark.parametrize("rate", [48_000, 24_000])
def test_every_format_is_measured_and_read_in_stretches(
    speech: Wave, tmp_path: Path, ending: str, format: str, subtype: str, rate: int
) -> None:
    path = tmp_path / f"a.{ending}"
    write(path, audio.resample(speech, 48_000, rate), rate, format, subtype)
    clip = measure(file_of(path))
    assert clip.refused is None
    assert clip.sample_rate == rate and clip.channels == 1
    assert clip.format == f"{format}/{subtype}"
    assert abs(clip.samples - len(speech)) <= 4_000  # codecs pad
    assert clip.seconds == pytest.approx(7.0, abs=0.1)
    assert clip.level_db == pytest.approx(audio.active_level_db(speech), abs=1.5)
    assert abs(clip.speech_start - 96_000) < 9_600
    assert abs(clip.speech_stop - 288_000) < 9_600
    highest = 17_000 if format == "MP3" else 22_000  # LAME's own low-pass
    assert clip.bandwidth_hz == pytest.approx(min(highest, rate * 0.48), abs=2_500)
    whole = audio.read_mono(path)
    for start, samples in [(0, 1000), (100_001, 48_000), (-500, 2_000), (335_000, 9_000)]:
        stretch = read_stretch(str(path), clip, start, samples)
        inside = whole[max(start, 0) : start + samples]
        expected = np.pad(inside, (max(-start, 0), samples - len(inside) - max(-start, 0)))
        assert np.abs(stretch - expected).max() < 1e-5


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 32_000, 44_100])
def test_a_low_passed_voice_is_measured_to_its_edge(tmp_path: Path, rate: int) -> None:
    talk = voice(6.0, np.random.default_rng(1))
    audio.write(tmp_path / "a.flac", audio.resample(talk, 48_000, rate), rate)
    edge_hz = measure(file_of(tmp_path / "a.flac")).bandwidth_hz
    edge = 0.9476 * rate / 2
    assert edge - 1_000 < edge_hz < rate / 2 + 200


def test_a_long_file_is_measured_in_blocks_like_a_short_one(
    speech: Wave, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "a.flac", audio.resample(speech, 48_000, 44_100), 44_100, "FLAC", "PCM_16")
    whole = measure(file_of(tmp_path / "a.flac"))
    monkeypatch.setattr(measuring, "WHOLE_BYTES", 10)
    monkeypatch.setattr(measuring, "BLOCK_SECONDS", 1.0)
    blocks = measure(file_of(tmp_path / "a.flac"))
    assert blocks.sha256 == whole.sha256 and blocks.samples == whole.samples
    assert blocks.speech_start == pytest.approx(whole.speech_start, abs=1_000)
    assert blocks.bandwidth_hz == pytest.approx(whole.bandwidth_hz, abs=600)
    stretch = read_stretch(str(tmp_path / "a.flac"), blocks, 100_000, 5_000)
    monkeypatch.undo()
    assert np.array_equal(stretch, read_stretch(str(tmp_path / "a.flac"), whole, 100_000, 5_000))


@pytest.mark.parametrize(
    ("name", "content", "reason", "message"),
    [
        ("empty.wav", b"", "unreadable", "empty.wav"),
        ("text.flac", b"no audio at all", "unreadable", "text.flac: not readable"),
        ("silent.wav", np.zeros(48_000, np.float32), "silent", None),
        ("none.wav", np.zeros(0, np.float32), "unreadable", "holds no samples"),
        ("nan.wav", np.full(4_800, np.nan, np.float32), "unreadable", "NaN"),
    ],
)
def test_what_cannot_be_used_is_told(
    tmp_path: Path, name: str, content: bytes | Wave, reason: str, message: str | None
) -> None:
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        soundfile.write(path, content, 48_000, subtype="FLOAT")
    clip = measure(file_of(path))
    assert clip.refused == reason
    assert clip.detail is None if message is None else message in str(clip.detail)


def test_a_stereo_file_is_measured_as_its_mean(speech: Wave, tmp_path: Path) -> None:
    both = np.stack([speech, np.zeros_like(speech)])
    audio.write(tmp_path / "a.wav", both, 48_000)
    clip = measure(file_of(tmp_path / "a.wav"))
    assert clip.channels == 2
    assert clip.level_db == pytest.approx(audio.active_level_db(speech / 2), abs=0.5)


def test_rows_are_written_and_read_back_and_a_bad_one_is_told_by_line() -> None:
    rows = [Clip("ä.wav", 3, "ff", speaker="x"), Clip("b.wav", 4, "ee", refused="silent")]
    data = dump_rows(rows)
    assert load_rows(data, "x.jsonl") == rows
    assert json.loads(data.splitlines()[0])["path"] == "ä.wav"
    with pytest.raises(ShardError, match=r"x\.jsonl, line 3: bytes"):
        load_rows(data + b'{"path": "c", "bytes": "many", "sha256": ""}\n', "x.jsonl")


def test_a_new_file_changes_one_part_of_a_scan() -> None:
    for size in (1_000, 1 << 27):
        files = [File(f"{i:05d}.wav", "", size, "", None, None) for i in range(2000)]
        before = {part.name for part in cut_into_parts(files, "speech")}
        for place in (0, 777, 2000):
            new = File(f"{place:05d}a.wav", "", size, "", None, None)
            after = {part.name for part in cut_into_parts(sorted([*files, new]), "speech")}
            assert len(after - before) <= 2  # the part that it is in may be cut there
        assert 10 < len(before) < (100 if size == 1_000 else 2_000)
    new_files = [file._replace(stamp="later") if i == 50 else file for i, file in enumerate(files)]
    assert len({part.name for part in cut_into_parts(new_files, "speech")} - before) == 1
    assert max(len(part.files) for part in cut_into_parts(files, "speech")) < 30


def test_a_failing_store_is_no_unreadable_clip(
    speech: Wave, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """libsndfile swallows what its callbacks raise: it would have been left out for good."""
    write(tmp_path / "a.flac", speech, 48_000, "FLAC", "PCM_16")
    file = file_of(tmp_path / "a.flac")

    class Failing(io.FileIO):
        def read(self, size: int = -1) -> bytes:
            if self.tell() > 100_000 and size < 1 << 20:  # not while it is hashed
                raise PermissionError("access denied")
            return super().read(size)

    monkeypatch.setattr(measuring, "WHOLE_BYTES", 10)
    monkeypatch.setattr(measuring.storage, "open_ranged", lambda url, bytes: Failing(url))
    with pytest.raises(PermissionError, match="access denied"):
        measure(file)


@pytest.mark.parametrize("rate", [30, 44_099])
def test_a_rate_that_cannot_be_brought_to_48_khz_is_refused_in_every_role(
    tmp_path: Path, rate: int
) -> None:
    noise = np.random.default_rng(0).standard_normal(60_000)
    soundfile.write(tmp_path / "a.wav", noise, rate, subtype="FLOAT")
    for with_bandwidth in (True, False):
        clip = measure(file_of(tmp_path / "a.wav"), with_bandwidth)
        assert clip.refused == "unreadable" and f"{rate} Hz" in str(clip.detail)


def test_a_constant_is_silence(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.full(48_000, 0.3), 48_000)
    assert measure(file_of(tmp_path / "a.wav")).refused == "silent"


@pytest.fixture
def config(tmp_path: Path) -> PrepConfig:
    rng = np.random.default_rng(0)
    for role, count in [("speech", 12), ("noise", 2)]:
        for number in range(count):
            wave = rng.standard_normal(9_600).astype(np.float32) / 9
            audio.write(tmp_path / role / f"s{number % 3}/{number:02d}.wav", wave, 48_000)
    tree = {
        **{role: f"{tmp_path}/{role}" for role in ("speech", "noise")},
        "output": f"{tmp_path}/out",
        "workers": 1,
        "clips": {"min_bandwidth_hz": 0.0},
    }
    return configs.from_tree(PrepConfig, tree, "test")


def test_a_scan_measures_nothing_twice(
    config: PrepConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "FILES_PER_PART", 2)
    first = scan.scan(config, run_local, Share(0, 1))
    names = set(storage.find_below(f"{config.output}/{PARTS}"))
    assert len(names) > 4
    stamps = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "out" / PARTS).iterdir()}
    assert scan.scan(config, run_local, Share(0, 1)) == first
    assert {p.name: p.stat().st_mtime_ns for p in (tmp_path / "out" / PARTS).iterdir()} == stamps
    name = sorted(names)[0]
    storage.remove(f"{config.output}/{PARTS}/{name}")
    assert scan.scan(config, run_local, Share(1, 3)) == first


def test_shares_of_a_scan_begin_apart_and_end_alike(
    config: PrepConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "FILES_PER_PART", 2)
    starts = []

    def run_one(
        work: object, tasks: list[parts.Part], workers: int, *, gpu: bool
    ) -> Iterator[object]:
        assert not gpu
        starts.append(tasks[0].name)
        return iter(run_local(work, tasks, workers))  # type: ignore[arg-type]

    results = []
    for index in range(3):
        own = configs.from_tree(
            PrepConfig, {**configs.to_tree(config), "output": f"{tmp_path}/{index}"}, "test"
        )
        results.append(scan.scan(own, run_one, Share(index, 3)))
    assert results[0] == results[1] == results[2]
    assert len(set(starts)) == 3


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


def test_a_file_that_changed_is_told_not_read(speech: Wave, tmp_path: Path) -> None:
    audio.write(tmp_path / "a.wav", speech, 48_000)
    clip = measure(file_of(tmp_path / "a.wav"))
    buffer = io.BytesIO()
    soundfile.write(buffer, speech * 0.5, 48_000, format="WAV", subtype="PCM_16")
    (tmp_path / "a.wav").write_bytes(buffer.getvalue())
    with pytest.raises(ShardError, match=r"a\.wav: changed since it was scanned"):
        read_stretch(str(tmp_path / "a.wav"), clip, 0, 100)
