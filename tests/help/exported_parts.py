"""Exports for tests, each made once a session, and onnxruntime on them in plain numpy."""

import io
from contextlib import redirect_stdout
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import NamedTuple

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from timbre.export import command as export
from timbre.models import checkpoint
from timbre.models.generator import Generator, GeneratorConfig, build_generator

TYPES = {"tensor(float)": np.float32, "tensor(int64)": np.int64}
Waves = NDArray[np.float32]
State = dict[str, NDArray[np.generic]]


class Case(NamedTuple):
    config: GeneratorConfig
    part: str
    stream: bool


SPECTRAL = GeneratorConfig("spectral", "tiny")
WAVE = GeneratorConfig("wave", "tiny", noisy_input=True)
# What it takes to see each generator whole and as a stream, with one input and two, and the chains.
CASES = {
    "spectral": Case(SPECTRAL, "generator", False),
    "wave": Case(WAVE, "generator", False),
    "wave stream": Case(
        GeneratorConfig("wave", "tiny", causal=True, noisy_input=True), "generator", True
    ),
    "chain": Case(GeneratorConfig("spectral", "tiny", noisy_input=True), "chain", False),
    "chain stream": Case(
        GeneratorConfig("spectral", "tiny", causal=True, noisy_input=True), "chain", True
    ),
    "limited chain": Case(
        GeneratorConfig("spectral", "tiny", False, True, 6.0, True, True), "chain", False
    ),
    "limited chain stream": Case(
        GeneratorConfig("spectral", "tiny", True, True, 6.0, True, True), "chain", True
    ),
}


class Export(NamedTuple):
    case: Case
    checkpoint: str
    path: Path
    text: str


def moved_generator(config: GeneratorConfig) -> Generator:
    """A generator away from its identity start."""
    rng = torch.Generator().manual_seed(0)
    generator = build_generator(config)
    for parameter in generator.parameters():
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=rng)
    return generator


@cache
def export_case(name: str) -> Export:
    """Export a case by `timbre export`, once a session."""
    case = CASES[name]
    folder = Path(mkdtemp(prefix="exported-"))
    url = str(folder / "generator.safetensors")
    checkpoint.save_generator(url, moved_generator(case.config), case.config, None)
    path = folder / "out" / "made.onnx"
    with redirect_stdout(io.StringIO()) as text:
        arguments = [url, str(path), "--part", case.part, *(["--stream"] * case.stream)]
        assert export.main(arguments) == 0
    return Export(case, url, path, text.getvalue())


def session_of(name: str) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(export_case(name).path, providers=["CPUExecutionProvider"])


def zero_state(session: onnxruntime.InferenceSession, batch: int) -> State:
    return {
        entry.name: np.zeros([batch, *entry.shape[1:]], TYPES[entry.type])
        for entry in session.get_inputs()
        if entry.name not in ("noisy", "degraded")
    }


def step(
    session: onnxruntime.InferenceSession, signals: dict[str, Waves], state: State
) -> tuple[list[Waves], State]:
    """Outputs of one hop, and the next state by the names of the inputs that take it."""
    names = [output.name for output in session.get_outputs()]
    results = dict(zip(names, session.run(names, {**signals, **state}), strict=True))
    following = {name: results.pop(f"next_{name}") for name in state}
    return list(results.values()), following
