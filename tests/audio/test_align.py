import numpy as np
import pytest
from numpy.typing import NDArray

from timbre.audio import SAMPLE_RATE
from timbre.audio.align import MIN_CONFIDENCE, UNKNOWN, estimate_offset
from timbre.audio.synthetic.noise import NoiseKind, noise
from timbre.audio.synthetic.room import room_response
from timbre.audio.synthetic.voice import voice

Wave = NDArray[np.float32]

RATE = 48_000
MAX_OFFSET = 2400


def move(wave: Wave, offset: int) -> Wave:
    """``moved[n + offset]`` is ``wave[n]``; silence where nothing is known."""
    longer = np.pad(wave, (max(offset, 0), max(-offset, 0)))
    return longer[max(-offset, 0) :][: len(wave)]


def noisy(clean: Wave, snr_db: float, kind: NoiseKind, seed: int) -> Wave:
    disturbance = noise(kind, len(clean) / RATE, np.random.default_rng(seed))
    scale = clean.std() / disturbance.std() * 10 ** (-snr_db / 20)
    mixture: Wave = (clean + scale * disturbance).astype(np.float32)
    return mixture


@pytest.fixture(scope="module")
def clips() -> list[Wave]:
    return [voice(2.0, np.random.default_rng(seed)) for seed in range(6)]


@pytest.mark.parametrize("offset", [-2399, -480, -1, 0, 1, 37, 1440, 2399])
def test_offset_and_its_sign_are_found(clips: list[Wave], offset: int) -> None:
    clean = clips[0]
    degraded = move(clean, offset)
    estimate = estimate_offset(clean, degraded, MAX_OFFSET)
    assert estimate.offset == offset
    assert estimate.confidence > 0.9
    overlap = slice(2400, -2400)
    restored_in_place = np.roll(degraded, -estimate.offset)
    np.testing.assert_allclose(restored_in_place[overlap], clean[overlap], atol=1e-6)


@pytest.mark.parametrize("kind", ["white", "pink", "babble", "clicks"])
@pytest.mark.parametrize("snr_db", [-10.0, 0.0, 20.0])
def test_offset_is_found_through_noise(clips: list[Wave], kind: NoiseKind, snr_db: float) -> None:
    for number, (clean, offset) in enumerate(zip(clips[:3], (-700, 0, 911), strict=True)):
        degraded = move(noisy(clean, snr_db, kind, number), offset)
        estimate = estimate_offset(clean, degraded, MAX_OFFSET)
        assert abs(estimate.offset - offset) <= 1
        assert estimate.confidence > MIN_CONFIDENCE


def test_offset_is_that_of_the_direct_path_in_a_room(clips: list[Wave]) -> None:
    response = room_response(0.4, np.random.default_rng(1), direct_delay=300)
    wet = np.convolve(clips[1][:RATE], response)[:RATE].astype(np.float32)
    assert estimate_offset(clips[1][:RATE], wet, MAX_OFFSET).offset == 300


def test_level_and_timbre_do_not_move_the_offset(clips: list[Wave]) -> None:
    clean = clips[2]
    spectrum = np.fft.rfft(clean) / (1 + np.arange(len(clean) // 2 + 1) / 4000)
    dull = (1e-3 * np.fft.irfft(spectrum, len(clean))).astype(np.float32)
    estimate = estimate_offset(clean, move(dull, -123), MAX_OFFSET)
    assert estimate.offset == -123
    assert estimate.confidence > 0.8


def test_part_of_a_sample_is_told_apart(clips: list[Wave]) -> None:
    clean = clips[3]
    turns = np.exp(-2j * np.pi * np.fft.rfftfreq(len(clean)) * 10.3)
    late = np.fft.irfft(np.fft.rfft(clean) * turns, len(clean)).astype(np.float32)
    estimate = estimate_offset(clean, late, MAX_OFFSET)
    assert estimate.offset == 10
    assert estimate.fraction == pytest.approx(0.3, abs=0.05)


def test_unrelated_pairs_stay_below_the_threshold(clips: list[Wave]) -> None:
    pairs = [(one, two) for one in clips for two in clips if one is not two]
    confidences = [estimate_offset(one, two, MAX_OFFSET).confidence for one, two in pairs]
    assert max(confidences) < MIN_CONFIDENCE


def test_cuts_at_the_same_place_do_not_pass_for_agreement(clips: list[Wave]) -> None:
    # Both sides end in the midst of a vowel: two clicks at one place, the strongest thing in common.
    steady = np.sin(2 * np.pi * 200 * np.arange(RATE) / RATE + 1.0).astype(np.float32)
    other = np.sin(2 * np.pi * 317 * np.arange(RATE) / RATE + 1.0).astype(np.float32)
    one = clips[4][:RATE] * 0.01 + steady
    two = clips[5][:RATE] * 0.01 + other
    assert estimate_offset(one, two, MAX_OFFSET).confidence < MIN_CONFIDENCE


def test_sides_of_unequal_length_are_aligned(clips: list[Wave]) -> None:
    clean = clips[0]
    assert estimate_offset(clean, move(clean, 50)[:-9000], MAX_OFFSET).offset == 50
    assert estimate_offset(clean[:-9000], move(clean, 50), MAX_OFFSET).offset == 50


def test_inverted_polarity_has_no_confidence(clips: list[Wave]) -> None:
    assert estimate_offset(clips[0], -move(clips[0], 20), MAX_OFFSET).confidence == 0


def test_silence_has_no_confidence(clips: list[Wave]) -> None:
    silence = np.zeros_like(clips[0])
    assert estimate_offset(clips[0], silence, MAX_OFFSET) == UNKNOWN
    assert estimate_offset(silence, clips[0], MAX_OFFSET) == UNKNOWN
    assert estimate_offset(silence, silence, MAX_OFFSET) == UNKNOWN


@pytest.mark.parametrize("samples", [0, 1, 100, 4799])
def test_too_short_a_pair_has_no_confidence(clips: list[Wave], samples: int) -> None:
    short = clips[0][20_000 : 20_000 + samples]
    assert estimate_offset(short, short, MAX_OFFSET) == UNKNOWN


def test_an_offset_beyond_the_range_is_not_believed(clips: list[Wave]) -> None:
    estimate = estimate_offset(clips[1], move(clips[1], 1000), 400)
    assert estimate.confidence < MIN_CONFIDENCE


def test_a_range_of_zero_leaves_nothing_to_compare_with(clips: list[Wave]) -> None:
    assert estimate_offset(clips[0], clips[0], 0) == UNKNOWN


def smear(clean: Wave, delay: float) -> Wave:
    """The clip later by ``delay``, its lows late, in hum: what pulls a dot product's peak aside."""
    hz = np.fft.rfftfreq(len(clean), 1 / SAMPLE_RATE)
    lows_late = np.exp(-4j * np.pi * hz / 300 * np.exp(-(((hz - 200) / 300) ** 2)))
    spectrum = np.fft.rfft(clean) * lows_late * np.exp(-2j * np.pi * hz * delay / SAMPLE_RATE)
    wave: Wave = np.fft.irfft(spectrum, len(clean)).astype(np.float32)
    hum = noise("hum", len(clean) / SAMPLE_RATE, np.random.default_rng(9))
    return wave + np.float32(0.3 * clean.std() / hum.std()) * hum


def dot_product_offset(clean: Wave, degraded: Wave, reach: int) -> int:
    spectrum = np.fft.rfft(degraded, 2 * len(clean)) * np.conj(np.fft.rfft(clean, 2 * len(clean)))
    lags = np.fft.irfft(spectrum)
    return int(np.argmax([*lags[-reach:], *lags[: reach + 1]])) - reach


@pytest.mark.parametrize("offset", [-703, -1, 0, 37, 480, 1003])
def test_each_pairs_offset_and_its_sign_are_found_where_a_dot_product_errs(
    offset: int,
) -> None:
    for seed in (0, 1):  # pair by pair
        clean = voice(2.0, np.random.default_rng(seed))
        degraded = smear(clean, offset)  # degraded[n + offset] is clean[n]
        estimate = estimate_offset(clean, degraded, 1440)
        assert estimate.offset == offset and estimate.confidence > MIN_CONFIDENCE
        assert abs(dot_product_offset(clean, degraded, 1440) - offset) > 20


def test_a_part_of_a_sample_is_measured_and_an_unrelated_pair_has_no_confidence() -> None:
    clean = voice(2.0, np.random.default_rng(0))
    estimate = estimate_offset(clean, smear(clean, 100.3), 1440)
    assert estimate.offset == 100 and 0.2 < estimate.fraction < 0.4
    for seed in range(50, 56):
        other = voice(2.0, np.random.default_rng(seed))
        assert estimate_offset(clean, other, 1440).confidence < MIN_CONFIDENCE
