"""A pair that cannot be read."""

import errno
from typing import NamedTuple

from timbre.storage import StoreError
from timbre.storage import errors as store_errors


class BadPair(NamedTuple):
    """A pair that cannot be read: its shard, its key (or its number, if no index tells), and why."""

    shard: str
    key: str
    reason: str

    @staticmethod
    def of(shard: str, key: str, error: Exception) -> "BadPair":
        """Return the pair that an error is about, which need not name the shard again.

        Raises:
            StoreError: not the pair is to blame, but this machine has no more files or memory.
        """
        if isinstance(error, OSError) and _is_exhaustion(error):
            raise StoreError(f"{shard}: {store_errors.reason(error)}") from error
        reason = store_errors.reason(error) if isinstance(error, OSError) else str(error)
        return BadPair(shard, key, reason.removeprefix(f"{shard}: ").removeprefix(f"{key}."))

    def __str__(self) -> str:
        """Return it as a line of a log."""
        return f"{self.shard}, {self.key}: {self.reason}"


def _is_exhaustion(error: OSError) -> bool:
    cause = error.__cause__
    number = cause.errno if isinstance(cause, OSError) else error.errno
    return number in (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
