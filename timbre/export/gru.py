"""A recurrent layer as one ONNX operator."""

import torch
from torch import Tensor, nn

# The version of the operator set that has this form of GRU; every later one has it too.
GRU_VERSION = 14


class OnnxGru(nn.Module):
    """Takes the place of an ``nn.GRU`` while a module is exported; it computes nothing itself.

    The exporter would unroll torch's over a fixed number of frames. Weights are those of the layer,
    its gates in ONNX's order: update, reset, new.

    Args:
        gru: unidirectional, with biases, batch first.
    """

    def __init__(self, gru: nn.GRU) -> None:
        super().__init__()
        self.hidden, self.layers = gru.hidden_size, gru.num_layers
        for layer in range(self.layers):
            for name, parts in {
                "input": ("weight_ih",),
                "hidden": ("weight_hh",),
                "bias": ("bias_ih", "bias_hh"),
            }.items():
                tensors = [_reorder(gru.get_parameter(f"{part}_l{layer}")) for part in parts]
                self.register_buffer(f"{name}_{layer}", torch.cat(tensors)[None])

    def forward(self, x: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
        """Return the output ``(batch, frames, hidden)`` and last states, in a file only.

        From x ``(batch, frames, inputs)`` and the states before, ``(layers, batch, hidden)``.
        """
        batch, frames, _ = x.shape
        x = x.transpose(0, 1)
        states = []
        for layer in range(self.layers):
            weights = [self.get_buffer(f"{name}_{layer}") for name in ("input", "hidden", "bias")]
            directions, state = torch.onnx.ops.symbolic_multi_out(
                "GRU",
                (x, *weights, None, before[layer : layer + 1]),
                {"hidden_size": self.hidden, "linear_before_reset": 1},
                dtypes=(x.dtype, x.dtype),
                shapes=((frames, 1, batch, self.hidden), (1, batch, self.hidden)),
                version=GRU_VERSION,
            )
            x = directions[:, 0]
            states.append(state)
        return x.transpose(0, 1), torch.cat(states)


def _reorder(parameter: Tensor) -> Tensor:
    reset, update, new = parameter.detach().chunk(3)
    return torch.cat((update, reset, new))
