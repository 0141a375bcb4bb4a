"""Write the generator of a checkpoint as ONNX, checked against PyTorch, or as safetensors."""

import argparse
import json
import logging
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module

import torch
from torch import nn

from timbre import config as configs
from timbre import storage
from timbre.audio import SAMPLE_RATE
from timbre.checkpoint import load_generator, save_generator
from timbre.command import command, say
from timbre.errors import ConfigError, WorkError
from timbre.models import GeneratorConfig, build_generator
from timbre.models.wave import WaveGenerator

OPSET = 20
TOLERANCE = 1e-4
# (batch, samples) at which both runtimes are compared: the shortest, whole hops, odd, a second.
SHAPES = ((1, 1), (1, 480), (3, 4799), (2, 48_000))
EXAMPLE = (2, 4800)
# Noise at about the -25 dBFS that generators are trained at.
LEVEL = 0.05
ABOUT = (
    "timbre's generator: degraded -> restored, (batch, 1, samples) float32 at 48 kHz; "
    "degraded is DeepFilterNet3's output, its speech at about -25 dBFS"
)


def to_onnx(generator: nn.Module, config: GeneratorConfig) -> bytes:
    """Return the generator as one ONNX file, weights included, for any batch and any length.

    Raises:
        WorkError: a package is missing, or onnxruntime's output differs from the generator's.
    """
    for package in ("onnxscript", "onnxruntime"):
        try:
            import_module(package)
        except ImportError:
            raise WorkError(
                f"ONNX needs the package {package}: pip install 'timbre[export]'"
            ) from None
    data = _convert(generator, config)
    difference = parity(data, generator)
    if not difference <= TOLERANCE:  # NaN is refused as well
        raise WorkError(
            f"onnxruntime and PyTorch differ by {difference:.2g}, at most {TOLERANCE} is allowed"
        )
    return data


def parity(data: bytes, generator: nn.Module) -> float:
    """Return the largest difference between an ONNX file's output and the generator's on noise."""
    import onnxruntime

    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    rng = torch.Generator().manual_seed(0)
    differences = []
    for batch, samples in SHAPES:
        degraded = LEVEL * torch.randn(batch, 1, samples, generator=rng)
        (restored,) = session.run(["restored"], {"degraded": degraded.numpy()})
        with torch.inference_mode():
            differences.append((generator(degraded) - torch.from_numpy(restored)).abs().max())
    return float(torch.stack(differences).max())


def _convert(generator: nn.Module, config: GeneratorConfig) -> bytes:
    # Built anew: a deep copy shares the class whose weight norm is taken off here.
    plain = build_generator(config)
    plain.load_state_dict(generator.state_dict())
    if isinstance(plain, WaveGenerator):
        plain.remove_weight_norm()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch's exporter about itself
        program = torch.onnx.export(
            plain.eval(),
            (torch.zeros(EXAMPLE[0], 1, EXAMPLE[1]),),
            input_names=["degraded"],
            output_names=["restored"],
            opset_version=OPSET,
            dynamic_shapes=({0: torch.export.Dim("batch"), 2: torch.export.Dim("samples")},),
            dynamo=True,
            verbose=False,
        )
    assert program is not None  # None only without dynamo
    program.model.doc_string = ABOUT
    program.model.metadata_props.update(
        generator=json.dumps(configs.to_tree(config)),
        opset=str(program.model.opset_imports[""]),
        sample_rate=str(SAMPLE_RATE),
        latency_samples=str(plain.latency_samples),
    )
    data: bytes = program.model_proto.SerializeToString()
    return data


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Export ``CHECKPOINT`` to ``OUT.onnx`` or ``OUT.safetensors``."""
    parser = argparse.ArgumentParser(
        "timbre export",
        description=__doc__,
        epilog="The ONNX file takes the degraded signal alone, whatever noisy_input the generator was "
        "built with: one with it runs as without a noisy signal. The safetensors keep everything.",
    )
    parser.add_argument(
        "checkpoint", metavar="CHECKPOINT", help="best.safetensors or step-*.pt of a training run"
    )
    parser.add_argument("out", metavar="OUT", help="a name that ends in .onnx or .safetensors")
    given = parser.parse_args(argv)
    if not given.out.endswith((".onnx", ".safetensors")):
        raise ConfigError(f"{given.out}: expected a name that ends in .onnx or .safetensors")
    generator, config = load_generator(given.checkpoint)
    if given.out.endswith(".safetensors"):
        save_generator(given.out, generator, config, {"exported_from": given.checkpoint})
        say(f"written: {given.out}")
        return
    # It warns that torchvision, which nothing here needs, is missing.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    storage.publish(given.out, to_onnx(generator, config))
    say(f"written: {given.out}, opset {OPSET}, within {TOLERANCE} of PyTorch")


if __name__ == "__main__":
    sys.exit(main())
