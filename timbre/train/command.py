"""``timbre train``, and ``accelerate launch -m timbre.train``: the same command line."""

from collections.abc import Sequence

from timbre import config as configs
from timbre.command import at_least, config_parser, print_result, restartable_command
from timbre.errors import PrintedError
from timbre.train.config import TrainConfig
from timbre.train.dry_run.describe import describe_run
from timbre.train.loop import train
from timbre.train.profile import describe_profile, profile_run
from timbre.train.ranks import naming_lost_ranks, printed_once
from timbre.train.run import open_run


@restartable_command
def main(argv: Sequence[str] | None = None) -> None:
    """Train by ``CONFIG [section.key=value ...]``."""
    parser = config_parser("train", "Train the restorer.", "configs/train.yaml")
    parser.add_argument(
        "--fail-if-interrupted",
        action="store_true",
        help="exit with 1 if a signal ended the run before its last step, for a scheduler that "
        "takes 0 for finished",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="check config, data and checkpoint, and show what the run would do and need; nothing is "
        "written",
    )
    parser.add_argument(
        "--ranks",
        metavar="N",
        type=at_least(1),
        help="with --dry-run: for so many ranks; by default those that there are, one without a "
        "launcher",
    )
    options = parser.parse_intermixed_args(argv)
    with printed_once():
        config = configs.load(TrainConfig, options.config, options.overrides)
        with naming_lost_ranks(config.ranks):
            if options.dry_run:
                show(config, options.ranks)
                return
            if config.profile:
                measure(config)
                return
            is_finished = train(config)
    if options.fail_if_interrupted and not is_finished:
        raise PrintedError("interrupted")


def show(config: TrainConfig, ranks: int | None) -> None:
    """Print what a run would do and need; nothing is written."""
    with open_run(config, writes=False) as run:
        description = describe_run(run, ranks or run.accelerator.num_processes)
        if run.accelerator.is_main_process:
            print_result(description)


def measure(config: TrainConfig) -> None:
    """Print where the time of a step goes, and write a trace; the run stays as it is."""
    with open_run(config, writes=False) as run:
        profile = profile_run(run, config.profile)
        if run.accelerator.is_main_process:
            print_result(describe_profile(run, config.profile, profile))
