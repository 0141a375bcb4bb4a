import json
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from timbre.audio.synthetic.noise import (
    DIRECT_DELAY,
    NOISE_LEVEL_DB,
    NoiseKind,
    noise,
    room_response,
    speaker,
    voice,
    write_corpus,
)

RATE = 48_000
KINDS = get_args(NoiseKind)


def spectrum_db(wave: NDArray[np.float32], share: float) -> NDArray[np.float64]:
    """Level of 1-kHz bands in the frames at a quantile, (24,)."""
    frames = np.lib.stride_tricks.sliding_window_view(wave, 1920)[::960] * np.hanning(1920)
    power = np.abs(np.fft.rfft(frames))[:, :960] ** 2
    bands = power.reshape(len(frames), 24, 40).mean(axis=2)
    levels: NDArray[np.float64] = 10 * np.log10(np.quantile(bands, share, axis=0) + 1e-20)
    return levels


def decay_seconds(response: NDArray[np.float32]) -> float:
    """RT60 from the -5 to -35 dB slope of Schroeder's backward integral."""
    energy = np.cumsum(np.square(response, dtype=np.float64)[::-1])[::-1]
    level = 10 * np.log10(energy / energy[0] + 1e-30)
    where = np.flatnonzero((level <= -5) & (level >= -35))
    return float(-60 / np.polyfit(where / RATE, level[where], 1)[0])


def heard_pitch_hz(wave: NDArray[np.float32]) -> float:
    """Median over the louder frames of the strongest lag of the autocorrelation."""
    heard = []
    for frame in np.lib.stride_tricks.sliding_window_view(wave, 3840)[::1920]:
        if frame.std() < 0.5 * wave.std():
            continue
        alike = np.fft.irfft(np.abs(np.fft.rfft(frame, 8192)) ** 2)
        lags = np.arange(RATE // 400, RATE // 60)
        heard.append(RATE / lags[np.argmax(alike[lags])])
    return float(np.median(heard))


def test_voice_is_a_function_of_its_generator() -> None:
    one, same, other = (voice(1.0, np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("seconds", [0.05, 0.5, 2.0, 3.00001])
def test_voice_has_the_requested_length_and_range(seconds: float) -> None:
    wave = voice(seconds, np.random.default_rng(0))
    assert wave.shape == (round(seconds * RATE),)
    assert wave.dtype == np.float32
    assert np.isfinite(wave).all()
    assert np.abs(wave).max(initial=0.0) < 1.0


@pytest.mark.parametrize("seed", range(4))
def test_voice_speaks_at_its_level(seed: int) -> None:
    wave = voice(3.0, np.random.default_rng(seed))
    power = np.square(wave[: len(wave) // 960 * 960]).reshape(-1, 960).mean(axis=1)
    active = power[power > 1e-4 * power.max()].mean()
    assert abs(10 * np.log10(active) + 25.0) < 1.0


@pytest.mark.parametrize("seed", range(4))
def test_voice_reaches_the_top_of_the_band_and_falls_off_towards_it(seed: int) -> None:
    loud = spectrum_db(voice(4.0, np.random.default_rng(seed)), 0.97)
    assert loud[16:20].mean() > loud.max() - 60
    assert loud[16:20].mean() < loud[:2].max() - 20


def test_voice_pauses_between_phrases() -> None:
    wave = voice(6.0, np.random.default_rng(3))
    power = np.square(wave).reshape(-1, 4800).mean(axis=1)
    quiet = np.mean(power < 1e-5 * power.max())
    assert 0.02 < quiet < 0.5


@pytest.mark.parametrize("pitch_hz", [90.0, 150.0, 230.0])
def test_voice_keeps_to_the_pitch_asked_for(pitch_hz: float) -> None:
    wave = voice(3.0, np.random.default_rng(5), pitch_hz=pitch_hz)
    assert 0.85 < heard_pitch_hz(wave) / pitch_hz < 1.15


def test_clips_of_one_speaker_share_a_voice() -> None:
    low, high = sorted(
        (speaker(np.random.default_rng(seed)) for seed in range(8)), key=lambda who: who.pitch_hz
    )[::7]
    clips = [
        voice(3.0, np.random.default_rng(seed), who=who) for who in (low, high) for seed in (1, 2)
    ]
    heard = [heard_pitch_hz(clip) for clip in clips]
    assert not np.array_equal(clips[0], clips[1])
    assert max(heard[:2]) / min(heard[:2]) < 1.15
    assert max(heard[2:]) / min(heard[2:]) < 1.15
    assert min(heard[2:]) / max(heard[:2]) > 1.3


@pytest.mark.parametrize("kind", KINDS)
def test_noise_has_its_level_whatever_its_kind(kind: NoiseKind) -> None:
    wave = noise(kind, 1.5, np.random.default_rng(2))
    level_db = 10 * np.log10(np.mean(np.square(wave, dtype=np.float64)))
    assert abs(level_db - NOISE_LEVEL_DB) < 0.01
    assert np.abs(wave).max() < 1.0
    np.testing.assert_array_equal(wave, noise(kind, 1.5, np.random.default_rng(2)))


def test_noises_differ_in_colour_and_in_peaks() -> None:
    waves = {kind: noise(kind, 2.0, np.random.default_rng(4)) for kind in KINDS}
    tilt = {kind: np.subtract(*spectrum_db(wave, 0.5)[[1, 16]]) for kind, wave in waves.items()}
    assert abs(tilt["white"]) < 1.5
    assert 8 < tilt["pink"] < 15
    assert tilt["wind"] > 25
    crest = {kind: np.abs(wave).max() / wave.std() for kind, wave in waves.items()}
    assert crest["clicks"] > 2 * crest["white"]


@pytest.mark.parametrize("rt60_seconds", [0.2, 0.4, 0.8, 1.5])
@pytest.mark.parametrize("seed", range(3))
def test_room_decays_in_the_time_asked_for(rt60_seconds: float, seed: int) -> None:
    response = room_response(rt60_seconds, np.random.default_rng(seed))
    assert abs(decay_seconds(response) / rt60_seconds - 1) < 0.15


def test_room_has_its_direct_path_of_one_at_the_known_sample() -> None:
    for delay in (0, DIRECT_DELAY, 500):
        response = room_response(0.3, np.random.default_rng(1), direct_delay=delay)
        assert int(np.argmax(np.abs(response))) == delay
        assert response[delay] == 1.0
        assert not response[:delay].any()


def test_room_loses_its_highs_first() -> None:
    response = room_response(0.8, np.random.default_rng(0))[DIRECT_DELAY:]
    early, late = (
        np.abs(np.fft.rfft(response[start : start + 9600])) ** 2 for start in (2400, 16800)
    )
    low, high = slice(100, 600), slice(2000, 4000)
    assert late[high].sum() / late[low].sum() < 0.2 * early[high].sum() / early[low].sum()


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    write_corpus(folder, seed=7, speakers=2, clips_per_speaker=2, seconds=1.0)
    return folder


def test_corpus_manifest_names_every_file_and_what_it_is(corpus: Path) -> None:
    rows = [json.loads(line) for line in (corpus / "manifest.jsonl").read_text().splitlines()]
    files = {str(path.relative_to(corpus)) for path in corpus.rglob("*.flac")}
    assert {row["file"] for row in rows} == files
    for row in rows:
        header = soundfile.info(corpus / row["file"])
        assert (header.samplerate, header.channels, header.subtype) == (RATE, 1, "PCM_16")
        assert row["duration_s"] == pytest.approx(header.duration, abs=1e-3)
        assert row["licence"] == "CC0-1.0"
        assert (row["speaker"] is not None) == row["file"].startswith("speech/")
        assert ("rt60_s" in row) == row["file"].startswith("rir/")
    assert len({row["speaker"] for row in rows if row["speaker"]}) == 2


def test_corpus_is_the_same_bytes_again_and_grows_without_changing(
    corpus: Path, tmp_path: Path
) -> None:
    write_corpus(tmp_path, seed=7, speakers=3, clips_per_speaker=2, seconds=1.0)
    old = {path.relative_to(corpus): path.read_bytes() for path in corpus.rglob("*.flac")}
    new = {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*.flac")}
    assert {name: new[name] for name in old} == old
    assert len(new) == len(old) + 2
