"""Repair the timbre of speech that DeepFilterNet3 has denoised."""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NamedTuple


class Command(NamedTuple):
    """The module whose ``main(argv)`` a subcommand is, and what it is for."""

    module: str
    summary: str


COMMANDS = {
    "prep": Command("shard_tools.prep.command", "make shards from speech, noise and rooms"),
    "verify": Command("shard_tools.verify.command", "check every shard and pair of a manifest"),
    "stats": Command("shard_tools.stats.command", "show what a manifest holds"),
    "peek": Command("timbre.peek.command", "show the pairs that a rank will be served"),
    "train": Command("timbre.train.step", "train the restorer"),
    "evaluate": Command(
        "timbre.evaluate.command", "measure a checkpoint against DeepFilterNet3 alone"
    ),
    "restore": Command("timbre.restore.command", "denoise and repair audio files"),
    "export": Command("timbre.export.command", "write a checkpoint as ONNX or safetensors"),
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
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help="one of those below")
    chosen = parser.parse_args(arguments[:1]).command
    code: int = import_module(COMMANDS[chosen].module).main(arguments[1:])
    return code


if __name__ == "__main__":
    sys.exit(main())
