"""DeepFilterNet3 in pieces: any cutting gives what the whole signal gives at once."""

import pytest
import torch

from tests.help.by_hop import in_pieces
from tests.help.denoise_inputs import noisy_voice, si_sdr_db
from timbre.audio import HOP
from timbre.denoise import DeepFilterNet3
from timbre.denoise.by_hop import LATENCY_SAMPLES, DenoiserByHop


@pytest.fixture(scope="module")
def model() -> DeepFilterNet3:
    return DeepFilterNet3.load()


def random_sizes(seed: int, most: int) -> list[int]:
    rng = torch.Generator().manual_seed(seed)
    return [*torch.randint(0, most, (50,), generator=rng).tolist(), 1]


@pytest.mark.parametrize(
    "sizes",
    [[HOP], [3 * HOP], [2 * HOP, HOP], [10**9], random_sizes(0, 700), random_sizes(1, 9000)],
    ids=["hops", "threes", "mixed", "whole", "small", "large"],
)
def test_any_cutting_equals_the_whole(model: DeepFilterNet3, sizes: list[int]) -> None:
    signal = torch.stack([noisy_voice(60_123, seed) for seed in (0, 1)])
    whole = model(signal)
    pieces = in_pieces(DenoiserByHop(model), signal, sizes)
    assert pieces.shape == whole.shape
    torch.testing.assert_close(pieces, whole, atol=1e-6, rtol=0)
    assert si_sdr_db(pieces, whole) > 90


@pytest.mark.parametrize("samples", [1, 479, 480, 481, 959, 960, 1439, 1440, 1441, 2880, 3001])
def test_any_length_ends_like_the_whole(model: DeepFilterNet3, samples: int) -> None:
    signal = noisy_voice(samples, 3)[None]
    step = DenoiserByHop(model)
    for sizes in ([HOP], [331, 1000]):
        pieces = in_pieces(step, signal, sizes)
        torch.testing.assert_close(pieces, model(signal), atol=1e-6, rtol=0)


def test_a_sample_depends_on_no_hop_past_the_latency(model: DeepFilterNet3) -> None:
    step, signal = DenoiserByHop(model), noisy_voice(50 * HOP, 1)[None]
    other = signal.clone()
    other[:, 40 * HOP :] = 0.3
    state = step.initial_state(1)
    with torch.inference_mode():
        first, second = step(signal, state)[0], step(other, state)[0]
    assert LATENCY_SAMPLES == 1440
    # Hop by hop: the one that comes out with hop 40 is hop 37, and the change is in it already.
    differs = (first != second).reshape(-1, HOP).any(dim=1).nonzero()[0].item()
    assert differs == 40
    torch.testing.assert_close(
        first[:, LATENCY_SAMPLES:], model(signal)[:, :-LATENCY_SAMPLES], atol=1e-6, rtol=0
    )


def test_streams_side_by_side_may_end_at_different_times(model: DeepFilterNet3) -> None:
    step, lengths = DenoiserByHop(model), torch.tensor([9_000, 14_400])
    signal = torch.stack([noisy_voice(14_400, seed) for seed in (0, 1)])
    signal[0, 9_000:] = 0
    state = step.initial_state(2)
    with torch.inference_mode():
        start, state = step(signal[:, : 18 * HOP], state)
        end, _ = step(
            torch.nn.functional.pad(signal[:, 18 * HOP :], (0, LATENCY_SAMPLES)),
            state._replace(length=lengths),
        )
    whole = torch.cat((start, end), dim=1)[:, LATENCY_SAMPLES:]
    for row, length in enumerate(lengths.tolist()):
        torch.testing.assert_close(
            whole[row, :length], model(signal[row : row + 1, :length])[0], atol=1e-6, rtol=0
        )
