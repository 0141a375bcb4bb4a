"""The files of a release, made from a run; nothing in them names a folder of this machine."""

import io
import json
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import NamedTuple

import torch

from timbre import config as configs
from timbre import plain_yaml, storage
from timbre.audio import SAMPLE_RATE
from timbre.errors import CheckpointError, ConfigError
from timbre.models import GeneratorConfig, checkpoint
from timbre.models.checkpoint import DENOISERS, NAMES_OF_OURS, SUMS, TRAINING_STATE, WEIGHTS
from timbre.storage import hub
from timbre.train import checkpoints
from timbre.train.config import TrainConfig
from timbre.train.run_folder import CONFIG_NAME

CARD, CONFIG = "README.md", "config.json"
# Of a run's config: where things lie, and what belongs to its machine.
PLACES = ("data", "data_changes", "run_dir", "init_from", "reading", "workers", "ranks", "profile")


class Weights(NamedTuple):
    """A run's best generator: its file as it is, its architecture, and what is known of it.

    Attributes:
        denoisers: names of those that it has learned behind; none where the data did not say.
        step: of the training; None if the file does not say.
    """

    content: bytes
    config: GeneratorConfig
    denoisers: tuple[str, ...]
    parameters: int
    latency_samples: int
    step: int | None

    @property
    def sha256(self) -> str:
        """Return the hash of the file."""
        return storage.sha256(self.content)


class TrainingState(NamedTuple):
    """A training state that others go on from, and its step."""

    content: bytes
    step: int


def load_weights(run: str) -> Weights:
    """Return the best generator of a run.

    Raises:
        ConfigError: the folder holds none.
        CheckpointError: it is damaged, or not one of this version's.
    """
    url = storage.join(run, checkpoints.BEST)
    try:
        content = storage.read(url)
        generator, config, denoisers = checkpoint.load_checkpoint(url)
    except FileNotFoundError:
        raise ConfigError(
            f"{run}: no {checkpoints.BEST}: expected the run_dir of a training that has validated"
        ) from None
    step = checkpoint.notes_in(content).get("step")
    parameters = sum(tensor.numel() for tensor in generator.parameters())
    return Weights(content, config, denoisers, parameters, generator.latency_samples, step)


def load_training_state(run: str, step: int | None) -> TrainingState:
    """Return what others need of the training state of a step, or of the last one.

    Networks, moments and average stay. The place in the data, and all paths, go.

    Raises:
        ConfigError: the run has none.
        CheckpointError: it is damaged.
    """
    url = checkpoints.url_near(run, step)
    if url is None:
        raise ConfigError(f"--training-state: {run}: no {checkpoints.FOLDER}/step-*.pt")
    state = checkpoint.load(url)
    networks = {name: state["config"].get(name, {}) for name in ("generator", "discriminator")}
    try:
        gan = {name: state["gan"][name] for name in ("step", *checkpoints.TRANSFER_NAMES)}
    except KeyError as error:
        raise CheckpointError(f"{url}: gan: expected the key {error}") from None
    packed = {"config": networks, "gan": gan, "stream": {}, "best_score": state["best_score"]}
    if DENOISERS in state:
        packed[DENOISERS] = state[DENOISERS]
    buffer = io.BytesIO()
    torch.save(packed, buffer)
    return TrainingState(buffer.getvalue(), int(gan["step"]))


def read_config(run: str) -> TrainConfig:
    """Return the config of a run, as it was written when the run began.

    Raises:
        ConfigError: there is none, or it is no config.
    """
    url = storage.join(run, CONFIG_NAME)
    try:
        text = storage.read(url).decode(errors="replace")
    except FileNotFoundError:
        raise ConfigError(f"{run}: no {CONFIG_NAME}: expected the run_dir of a training") from None
    return configs.from_tree(TrainConfig, plain_yaml.parse(text, url) or {}, url)


def base_of(config: TrainConfig) -> str | None:
    """Return what training started from: a repository, a shipped name, or a file's name."""
    if (url := config.init_from) is None:
        return None
    if hub.is_hub(url):
        return hub.parse(url).repository
    return url if url in NAMES_OF_OURS else PurePosixPath(url).name


def pack(
    weights: Weights, config: TrainConfig, card: str, state: TrainingState | None
) -> dict[str, bytes]:
    """Return every file of a release by its name, the weights last."""
    tree = {
        "library_name": "timbre",
        "sample_rate": SAMPLE_RATE,
        "latency_samples": weights.latency_samples,
        "generator": configs.to_tree(weights.config),
        DENOISERS: list(weights.denoisers),
        "training": {
            key: value for key, value in configs.to_tree(config).items() if key not in PLACES
        },
    }
    files = {CARD: card.encode(), CONFIG: json.dumps(tree, indent=2).encode()}
    if state is not None:
        files[TRAINING_STATE] = state.content
    files[WEIGHTS] = weights.content
    sums = "".join(f"{storage.sha256(data)}  {name}\n" for name, data in files.items())
    return {SUMS: sums.encode(), **files}


def publish_to_folder(folder: str, files: Mapping[str, bytes]) -> None:
    """Write a release; with the weights, the last of its files, it is whole.

    Raises:
        ConfigError: the folder holds a release already.
        OSError: it cannot be written.
    """
    if storage.exists(storage.join(folder, WEIGHTS)):
        raise ConfigError(f"--to {folder}: holds a release already; name another folder")
    for name, data in files.items():
        storage.publish(storage.join(folder, name), data)
