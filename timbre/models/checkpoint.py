"""Checkpoints that anybody may read: generators, and training states; none runs code.

``RUN/checkpoints/step-00001000.pt`` continues a run at any number of ranks; ``SHA256SUMS`` beside it
holds the hash of each, as ``sha256sum --check`` reads it. ``RUN/best.safetensors`` holds the averaged
generator alone, and its architecture: what restores, evaluates and exports.
"""

import hashlib
import io
import json
import pickle
import zipfile
from collections.abc import Sequence
from importlib.resources import files
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import nn

from timbre import config as configs
from timbre import storage
from timbre.denoiser_names import DF3, from_record
from timbre.errors import CheckpointError, ConfigError
from timbre.models.generator import Generator, GeneratorConfig, build_generator
from timbre.storage import hub

SUMS = "SHA256SUMS"
# The checkpoints that come with timbre go by these names.
OFFLINE, CAUSAL = "offline", "causal"
NAMES_OF_OURS = (OFFLINE, CAUSAL)
# What a release holds: a generator, and a training state that others go on from.
WEIGHTS, TRAINING_STATE = "model.safetensors", "training_state.pt"
# What a training state holds by name.
PARTS = ("config", "gan", "stream")
# What says behind which denoisers a generator has learned; files that are older than it: DeepFilterNet3.
DENOISERS = "denoisers"
# What weights may be; a generator's own are float32.
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


class Checkpoint(NamedTuple):
    """A generator, ready to use, and the names of the denoisers behind which it has learned.

    No names: the data did not say.
    """

    generator: Generator
    config: GeneratorConfig
    denoisers: tuple[str, ...]


def load(url: str) -> dict[str, Any]:
    """Return a training state, on the CPU.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: it is something else, holds code, or is not what was saved.
    """
    data = storage.read(url)
    folder, _, name = url.rpartition("/")
    # None is listed where the file was copied without its folder.
    sum_in_list = read_sums(folder or ".").get(name)
    if sum_in_list is not None and sum_in_list != hashlib.sha256(data).hexdigest():
        raise CheckpointError(f"{url}: damaged: its SHA-256 is not the one in {SUMS}")
    if not zipfile.is_zipfile(io.BytesIO(data)):
        raise CheckpointError(f"{url}: not a training state of timbre: not a file of torch.save")
    try:
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        # Not torch's own message: it recommends to let the file run code.
        raise CheckpointError(
            f"{url}: not a training state of timbre: damaged, or holds more than tensors, numbers "
            "and text, which could run code"
        ) from None
    except Exception as error:  # a damaged file makes torch's reader fail in any way
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"{url}: not a training state of timbre: {reason}") from None
    if not isinstance(state, dict) or not {*PARTS, "best_score"} <= state.keys():
        raise CheckpointError(f"{url}: not a training state of timbre")
    for name in PARTS:
        if not isinstance(state[name], dict):
            kind = type(state[name]).__name__
            raise CheckpointError(f"{url}: {name} is a {kind}; expected keys and values")
    return state


def save_generator(
    url: str,
    generator: nn.Module,
    config: GeneratorConfig,
    notes: Any,
    denoisers: Sequence[str] = (DF3,),
) -> None:
    """Write a generator with its architecture, and the names of the denoisers it has learned behind.

    ``notes`` (JSON) travel along: step, figures.
    """
    storage.publish(url, pack_generator(generator, config, notes, denoisers))


def pack_generator(
    generator: nn.Module, config: GeneratorConfig, notes: Any, denoisers: Sequence[str] = (DF3,)
) -> bytes:
    """Return the content of the file that :func:`save_generator` writes."""
    metadata = {
        "generator": json.dumps(configs.to_tree(config)),
        "notes": json.dumps(notes),
        DENOISERS: json.dumps(list(denoisers)),
    }
    tensors = {name: t.detach().cpu().contiguous() for name, t in generator.state_dict().items()}
    packed: bytes = save_safetensors(tensors, metadata)
    return packed


def load_generator(url: str, max_lift_db: float | None = None) -> tuple[Generator, GeneratorConfig]:
    """Return the generator of a checkpoint and its architecture; see :func:`load_checkpoint`."""
    checkpoint = load_checkpoint(url, max_lift_db)
    return checkpoint.generator, checkpoint.config


def load_checkpoint(url: str, max_lift_db: float | None = None) -> Checkpoint:
    """Return what is in a ``.safetensors`` file or in a training state, ready to use.

    Args:
        url: of the file, the name of a shipped checkpoint, or of a release: see :func:`resolve`.
        max_lift_db: a limit to run it with in place of its own; None keeps its own.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: it is something else, holds weights that are no finite numbers, or is of an
            architecture that this version lacks.
        ConfigError: the generator cannot have this limit.
    """
    path = resolve(url)
    if path.endswith(".pt"):
        state = load(path)
        tree, tensors = state["config"].get("generator", {}), state["gan"].get("average")
        denoisers = state.get(DENOISERS, [DF3])
    else:
        tree, tensors, denoisers = _read(path)
    check_weights(path, tensors)
    config = _config_of(path, tree)
    if max_lift_db is not None:
        tree_with_limit = configs.to_tree(config) | {"max_lift_db": max_lift_db}
        config = configs.from_tree(GeneratorConfig, tree_with_limit, f"{url} with another limit")
    generator = build_generator(config)
    try:
        generator.load_state_dict(tensors)
    except RuntimeError as error:
        raise CheckpointError(f"{path}: a checkpoint of another architecture: {error}") from None
    check_finite(path, generator)
    generator = generator.requires_grad_(False).eval()
    return Checkpoint(generator, config, _check_denoisers(path, denoisers))


def read_generator(url: str) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Return the architecture and the tensors in a ``.safetensors`` file.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: it is something else.
    """
    tree, tensors, _ = _read(url)
    return tree, tensors


def _read(url: str) -> tuple[dict[str, Any], dict[str, torch.Tensor], object]:
    data = storage.read(url)
    try:
        tensors = load_safetensors(data)
        metadata = _metadata(data)
        tree = json.loads(metadata["generator"])
        denoisers = json.loads(metadata[DENOISERS]) if DENOISERS in metadata else [DF3]
    except (SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{url}: not a generator of timbre: {error}") from None
    check_weights(url, tensors)
    return tree, tensors, denoisers


def _check_denoisers(url: str, names: object) -> tuple[str, ...]:
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise CheckpointError(f"{url}: {DENOISERS} is {names!r}; expected a list of names")
    return tuple(map(from_record, names))


def notes_in(content: bytes) -> dict[str, Any]:
    """Return the notes in a generator's file that :func:`read_generator` can read."""
    notes = json.loads(_metadata(content).get("notes", "{}"))
    return notes if isinstance(notes, dict) else {}


def _metadata(content: bytes) -> dict[str, str]:
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    metadata: dict[str, str] = header["__metadata__"]
    return metadata


def _config_of(url: str, tree: object) -> GeneratorConfig:
    if not isinstance(tree, dict):
        raise CheckpointError(f"{url}: generator: expected keys, got {type(tree).__name__}")
    try:
        return configs.from_tree(GeneratorConfig, tree, url)
    except ConfigError as error:
        raise CheckpointError(f"{url}: a checkpoint of another architecture: {error}") from None


def check_weights(url: str, tensors: object) -> None:
    """Raise CheckpointError unless these are dense tensors of real numbers by name."""
    if not isinstance(tensors, dict):
        raise CheckpointError(f"{url}: expected weights by name, got {type(tensors).__name__}")
    for name, tensor in tensors.items():
        if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
            raise CheckpointError(
                f"{url}: weight {str(name)[:80]!r} is a {type(tensor).__name__}; expected a tensor"
            )
        dense = tensor.layout == torch.strided and not tensor.is_nested and tensor.is_cpu
        if tensor.dtype not in FLOATS or not dense:
            kind = f"{tensor.dtype}{'' if dense else ', not dense'}"
            raise CheckpointError(
                f"{url}: weight {name!r} is {kind}; expected a dense tensor of floats"
            )


def check_finite(url: str, network: nn.Module) -> None:
    """Raise CheckpointError if a weight of the network that ``url`` filled is NaN or infinite."""
    for name, tensor in network.state_dict().items():
        if not tensor.isfinite().all():
            raise CheckpointError(
                f"{url}: weight {name!r} holds NaN or infinite values: the file is damaged, or the "
                "training failed; take an earlier checkpoint"
            )


def resolve(checkpoint: str, in_release: Sequence[str] = (WEIGHTS,)) -> str:
    """Return the path of a shipped checkpoint's name, or of a release's file once it is fetched.

    Anything else is a path or URL as it is.

    Args:
        checkpoint: ``offline`` or ``causal``, ``hf://USER/REPOSITORY[@REVISION][#sha256=HASH]``
            (:mod:`timbre.storage.hub`), a path or another URL.
        in_release: the files of a release that will do, the best first.

    Raises:
        CheckpointError: this installation lacks the checkpoint of that name.
        ConfigError, MissingPackageError, OSError: the release cannot be fetched.
    """
    if hub.is_hub(checkpoint):
        return str(hub.fetch(checkpoint, in_release))
    if checkpoint not in NAMES_OF_OURS:
        return checkpoint
    path = files("timbre") / "checkpoints" / f"{checkpoint}.safetensors"
    if not path.is_file():
        raise CheckpointError(
            f"{path}: this installation of timbre lacks its {checkpoint} checkpoint; name one of "
            "your own, such as best.safetensors of a training run"
        )
    return str(path)


def read_sums(folder: str) -> dict[str, str]:
    """Return the listed hash of each file of a folder; nothing where there is no list."""
    try:
        text = storage.read(storage.join(folder, SUMS)).decode(errors="replace")
    except FileNotFoundError:
        return {}
    lines = (line.split("  ", 1) for line in text.splitlines())
    return {words[1]: words[0] for words in lines if len(words) == 2}
