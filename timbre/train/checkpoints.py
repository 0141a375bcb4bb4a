"""Training states of a run: saved whole, found again, and where a new run starts from."""

import hashlib
import io
from typing import Any, NamedTuple

import torch

from timbre import config as configs
from timbre import storage
from timbre.errors import CheckpointError
from timbre.models import WITHOUT_WEIGHTS, GeneratorConfig, checkpoint
from timbre.models.discriminators import DiscriminatorConfig
from timbre.train.gan.gan import Gan, unwrap

FOLDER = "checkpoints"
BEST = "best.safetensors"
# What a new run takes from another's training state; steps, schedule and scale are its own.
TRANSFER_NAMES = (
    "generator",
    "average",
    "discriminator",
    "generator_optimizer",
    "discriminator_optimizer",
)


class SavedState(NamedTuple):
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
    names = sorted({*_list(run_dir), name})
    best = _name(best_step) if best_step is not None else None
    names_to_keep = [n for n in names if n in names[-keep:] or n in (name, best)]
    sums = checkpoint.read_sums(folder) | {name: hashlib.sha256(data).hexdigest()}
    # First, so that whenever this is killed no file has a wrong hash: at worst it has none.
    text = "".join(f"{sums[n]}  {n}\n" for n in names_to_keep if n in sums)
    storage.publish(storage.join(folder, checkpoint.SUMS), text.encode())
    storage.publish(storage.join(folder, name), data)
    for old in set(names) - set(names_to_keep):
        storage.remove(storage.join(folder, old))
    return storage.join(folder, name)


def latest(run_dir: str) -> str | None:
    """Return the URL of the run's last training state, if it has one."""
    names = _list(run_dir)
    return storage.join(run_dir, FOLDER, names[-1]) if names else None


def url_near(run_dir: str, step: int | None) -> str | None:
    """Return the URL of the run's training state of a step, or of its last one; None without any."""
    names = _list(run_dir)
    name = next((n for n in names if step is not None and n == _name(step)), None)
    return storage.join(run_dir, FOLDER, name) if name else latest(run_dir)


def load_latest(run_dir: str, before: int | None = None) -> SavedState | None:
    """Return the run's last training state that is whole; None if it has none at all.

    Args:
        run_dir: the run's folder.
        before: only states of steps before this one count.

    Raises:
        CheckpointError: it has some, but all are damaged.
    """
    warnings: list[str] = []
    names = _list(run_dir)
    if before is not None:
        names = [name for name in names if name < _name(before)]
    for name in reversed(names):
        url = storage.join(run_dir, FOLDER, name)
        try:
            return SavedState(url, checkpoint.load(url), warnings)
        except CheckpointError as error:
            warnings.append(f"warning: {error}; going back to the one before")
    if warnings:
        raise CheckpointError(f"{run_dir}: every checkpoint is damaged:", *warnings)
    return None


def start_from(
    url: str, gan: Gan, generator: GeneratorConfig, discriminator: DiscriminatorConfig
) -> bool:
    """Fill a fresh Gan from ``url``; return whether its discriminator has learned already.

    A training state (``.pt``) gives both networks, the average and both optimizers' moments; a
    ``.safetensors`` file the generator's weights alone, and so does a shipped checkpoint's name. Of
    a release, ``hf://USER/REPOSITORY``, it is the training state, if there is one. The generator's
    limits are the config's.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: a release cannot be fetched.
        CheckpointError: it is something else, damaged, or of another architecture.
    """
    path = checkpoint.resolve(url, (checkpoint.TRAINING_STATE, checkpoint.WEIGHTS))
    try:
        if path.endswith(".pt"):
            taught = _fill_from_state(url, checkpoint.load(path), gan, generator, discriminator)
        else:
            taught = False
            tree, tensors = checkpoint.read_generator(path)
            refuse_other(url, {"generator": _with_limits_of(generator, tree)}, generator)
            for network in (unwrap(gan.generator), gan.average):
                network.load_state_dict(tensors)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:  # of files made by others
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"{url}: cannot be trained on from: {reason}") from None
    checkpoint.check_finite(url, gan.average)
    return taught


def _fill_from_state(
    url: str,
    state: dict[str, Any],
    gan: Gan,
    generator: GeneratorConfig,
    discriminator: DiscriminatorConfig,
) -> bool:
    tree = _with_limits_of(generator, state["config"].get("generator", {}))
    refuse_other(url, {**state["config"], "generator": tree}, generator, discriminator)
    gan.load_state_dict({"step": 0, **{name: state["gan"][name] for name in TRANSFER_NAMES}})
    return bool(state["gan"]["discriminator_optimizer"]["state"])


def _with_limits_of(config: GeneratorConfig, config_tree: dict[str, Any]) -> dict[str, Any]:
    return {**config_tree, **{key: getattr(config, key) for key in WITHOUT_WEIGHTS}}


def refuse_other(
    url: str,
    config_tree: dict[str, Any],
    generator: GeneratorConfig,
    discriminator: DiscriminatorConfig | None = None,
) -> None:
    """Raise CheckpointError unless the config that a checkpoint was saved with has these."""
    differences = []
    for name, config in [("generator", generator), ("discriminator", discriminator)]:
        if config is None:
            continue
        now = configs.to_tree(config)
        # Keys that the file is too old for are at their defaults.
        then = {**configs.to_tree(type(config)()), **config_tree.get(name, {})}
        differences += [
            f"{name}.{key} was {then.get(key)!r}, the config says {now.get(key)!r}"
            for key in sorted({*now, *then})
            if now.get(key) != then.get(key)
        ]
    if differences:
        raise CheckpointError(
            f"{url}: a checkpoint of another architecture: {'; '.join(differences)}; "
            "change the config, or choose another run_dir or init_from"
        )


def url_of(run_dir: str, step: int) -> str:
    """Return the URL that the training state of a step has, if it is there."""
    return storage.join(run_dir, FOLDER, _name(step))


def _name(step: int) -> str:
    return f"step-{step:08d}.pt"


def _list(run_dir: str) -> list[str]:
    """Return the names of the run's training states, the first step first."""
    paths = storage.find_below(storage.join(run_dir, FOLDER))
    return sorted(path for path in paths if path.startswith("step-") and path.endswith(".pt"))
