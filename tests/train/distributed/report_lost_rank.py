"""One of two ranks does not answer, and ends when the other has printed its error."""

import sys
from datetime import timedelta

from torch.distributed.rendezvous import rendezvous

from timbre.command import print_result
from timbre.errors import LostRankError
from timbre.train.ranks import RanksConfig, naming_lost_ranks, open_accelerator


def main(timeout_seconds: float) -> None:
    # However long they take to start, they begin together.
    store, rank, _ = next(rendezvous("env://", timeout=timedelta(seconds=240)))
    store.set(f"here{rank}", "")
    store.wait(["here0", "here1"])
    config = RanksConfig(timeout_seconds=timeout_seconds)
    accelerator = open_accelerator(config)
    if rank == 1:
        store.wait(["told"])
        return
    try:
        with naming_lost_ranks(config):
            accelerator.wait_for_everyone()
    except LostRankError as error:
        print_result(str(error))
    store.set("told", "")


if __name__ == "__main__":
    main(float(sys.argv[1]))
