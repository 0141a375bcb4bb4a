"""Every rank fails at the same moment, each in words of its own."""

import sys
from collections.abc import Sequence

import torch.distributed as dist

from timbre.command import command
from timbre.train.ranks import printed_once


@command
def main(argv: Sequence[str] | None = None) -> None:
    with printed_once():
        dist.init_process_group("gloo")
        dist.barrier()
        raise RuntimeError(f"lost the peer of rank {dist.get_rank()}")


if __name__ == "__main__":
    sys.exit(main())
