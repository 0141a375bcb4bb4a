"""Our DeepFilterNet3 against the official package."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.help.denoise_inputs import noisy_voice, si_sdr_db
from tests.help.official_deepfilternet import INSTALLED, Official, randomize
from timbre.denoise import DeepFilterNet3
from timbre.denoise.frontend import band_membership, erb_band_widths

pytestmark = [
    pytest.mark.official,
    pytest.mark.skipif(
        not INSTALLED,
        reason="deepfilternet 0.5.6 is not installed (extra `official`; Python below 3.12 only)",
    ),
]


@pytest.fixture(scope="module")
def official() -> Official:
    return Official()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> DeepFilterNet3:
    return DeepFilterNet3.load(cache_dir=tmp_path_factory.mktemp("cache"))


@pytest.mark.parametrize("noise", [0.02, 0.1])
@pytest.mark.parametrize("samples", [479, 480, 4800, 12_345, 48_000, 96_001, 192_000])
def test_output_equals_the_official_one(
    official: Official, model: DeepFilterNet3, samples: int, noise: float
) -> None:
    noisy = noisy_voice(samples, seed=samples % 7, noise=noise)
    assert si_sdr_db(model(noisy[None])[0], official.enhance(noisy)) >= 100


@pytest.mark.parametrize("noise", [0.0, 1e-5, 1e-4])
@pytest.mark.parametrize("samples", [12_345, 48_000, 192_000])
def test_nearly_clean_output_equals_the_official_one_as_far_as_float32_goes(
    official: Official, model: DeepFilterNet3, samples: int, noise: float
) -> None:
    # Here the network magnifies rounding: the official one is itself only 98.6 dB from its own
    # result in float64 in the worst of these cases.
    noisy = noisy_voice(samples, seed=samples % 7, noise=noise)
    assert si_sdr_db(model(noisy[None])[0], official.enhance(noisy)) >= 86


def test_features_follow_the_rounding_of_libdf(official: Official, model: DeepFilterNet3) -> None:
    from df.enhance import df_features

    noisy = noisy_voice(192_000, seed=4, noise=0.0)
    official.state.reset()
    spectrum, expected_levels, expected_low = df_features(noisy[None], official.state, 96)
    levels, low = model.frontend.features(torch.view_as_complex(spectrum[:, 0].contiguous()))
    # Running means by another order of operations are 3e-6 away, which costs 20 dB above.
    assert torch.allclose(levels, expected_levels[:, 0], atol=1e-6, rtol=0)
    assert torch.allclose(low, expected_low[:, 0], atol=1e-6, rtol=0)


def test_a_padded_batch_equals_official_clips(official: Official, model: DeepFilterNet3) -> None:
    clips = [noisy_voice(n, seed=n % 5) for n in (30_000, 7, 47_999, 961)]
    batch = torch.nn.utils.rnn.pad_sequence(clips, batch_first=True)
    denoised = model(batch, torch.tensor([len(clip) for clip in clips]))
    for clip, ours in zip(clips, denoised, strict=True):
        expected = official.enhance(clip)
        assert torch.allclose(ours[: len(clip)], expected, atol=1e-6, rtol=0)


def test_a_checkpoint_with_batch_norms_equals_the_official_model(tmp_path: Path) -> None:
    official = Official()
    randomize(official.model, seed=3)
    path = tmp_path / "model_7.ckpt.best"
    torch.save(official.model.state_dict(), path)
    noisy = noisy_voice(48_000)
    ours = DeepFilterNet3.load(path, cache_dir=tmp_path)(noisy[None])[0]
    with_other_weights = DeepFilterNet3.load(cache_dir=tmp_path)(noisy[None])[0]
    expected = official.enhance(noisy)
    assert si_sdr_db(ours, expected) >= 100
    assert si_sdr_db(with_other_weights, expected) < 20


def test_bands_are_those_of_libdf(official: Official) -> None:
    assert np.array_equal(official.state.erb_widths(), erb_band_widths())
    assert torch.equal(official.model.mask.erb_inv_fb, band_membership().T)


@pytest.fixture(scope="module")
def noisy() -> list[torch.Tensor]:
    return [noisy_voice(samples, samples) for samples in (48_000, 30_123, 9_601)]


@pytest.fixture(scope="module")
def denoised_batch(noisy: list[torch.Tensor]) -> list[torch.Tensor]:
    batch = torch.nn.utils.rnn.pad_sequence(noisy, batch_first=True)
    lengths = torch.tensor([len(clip) for clip in noisy])
    denoised = DeepFilterNet3.load()(batch, lengths)
    return [row[:length] for row, length in zip(denoised, lengths, strict=True)]


@pytest.mark.official
@pytest.mark.skipif(not INSTALLED, reason="needs the extra 'official'")
def test_a_batch_of_denoised_clips_equals_the_official_result(
    noisy: list[torch.Tensor], denoised_batch: list[torch.Tensor]
) -> None:
    official = Official()
    for clip, denoised in zip(noisy, denoised_batch, strict=True):
        assert si_sdr_db(denoised, official.enhance(clip)) > 90
