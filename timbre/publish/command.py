"""``timbre publish RUN --to FOLDER|hf://USER/REPOSITORY``."""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import PurePosixPath

from timbre import storage
from timbre.command import command, print_result, print_warning
from timbre.errors import ConfigError
from timbre.models.checkpoint import TRAINING_STATE, WEIGHTS
from timbre.packages import require
from timbre.publish import card, data, figures, release
from timbre.publish.data import TrainingData
from timbre.storage import hub
from timbre.train.config import TrainConfig

# As the Hub names licences, and SPDX: apache-2.0, cc-by-4.0.
LICENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]*")


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Publish ``RUN --to FOLDER|hf://USER/REPOSITORY[@BRANCH]``."""
    options = _parse(argv)
    place = _check_place(options.to)
    weights = release.load_weights(options.run)
    config = release.read_config(options.run)
    evaluation = None
    if options.evaluation is not None:
        hint = f"timbre evaluate {options.run}/best.safetensors --data SHARDS --out DIR"
        evaluation = figures.load(options.evaluation, weights.sha256, hint)
    state = None
    if options.training_state:
        state = release.load_training_state(options.run, weights.step)
        if state.step != weights.step:
            print_warning(
                f"{options.run}: the weights are of step {weights.step}, and the training state of "
                f"step {state.step}: no other was kept"
            )
    known, missing = _data(config)
    text = card.to_text(
        card.Facts(
            name=options.name or _name(options.to, place),
            licence=options.license,
            generator=weights.config,
            denoisers=weights.denoisers,
            parameters=weights.parameters,
            latency_samples=weights.latency_samples,
            sha256=weights.sha256,
            step=weights.step,
            base=release.base_of(config),
            data=known,
            missing_data=missing,
            evaluation=evaluation,
            repository=options.to if place else None,
            training_step=state.step if state else None,
        )
    )
    files = release.pack(weights, config, text, state)
    if place:
        absent = () if state else (TRAINING_STATE,)
        url = hub.push(options.to, files, absent, options.private)
        print_result(f"published: {url}#sha256={weights.sha256}")
        return
    release.publish_to_folder(options.to, files)
    print_result(f"written: {options.to}: {', '.join(files)}; {WEIGHTS}: sha256 {weights.sha256}")


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "timbre publish",
        description="Publish the best generator of a run: weights, config, and a card with its data, "
        "licences and figures.",
        epilog="Its users say: timbre restore --checkpoint hf://USER/REPOSITORY, and to train on from "
        "it: init_from=hf://USER/REPOSITORY. The Hub needs `hf auth login` once.",
    )
    parser.add_argument("run", metavar="RUN", help="the run's folder, run_dir of its config")
    parser.add_argument(
        "--to",
        required=True,
        metavar="FOLDER|hf://USER/REPOSITORY[@BRANCH]",
        help="a new folder (or URL), or a repository of the Hugging Face Hub, which is made if need be",
    )
    parser.add_argument(
        "--evaluation",
        metavar="DIR",
        help="an output of timbre evaluate on RUN/best.safetensors, whose figures the card has",
    )
    parser.add_argument(
        "--training-state",
        action="store_true",
        help="also what others train on from: both networks, moments, average",
    )
    parser.add_argument(
        "--license", metavar="ID", help="of the weights, as SPDX or the Hub names it: apache-2.0"
    )
    parser.add_argument("--name", help="the card's title; by default the last of --to")
    parser.add_argument(
        "--private", action="store_true", help="a repository that is made is only yours to see"
    )
    options = parser.parse_args(argv)
    if options.license is not None and not LICENCE.fullmatch(options.license):
        raise ConfigError(f"--license {options.license}: expected an identifier such as apache-2.0")
    return options


def _check_place(to: str) -> hub.Place | None:
    """Return the repository that a release goes to, None for a folder; before the work begins.

    Raises:
        ConfigError: it is written wrongly.
        MissingPackageError: the Hub's package is not installed.
    """
    if not hub.is_hub(to):
        return None
    place = hub.parse(to)
    if place.file or place.sha256:
        raise ConfigError(f"--to {to}: expected hf://USER/REPOSITORY[@BRANCH]")
    require(hub.PACKAGE, f"--to {to}")
    return place


def _name(to: str, place: hub.Place | None) -> str:
    if place:
        return place.repository.rpartition("/")[2]
    if storage.is_local(to):
        return storage.local_path(to).name
    return PurePosixPath(to.rstrip("/")).name


def _data(config: TrainConfig) -> tuple[list[TrainingData], list[str]]:
    """Return what is known of a run's data, and the names of the manifests that are not there."""
    sources = [*config.data, *(source for change in config.data_changes for source in change.data)]
    known, missing = [], []
    for url in dict.fromkeys(source.manifest for source in sources):
        try:
            known.append(data.describe(url))
        except OSError as error:
            print_warning(f"{error}: the card says neither data nor licences of it")
            missing.append(PurePosixPath(url.removesuffix("/manifest.json")).name)
    return known, missing


if __name__ == "__main__":
    sys.exit(main())
