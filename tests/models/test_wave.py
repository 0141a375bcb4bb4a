"""Lengths and look-ahead of the wave generator's convolutions."""

import pytest
import torch
from torch.nn.utils.parametrize import is_parametrized

from tests.help.moved_generators import noise
from timbre.models.wave import Convolution, TransposedConvolution, WaveGenerator


@pytest.mark.parametrize("stride", [1, 2, 3, 4, 5, 6])
@pytest.mark.parametrize("excess", [0, 1, 2, 3, 4, 7])
@pytest.mark.parametrize("causal", [False, True])
def test_transposed_convolution_makes_exactly_stride_outputs_per_input(
    stride: int, excess: int, causal: bool
) -> None:
    layer = TransposedConvolution((2, 3), stride + excess, stride, causal)
    for length in (1, 2, 9):
        features = noise(2, 2, length)
        output = layer(features)
        assert output.shape == (2, 3, length * stride)
        # The trim takes whole outputs from the ends of the plain layer's, and leaves the rest.
        plain = layer.convolution(features)
        torch.testing.assert_close(
            output, plain[..., layer.ahead : plain.shape[-1] - (excess - layer.ahead)]
        )
        assert layer.ahead == (0 if causal else excess // 2)


@pytest.mark.parametrize(("kernel", "stride"), [(1, 2), (3, 4), (5, 6)])
def test_transposed_convolution_refuses_a_kernel_that_leaves_gaps(kernel: int, stride: int) -> None:
    with pytest.raises(ValueError, match=f"kernel {kernel} is shorter than stride {stride}"):
        TransposedConvolution((1, 1), kernel, stride, causal=False)


@pytest.mark.parametrize("kernel", [4, 5, 7, 8])
@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (1, 3), (4, 1)])
@pytest.mark.parametrize("causal", [False, True])
def test_convolution_looks_exactly_as_far_ahead_as_it_says(
    kernel: int, stride: int, dilation: int, causal: bool
) -> None:
    layer = Convolution((1, 1), kernel, causal, stride, dilation)
    features = noise(1, 1, 80).requires_grad_()
    output = layer(features)
    assert output.shape == (1, 1, 80 // stride)
    index = 40 // stride
    (gradient,) = torch.autograd.grad(output[0, 0, index], features)
    assert gradient[0, 0].nonzero().max().item() == index * stride + layer.ahead
    if causal:
        assert layer.ahead == stride - 1


def test_removing_weight_norm_leaves_the_output_equal() -> None:
    torch.manual_seed(0)
    generator = WaveGenerator("tiny", causal=False)
    assert any(is_parametrized(module, "weight") for module in generator.modules())
    with torch.no_grad():
        for parameter in generator.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
        wave = 0.1 * torch.randn(2, 1, 4801)
        before = generator(wave)
        generator.remove_weight_norm()
        after = generator(wave)
    assert not any(is_parametrized(module) for module in generator.modules())
    assert after.equal(before) and not before.equal(wave)


@pytest.mark.parametrize("stride", [1, 2, 3, 4, 5, 6])
@pytest.mark.parametrize("excess", [0, 1, 2, 3, 6, 7])
@pytest.mark.parametrize("causal", [False, True])
def test_length_is_input_times_stride(stride: int, excess: int, causal: bool) -> None:
    layer = TransposedConvolution((2, 3), stride + excess, stride, causal)
    for length in (1, 2, 9):
        assert layer(torch.zeros(2, 2, length)).shape == (2, 3, length * stride)


@pytest.mark.parametrize(("kernel", "stride"), [(1, 2), (3, 4), (5, 6)])
def test_a_kernel_shorter_than_its_stride_is_refused(kernel: int, stride: int) -> None:
    with pytest.raises(ValueError, match=f"kernel {kernel} is shorter than stride {stride}"):
        TransposedConvolution((1, 1), kernel, stride, causal=False)
