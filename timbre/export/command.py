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
from timbre.command import command, print_result, print_warning
from timbre.denoise import DeepFilterNet3
from timbre.denoiser_names import DF3, OFFICIAL, check_name
from timbre.errors import ConfigError, WorkError
from timbre.export.by_hop import chain_by_hop, generator_by_hop
from timbre.export.onnx_file import LEVEL, OPSET, convert
from timbre.export.parity import parity
from timbre.export.part import ExportPart
from timbre.export.whole import whole_chain, whole_generator
from timbre.models import (
    NAMES_OF_OURS,
    Generator,
    GeneratorConfig,
    load_checkpoint,
    save_generator,
    strangeness,
)
from timbre.models.checkpoint import DENOISERS

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
zeros. The metadata also hold opset, sample_rate, level, state, the generator's architecture,
and which denoisers it has learned behind."""


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
    if (options.denoiser_weights or options.denoiser) and not chain:
        raise ConfigError(
            "--denoiser, --denoiser-weights: expected --part chain, which has a denoiser"
        )
    _check_denoiser(options.denoiser or DF3)
    generator, config, denoisers = load_checkpoint(options.checkpoint, options.max_lift_db)
    if as_tensors:
        notes = {"exported_from": options.checkpoint}
        save_generator(options.out, generator, config, notes, denoisers)
        print_result(f"written: {options.out}")
        return
    # It warns that torchvision, which nothing here needs, is missing.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    denoiser = DeepFilterNet3.load(options.denoiser_weights) if chain else None
    if chain and (line := strangeness(options.checkpoint, denoisers, DF3)):
        print_warning(line)
    part = build_part(generator, config, denoiser, options.stream)
    facts = {"generator": configs.to_tree(config), DENOISERS: list(denoisers)}
    data = to_onnx(part, {key: json.dumps(value) for key, value in facts.items()})
    storage.publish(options.out, data)
    late = f", late by {part.latency_samples} samples" if options.stream else ""
    print_result(
        f"written: {options.out}, {len(data) / 1e6:.1f} MB, opset {OPSET}{late}, "
        f"within {TOLERANCE} of PyTorch"
    )


def _check_denoiser(word: str) -> None:
    """Refuse a denoiser that is no network of ours: it cannot be a part of the file."""
    try:
        name = check_name(word)
    except ValueError as error:
        raise ConfigError(f"--denoiser: {error}") from None
    if name not in (DF3, OFFICIAL):
        raise ConfigError(
            f"--denoiser {name}: cannot be written into an ONNX file; expected {DF3} or {OFFICIAL}, or "
            "--part generator, and the denoiser before it"
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
        "--denoiser",
        metavar="NAME",
        help=f"what the chain begins with: {DF3}, or {OFFICIAL}, which is the same network ({DF3}). "
        "Others cannot be written as ONNX: export the generator, and run them before it",
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
