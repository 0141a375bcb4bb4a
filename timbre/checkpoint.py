"""Checkpoints: one file holds everything, appears whole, and is read without running code.

``RUN/checkpoints/step-00001000.pt`` continues a run at any number of ranks. ``RUN/best.safetensors``
holds the averaged generator alone, and its architecture: what restores, evaluates and exports.
"""

import io
import json
import pickle
import zipfile
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import nn

from timbre import config as configs
from timbre import storage
from timbre.errors import CheckpointError, ConfigError
from timbre.models import GeneratorConfig, build_generator

FOLDER = "checkpoints"
BEST = "best.safetensors"


def save(run_dir: str, step: int, state: dict[str, Any], keep: int) -> str:
    """Write the training state of a step, delete all but the last ``keep``; return its URL."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    url = storage.join(run_dir, FOLDER, f"step-{step:08d}.pt")
    storage.publish(url, buffer.getvalue())
    for old in _listed(run_dir)[:-keep]:
        storage.remove(old)
    return url


def latest(run_dir: str) -> str | None:
    """Return the URL of the run's last training state, if it has one."""
    found = _listed(run_dir)
    return found[-1] if found else None


def load(url: str) -> dict[str, Any]:
    """Return a training state, on the CPU.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: it is something else, is damaged, or holds code.
    """
    data = storage.read(url)
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


def load_generator(url: str) -> tuple[nn.Module, GeneratorConfig]:
    """Return the generator in a ``.safetensors`` file or in a training state, ready to use.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: it is something else, or of an architecture that this version lacks.
    """
    if url.endswith(".pt"):
        state = load(url)
        tree, tensors = state["config"].get("generator", {}), state["gan"]["average"]
    else:
        tree, tensors = _read_safetensors(url)
    try:
        config = configs.from_tree(GeneratorConfig, tree, url)
        generator = build_generator(config)
        generator.load_state_dict(tensors)
    except (ConfigError, RuntimeError) as error:
        raise CheckpointError(f"{url}: a checkpoint of another architecture: {error}") from None
    return generator.requires_grad_(False).eval(), config


def _read_safetensors(url: str) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    data = storage.read(url)
    try:
        tensors = load_safetensors(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        tree = json.loads(header["__metadata__"]["generator"])
    except (SafetensorError, KeyError, ValueError) as error:
        raise CheckpointError(f"{url}: not a generator of timbre: {error}") from None
    return tree, tensors


def _listed(run_dir: str) -> list[str]:
    folder = storage.join(run_dir, FOLDER)
    found = storage.find_below(folder) if storage.exists(folder) else {}
    return [url for path, url in found.items() if path.startswith("step-")]
