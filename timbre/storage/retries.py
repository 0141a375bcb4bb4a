"""A store that fails is asked again: how often, after which waits, and when no more.

By hand: fsspec's back ends retry by different rules and none sees a short body; one loop with one
deadline does.
"""

import random
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import NamedTuple, TypeVar

from timbre.storage import errors as store_errors
from timbre.storage.bounded import OpenRequests
from timbre.storage.errors import StoreError

T = TypeVar("T")

# A minute or more in all: a store that is away for that long does not end a job of days.
ATTEMPTS = 8
# Of these, which each took all the time that a request may take, so many are enough.
TIMEOUTS = 3
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.5, 30.0


class Patience(NamedTuple):
    """For how long a failing store is tried again, instead of ``ATTEMPTS`` times.

    ``pause`` waits so many seconds before each further try. What it raises ends the tries.
    ``requests`` are those that are open.
    """

    seconds: float
    pause: Callable[[float], None]
    requests: OpenRequests


def retry(
    url: str | Path,
    attempt: Callable[[float | None], T],
    remote: bool,
    patience: Patience | None = None,
) -> T:
    """Return ``attempt()``, tried again after jittered, doubling waits when a ``remote`` store fails.

    It gets the seconds that are left of ``patience``, and is to end by then; or None.

    Raises:
        StoreError: it kept failing.
        OSError: a disk failed, or a store in a way that will not pass.
        Exception: whatever else ``attempt`` raises.
    """
    start, timeouts = time.monotonic(), 0
    for number in count(1):
        seconds_left = max(start + patience.seconds - time.monotonic(), 1.0) if patience else None
        try:
            return attempt(seconds_left)
        except Exception as error:
            if not store_errors.is_failure(error, remote):
                raise
            if final := store_errors.permanent(url, error, remote):
                raise final from None
            if not remote:
                raise OSError(f"{url}: {store_errors.reason(error)}") from error
            backoff = FIRST_WAIT_SECONDS * 2 ** min(number - 1, ATTEMPTS)
            wait = min(backoff * random.uniform(1.0, 1.5), LONGEST_WAIT_SECONDS)
            seconds = time.monotonic() - start
            timeouts += isinstance(error, TimeoutError)
            if patience is None:
                over, during = number == ATTEMPTS or timeouts == TIMEOUTS, ""
            else:
                over, during = seconds + wait > patience.seconds, f" in {seconds:.0f} s"
            if over:
                reason = store_errors.reason(error)
                raise StoreError(f"{url}: {reason} (tried {number} times{during})") from error
        (patience.pause if patience else time.sleep)(wait)
    raise AssertionError("unreachable")
