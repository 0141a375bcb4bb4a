"""The kernels for one live frame give what the networks give of the whole signal."""

import pytest
import torch

from tests.help.by_hop import (
    KINDS,
    check_cutting,
    check_pieces,
    generator_of,
    in_pieces,
    signals,
)
from tests.help.denoise_inputs import noisy_voice
from timbre.audio import HOP
from timbre.denoise import DeepFilterNet3
from timbre.restore.live.denoiser import LiveDenoiser
from timbre.restore.live.restorer import build_live

ALL = pytest.mark.parametrize("name", KINDS)
HEARING = pytest.mark.parametrize("noisy", [False, True], ids=["alone", "noisy"])


@pytest.fixture(scope="module")
def model() -> DeepFilterNet3:
    return DeepFilterNet3.load()


@ALL
@HEARING
@pytest.mark.parametrize("seed", range(4))
def test_any_cutting_equals_the_whole(name: str, noisy: bool, seed: int) -> None:
    generator = generator_of(name, noisy)
    check_cutting(generator, build_live(generator), name, noisy, seed)


@ALL
@HEARING
@pytest.mark.parametrize("samples", [1, 479, 480, 481, 959, 960, 961, 5000])
def test_any_length_ends_like_the_whole(name: str, noisy: bool, samples: int) -> None:
    generator = generator_of(name, noisy)
    check_pieces(generator, build_live(generator), signals(samples, noisy), [1, 2])


@ALL
def test_the_size_that_is_trained_by_default_agrees_too(name: str) -> None:
    generator = generator_of(name, True, "small")
    check_pieces(generator, build_live(generator), signals(9_600, True), [1], (1e-5, 1e-5))


@pytest.mark.parametrize("channels", [1, 3])
def test_the_denoiser_takes_single_hops_and_more_at_a_time(
    model: DeepFilterNet3, channels: int
) -> None:
    signal = torch.stack([noisy_voice(40_123, seed) for seed in range(channels)])
    signal[:, 10_000:14_000] = 0
    pieces = in_pieces(LiveDenoiser(model), signal, [HOP, HOP, HOP, 2 * HOP])
    torch.testing.assert_close(pieces, model(signal), atol=1e-6, rtol=0)


@pytest.mark.parametrize("samples", [1, 479, 480, 481, 959, 960, 1439, 1440, 1441, 2880, 3001])
def test_the_denoiser_ends_like_the_whole_at_any_length(
    model: DeepFilterNet3, samples: int
) -> None:
    signal = noisy_voice(samples, 3)[None]
    pieces = in_pieces(LiveDenoiser(model), signal, [HOP, 1000])
    torch.testing.assert_close(pieces, model(signal), atol=1e-6, rtol=0)
