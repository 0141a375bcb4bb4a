"""The Fourier transforms of ONNX files compute what torch's operators compute."""

import pytest
import torch

from tests.help.moved_generators import noise
from timbre.audio.spectra import FramedFourier
from timbre.export.fourier import FactoredFourier
from timbre.export.generator import PortableFourier, PortableSpectralByHop, portable_generator
from timbre.models.generator import GeneratorConfig, build_generator
from timbre.models.spectral import SpectralGenerator
from timbre.models.spectral_by_hop import SpectralByHop


def test_the_factored_transform_is_torchs_both_ways() -> None:
    window = torch.hann_window(960) + 0.1
    fourier = FactoredFourier(window / 960, window)
    frames = noise(2, 3, 960)
    expected = torch.fft.rfft(frames * window, norm="forward")
    spectra = torch.complex(*fourier.spectra(frames))
    torch.testing.assert_close(spectra, expected, atol=1e-7, rtol=0)
    random_spectra = torch.complex(noise(2, 3, 481, seed=1), noise(2, 3, 481, seed=2))
    real = random_spectra.clone()
    real[..., [0, -1]] = random_spectra[..., [0, -1]].real.to(real.dtype)
    back = torch.fft.irfft(real, 960, norm="forward") * window
    our_frames = fourier.frames(random_spectra.real, random_spectra.imag)
    torch.testing.assert_close(our_frames, back, atol=1e-4, rtol=0)  # of values up to 100


@pytest.mark.parametrize("samples", [1, 480, 481, 4799])
def test_the_portable_frames_are_the_generators(samples: int) -> None:
    ours, theirs = PortableFourier(), FramedFourier(480)
    waves = noise(2, 1, samples)
    for frames, expected in zip(ours.analyse(waves), theirs.analyse(waves), strict=True):
        torch.testing.assert_close(frames, expected, atol=5e-6, rtol=0)
    spectra = theirs.analyse(waves)
    back = ours.synthesise(*spectra, samples=samples)
    torch.testing.assert_close(back, waves, atol=5e-6, rtol=0)


def test_a_portable_step_is_the_step() -> None:
    config = GeneratorConfig("spectral", "tiny", causal=True, noisy_input=True)
    generator = build_generator(config)
    for index, parameter in enumerate(generator.parameters()):
        parameter.data += 0.05 * noise(*parameter.shape, seed=index)
    plain = portable_generator(generator, config)
    assert isinstance(generator, SpectralGenerator) and isinstance(plain, SpectralGenerator)
    ours, theirs = PortableSpectralByHop(plain), SpectralByHop(generator)
    hops, noisy = 0.05 * noise(2, 10 * 480), 0.05 * noise(2, 10 * 480, seed=1)
    with torch.no_grad():
        output, _ = ours(hops, ours.initial_state(2), noisy)
        expected, _ = theirs(hops, theirs.initial_state(2), noisy)
    torch.testing.assert_close(output, expected, atol=1e-5, rtol=0)
    assert (expected[:, 480:] - hops[:, :-480]).abs().max() > 1e-3
