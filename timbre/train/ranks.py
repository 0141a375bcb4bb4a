"""How several ranks talk to each other, and what is said when one of them does not answer."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Literal

from accelerate import Accelerator
from accelerate.utils import (
    DDPCommunicationHookType,
    DistributedDataParallelKwargs,
    InitProcessGroupKwargs,
)
from pydantic.dataclasses import dataclass
from torch.distributed import DistError

from timbre.config import STRICT, Positive
from timbre.errors import LostRankError

HOOKS = {
    "fp32": DDPCommunicationHookType.NO,
    "bf16": DDPCommunicationHookType.BF16,
    "fp16": DDPCommunicationHookType.FP16,
}
# Gloo raises plain RuntimeErrors; each names the place in its source.
GLOO = "gloo/"
PLACE = re.compile(r"^\[[^]]*\] ")


@dataclass(config=STRICT)
class RanksConfig:
    """How ranks talk; one alone needs none of it."""

    # A rank that has not answered for so long is lost, and all others end.
    timeout_seconds: Positive = 600.0
    # What gradients travel as: 16 bits halve the traffic. Weights and moments stay fp32.
    gradients: Literal["fp32", "bf16", "fp16"] = "fp32"


def open_accelerator(config: RanksConfig) -> Accelerator:
    """Return what places the ranks; precision is gan.py's, whatever the launcher's environment says."""
    return Accelerator(
        mixed_precision="no",
        kwargs_handlers=[
            InitProcessGroupKwargs(timeout=timedelta(seconds=config.timeout_seconds)),
            # All buffers are constants, which each rank makes itself.
            DistributedDataParallelKwargs(
                broadcast_buffers=False, comm_hook=HOOKS[config.gradients]
            ),
        ],
    )


@contextmanager
def naming_lost_ranks(config: RanksConfig) -> Iterator[None]:
    """Let the body's errors of talking to other ranks say what they mean.

    Raises:
        LostRankError: in place of such an error.
    """
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, DistError) and GLOO not in str(error):
            raise
        reason = PLACE.sub("", str(error).partition("\n")[0])
        raise LostRankError(
            f"another rank has gone, or has not answered for {config.timeout_seconds:g} s "
            f"(ranks.timeout_seconds): {reason}; the log of the one that is to blame, or its host, tells "
            "more. The last checkpoint is whole, and the same command goes on from it, at another "
            "number of ranks, too"
        ) from error
