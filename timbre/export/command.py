"""Write a checkpoint as ONNX, checked against PyTorch, or as safetensors."""

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from importlib import import_module

from timbre import config as configs
from timbre import storage
from timbre.audio import HOP, SAMPLE_RATE
from timbre.command import command, print_result
from timbre.denoise import DeepFilterNet3
from timbre.errors import ConfigError, WorkError
from timbre.export.by_hop import chain_by_hop, generator_by_hop
from timbre.export.onnx_file import LEVEL, OPSET, convert
from timbre.export.parity import parity
from timbre.export.part import ExportPart
from timbre.export.whole import whole_chain, whole_generator
from timbre.models import NAMES_OF_OURS, Generator, GeneratorConfig, load_generator, save_generator

TOLERANCE = 1e-4
ABOUT = f"""ONNX files have opset {OPSET} and take and give (batch, 1, samples) float32 at
{SAMPLE_RATE} Hz, {LEVEL}: apply a gain before, and take it back behind. The generator takes
"degraded", DeepFilterNet3's output, and where it was built with noisy_input also "noisy", what
the denoiser was given (zeros where that is unknown), and gives "restored". The chain takes "noisy" and
gives "restored" and, in time with it, "denoised". Without --stream a file takes signals of any length
and outputs are not late. With --stream it takes hops of {HOP} samples and a state: inputs that are
zeros to begin with, and then the outputs "next_NAME" of the call before; outputs are late by the
metadata's latency_samples: {HOP} of a spectral generator, 0 of a wave generator, {3 * HOP} more of the
chain. For the exact end of a chain set denoiser_length to the number of all samples, then give
zeros. The metadata also hold opset, sample_rate, level, state and the generator's architecture."""


def to_onnx(part: ExportPart, facts: dict[str, str]) -> bytes:
    """Return a part as one ONNX file, weights included, that agrees with PyTorch.

    Raises:
        WorkError: a package is missing, or onnxruntime's output differs from PyTorch's.
    """
    for package in ("onnxscript", "onnxruntime"):
        try:
            import_module(package)
        except ImportError:
            raise WorkError(
                f"ONNX needs the package {package}: pip install 'timbre[export]'"
            ) from None
    data = convert(part, facts)
    difference = parity(data, part)
    if not difference <= TOLERANCE:  # NaN is refused as well
        raise WorkError(
            f"onnxruntime and PyTorch differ by {difference:.2g}, at most {TOLERANCE} is allowed"
        )
    return data


def build_part(
    generator: Generator,
    config: GeneratorConfig,
    denoiser: DeepFilterNet3 | None = None,
    stream: bool = False,
) -> ExportPart:
    """Return the generator, or with a denoiser the chain, as a part for whole signals or for hops.

    Raises:
        ConfigError: it is for hops, and the generator looks ahead.
    """
    if stream and not config.causal:
        raise ConfigError(
            "--stream: this generator looks ahead; expected one trained with generator.causal=true"
        )
    if denoiser is not None:
        build_chain = chain_by_hop if stream else whole_chain
        return build_chain(denoiser, generator, config)
    build = generator_by_hop if stream else whole_generator
    return build(generator, config)


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Export ``CHECKPOINT`` to ``OUT.onnx`` or ``OUT.safetensors``."""
    options = _parser().parse_args(argv)
    if not options.out.endswith((".onnx", ".safetensors")):
        raise ConfigError(f"{options.out}: expected a name that ends in .onnx or .safetensors")
    as_tensors = options.out.endswith(".safetensors")
    if as_tensors and (options.part != "generator" or options.stream):
        raise ConfigError(f"{options.out}: --part and --stream are for ONNX; expected OUT.onnx")
    chain = options.part == "chain"
    if options.denoiser_weights and not chain:
        raise ConfigError("--denoiser-weights: expected --part chain, which has a denoiser")
    generator, config = load_generator(options.checkpoint, options.max_lift_db)
    if as_tensors:
        save_generator(options.out, generator, config, {"exported_from": options.checkpoint})
        print_result(f"written: {options.out}")
        return
    # It warns that torchvision, which nothing here needs, is missing.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    denoiser = DeepFilterNet3.load(options.denoiser_weights) if chain else None
    part = build_part(generator, config, denoiser, options.stream)
    data = to_onnx(part, {"generator": json.dumps(configs.to_tree(config))})
    storage.publish(options.out, data)
    late = f", late by {part.latency_samples} samples" if options.stream else ""
    print_result(
        f"written: {options.out}, {len(data) / 1e6:.1f} MB, opset {OPSET}{late}, "
        f"within {TOLERANCE} of PyTorch"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("timbre export", description=__doc__, epilog=ABOUT)
    parser.add_argument(
        "checkpoint",
        metavar="CHECKPOINT",
        help=f"best.safetensors or step-*.pt of a training run, a shipped one ({', '.join(NAMES_OF_OURS)}), "
        "or hf://USER/REPOSITORY[@REVISION][#sha256=HASH]",
    )
    parser.add_argument("out", metavar="OUT", help="a name that ends in .onnx or .safetensors")
    parser.add_argument(
        "--part",
        choices=("generator", "chain"),
        default="generator",
        help="the chain is DeepFilterNet3 and the generator behind it (%(default)s)",
    )
    parser.add_argument(
        "--stream",
        action="store_true",
        help=f"hop by hop ({HOP} samples) with a state; the generator must be causal",
    )
    parser.add_argument(
        "--denoiser-weights",
        metavar="FILE",
        help="DeepFilterNet3's weights for the chain: a .safetensors file or the official checkpoint "
        "or archive; usually those of the installed package",
    )
    parser.add_argument(
        "--max-lift-db",
        type=float,
        metavar="DB",
        help="write the generator with this limit in place of its own: how far the output may rise "
        "above DeepFilterNet3's around a frequency",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
