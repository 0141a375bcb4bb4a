"""The official checkpoint of DeepFilterNet3: what it must hold, and how its layers become ours."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from timbre.denoise.network import ChannelAffine, Network
from timbre.errors import CheckpointError

# For each block `df.modules.Conv2dNormAct`: the place of its first convolution (1 behind padding in
# time), and the shapes of its convolutions. The batch norm follows them.
DEPTHWISE: list[tuple[int, ...]] = [(64, 1, 1, 3), (64, 64, 1, 1)]
BLOCKS: dict[str, tuple[int, list[tuple[int, ...]]]] = {
    "enc.erb_conv0": (1, [(64, 1, 3, 3)]),
    "enc.erb_conv1": (0, DEPTHWISE),
    "enc.erb_conv2": (0, DEPTHWISE),
    "enc.erb_conv3": (0, DEPTHWISE),
    "enc.df_conv0": (1, [(64, 1, 3, 3), (64, 64, 1, 1)]),
    "enc.df_conv1": (0, DEPTHWISE),
    "erb_dec.conv3p": (0, [(64, 1, 1, 1)]),
    "erb_dec.convt3": (0, DEPTHWISE),
    "erb_dec.conv2p": (0, [(64, 1, 1, 1)]),
    "erb_dec.convt2": (0, DEPTHWISE),
    "erb_dec.conv1p": (0, [(64, 1, 1, 1)]),
    "erb_dec.convt1": (0, DEPTHWISE),
    "erb_dec.conv0p": (0, [(64, 1, 1, 1)]),
    "erb_dec.conv0_out": (0, [(1, 64, 1, 3)]),
    "df_dec.df_convp": (1, [(10, 32, 5, 1), (10, 10, 1, 1)]),
}
# Neither the local SNR nor the alpha of DeepFilterNet2 has a part in the result; the rest is
# constants that the frontend computes.
UNUSED = ("enc.lsnr_fc.", "df_dec.df_fc_a.", "erb_fb", "mask.erb_inv_fb")
NORM_EPSILON = 1e-5


def official_name(name: str) -> str:
    """Return the checkpoint's name for a parameter of ``Network`` outside the convolution blocks."""
    in_sequence = "linear_" in name or "df_fc_emb" in name or "df_out" in name
    return name.removesuffix("weight") + "0.weight" if in_sequence else name


def convolution_names(block: str) -> tuple[list[str], str]:
    """Return the checkpoint's names of a block's convolution weights, and its norm's prefix."""
    first, shapes = BLOCKS[block]
    last = first + len(shapes)
    return [f"{block}.{place}.weight" for place in range(first, last)], f"{block}.{last}"


def network_layout() -> dict[str, tuple[int, ...]]:
    """Return name and shape of all that ``Network`` loads."""
    return {name: tuple(tensor.shape) for name, tensor in Network().state_dict().items()}


def checkpoint_layout() -> dict[str, tuple[int, ...]]:
    """Return name and shape of all that an official checkpoint must hold."""
    layout: dict[str, tuple[int, ...]] = {}
    for block, (_, shapes) in BLOCKS.items():
        names, norm = convolution_names(block)
        layout.update(zip(names, shapes, strict=True))
        channels = shapes[-1][0]
        for part in ("weight", "bias", "running_mean", "running_var"):
            layout[f"{norm}.{part}"] = (channels,)
    for name, shape in network_layout().items():
        if name.rpartition(".")[0] not in BLOCKS:
            layout[official_name(name)] = shape
    return layout


def check_layout(
    tensors: Mapping[str, object], expected: dict[str, tuple[int, ...]], origin: str
) -> None:
    """Raise CheckpointError unless these are the expected tensors; it names the first that differ."""
    kinds = {
        name: _kind(tensor)
        for name, tensor in ((str(name), tensor) for name, tensor in tensors.items())
        if not name.startswith(UNUSED) and not name.endswith("num_batches_tracked")
    }
    faults = [
        f"{name} is {kinds.get(name, 'missing')}, expected {expected.get(name, 'no such tensor')}"
        for name in sorted(kinds.keys() | expected.keys())
        if kinds.get(name) != expected.get(name)
    ]
    if faults:
        more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise CheckpointError(f"{origin} is not DeepFilterNet3: {'; '.join(faults[:3])}{more}")


def _kind(tensor: object) -> tuple[int, ...] | str:
    """Return the shape of a dense tensor of finite real numbers, and of all else what it is."""
    if not isinstance(tensor, Tensor):
        return type(tensor).__name__
    if tensor.layout != torch.strided or tensor.is_nested or not tensor.is_cpu:
        return "not dense"
    if not tensor.is_floating_point():
        return str(tensor.dtype)
    # More elements than memory holds: one value that stands for many.
    whole = tensor.untyped_storage().nbytes() >= tensor.nbytes
    if whole and not tensor.isfinite().all():
        return "not finite"
    return tuple(tensor.shape)


def fold(checkpoint: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the state of ``Network`` from an official checkpoint of the layout that was checked.

    Each block becomes one convolution with bias, computed in float64 and rounded once.
    """
    network = Network()
    state: dict[str, Tensor] = {}
    for block in BLOCKS:
        names, norm = convolution_names(block)
        weights = [checkpoint[name].double() for name in names]
        gamma, beta, mean, variance = (
            checkpoint[f"{norm}.{part}"].double()
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        scale = gamma / (variance + NORM_EPSILON).sqrt()
        layer = network.get_submodule(block)
        state[f"{block}.weight"] = fold_weights(layer, weights, scale).float().contiguous()
        bias = beta - mean * scale
        state[f"{block}.bias"] = bias.float().reshape(layer.get_parameter("bias").shape)
    for name in network.state_dict():
        if name not in state:
            state[name] = checkpoint[official_name(name)].float().contiguous()
    return state


def fold_weights(layer: nn.Module, weights: list[Tensor], scale: Tensor) -> Tensor:
    """Return one dense convolution weight from a depthwise (or only) and a 1x1 one, scaled."""
    if isinstance(layer, ChannelAffine):
        return weights[0].reshape(-1, 1, 1) * scale[:, None, None]
    # Weights are (outputs, inputs, …), those of transposed convolutions (inputs, outputs, …).
    transposed = isinstance(layer, nn.ConvTranspose2d)
    width = layer.get_parameter("weight").shape[1]
    weight = densify(weights[0], groups=width // weights[0].shape[1])
    mixing = weights[1][:, :, 0, 0] if len(weights) == 2 else torch.eye(len(scale)).double()
    mixing = scale[:, None] * mixing
    return torch.einsum("po,iokl->ipkl" if transposed else "po,oikl->pikl", mixing, weight)


def densify(weight: Tensor, groups: int) -> Tensor:
    """Return a grouped convolution's weight ``(n, m / groups, …)`` with its zeros: ``(n, m, …)``."""
    blocks = torch.unflatten(weight, 0, (groups, -1))
    dense = blocks.new_zeros(groups, blocks.shape[1], groups, *blocks.shape[2:])
    group = torch.arange(groups)
    dense[group, :, group] = blocks
    return dense.flatten(2, 3).flatten(0, 1)
