"""Denoisers as ONNX files for tests: a short smoothing filter with any delay."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

TAPS = np.array([0.05, 0.2, 0.5, 0.2, 0.05], np.float32)
Shape = Sequence[int | str | None]
Values = NDArray[np.float32] | list[int]


def write_filter(
    path: Path, delay: int = 0, surplus: int = 0, rank: int = 2, batch: int | str = "batch"
) -> str:
    """Write a model whose output is ``TAPS`` on its input, ``delay`` late, ``surplus`` longer.

    A negative delay drops as many samples of the start; the output is then shorter.
    """
    late, ending = max(delay, 0), max(delay, 0) - surplus
    weights: dict[str, Values] = {
        "taps": TAPS.reshape(1, 1, -1),
        "first": [max(-delay, 0)],
        "axis": [2],
    }
    nodes = [helper.make_node("Conv", ["x", "taps"], ["y"], pads=[late + 2, 2])]
    weights["end"] = [-ending if ending else np.iinfo(np.int64).max]
    nodes.append(helper.make_node("Slice", ["y", "first", "end", "axis"], ["z"]))
    shape: Shape = (batch, 1, "samples")
    if rank == 2:
        weights["channel"] = [1]
        nodes.insert(0, helper.make_node("Unsqueeze", ["wave", "channel"], ["x"]))
        nodes.append(helper.make_node("Squeeze", ["z", "channel"], ["out"]))
        shape = (batch, "samples")
    else:
        nodes[0].input[0], nodes[-1].output[0] = "wave", "out"
    return write_model(path, nodes, {"wave": shape}, weights)


def write_model(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    inputs: dict[str, Shape],
    weights: Mapping[str, Values] | None = None,
    kind: int = TensorProto.FLOAT,
    outputs: Sequence[str] = ("out",),
) -> str:
    """Write ``nodes`` between ``inputs`` and ``outputs``; return the path as text."""
    graph = helper.make_graph(
        nodes,
        "denoiser",
        [helper.make_tensor_value_info(name, kind, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, kind, None) for name in outputs],
        [numpy_helper.from_array(np.array(value), name) for name, value in (weights or {}).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path.write_bytes(model.SerializeToString())
    return str(path)
