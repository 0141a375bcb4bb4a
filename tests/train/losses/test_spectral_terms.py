"""The terms over all windows at once are those of one window after the other."""

import pytest
import torch

from tests.help.plain_gan import PlainResolution
from timbre.train.losses.spectral_terms import BANDS, NAMES, SpectralTerms


@pytest.mark.parametrize("resolutions", [(2048, 1024, 512, 256), (512,)])
def test_values_and_gradients_are_those_of_the_plain_formulation(
    resolutions: tuple[int, ...],
) -> None:
    generator = torch.Generator().manual_seed(0)
    clean = torch.randn(3, 6000, generator=generator) * torch.rand(6000, generator=generator) ** 8
    clean[0, :3000] *= 1e-5  # silent for a while
    restored = clean + 0.1 * torch.randn(3, 6000, generator=generator)
    restored[1, 2000:4000] = 0.0
    restored.requires_grad_()
    bandwidth_hz = torch.tensor([24000.0, 9000.0, 30.0])
    ours = SpectralTerms(resolutions)(restored, clean, bandwidth_hz)
    plain = [PlainResolution(n, BANDS[n])(restored, clean, bandwidth_hz) for n in resolutions]
    assert (*ours,) == NAMES
    for name, term in ours.items():
        expected = torch.stack([own[name] for own in plain]).mean()
        torch.testing.assert_close(term, expected, rtol=1e-5, atol=1e-7)
        slopes = [
            torch.autograd.grad(value, restored, retain_graph=True)[0] for value in (term, expected)
        ]
        assert (slopes[0] - slopes[1]).norm() < 1e-5 * slopes[1].norm(), name
        assert slopes[1].norm() > 0


def test_the_clean_side_gets_no_gradient() -> None:
    restored, clean = (torch.randn(1, 1000, requires_grad=True) for _ in range(2))
    terms = SpectralTerms((256,))(restored, clean, torch.tensor([24000.0]))
    torch.stack([*terms.values()]).sum().backward()
    assert clean.grad is None and restored.grad is not None
