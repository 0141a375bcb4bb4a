"""What all command lines share: exit codes, and errors told in one paragraph."""

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import wraps
from importlib import import_module
from typing import Protocol

from timbre.environment import is_first_of_node, settle_threads
from timbre.errors import ConfigError, PrintedError, TimbreError
from timbre.plain_text import printable, printable_lines
from timbre.torch_builds import check_torch

OK, FAILED, USAGE = 0, 1, 2


class Main(Protocol):
    """A command line; ``argv`` None is the process's own."""

    def __call__(self, argv: Sequence[str] | None = None) -> int:
        """Return the exit code."""


Program = Callable[[Sequence[str] | None], None]


def command(run: Program) -> Main:
    """Make ``run(argv)`` a command: it returns 0, or prints an expected error and returns 1 or 2.

    Errors that are nobody's input, timbre's own faults, keep their traceback.
    """
    return _command(run, "interrupted")


def restartable_command(run: Program) -> Main:
    """Make a command, as :func:`command` does, that continues where it was when it runs again."""
    return _command(run, "interrupted; run the same command again to continue")


def _command(run: Program, message: str) -> Main:
    @wraps(run)
    def main(argv: Sequence[str] | None = None) -> int:
        try:
            run(argv)
        except ConfigError as error:
            return print_error(error, USAGE)
        except PrintedError as error:
            return USAGE if isinstance(error.__cause__, ConfigError) else FAILED
        except (TimbreError, OSError) as error:
            return print_error(error, FAILED)
        except KeyboardInterrupt:
            return print_error(message, FAILED)
        return OK

    return main


def start(module: str, argv: Sequence[str] | None = None) -> int:
    """Import a command's module, run its ``main`` and return the exit code.

    Every command begins here: threads must be settled before torch loads, and where it does not
    load, one paragraph says so.
    """
    settle_threads()
    try:
        check_torch()
    except ConfigError as error:
        return print_error(error, USAGE) if is_first_of_node() else USAGE
    main: Main = import_module(module).main
    return main(argv)


def config_parser(program: str, description: str, example: str) -> argparse.ArgumentParser:
    """Return the parser of a command that takes ``CONFIG [section.key=value ...]``."""
    parser = argparse.ArgumentParser(
        f"timbre {program}",
        description=description,
        epilog=f"Every key with its default and meaning: {example}",
    )
    parser.add_argument("config", metavar="CONFIG", help="a YAML file")
    parser.add_argument(
        "overrides",
        metavar="section.key=value",
        nargs="*",
        default=[],
        help="replaces what CONFIG says",
    )
    return parser


def at_least(least: int) -> Callable[[str], int]:
    """Return the argparse type of whole numbers from ``least`` (0 or more) on."""

    def parse(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(
                f"{text!r}: expected a whole number of at least {least}"
            )
        return int(text)

    return parse


def table(rows: Sequence[Sequence[str]], text_columns: int) -> str:
    """Return rows as lines in aligned columns; the first row is the head, over a rule.

    Args:
        rows: the cells, as many in each row.
        text_columns: so many columns from the left hold words and are aligned to the left; the
            others hold numbers and are aligned to the right.
    """
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if i < text_columns else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])


def print_result(message: str) -> None:
    """Print a line of a command's result."""
    print(printable_lines(message))  # noqa: T201 - results go to standard output


def print_warning(message: object) -> None:
    """Print what a user should know though the work went on."""
    print_note(f"timbre: warning: {_text(message)}")


def print_error(error: object, code: int) -> int:
    """Print what went wrong as every command does; return the exit code."""
    print_note(f"timbre: error: {_text(error)}")
    return code


def print_note(message: str) -> None:
    """Print a line that is no result."""
    print(printable_lines(message), file=sys.stderr)  # noqa: T201 - errors go to standard error


def _text(message: object) -> str:
    """Return a message on one line; only our own errors may have several."""
    return str(message) if isinstance(message, TimbreError) else printable(str(message))
