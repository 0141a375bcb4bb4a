"""Weight-normed convolutions whose weights of one shape lie in one tensor.

A hundred small convolutions cost a hundred norms, casts, moments and gradients; stacked by shape they
cost ten. State dicts hold each convolution's own tensors, under the names that PyTorch's weight norm
gives them, so that checkpoints say nothing of the stacks.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# By the kind of a stacked tensor, what it is called in a convolution of its own.
NAMES = {
    "biases": "bias",
    "sizes": "parametrizations.weight.original0",
    "directions": "parametrizations.weight.original1",
}


class PlainConvolution(NamedTuple):
    """A convolution with its normalised weight ``(out, in, height, width)`` and bias ``(out,)``."""

    weight: Tensor
    bias: Tensor
    stride: tuple[int, int]
    padding: tuple[int, int]

    def __call__(self, hidden: Tensor) -> Tensor:
        """Return the result ``(batch, out, …)`` of ``(batch, in, …)``."""
        return F.conv2d(hidden, self.weight, self.bias, self.stride, self.padding)

    def input_gradient(self, gradient: Tensor, hidden: Tensor) -> Tensor:
        """Return the gradient with respect to ``hidden`` from that of the result."""
        back = torch.ops.aten.convolution_backward.default
        mask, one, none = [True, False, False], [1, 1], [0, 0]
        arguments = (
            gradient,
            hidden,
            self.weight,
            None,
            self.stride,
            self.padding,
            one,
            False,
            none,
            1,
        )
        result: Tensor = back(*arguments, mask)[0]
        return result


class StackedConvolutions(nn.Module):
    """The weights of convolutions, by name, in the order of the names.

    Args:
        convolutions: plain ones, which give their initial weights and their geometry.
    """

    def __init__(self, convolutions: Mapping[str, nn.Conv2d]) -> None:
        super().__init__()
        self.geometry = {
            name: (_pair(c.stride), _pair(c.padding)) for name, c in convolutions.items()
        }
        self.stacks: list[list[str]] = []
        by_shape: dict[torch.Size, list[str]] = {}
        for name, convolution in convolutions.items():
            by_shape.setdefault(convolution.weight.shape, []).append(name)
        self.biases, self.sizes, self.directions = (nn.ParameterList() for _ in range(3))
        for names in by_shape.values():
            self.stacks.append(names)
            weight = torch.cat([convolutions[name].weight.detach() for name in names])
            biases = [convolutions[name].bias for name in names]
            self.directions.append(nn.Parameter(weight))
            self.sizes.append(nn.Parameter(torch.norm_except_dim(weight, 2, 0)))
            self.biases.append(
                nn.Parameter(torch.cat([b.detach() for b in biases if b is not None]))
            )
        self.register_state_dict_post_hook(_separate)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_pre_hook(_stack)  # type: ignore[no-untyped-call]

    def convolutions(self) -> list[PlainConvolution]:
        """Return the convolutions; under autocast with weights of its precision."""
        device = self.biases[0].device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
        convolutions: dict[str, PlainConvolution] = {}
        stacks = zip(self.stacks, self.directions, self.sizes, self.biases, strict=True)
        for names, direction, size, bias in stacks:
            weight = torch._weight_norm(direction, size, 0)
            if dtype is not None:
                weight, bias = weight.to(dtype), bias.to(dtype)
            outputs = len(bias) // len(names)
            parts = zip(
                names, torch.split(weight, outputs), torch.split(bias, outputs), strict=True
            )
            convolutions |= {
                name: PlainConvolution(w, b, *self.geometry[name]) for name, w, b in parts
            }
        return [convolutions[name] for name in self.geometry]

    def separate(self, stacked: Mapping[str, Tensor], whole: bool = False) -> dict[str, Tensor]:
        """Return each convolution's part of tensors that are stacked like the parameters.

        Args:
            stacked: by the parameters' names.
            whole: each convolution has the stack's tensor as it is, a scalar.
        """
        tensors: dict[str, Tensor] = {}
        for kind, own in NAMES.items():
            for number, names in enumerate(self.stacks):
                tensor = stacked[f"{kind}.{number}"]
                parts = (
                    [tensor.clone() for _ in names]
                    if whole
                    else torch.split(tensor, len(tensor) // len(names))
                )
                tensors |= {f"{name}.{own}": part for name, part in zip(names, parts, strict=True)}
        return {name: tensors[name] for name in self.own_names()}

    def stack(self, separate: Mapping[str, Tensor], whole: bool = False) -> dict[str, Tensor]:
        """Return what :meth:`separate` was given."""
        state = {}
        for kind, own in NAMES.items():
            for number, names in enumerate(self.stacks):
                parts = [separate[f"{name}.{own}"] for name in names]
                state[f"{kind}.{number}"] = parts[0].clone() if whole else torch.cat(parts)
        return state

    def own_names(self) -> list[str]:
        """Return the names of all tensors in the state dict."""
        return [f"{name}.{own}" for name in self.geometry for own in NAMES.values()]


def _pair(numbers: Any) -> tuple[int, int]:
    high, wide = numbers
    return high, wide


def _separate(module: StackedConvolutions, state: dict[str, Any], prefix: str, _: Any) -> None:
    """Put each convolution's own tensors in place of the stacks."""
    names = [f"{kind}.{number}" for kind in NAMES for number in range(len(module.stacks))]
    stacked = {name: state.pop(prefix + name) for name in names}
    state.update({prefix + name: part for name, part in module.separate(stacked).items()})


def _stack(module: StackedConvolutions, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Put the stacks in place of each convolution's own tensors, if they are all there."""
    names = module.own_names()
    if all(prefix + name in state for name in names):
        separate = {name: state.pop(prefix + name) for name in names}
        state.update({prefix + name: tensor for name, tensor in module.stack(separate).items()})
