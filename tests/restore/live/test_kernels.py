"""The kernels for one live frame give what the networks give of the whole signal."""

import pytest
import torch

from tests.help.by_hop import AnyCutting, in_pieces
from tests.help.denoise_inputs import noisy_voice
from timbre.audio import HOP
from timbre.denoise import DeepFilterNet3
from timbre.restore.live.denoiser import LiveDenoiser
from timbre.restore.live.restorer import build_live


@pytest.fixture(scope="module")
def model() -> DeepFilterNet3:
    return DeepFilterNet3.load()


class TestKernels(AnyCutting):
    """Those of the generators."""

    build = staticmethod(build_live)


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
