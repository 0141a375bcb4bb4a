"""How ranks talk to each other, fail together, and print a message once."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Literal, NamedTuple

import torch
from accelerate import Accelerator
from accelerate.utils import (
    DDPCommunicationHookType,
    DistributedDataParallelKwargs,
    InitProcessGroupKwargs,
    gather_object,
    parse_choice_from_env,
)
from pydantic.dataclasses import dataclass
from torch import Tensor
from torch.distributed import DistError, is_torchelastic_launched
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from timbre.command import print_note
from timbre.config import STRICT, Positive
from timbre.errors import ConfigError, LostRankError, PrintedError, TimbreError, WorkError

HOOKS = {
    "fp32": DDPCommunicationHookType.NO,
    "bf16": DDPCommunicationHookType.BF16,
    "fp16": DDPCommunicationHookType.FP16,
}
# How often several ranks ask each other whether one was told to stop.
LOOK_SECONDS = 5.0
# What Accelerate makes of the launcher's answers that training can be spread over.
PLACEMENTS = ("NO", "MULTI_GPU", "MULTI_CPU", "MULTI_XPU")
# Gloo raises plain RuntimeErrors; each names the place in its source.
GLOO = "gloo/"
PLACE = re.compile(r"^\[[^]]*\] ")
# A store that does not answer must not keep an error from being printed.
PATIENCE = timedelta(seconds=10)
# Any fault of timbre's own: of many the first is the cause, and the others are what came of it.
FAULT = "fault"


@dataclass(config=STRICT)
class RanksConfig:
    """How ranks talk; one alone needs none of it."""

    # A rank that has not answered for so long is lost, and all others end.
    timeout_seconds: Positive = 600.0
    # What gradients travel as: 16 bits halve the traffic. Weights and moments stay fp32.
    gradients: Literal["fp32", "bf16", "fp16"] = "fp32"


class Turn(NamedTuple):
    """Whether a rank is the first to say something, and which rank it is."""

    first: bool
    rank: int


class Looks:
    """Asks all ranks every few seconds whether one is to stop, at the same step on all of them.

    Each asking is a sync point. Launchers wait for some 30 seconds before they kill.
    """

    def __init__(self, accelerator: Accelerator, step: int) -> None:
        self._accelerator = accelerator
        self._next = self._last = step
        self._looked_at = time.monotonic()

    def any(self, wish: bool, step: int) -> bool:
        """Return whether any rank wishes to stop, the same on all; one alone is always asked."""
        if self._accelerator.num_processes == 1:
            return wish
        if step < self._next:
            return False
        now = time.monotonic()
        seconds = (now - self._looked_at) / max(step - self._last, 1)
        mine = torch.tensor([[float(wish), seconds]], device=self._accelerator.device)
        rows = self._accelerator.gather(mine)
        # The slowest rank says when all ask again.
        slowest = max(float(rows[:, 1].max()), 1e-6)
        self._looked_at, self._last = now, step
        self._next = step + max(int(LOOK_SECONDS / slowest), 1)
        return bool(rows[:, 0].any())


def open_accelerator(config: RanksConfig) -> Accelerator:
    """Return what places the ranks; it leaves precision, compiling and accumulation to the config.

    Raises:
        ConfigError: the launcher asks for a way of sharing that training does not have.
    """
    accelerator = Accelerator(
        mixed_precision="no",
        dynamo_backend="no",
        # Without it, ranks on a machine without a GPU would each take themselves for the only one.
        cpu=not torch.accelerator.is_available(),
        kwargs_handlers=[
            InitProcessGroupKwargs(timeout=timedelta(seconds=config.timeout_seconds)),
            # All buffers are constants, which each rank makes itself.
            DistributedDataParallelKwargs(
                broadcast_buffers=False, comm_hook=HOOKS[config.gradients]
            ),
        ],
    )
    if accelerator.distributed_type not in PLACEMENTS:
        raise ConfigError(
            f"the launcher's configuration: distributed_type {accelerator.distributed_type}: expected "
            f"one of {', '.join(PLACEMENTS)}; answer no to DeepSpeed, FSDP and the like"
        )
    return accelerator


def ignored_answers(accelerator: Accelerator) -> list[str]:
    """Return a line for each answer of the launcher's that training does not follow."""
    accumulation = accelerator.gradient_accumulation_steps
    precision = parse_choice_from_env("ACCELERATE_MIXED_PRECISION", "no")
    dynamo = parse_choice_from_env("ACCELERATE_DYNAMO_BACKEND", "no")
    lines = []
    if accumulation != 1:
        lines.append(
            f"gradient accumulation over {accumulation} steps; global_batch says how many pairs a "
            "step takes"
        )
    if precision != "no":
        lines.append(f"mixed precision {precision}; the key precision says it")
    if dynamo.lower() != "no":
        lines.append(f"torch dynamo {dynamo}; the key compile says it")
    return [f"warning: the launcher asks for {line}, so this is ignored" for line in lines]


def any_rank(mine: bool | Tensor, accelerator: Accelerator) -> bool:
    """Return whether it is so on any rank, the same on all (a sync point)."""
    flag = torch.as_tensor(mine, dtype=torch.float32, device=accelerator.device)
    return float(accelerator.reduce(flag.clone(), "sum").item()) > 0


def refuse_split_start(accelerator: Accelerator, run_dir: str, step: int) -> None:
    """Raise ConfigError on every rank if some found a checkpoint that others did not."""
    steps = accelerator.gather(torch.tensor([step], device=accelerator.device)).tolist()
    if len(set(steps)) > 1:
        raise ConfigError(
            f"run_dir: {run_dir}: the ranks would start from steps {steps}; all of them must see the "
            "same folder"
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
            f"lost another rank: no answer for {config.timeout_seconds:g} s (ranks.timeout_seconds), or "
            f"it has gone: {reason}. Its log in RUN/logs, or its host, says why. The last checkpoint is "
            "whole. Run the same command again, with any number of ranks that divides global_batch"
        ) from error


@contextmanager
def failing_together(accelerator: Accelerator) -> Iterator[None]:
    """Raise an error of the body on every rank, so that none waits for another for ever.

    A collective at the end of the body: every rank must come there, so the body must not talk to
    other ranks itself.

    Raises:
        TimbreError, OSError: on every rank, that of the first rank that has one.
        Exception: the body's own error, if it is of another kind.
        WorkError: on the other ranks, in that case.
    """
    failure: Exception | None = None
    try:
        yield
    except Exception as error:  # whatever it is: the other ranks would wait for ever
        failure = error
    mine: Exception | None = failure
    if failure is not None and not isinstance(failure, TimbreError | OSError):
        words = f"{type(failure).__name__}: {failure}"
        mine = WorkError(f"rank {accelerator.process_index} failed: {words}")
    errors = [error for error in gather_object([mine]) if error is not None]
    if not errors:
        return
    if failure is not None and (mine is not failure or errors[0] is failure):
        raise failure
    raise errors[0] from failure


@contextmanager
def printed_once() -> Iterator[None]:
    """Print an error of the body once.

    The first rank that has it prints it, the others raise :class:`PrintedError`. The launcher's store
    says who is first, so no rank waits, and it works before the process group is up.

    Raises:
        PrintedError: in place of an error that another rank has printed. A fault of timbre's own has
            other words on each rank: one line is printed. A lost rank that came of it: nothing is.
    """
    try:
        yield
    except PrintedError:
        raise
    except LostRankError as error:
        if not turn(FAULT).first:
            raise PrintedError(str(error)) from error
        raise
    except (TimbreError, OSError) as error:
        turn(FAULT)  # if others end by it, that need not be printed
        if not turn(str(error)).first:
            raise PrintedError(str(error)) from error
        raise
    except Exception as error:
        first, rank = turn(FAULT)
        if first:
            raise
        words = f"{type(error).__name__}: {error}".splitlines()[0]
        print_note(f"timbre: error: rank {rank}, after another: {words}; its log may say more")
        raise PrintedError(words) from error


def turn(words: str) -> Turn:
    """Return whether no rank has had these words before; yes where there is nobody to ask."""
    if not is_torchelastic_launched():
        return Turn(True, 0)
    try:
        store, rank, _ = next(rendezvous("env://", timeout=PATIENCE))
        return Turn(PrefixStore("timbre.printed_once", store).add(words, 1) == 1, rank)
    except (RuntimeError, ValueError):  # the launcher is gone
        return Turn(True, 0)
