"""Files in and out: every format and layout, standard streams, whatever is wrong with them."""

import io
import resource
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.restore.sounds import encode, noisy, restore
from timbre import audio, cli
from timbre.errors import AudioError
from timbre.restore.files import FileTask, restore_file
from timbre.restore.output import FULL_OUTPUT, Output
from timbre.restore.restorer import Restorer

DRY = Output(dry=1.0)


@pytest.mark.parametrize(
    ("name", "subtype", "rate", "channels"),
    [
        ("a.wav", "PCM_16", 8000, 1),
        ("a.wav", "PCM_24", 192_000, 2),
        ("a.wav", "FLOAT", 44_100, 20),
        ("a.flac", "PCM_24", 96_000, 8),
        ("a.ogg", "VORBIS", 44_100, 2),
        ("a.opus", "OPUS", 48_000, 1),
        ("a.mp3", "MPEG_LAYER_III", 44_100, 2),
        ("a.aiff", "PCM_16", 22_050, 1),
        ("a.w64", "PCM_16", 48_000, 1),
    ],
)
def test_every_format_comes_back_in_its_layout_and_in_time(
    through: Restorer, tmp_path: Path, name: str, subtype: str, rate: int, channels: int
) -> None:
    tone = 0.3 * np.sin(np.arange(round(0.3 * rate)) * (2 * np.pi * 600 / rate))
    wave = np.stack([tone * (1 - 0.04 * number) for number in range(channels)]).astype(np.float32)
    audio.write(tmp_path / name, wave, rate, subtype)
    shares = restore(through, tmp_path / name, tmp_path / f"out_{name}")
    before, after = soundfile.info(tmp_path / name), soundfile.info(tmp_path / f"out_{name}")
    for field in ("frames", "samplerate", "channels", "subtype", "format"):
        assert getattr(before, field) == getattr(after, field), field
    output, source = audio.read(tmp_path / f"out_{name}")[0], audio.read(tmp_path / name)[0]
    middle = slice(rate // 10, -rate // 10)
    assert np.abs(output[:, middle] - source[:, middle]).max() < 0.02  # a lossy format's, twice
    assert shares == sorted(shares) and shares[-1] == 1.0


@pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT"])
def test_the_dry_input_comes_back_bit_for_bit(
    restorer: Restorer, tmp_path: Path, subtype: str
) -> None:
    audio.write(tmp_path / "a.wav", noisy(0.4), 44_100, subtype)
    restore(restorer, tmp_path / "a.wav", tmp_path / "b.wav", DRY)
    np.testing.assert_array_equal(
        audio.read(tmp_path / "a.wav")[0], audio.read(tmp_path / "b.wav")[0]
    )


def test_a_file_gives_what_its_samples_give(restorer: Restorer, tmp_path: Path) -> None:
    wave = np.stack([noisy(0.5, 1), noisy(0.5, 2)])
    audio.write(tmp_path / "a.wav", wave, 16_000, "FLOAT")
    restore(restorer, tmp_path / "a.wav", tmp_path / "b.wav", Output(0.7, 0.2), 48_000)
    output, rate = audio.read(tmp_path / "b.wav")
    assert rate == 48_000
    np.testing.assert_array_equal(output, restorer(wave, 16_000, 0.7, 0.2, 48_000))


@pytest.mark.parametrize("source", ["a.wav", "a.mp3", "a.ogg", "a.opus", "a.flac"])
def test_every_format_can_become_every_other(
    through: Restorer, tmp_path: Path, source: str
) -> None:
    audio.write(tmp_path / source, noisy(0.1), 48_000)
    for ending in ("wav", "flac", "ogg", "opus", "mp3", "aiff", "w64"):
        restore(through, tmp_path / source, tmp_path / f"b.{ending}")
        assert soundfile.info(tmp_path / f"b.{ending}").frames == 4800


def test_vorbis_of_a_minute_can_be_written(through: Restorer, tmp_path: Path) -> None:
    audio.write(tmp_path / "a.wav", np.zeros(60 * 48_000, np.float32), 48_000)
    restore(through, tmp_path / "a.wav", tmp_path / "a.ogg")
    assert soundfile.info(tmp_path / "a.ogg").frames == 60 * 48_000


def test_clipping_input_is_restored_and_what_is_clipped_again_is_counted(
    restorer: Restorer, through: Restorer, tmp_path: Path
) -> None:
    loud = np.clip(30 * noisy(0.4), -1.0, 1.0)
    audio.write(tmp_path / "a.wav", loud, 48_000)
    restore(restorer, tmp_path / "a.wav", tmp_path / "b.wav")
    output = audio.read(tmp_path / "b.wav")[0]
    assert np.isfinite(output).all() and np.abs(output).max() <= 1
    soundfile.write(tmp_path / "over.wav", np.array([0.5, 1.5, -3.0]), 48_000, subtype="FLOAT")
    task = FileTask(str(tmp_path / "over.wav"), str(tmp_path / "over.flac"), 1)
    assert restore_file(through, task, FULL_OUTPUT, lambda _: None).clipped_samples == 2
    restore(through, tmp_path / "over.wav", tmp_path / "kept.wav")  # floats go beyond
    np.testing.assert_allclose(audio.read(tmp_path / "kept.wav")[0][0], [0.5, 1.5, -3.0], rtol=1e-6)


def spoil(folder: Path, name: str) -> Path:
    """A file with something wrong."""
    path = folder / name
    kind, ending = path.stem, path.suffix
    if kind == "cut":
        audio.write(folder / f"whole{ending}", noisy(0.5), 48_000)
        path.write_bytes((whole := (folder / f"whole{ending}").read_bytes())[: len(whole) * 2 // 3])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("this is no audio")
    elif kind == "nothing":
        soundfile.write(path, np.zeros(0), 48_000)
    elif kind in ("nan", "inf"):
        samples = np.append(np.zeros(300_000), float(kind))  # not in the first block
        soundfile.write(path, samples, 48_000, subtype="FLOAT")
    elif kind == "odd_rate":
        soundfile.write(path, np.zeros(9), 44_101)
    else:
        data = bytearray(encode(noisy(0.1)))
        struct.pack_into("<H", data, 22, 0)  # no channels
        path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("name", "message"),
    [
        *(
            (f"cut.{ending}", "breaks off|not readable|lost sync")
            for ending in ("wav", "flac", "ogg", "mp3", "aiff", "w64")
        ),
        ("empty.wav", "not readable as audio"),
        ("text.wav", "not readable as audio"),
        ("nothing.wav", "holds no samples"),
        ("nan.wav", "NaN"),
        ("inf.wav", "infinite"),
        ("odd_rate.wav", "44101 Hz"),
        ("no_channels.wav", "not readable as audio"),
    ],
)
def test_what_cannot_be_used_is_named_and_nothing_is_written(
    through: Restorer, tmp_path: Path, name: str, message: str
) -> None:
    path = spoil(tmp_path, name)
    with pytest.raises(AudioError, match=message) as failure:
        restore(through, path, tmp_path / "out/b.flac")
    assert str(failure.value).startswith(f"{path}: ")
    assert not list((tmp_path / "out").glob("*")) and not list((tmp_path / "out").glob(".*"))


def test_a_stream_of_unknown_length_is_no_cut_file(through: Restorer, tmp_path: Path) -> None:
    data = bytearray(encode(noisy(0.2)))
    struct.pack_into("<I", data, 4, 0xFFFF_FFFF)
    struct.pack_into("<I", data, 40, 0xFFFF_FFFF)  # as ffmpeg writes into a pipe
    (tmp_path / "a.wav").write_bytes(data)
    restore(through, tmp_path / "a.wav", tmp_path / "b.wav")
    assert soundfile.info(tmp_path / "b.wav").frames == 9600


def test_an_output_that_cannot_be_written_is_named_and_the_old_one_stays(
    through: Restorer, tmp_path: Path
) -> None:
    audio.write(tmp_path / "a.wav", np.zeros((12, 100), np.float32), 48_000)
    audio.write(tmp_path / "b.flac", noisy(0.1), 48_000)
    before = (tmp_path / "b.flac").read_bytes()
    with pytest.raises(AudioError, match=r"b\.flac: FLAC cannot hold 12 channels"):
        restore(through, tmp_path / "a.wav", tmp_path / "b.flac")
    with pytest.raises(OSError, match=r"a\.wav/c\.wav: cannot be written"):
        restore(through, tmp_path / "a.wav", tmp_path / "a.wav/c.wav")
    assert (tmp_path / "b.flac").read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"a.wav", "b.flac"}


def test_a_disk_that_is_full_is_told_and_leaves_nothing(through: Restorer, tmp_path: Path) -> None:
    audio.write(tmp_path / "a.wav", noisy(1.0), 48_000)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        with pytest.raises(OSError, match=r"b\.wav: cannot be written: File too large"):
            restore(through, tmp_path / "a.wav", tmp_path / "b.wav")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]


def test_standard_input_and_output_carry_wav(
    checkpoint_path: str,
    restorer: Restorer,
    monkeypatch: pytest.MonkeyPatch,
    capsysbinary: pytest.CaptureFixture[bytes],
) -> None:
    source = noisy(0.3)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(encode(source))))
    words = ["restore", "-", "-", "--checkpoint", checkpoint_path, "--device", "cpu"]
    assert cli.main(words) == 0
    wave, rate = audio.decode_bytes(capsysbinary.readouterr().out, "standard output")
    expected = restorer(audio.to_int16(source) / np.float32(32768), 48_000)
    assert rate == 48_000
    np.testing.assert_array_equal(audio.to_int16(wave[0]), audio.to_int16(expected))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"no audio")))
    assert cli.main(words) == 1
    output = capsysbinary.readouterr()
    assert output.out == b""
    assert b"standard input: not readable as audio" in output.err
