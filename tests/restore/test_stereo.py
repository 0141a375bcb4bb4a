"""Two linked channels: the voice stays where it is, and other signals stay as they were."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.help.stereo import PLACES, pan, shift
from timbre import audio, cli
from timbre.audio import HOP, Wave
from timbre.audio.synthetic.voice import voice
from timbre.denoise import DeepFilterNet3
from timbre.restore import Restorer
from timbre.restore.hop_runner import HopRunner
from timbre.restore.live import LiveRestorer, Mix
from timbre.restore.stereo import LinkByHop, link_blocks


@pytest.fixture(scope="module")
def offline() -> Restorer:
    return Restorer.load(device="cpu")


def made_up(seed: int, seconds: float = 1.2) -> Wave:
    return voice(seconds, np.random.default_rng(seed))


def in_noise(wave: Wave, *levels: float) -> Wave:
    hiss = np.random.default_rng(0).standard_normal(wave.shape)
    return (wave + np.array(levels)[:, None] * hiss).astype(np.float32)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("levels", [(0.002, 0.002), (0.0005, 0.008)], ids=["equal", "unequal"])
def test_a_voice_stays_where_it_is_in_equal_and_unequal_noise(
    offline: Restorer, place: str, levels: tuple[float, float]
) -> None:
    voices = pan(made_up(1), place)
    noisy = in_noise(voices, *levels)
    linked, apart = offline(noisy, 48_000), offline(noisy, 48_000, link=False)
    moved, moved_apart = shift(linked, voices), shift(apart, voices)
    assert moved.level_db < 1 and moved.phase < 0.1
    assert moved.level_db < 0.7 * moved_apart.level_db
    # The repair is no worse: the channels together are as near to the voice.
    error, error_apart = (np.square(wave - voices).sum() for wave in (linked, apart))
    assert error < 1.1 * error_apart


def test_a_batch_of_pairs_is_linked_pair_by_pair_at_another_rate(offline: Restorer) -> None:
    pairs = [in_noise(pan(made_up(seed), "right by 6 dB"), 0.003, 0.003) for seed in (1, 2)]
    batch = audio.resample(np.stack(pairs), 48_000, 16_000)
    result = offline(batch, 16_000)
    for pair, alone in zip(result, batch, strict=True):
        np.testing.assert_array_equal(pair, offline(alone, 16_000))
    assert np.abs(result - offline(batch, 16_000, link=False)).max() > 1e-4


class Counting(torch.nn.Module):
    """A generator that counts the samples that it works on."""

    latency_samples = history_samples = 0

    def __init__(self) -> None:
        super().__init__()
        self.samples = 0

    def forward(self, waves: Tensor, noisy: Tensor | None = None) -> Tensor:
        self.samples += waves.numel()
        return 0.5 * waves


@pytest.mark.parametrize("link", [None, True, False])
def test_mono_as_equal_channels_comes_out_equal_and_costs_one(link: bool | None) -> None:
    generator, one = Counting(), made_up(1)
    restorer = Restorer(generator, DeepFilterNet3.load())  # type: ignore[arg-type]
    mono = restorer(one, 48_000)
    cost = generator.samples
    both = restorer(np.stack([one, one]), 48_000, link=link)
    assert generator.samples == 2 * cost
    np.testing.assert_array_equal(both, np.stack([mono, mono]))


def test_a_talker_a_channel_and_six_channels_are_restored_apart(offline: Restorer) -> None:
    two = np.stack([made_up(1), made_up(2)])
    six = np.stack([made_up(1) / (1 + index) for index in range(6)])[:, :20_000]
    for wave in (two, six):
        apart = np.stack([offline(row, 48_000) for row in wave])
        np.testing.assert_array_equal(offline(wave, 48_000), apart)


def test_linking_leaves_what_was_not_changed_and_is_the_same_however_it_is_cut() -> None:
    noisy = in_noise(pan(made_up(1, 0.5), "left by 12 dB"), 0.01, 0.01)
    repaired = 0.8 * in_noise(pan(made_up(1, 0.5), "left by 12 dB"), 0.001, 0.003)
    whole = HopRunner(LinkByHop(), 2)
    signals = torch.from_numpy(repaired), torch.from_numpy(noisy)
    expected = torch.cat([whole.push(*signals), whole.flush()], dim=1).numpy()
    beside = np.concatenate([made_up(3, 0.5)[None], repaired])
    cuts = [np.split(wave, [1, 500, 9_000], axis=1) for wave in (beside, np.roll(beside, 1))]
    cuts[1] = np.split(np.concatenate([made_up(4, 0.5)[None], noisy]), [7_000], axis=1)
    result = np.concatenate(list(link_blocks(*cuts, [1])), axis=1)
    np.testing.assert_array_equal(result[0], beside[0])
    np.testing.assert_allclose(result[1:], expected, atol=1e-6)
    # One source in a still direction, unchanged by the networks, stays as it is.
    still = pan(made_up(1, 0.5), "left by 12 dB")
    same = np.concatenate(list(link_blocks([still], [still], [0])), axis=1)
    np.testing.assert_allclose(same, still, atol=1e-5)


def test_a_voice_10_million_times_as_faint_is_linked_alike() -> None:
    noisy = in_noise(pan(made_up(1, 0.5), "left by 12 dB"), 0.01, 0.01)
    repaired = in_noise(pan(made_up(1, 0.5), "left by 12 dB"), 0.001, 0.003)
    loud = np.concatenate(list(link_blocks([repaired], [noisy], [0])), axis=1)
    faint = np.concatenate(list(link_blocks([repaired * 1e-7], [noisy * 1e-7], [0])), axis=1)  # type: ignore[list-item]
    np.testing.assert_allclose(faint * 1e7, loud, atol=1e-5)


def live(restorer: LiveRestorer, signal: Wave, size: int) -> Wave:
    pieces = [restorer.push(piece) for piece in audio.split(signal, size)]
    return np.concatenate([*pieces, restorer.flush()], axis=1)


def test_a_live_pair_is_linked_as_the_whole_is_ten_milliseconds_later() -> None:
    noisy = in_noise(pan(made_up(1, 0.6), "right by 6 dB"), 0.003, 0.003)
    restorer = LiveRestorer.load(channels=2, mix=Mix(link=True))
    assert restorer.latency_samples == 2399 + HOP
    result = live(restorer, noisy, 1_111)
    apart = live(LiveRestorer.load(channels=2, mix=Mix(link=False)), noisy, 4_000)
    expected = np.concatenate(list(link_blocks([apart], [noisy], [0])), axis=1)
    np.testing.assert_allclose(result, expected, atol=1e-5)
    assert np.abs(expected - apart).max() > 1e-3


def test_a_live_pair_goes_over_smoothly_where_it_is_alike_and_stays_where_it_is_not() -> None:
    denoiser = DeepFilterNet3.load()

    def both(signal: Wave, link: bool | None) -> Wave:
        return live(LiveRestorer(None, denoiser, channels=2, mix=Mix(link=link)), signal, HOP)

    equal = both(np.stack([made_up(1, 0.3)] * 2), True)
    np.testing.assert_array_equal(equal[0], equal[1])
    talkers = np.stack([made_up(1), made_up(2)])
    np.testing.assert_array_equal(both(talkers, None), both(talkers, False))
    alike = in_noise(pan(made_up(1, 2.4), "right by 6 dB"), 0.003, 0.003)
    decided, linked, apart = (both(alike, link) for link in (None, True, False))
    np.testing.assert_array_equal(decided[:, : 100 * HOP], apart[:, : 100 * HOP])
    assert np.abs(linked - apart).max() > 1e-3
    np.testing.assert_allclose(decided[:, -HOP:], linked[:, -HOP:], atol=1e-6)


def test_the_command_line_says_how_two_channels_are_restored(tmp_path: Path) -> None:
    source = tmp_path / "in.wav"
    wave = in_noise(pan(made_up(1, 0.3), "right by 6 dB"), 0.003, 0.003)
    audio.write(source, wave, 48_000, "FLOAT")
    results = {}
    for stream in ([], ["--stream"]):
        for word in ("linked", "apart"):
            target = tmp_path / f"{word}{len(stream)}.wav"
            words = ["restore", *stream, str(source), str(target), "--channels", word]
            assert cli.main(words) == 0
            results[word, len(stream)] = audio.read(target)[0]
    restorer = Restorer.load(device="cpu")
    for word, link in (("linked", True), ("apart", False)):
        expected = restorer(wave, 48_000, link=link)
        np.testing.assert_allclose(results[word, 0], expected, atol=1e-6)
        mix = Mix(link=link)
        expected = live(LiveRestorer.load(channels=2, mix=mix), wave, 4_000)
        np.testing.assert_allclose(results[word, 1], expected, atol=1e-5)
