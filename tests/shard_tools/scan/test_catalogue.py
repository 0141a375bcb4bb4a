"""Catalogues: rows of recordings of every format and length, and stretches read by them."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from shard_tools.scan import measure as measuring
from shard_tools.scan.catalogue import Clip, dump_rows, load_rows, read_stretch
from shard_tools.scan.measure import measure
from shard_tools.scan.sources import File
from timbre import audio
from timbre.audio import Wave
from timbre.audio.synthetic.voice import voice
from timbre.errors import ShardError

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


def test_a_file_that_changed_is_told_not_read(speech: Wave, tmp_path: Path) -> None:
    audio.write(tmp_path / "a.wav", speech, 48_000)
    clip = measure(file_of(tmp_path / "a.wav"))
    buffer = io.BytesIO()
    soundfile.write(buffer, speech * 0.5, 48_000, format="WAV", subtype="PCM_16")
    (tmp_path / "a.wav").write_bytes(buffer.getvalue())
    with pytest.raises(ShardError, match=r"a\.wav: changed since it was scanned"):
        read_stretch(str(tmp_path / "a.wav"), clip, 0, 100)
