"""A part as one ONNX file, weights included, and what onnxruntime makes of it."""

import json
import warnings
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from timbre.audio import HOP, SAMPLE_RATE, WORKING_LEVEL_DB
from timbre.export.part import ExportPart

OPSET = 20
LEVEL = f"speech at about {WORKING_LEVEL_DB:g} dBFS, the RMS of its active parts"
NEXT = "next_"
EXAMPLE_BATCH, EXAMPLE_SAMPLES = 2, 4801


def convert(part: ExportPart, facts: dict[str, str]) -> bytes:
    """Return the part as an ONNX file for any batch; without a state, for any length.

    The state's inputs keep their names, and its outputs are called after them: ``next_NAME``.

    Args:
        part: what the file holds.
        facts: more for its metadata.
    """
    # Without a name, as torch fails to say in words what it requires of a named one.
    batch, samples = torch.export.Dim("batch"), torch.export.Dim.DYNAMIC
    length = HOP if part.state else EXAMPLE_SAMPLES
    signal: dict[int, Any] = {0: batch} if part.state else {0: batch, 2: samples}
    inputs = [torch.zeros(EXAMPLE_BATCH, 1, length) for _ in part.signals]
    shapes = [signal for _ in part.signals] + [{0: batch} for _ in part.state]
    with warnings.catch_warnings():
        # torch's exporter about itself, and about the one name of all the inputs' batches.
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", UserWarning)
        program = torch.onnx.export(
            part.module.eval(),
            (*inputs, *_state(part, EXAMPLE_BATCH).values()),
            input_names=[*part.signals, *part.state],
            output_names=[*part.outputs, *(NEXT + name for name in part.state)],
            opset_version=OPSET,
            dynamic_shapes=(*shapes,) if not part.state else ((*shapes,),),
            dynamo=True,
            verbose=False,
        )
    assert program is not None  # None only without dynamo
    if not part.state:
        for value in (*program.model.graph.inputs, *program.model.graph.outputs):
            assert value.shape is not None
            value.shape[2] = "samples"
    program.model.doc_string = _description(part)
    program.model.metadata_props.update(
        facts,
        opset=str(program.model.opset_imports[""]),
        sample_rate=str(SAMPLE_RATE),
        latency_samples=str(part.latency_samples),
        level=LEVEL,
        state=json.dumps({name: list(tensor.shape) for name, tensor in part.state.items()}),
    )
    data: bytes = program.model_proto.SerializeToString()
    return data


class OnnxPart:
    """A converted part in onnxruntime, on the CPU.

    Args:
        data: the file.
        part: what it was made of.
        threads: how many compute; 0 for as many as there are cores.
    """

    def __init__(self, data: bytes, part: ExportPart, threads: int = 0) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.part = part
        self.session = onnxruntime.InferenceSession(
            data, options, providers=["CPUExecutionProvider"]
        )

    def __call__(self, *signals: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs of whole ``(batch, 1, samples)`` signals, in time with them.

        A part with a state is given hop after hop, and zeros until the last sample is out.
        """
        part = self.part
        if not part.state:
            feed = {name: s.numpy() for name, s in zip(part.signals, signals, strict=True)}
            return tuple(map(torch.from_numpy, self.session.run(list(part.outputs), feed)))
        samples = signals[0].shape[2]
        whole_hops = -(-samples // HOP) * HOP
        padded = [F.pad(s, (0, whole_hops - samples + part.latency_samples)) for s in signals]
        state = {name: t.numpy() for name, t in _state(part, len(signals[0])).items()}
        hops = []
        for start in range(0, padded[0].shape[2], HOP):
            if start == whole_hops and part.length:
                state[part.length][:] = samples
            feed = {
                name: signal[..., start : start + HOP].numpy()
                for name, signal in zip(part.signals, padded, strict=True)
            }
            results = self.session.run(None, feed | state)
            hops.append(results[: len(part.outputs)])
            state = dict(zip(state, results[len(part.outputs) :], strict=True))
        whole = [np.concatenate(output, axis=2) for output in zip(*hops, strict=True)]
        in_time = slice(part.latency_samples, part.latency_samples + samples)
        return tuple(torch.from_numpy(output[..., in_time]) for output in whole)


def _state(part: ExportPart, batch: int) -> dict[str, Tensor]:
    return {
        name: tensor.repeat(batch, *[1] * (tensor.dim() - 1)) for name, tensor in part.state.items()
    }


def _description(part: ExportPart) -> str:
    unit = f"a hop of {HOP} samples" if part.state else "any number of samples"
    start = "; state: zeros to begin with, then what the call before gave" if part.state else ""
    return f"timbre's {part.about}; (batch, 1, samples) float32 at 48 kHz, {unit}; {LEVEL}{start}"
