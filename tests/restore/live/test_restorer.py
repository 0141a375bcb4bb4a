"""A live signal: the output equals the networks' output of the whole, within the stated latency."""

import numpy as np
import pytest
import torch

import timbre
from tests.help.denoise_inputs import noisy_voice
from tests.help.moved_generators import NAMES, build
from timbre.audio import HOP, Wave, resample
from timbre.denoise import DeepFilterNet3
from timbre.errors import AudioError
from timbre.models.generator import Generator
from timbre.restore.live.restorer import LiveRestorer, Mix, restore_blocks

BOTH = pytest.mark.parametrize("name", NAMES)


@pytest.fixture(scope="module")
def denoiser() -> DeepFilterNet3:
    return DeepFilterNet3.load()


def causal(name: str, noisy_input: bool = False) -> Generator:
    return build(name, causal=True, moved=True, noisy_input=noisy_input).eval()  # type: ignore[return-value]


def noisy(samples: int, channels: int = 2) -> Wave:
    wave: Wave = torch.stack([noisy_voice(samples, seed) for seed in range(channels)]).numpy()
    return wave


def live(restorer: LiveRestorer, signal: Wave, sizes: list[int]) -> Wave:
    """Return the output for pieces of these sizes, again and again, and for the end."""
    out, first, turn = [], 0, 0
    while first < signal.shape[1]:
        size = sizes[turn % len(sizes)]
        out.append(restorer.push(signal[:, first : first + size]))
        first, turn = first + size, turn + 1
    return np.concatenate([*out, restorer.flush()], axis=1)


def whole(denoiser: DeepFilterNet3, generator: Generator, signal: Wave, gain: float) -> list[Wave]:
    """The signal denoised and restored at once at a gain."""
    signal_at_level = torch.from_numpy(signal) * gain
    with torch.inference_mode():
        denoised = denoiser(signal_at_level)
        hears = any("noisy" in key for key in generator.state_dict())
        restored = generator(denoised[:, None], signal_at_level[:, None] if hears else None)[:, 0]
    return [(wave / gain).numpy() for wave in (denoised, restored)]


@BOTH
@pytest.mark.parametrize("noisy_input", [False, True], ids=["alone", "noisy"])
@pytest.mark.parametrize("sizes", [[HOP], [3 * HOP], [1, 700, 0, 5000, 33]], ids=str)
def test_any_cutting_equals_the_whole_at_the_same_gain(
    denoiser: DeepFilterNet3, name: str, noisy_input: bool, sizes: list[int]
) -> None:
    generator, signal = causal(name, noisy_input), noisy(20_001)
    mix = Mix(strength=0.7, dry=0.2, input_gain_db=6.0)
    restorer = LiveRestorer(generator, denoiser, noisy_input, channels=2, mix=mix)
    denoised, restored = whole(denoiser, generator, signal, 10 ** (6 / 20))
    expected = 0.8 * (denoised + 0.7 * (restored - denoised)) + 0.2 * signal
    result = live(restorer, signal, sizes)
    assert np.abs(restored - denoised).max() > 0.01
    np.testing.assert_allclose(result, expected, atol=1e-5, rtol=0)


@BOTH
@pytest.mark.parametrize("samples", [0, 1, 479, 480, 481, 2399])
def test_any_length_comes_back_in_that_length(
    denoiser: DeepFilterNet3, name: str, samples: int
) -> None:
    generator, signal = causal(name), noisy(samples)
    result = live(LiveRestorer(generator, denoiser, channels=2), signal, [HOP])
    assert result.shape == signal.shape
    if samples:
        expected = whole(denoiser, generator, signal, 1.0)[1]
        np.testing.assert_allclose(result, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("name", "denoise", "latency"),
    [
        ("spectral", True, 2399),
        ("wave", True, 1919),
        (None, True, 1919),
        ("spectral", False, 959),
        ("wave", False, 479),
    ],
)
def test_the_latency_is_the_stated_one(
    denoiser: DeepFilterNet3, name: str | None, denoise: bool, latency: int
) -> None:
    restorer = LiveRestorer(causal(name) if name else None, denoiser if denoise else None)
    assert restorer.latency_samples == latency
    signal, out, latest = noisy(10 * HOP, 1), 0, 0
    for sample in range(signal.shape[1]):
        ready = restorer.push(signal[:, sample : sample + 1]).shape[1]
        if ready:
            # The first of what comes out now has waited longest.
            latest = max(latest, sample - out)
            out += ready
    assert latest == latency


def test_the_shares_are_exact(denoiser: DeepFilterNet3) -> None:
    generator, signal = causal("spectral"), noisy(5_000, 1)
    denoised, _ = whole(denoiser, generator, signal, 1.0)
    without_repair = live(LiveRestorer(generator, denoiser, mix=Mix(strength=0.0)), signal, [900])
    input_alone = live(LiveRestorer(generator, denoiser, mix=Mix(dry=1.0)), signal, [900])
    np.testing.assert_allclose(without_repair, denoised, atol=1e-6)
    np.testing.assert_array_equal(input_alone, signal)


@pytest.mark.parametrize("rate", [8_000, 44_100])
def test_another_rate_keeps_length_and_time(denoiser: DeepFilterNet3, rate: int) -> None:
    generator, samples = causal("wave"), rate // 3 + 1
    signal = resample(noisy(48_000, 1), 48_000, rate)[:, :samples]
    blocks = [signal[:, first : first + 97] for first in range(0, samples, 97)]
    result = np.concatenate(
        list(restore_blocks(LiveRestorer(generator, denoiser), blocks, rate)), axis=1
    )
    restored = whole(denoiser, generator, resample(signal, rate, 48_000), 1.0)[1]
    expected = resample(restored, 48_000, rate)[:, :samples]
    np.testing.assert_allclose(result, expected, atol=2e-5, rtol=0)


@pytest.mark.parametrize(
    "piece", [np.zeros(480), np.zeros((2, 480)), np.full((1, 480), np.nan)], ids=["1-d", "2", "nan"]
)
def test_an_unusable_piece_is_refused(piece: Wave) -> None:
    restorer = LiveRestorer(causal("wave"), None)
    with pytest.raises(AudioError, match=r"expected finite \(1, samples\)"):
        restorer.push(piece)


@pytest.mark.parametrize(
    ("name", "value"), [("strength", 1.1), ("dry", -0.1), ("input_gain_db", np.inf)]
)
def test_a_mix_that_none_can_mean_is_refused(name: str, value: float) -> None:
    with pytest.raises(AudioError, match=f"{name} {value}: expected"):
        Mix(**{name: value})


def test_int16_pieces_of_a_sound_card_are_scaled_exactly_and_other_integers_refused(
    denoiser: DeepFilterNet3,
) -> None:
    pieces = (noisy(6_001, 1) * 32768).clip(-32768, 32767).astype(np.int16)
    as_floats = live(LiveRestorer(None, denoiser), pieces / np.float32(32768), [HOP])
    as_integers = live(LiveRestorer(None, denoiser), pieces, [HOP])
    assert np.array_equal(as_integers, as_floats)
    assert 0.01 < np.abs(as_integers).max() < 1
    for kind in (np.int32, np.uint8, np.complex64, np.bool_):
        with pytest.raises(AudioError, match=f"type {np.dtype(kind)}: expected floats"):
            LiveRestorer(None, denoiser).push(pieces.astype(kind))


def test_a_second_flush_gives_nothing_and_a_piece_behind_the_end_is_refused(
    denoiser: DeepFilterNet3,
) -> None:
    restorer = LiveRestorer(None, denoiser)
    restorer.push(noisy(4_800, 1))
    assert restorer.flush().shape[1] > 0
    assert restorer.flush().shape == (1, 0)
    with pytest.raises(AudioError, match="behind the end"):
        restorer.push(noisy(480, 1))


def test_an_output_that_is_not_finite_is_refused(denoiser: DeepFilterNet3) -> None:
    generator = causal("spectral")
    with torch.no_grad():
        next(generator.parameters()).fill_(torch.nan)
    with pytest.raises(AudioError, match="the restored sound is not finite"):
        live(LiveRestorer(generator, denoiser), noisy(4_800, 1), [HOP])


def test_the_package_hands_it_on_by_both_of_its_names() -> None:
    assert timbre.LiveRestorer is timbre.StreamingRestorer is LiveRestorer
