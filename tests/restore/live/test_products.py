import pytest
import torch
import torch.nn.functional as F

from tests.help.moved_generators import noise
from timbre.restore.live.products import MANY_ROWS, RowProduct


@pytest.mark.parametrize("rows", [1, 3, MANY_ROWS, 20])
@pytest.mark.parametrize(("outputs", "inputs"), [(16, 5), (1, 7), (50, 64), (768, 256)])
def test_a_row_product_is_the_linear_layer(rows: int, outputs: int, inputs: int) -> None:
    weight, bias, x = noise(outputs, inputs), noise(outputs, seed=1), noise(rows, inputs, seed=2)
    for offset in (bias, None):
        expected = F.linear(x, weight, offset)
        torch.testing.assert_close(RowProduct(weight, offset)(x), expected, atol=1e-4, rtol=1e-5)
