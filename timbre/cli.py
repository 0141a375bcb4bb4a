"""Repair the timbre of speech that DeepFilterNet3 has denoised."""

import argparse
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from platform import python_version
from typing import NamedTuple

from timbre.command import start

# What a bug report should name beside timbre itself.
PACKAGES = ("torch", "torchaudio", "accelerate", "numpy")


class Command(NamedTuple):
    """The module whose ``main(argv)`` a subcommand is, and what it is for."""

    module: str
    summary: str


COMMANDS = {
    "prep": Command("shard_tools.prep.command", "make shards from speech, noise and rooms"),
    "verify": Command("shard_tools.verify.command", "check every shard and pair of a manifest"),
    "stats": Command("shard_tools.stats.command", "show what a manifest holds"),
    "peek": Command("timbre.peek.command", "show the pairs that a rank will be served"),
    "index": Command("timbre.index.command", "index a folder of other people's tars"),
    "train": Command("timbre.train.command", "train the restorer"),
    "report": Command("timbre.train.report.command", "show a run's time, curves and sounds"),
    "replay": Command("timbre.replay.command", "repeat a step of a run and look at its pairs"),
    "evaluate": Command(
        "timbre.evaluate.command", "measure a checkpoint against DeepFilterNet3 alone"
    ),
    "listen": Command("timbre.listen.command", "make a blind listening test, and read its results"),
    "restore": Command("timbre.restore.command", "denoise and repair audio files"),
    "live": Command("timbre.live.command", "denoise and repair a microphone's sound as it comes"),
    "ui": Command("timbre.ui.command", "serve a page that restores files"),
    "export": Command("timbre.export.command", "write a checkpoint as ONNX or safetensors"),
    "publish": Command("timbre.publish.command", "publish a run's generator, with a card"),
    "demo": Command("timbre.demo", "go the whole way on speech made on the spot"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand; return 0 (it worked), 1 (the work failed) or 2 (bad usage or config).

    Only the module of the command that is asked for is imported.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    rows = [f"  {name:<10}{command.summary}" for name, command in COMMANDS.items()]
    parser = argparse.ArgumentParser(
        "timbre",
        usage="timbre COMMAND ...",
        description=__doc__,
        epilog="\n".join(["commands:", *rows, "", "timbre COMMAND --help tells more"]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=versions())
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help="one of those below")
    name_of_command = parser.parse_args(arguments[:1]).command
    return start(COMMANDS[name_of_command].module, arguments[1:])


def versions() -> str:
    """Return the versions that a bug report should name."""
    packages = [f"{name} {_version(name)}" for name in PACKAGES]
    return f"timbre {_version('timbre')} (Python {python_version()}, {', '.join(packages)})"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


if __name__ == "__main__":
    sys.exit(main())
