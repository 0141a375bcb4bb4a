"""What is measured of a recording, and what makes it useless."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from shard_tools.scan.catalogue import Clip, read_stretch
from shard_tools.scan.measure import measure
from shard_tools.scan.sources import File
from timbre import audio
from timbre.audio import Wave
from timbre.audio.synthetic.voice import voice

TALK = voice(3.0, np.random.default_rng(2))


def measure_file(path: Path, with_bandwidth: bool = True) -> Clip:
    return measure(File(path.name, str(path), path.stat().st_size, "", None, None), with_bandwidth)


def write_wave(path: Path, wave: Wave, **more: str) -> Path:
    soundfile.write(path, wave, 48_000, **more)
    return path


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.opus", "a.aiff"])
@pytest.mark.parametrize("share", [0.3, 0.8])
def test_a_file_that_breaks_off_is_unreadable(tmp_path: Path, name: str, share: float) -> None:
    more = {"format": "OGG", "subtype": "OPUS"} if name.endswith("opus") else {}
    path = write_wave(tmp_path / name, TALK, **more)
    assert measure_file(path).refused is None
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    clip = measure_file(path)
    assert clip.refused == "unreadable" and str(path) in str(clip.detail)


@pytest.mark.parametrize("left", [0.0, 0.02])
def test_channels_that_cancel_each_other_are_not_called_silent(tmp_path: Path, left: float) -> None:
    both = np.stack([TALK, -(1 - left) * TALK], axis=1)
    clip = measure_file(write_wave(tmp_path / "a.wav", both))
    assert clip.refused == "cancelled" and "phase" in str(clip.detail)


@pytest.mark.parametrize("right", [0.0, 0.3, -0.3, 1.0])
def test_other_stereo_is_taken(tmp_path: Path, right: float) -> None:
    clip = measure_file(write_wave(tmp_path / "a.wav", np.stack([TALK, right * TALK], axis=1)))
    assert clip.refused is None and clip.channels == 2


@pytest.mark.parametrize("offset", [0.03, -0.2])
def test_a_constant_offset_is_measured_and_taken_away(tmp_path: Path, offset: float) -> None:
    plain = 0.3 * TALK
    without = write_wave(tmp_path / "plain.wav", plain, subtype="FLOAT")
    path = write_wave(tmp_path / "offset.wav", plain + np.float32(offset), subtype="FLOAT")
    clip, other = measure_file(path), measure_file(without)
    assert clip.offset is not None and abs(clip.offset - offset) < 1e-3
    assert other.offset is None
    assert abs(clip.level_db - other.level_db) < 0.1
    start, samples = -1000, len(TALK) + 3000  # silence stays silent on either side
    wave = read_stretch(str(path), clip, start, samples)
    expected = read_stretch(str(without), other, start, samples)
    np.testing.assert_allclose(wave, expected, atol=1e-3)
    assert not wave[:1000].any() and not wave[-2000:].any()


@pytest.mark.parametrize("seed", range(3))
def test_the_mean_of_a_voice_or_a_noise_is_no_offset(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    noise = (0.1 * rng.standard_normal(24_000)).astype(np.float32)
    for number, wave in enumerate((voice(1.5, rng), noise)):
        clip = measure_file(write_wave(tmp_path / f"{number}.flac", wave))
        assert clip.offset is None
        whole = audio.read_mono(tmp_path / f"{number}.flac")
        stretch = read_stretch(str(tmp_path / f"{number}.flac"), clip, 0, len(whole))
        np.testing.assert_array_equal(stretch, whole)


def test_a_recording_that_may_not_be_read_is_counted_as_unreadable(tmp_path: Path) -> None:
    path = write_wave(tmp_path / "a.wav", TALK)
    path.chmod(0)
    try:
        try:
            path.read_bytes()
        except PermissionError:
            clip = measure_file(path)
            assert clip.refused == "unreadable" and str(path) in str(clip.detail)
        else:
            pytest.skip("this user may read everything")
    finally:
        path.chmod(0o644)


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 32_000, 44_100])
def test_a_low_passed_voice_is_measured_to_its_edge(tmp_path: Path, rate: int) -> None:
    talk = voice(6.0, np.random.default_rng(1))
    audio.write(tmp_path / "a.flac", audio.resample(talk, 48_000, rate), rate)
    edge_hz = measure_file(tmp_path / "a.flac").bandwidth_hz
    edge = 0.9476 * rate / 2
    assert edge - 1_000 < edge_hz < rate / 2 + 200


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
    clip = measure_file(path)
    assert clip.refused == reason
    assert clip.detail is None if message is None else message in str(clip.detail)


@pytest.mark.parametrize("rate", [30, 44_099])
def test_a_rate_that_cannot_be_brought_to_48_khz_is_refused_in_every_role(
    tmp_path: Path, rate: int
) -> None:
    noise = np.random.default_rng(0).standard_normal(60_000)
    soundfile.write(tmp_path / "a.wav", noise, rate, subtype="FLOAT")
    for with_bandwidth in (True, False):
        clip = measure_file(tmp_path / "a.wav", with_bandwidth)
        assert clip.refused == "unreadable" and f"{rate} Hz" in str(clip.detail)


def test_a_constant_is_silence(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.full(48_000, 0.3), 48_000)
    assert measure_file(tmp_path / "a.wav").refused == "silent"
