"""Serve a page on which files are restored, and compared by ear; it needs gradio."""

import argparse
import sys
from collections.abc import Sequence

from timbre.command import at_least, command, print_result
from timbre.models import NAMES_OF_OURS
from timbre.ui.page import build
from timbre.ui.work import Limits

HOST, PORT = "127.0.0.1", 7860


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    limits = Limits()
    parser = argparse.ArgumentParser("timbre ui", description=__doc__)
    parser.add_argument(
        "--checkpoint",
        metavar="FILE",
        action="append",
        default=[],
        help="one more that can be chosen, before offline and causal; may be repeated",
    )
    parser.add_argument(
        "--host",
        default=HOST,
        help="the address to listen at (%(default)s, this machine alone); 0.0.0.0 serves all who reach "
        "the machine, and asks nobody who they are",
    )
    parser.add_argument("--port", type=at_least(1), default=PORT, help="its port (%(default)s)")
    parser.add_argument(
        "--max-megabytes",
        type=at_least(1),
        default=limits.megabytes,
        metavar="N",
        help="of an upload (%(default)s)",
    )
    parser.add_argument(
        "--max-minutes",
        type=at_least(1),
        default=limits.minutes,
        metavar="N",
        help="of an upload (%(default)s)",
    )
    return parser.parse_args(argv)


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Serve the page until it is interrupted."""
    options = _parse(argv)
    limits = Limits(options.max_megabytes, options.max_minutes)
    page = build(limits, (*options.checkpoint, *NAMES_OF_OURS))
    print_result(f"http://{options.host}:{options.port} (Ctrl-C ends it)")
    page.launch(
        server_name=options.host,
        server_port=options.port,
        share=False,
        quiet=True,
        max_file_size=options.max_megabytes * 1_000_000,
    )


if __name__ == "__main__":
    sys.exit(main())
