"""Checkpoints: one file holds everything, appears whole, and is read without running code.

``RUN/checkpoints/step-00001000.pt`` continues a run at any number of ranks; ``SHA256SUMS`` beside it
holds the hash of each, as ``sha256sum --check`` reads it. ``RUN/best.safetensors`` holds the averaged
generator alone, and its architecture: what restores, evaluates and exports.
"""

import hashlib
import io
import json
import pickle
import zipfile
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import nn

from timbre import config as configs
from timbre import storage
from timbre.errors import CheckpointError, ConfigError
from timbre.models.generator import Generator, GeneratorConfig, build_generator

FOLDER = "checkpoints"
BEST = "best.safetensors"
SUMS = "SHA256SUMS"


class Found(NamedTuple):
    """A training state, its URL, and a line for each later one that was damaged."""

    url: str
    state: dict[str, Any]
    warnings: list[str]


def save(
    run_dir: str, step: int, state: dict[str, Any], keep: int, best_step: int | None = None
) -> str:
    """Write the training state of a step and return its URL.

    Of the older ones all are deleted but the last ``keep``, this one among them, and that of
    ``best_step``.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    data = buffer.getvalue()
    folder = storage.join(run_dir, FOLDER)
    name = _name(step)
    names = sorted({*_listed(run_dir), name})
    best = _name(best_step) if best_step is not None else None
    kept = [n for n in names if n in names[-keep:] or n in (name, best)]
    sums = _read_sums(folder) | {name: hashlib.sha256(data).hexdigest()}
    # First, so that whenever this is killed no file has a wrong hash: at worst it has none.
    text = "".join(f"{sums[n]}  {n}\n" for n in kept if n in sums)
    storage.publish(storage.join(folder, SUMS), text.encode())
    storage.publish(storage.join(folder, name), data)
    for old in set(names) - set(kept):
        storage.remove(storage.join(folder, old))
    return storage.join(folder, name)


def latest(run_dir: str) -> str | None:
    """Return the URL of the run's last training state, if it has one."""
    names = _listed(run_dir)
    return storage.join(run_dir, FOLDER, names[-1]) if names else None


def load_latest(run_dir: str) -> Found | None:
    """Return the run's last training state that is whole; None if it has none at all.

    Raises:
        CheckpointError: it has some, but all are damaged.
    """
    warnings: list[str] = []
    for name in reversed(_listed(run_dir)):
        url = storage.join(run_dir, FOLDER, name)
        try:
            return Found(url, load(url), warnings)
        except CheckpointError as error:
            warnings.append(f"warning: {error}; going back to the one before")
    if warnings:
        raise CheckpointError(f"{run_dir}: every checkpoint is damaged:", *warnings)
    return None


def load(url: str) -> dict[str, Any]:
    """Return a training state, on the CPU.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: it is something else, holds code, or is not what was saved.
    """
    data = storage.read(url)
    folder, _, name = url.rpartition("/")
    # None is listed where the file was copied without its folder.
    listed = _read_sums(folder or ".").get(name)
    if listed is not None and listed != hashlib.sha256(data).hexdigest():
        raise CheckpointError(f"{url}: damaged: its SHA-256 is not the one in {SUMS}")
    if not zipfile.is_zipfile(io.BytesIO(data)):
        raise CheckpointError(f"{url}: not a training state of timbre: not a file of torch.save")
    try:
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"{url}: not a training state of timbre: {reason}") from None
    if not isinstance(state, dict) or not {"config", "gan", "stream", "best_score"} <= state.keys():
        raise CheckpointError(f"{url}: not a training state of timbre")
    return state


def save_generator(url: str, generator: nn.Module, config: GeneratorConfig, notes: Any) -> None:
    """Write a generator with its architecture; ``notes`` (JSON) travel along: step, figures."""
    metadata = {"generator": json.dumps(configs.to_tree(config)), "notes": json.dumps(notes)}
    tensors = {name: t.detach().cpu().contiguous() for name, t in generator.state_dict().items()}
    storage.publish(url, save_safetensors(tensors, metadata))


def load_generator(url: str) -> tuple[Generator, GeneratorConfig]:
    """Return the generator in a ``.safetensors`` file or in a training state, ready to use.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: it is something else, or of an architecture that this version lacks.
    """
    if url.endswith(".pt"):
        state = load(url)
        tree, tensors = state["config"].get("generator", {}), state["gan"]["average"]
    else:
        tree, tensors = read_generator(url)
    try:
        config = configs.from_tree(GeneratorConfig, tree, url)
        generator = build_generator(config)
        generator.load_state_dict(tensors)
    except (ConfigError, RuntimeError) as error:
        raise CheckpointError(f"{url}: a checkpoint of another architecture: {error}") from None
    return generator.requires_grad_(False).eval(), config


def read_generator(url: str) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Return the architecture and the tensors in a ``.safetensors`` file.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: it is something else.
    """
    data = storage.read(url)
    try:
        tensors = load_safetensors(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        tree = json.loads(header["__metadata__"]["generator"])
    except (SafetensorError, KeyError, ValueError) as error:
        raise CheckpointError(f"{url}: not a generator of timbre: {error}") from None
    return tree, tensors


def _name(step: int) -> str:
    return f"step-{step:08d}.pt"


def _listed(run_dir: str) -> list[str]:
    """Return the names of the run's training states, the first step first."""
    folder = storage.join(run_dir, FOLDER)
    found = storage.find_below(folder) if storage.exists(folder) else {}
    return sorted(path for path in found if path.startswith("step-") and path.endswith(".pt"))


def _read_sums(folder: str) -> dict[str, str]:
    """Return the listed hash of each file of a folder; nothing where there is no list."""
    try:
        text = storage.read(storage.join(folder, SUMS)).decode(errors="replace")
    except FileNotFoundError:
        return {}
    lines = (line.split("  ", 1) for line in text.splitlines())
    return {words[1]: words[0] for words in lines if len(words) == 2}
