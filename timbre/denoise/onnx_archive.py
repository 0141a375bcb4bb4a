"""The official ONNX archive of DeepFilterNet3, read as an official checkpoint."""

import io
import tarfile
from typing import Any

import numpy as np
import torch
from torch import Tensor

from timbre.denoise.official import NORM_EPSILON, convolution_names

GRAPHS = ("enc", "erb_dec", "df_dec")


def read_archive(archive: bytes) -> dict[str, Tensor]:
    """Return checkpoint tensors from the bytes of ``DeepFilterNet3_onnx.tar.gz``, whose hash is known.

    In the archive the batch norms are folded already; they come back as norms that change nothing
    but add a bias.
    """
    checkpoint: dict[str, Tensor] = {}
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as tar:
        members = {member.name.rpartition("/")[2]: member for member in tar if member.isfile()}
        for graph in GRAPHS:
            model = tar.extractfile(members[f"{graph}.onnx"])
            assert model is not None  # only folders and devices have no content
            tensors = read_graph(model.read(), graph)
            checkpoint.update(
                (name, torch.from_numpy(np.array(tensor))) for name, tensor in tensors.items()
            )
    return checkpoint


def read_graph(model: bytes, graph: str) -> dict[str, Any]:
    """Return the arrays of one of the three graphs under the checkpoint's names."""
    import onnx

    nodes = onnx.load_model_from_string(model).graph
    arrays = {item.name: onnx.numpy_helper.to_array(item) for item in nodes.initializer}
    for node in nodes.node:  # some GRU weights lie in Constant nodes
        if node.op_type == "Constant":
            values = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
            if "value" in values:
                arrays[node.output[0]] = onnx.numpy_helper.to_array(values["value"])
    tensors: dict[str, Any] = {}
    blocks: dict[str, list[Any]] = {}
    for node in nodes.node:  # in the order of computation
        # A node's name is "/MODULE/…/OPERATION"; a weight's is that of the module's parameter.
        module = f"{graph}.{node.name.split('/')[1]}" if "/" in node.name else graph
        inputs = [name for name in node.input if name in arrays]
        if node.op_type in ("Conv", "ConvTranspose"):
            blocks.setdefault(module, []).extend(arrays[name] for name in inputs)
        elif node.op_type == "GRU":
            layer = sum(name.startswith(f"{module}.gru.weight_ih") for name in tensors)
            one_direction = [arrays[name][0] for name in node.input[1:4]]
            tensors.update(gru_tensors(one_direction, module, layer))
        elif node.op_type == "Einsum":
            tensors[f"{graph}.{inputs[0]}"] = arrays[inputs[0]]
    for block, of_block in blocks.items():
        tensors.update(block_tensors(block, of_block))
    return tensors


def gru_tensors(arrays: list[Any], module: str, layer: int) -> dict[str, Any]:
    """Return a GRU layer's arrays in torch's order: ONNX has the gates as z, r, h; torch as r, z, n."""

    def reorder(rows: Any) -> Any:
        update, reset, new = np.split(rows, 3)
        return np.concatenate([reset, update, new])

    weights, recurrent, bias = arrays
    input_bias, hidden_bias = np.split(bias, 2)
    return {
        f"{module}.gru.weight_ih_l{layer}": reorder(weights),
        f"{module}.gru.weight_hh_l{layer}": reorder(recurrent),
        f"{module}.gru.bias_ih_l{layer}": reorder(input_bias),
        f"{module}.gru.bias_hh_l{layer}": reorder(hidden_bias),
    }


def block_tensors(block: str, arrays: list[Any]) -> dict[str, Any]:
    """Return a convolution block's weights, and a norm that does no more than add its last bias."""
    *weights, bias = arrays
    names, norm = convolution_names(block)
    return {
        **dict(zip(names, weights, strict=True)),
        f"{norm}.weight": np.ones_like(bias),
        f"{norm}.bias": bias,
        f"{norm}.running_mean": np.zeros_like(bias),
        f"{norm}.running_var": np.full_like(bias, 1 - NORM_EPSILON),
    }
