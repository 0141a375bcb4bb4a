"""Of what several ranks have to say, one copy on the console."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import NamedTuple

from torch.distributed import is_torchelastic_launched
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from timbre.command import say_aside
from timbre.errors import LostRankError, TimbreError, ToldError

# A store that does not answer must not keep an error from being told.
PATIENCE = timedelta(seconds=10)
# Any fault of timbre's own: of many the first is the cause, and the others are what came of it.
FAULT = "fault"


class Turn(NamedTuple):
    """Whether a rank is the first to say something, and which rank it is."""

    first: bool
    rank: int


@contextmanager
def told_once() -> Iterator[None]:
    """Let an error of the body be told by the first rank that has it.

    Ranks are asked over the launcher's own store, so it works before they have found each other, too,
    and none waits for another.

    Raises:
        ToldError: in place of an error that another rank has told. Of a fault of timbre's own, whose
            words differ from rank to rank, one line remains; of a lost rank, that came of it, none.
    """
    try:
        yield
    except ToldError:
        raise
    except LostRankError as error:
        if not turn(FAULT).first:
            raise ToldError(str(error)) from error
        raise
    except (TimbreError, OSError) as error:
        turn(FAULT)  # if others end by it, that need not be told
        if not turn(str(error)).first:
            raise ToldError(str(error)) from error
        raise
    except Exception as error:
        first, rank = turn(FAULT)
        if first:
            raise
        words = f"{type(error).__name__}: {error}".splitlines()[0]
        say_aside(f"timbre: error: rank {rank}, after another: {words}; its log may tell more")
        raise ToldError(words) from error


def turn(words: str) -> Turn:
    """Return whether no rank has had these words before; yes where there is nobody to ask."""
    if not is_torchelastic_launched():
        return Turn(True, 0)
    try:
        store, rank, _ = next(rendezvous("env://", timeout=PATIENCE))
        return Turn(PrefixStore("timbre.told_once", store).add(words, 1) == 1, rank)
    except (RuntimeError, ValueError):  # the launcher is gone
        return Turn(True, 0)
