"""Files in and out: every format and layout, standard streams, whatever is wrong with them."""

import io
import resource
import shutil
import struct
import sys
from pathlib import Path

import fsspec
import numpy as np
import pytest
import soundfile

from tests.help.moved_generators import build
from timbre import audio, cli
from timbre.audio import Wave
from timbre.audio.synthetic.voice import voice
from timbre.errors import AudioError, ConfigError
from timbre.models import checkpoint
from timbre.models.generator import GeneratorConfig
from timbre.restore.files import Job, is_below, plan_folder, restore_file
from timbre.restore.output import Wanted
from timbre.restore.restorer import Restorer
from timbre.storage import files as storage

WHOLE = Wanted()
DRY = Wanted(dry=1.0)


@pytest.fixture(scope="module")
def checkpoint_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = str(tmp_path_factory.mktemp("checkpoint") / "made.safetensors")
    config = GeneratorConfig("spectral", "tiny", causal=False, noisy_input=True)
    checkpoint.save_generator(path, build("spectral", moved=True, noisy_input=True), config, {})
    return path


@pytest.fixture(scope="module")
def restorer(checkpoint_path: str) -> Restorer:
    return Restorer.load(checkpoint_path, device="cpu")


@pytest.fixture(scope="module")
def through() -> Restorer:
    """No networks: what is left is the way of a file through all stages."""
    return Restorer(None, None)


def noisy(seconds: float, seed: int = 0) -> Wave:
    rng = np.random.default_rng(seed)
    clean = voice(seconds, rng)
    return clean + 0.01 * rng.standard_normal(len(clean)).astype(np.float32)


def restore(restorer: Restorer, source: Path, target: Path, wanted: Wanted = WHOLE) -> list[float]:
    shares: list[float] = []
    restore_file(restorer, Job(str(source), str(target), 1), wanted, shares.append)
    return shares


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
    made, given = audio.read(tmp_path / f"out_{name}")[0], audio.read(tmp_path / name)[0]
    middle = slice(rate // 10, -rate // 10)
    assert np.abs(made[:, middle] - given[:, middle]).max() < 0.02  # a lossy format's, twice
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
    restore(restorer, tmp_path / "a.wav", tmp_path / "b.wav", Wanted(0.7, 0.2, 48_000))
    made, rate = audio.read(tmp_path / "b.wav")
    assert rate == 48_000
    np.testing.assert_array_equal(made, restorer(wave, 16_000, 0.7, 0.2, 48_000))


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
    made = audio.read(tmp_path / "b.wav")[0]
    assert np.isfinite(made).all() and np.abs(made).max() <= 1
    soundfile.write(tmp_path / "over.wav", np.array([0.5, 1.5, -3.0]), 48_000, subtype="FLOAT")
    job = Job(str(tmp_path / "over.wav"), str(tmp_path / "over.flac"), 1)
    assert restore_file(through, job, WHOLE, lambda _: None).clipped == 2
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
        data = bytearray(encoded(noisy(0.1)))
        struct.pack_into("<H", data, 22, 0)  # no channels
        path.write_bytes(data)
    return path


def encoded(wave: Wave) -> bytes:
    return audio.encode_wave(wave, 48_000)


@pytest.mark.parametrize(
    ("name", "told"),
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
    through: Restorer, tmp_path: Path, name: str, told: str
) -> None:
    path = spoil(tmp_path, name)
    with pytest.raises(AudioError, match=told) as caught:
        restore(through, path, tmp_path / "out/b.flac")
    assert str(caught.value).startswith(f"{path}: ")
    assert not list((tmp_path / "out").glob("*")) and not list((tmp_path / "out").glob(".*"))


def test_a_stream_of_unknown_length_is_no_cut_file(through: Restorer, tmp_path: Path) -> None:
    data = bytearray(encoded(noisy(0.2)))
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


def test_names_that_lead_out_of_the_folder_are_refused_and_the_rest_goes_on(tmp_path: Path) -> None:
    for path in ("../a.wav", "a/../../b.wav", "/etc/a.wav", "a/\0.wav"):
        assert not is_below(path)
    for path in ("a.wav", "a/b..c/d.wav", "...wav"):
        assert is_below(path)
    memory = fsspec.filesystem("memory")
    data = encoded(noisy(0.1))
    memory.pipe_file("/traversal/in/good.wav", data)
    memory.store["/traversal/in/../../evil.wav"] = memory.store["/traversal/in/good.wav"]
    plan = plan_folder("memory://traversal/in", str(tmp_path / "out"))
    del memory.store["/traversal/in/../../evil.wav"]
    assert [Path(job.target).name for job in plan.jobs] == ["good.wav"]
    assert len(plan.refused) == 1 and "leads out of the folder" in plan.refused[0]


def test_a_bucket_is_read_and_written(
    checkpoint_path: str,
    restorer: Restorer,
    s3_bucket: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    audio.write(tmp_path / "a.ogg", noisy(0.4), 44_100)
    storage.publish(f"{s3_bucket}/in/deep/a.ogg", (tmp_path / "a.ogg").read_bytes())
    storage.publish(f"{s3_bucket}/in/bad.wav", b"no audio")
    words = ["restore", f"{s3_bucket}/in", f"{s3_bucket}/out", "--checkpoint", checkpoint_path]
    assert cli.main([*words, "--device", "cpu"]) == 1
    assert f"{s3_bucket}/in/bad.wav: not readable as audio" in capsys.readouterr().err
    assert list(storage.find_below(f"{s3_bucket}/out")) == ["deep/a.ogg"]
    restore(restorer, tmp_path / "a.ogg", tmp_path / "b.ogg")
    made, alone = audio.read(f"{s3_bucket}/out/deep/a.ogg"), audio.read(tmp_path / "b.ogg")
    np.testing.assert_array_equal(made[0], alone[0])  # the files differ in their serial numbers
    storage.remove(f"{s3_bucket}/in/bad.wav")
    assert cli.main([*words, "--device", "cpu"]) == 0
    assert "there already, and left: 1" in capsys.readouterr().out


def test_an_output_in_the_input_folder_or_on_the_input_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    audio.write(tmp_path / "in/a.wav", noisy(0.1), 48_000)
    with pytest.raises(ConfigError, match="lies in the input folder"):
        plan_folder(f"{tmp_path}/in", f"{tmp_path}/in/../in/deep")
    assert cli.main(["restore", f"{tmp_path}/in/a.wav", f"{tmp_path}/in/../in/a.wav"]) == 2
    assert "is the input; choose another name" in capsys.readouterr().err


def test_standard_input_and_output_carry_wav(
    checkpoint_path: str,
    restorer: Restorer,
    monkeypatch: pytest.MonkeyPatch,
    capsysbinary: pytest.CaptureFixture[bytes],
) -> None:
    wave = noisy(0.3)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(encoded(wave))))
    words = ["restore", "-", "-", "--checkpoint", checkpoint_path, "--device", "cpu"]
    assert cli.main(words) == 0
    made, rate = audio.decode_bytes(capsysbinary.readouterr().out, "standard output")
    expected = restorer(audio.to_int16(wave) / np.float32(32768), 48_000)
    assert rate == 48_000
    np.testing.assert_array_equal(audio.to_int16(made[0]), audio.to_int16(expected))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"no audio")))
    assert cli.main(words) == 1
    captured = capsysbinary.readouterr()
    assert captured.out == b""
    assert b"standard input: not readable as audio" in captured.err


def test_processes_do_what_one_does_and_name_the_bad_file(
    checkpoint_path: str, restorer: Restorer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a.wav", "deep/b.flac"):
        audio.write(tmp_path / "in" / name, noisy(0.3), 48_000)
    (tmp_path / "in/bad.wav").write_text("no audio")
    shutil.copy(tmp_path / "in/bad.wav", tmp_path / "in/notes.txt")  # not audio by its name
    stale = tmp_path / f"out/.a.wav.{'0' * 32}.tmp"  # what a killed run leaves
    stale.parent.mkdir()
    stale.touch()
    folders = [f"{tmp_path}/in", f"{tmp_path}/out", "--checkpoint", checkpoint_path]
    assert cli.main(["restore", *folders, "--workers", "2", "--device", "cpu"]) == 1
    out, error = capsys.readouterr()
    assert "2 files, 0:00:01 of sound" in out
    assert error.count("timbre: error:") == 1 and "1 of 3 files failed" in error
    assert f"{tmp_path}/in/bad.wav: not readable as audio" in error
    made = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.*")}
    assert made == {"a.wav", "deep/b.flac"}
    restore(restorer, tmp_path / "in/a.wav", tmp_path / "alone.wav")
    assert (tmp_path / "out/a.wav").read_bytes() == (tmp_path / "alone.wav").read_bytes()
