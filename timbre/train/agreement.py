"""Ranks that stop together: what fails on one is told to all, so that none waits for it forever."""

from accelerate import Accelerator
from accelerate.utils import gather_object

from timbre.errors import ShardError, WorkError


def raise_together(failure: Exception | None, accelerator: Accelerator) -> None:
    """Return if no rank has failed; a collective: every rank must call it.

    Args:
        failure: what this rank caught, or None.
        accelerator: places the ranks.

    Raises:
        ShardError: on every rank, the same one: data could not be read (OSError or ShardError).
        Exception: the failure itself, where it is of another kind.
        WorkError: on the ranks that did not fail, in that case.
    """
    mine = None
    if failure is not None:
        mine = (isinstance(failure, OSError | ShardError), _told(failure, accelerator))
    failures = [told for told in gather_object([mine]) if told is not None]
    if not failures:
        return
    of_data, message = failures[0]
    if of_data:
        raise ShardError(message) from failure
    raise failure or WorkError(message)


def _told(failure: Exception, accelerator: Accelerator) -> str:
    if isinstance(failure, OSError | ShardError):
        return str(failure)
    return f"rank {accelerator.process_index} failed: {type(failure).__name__}: {failure}"
