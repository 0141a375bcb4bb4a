"""Errors that tell the user what to change; the command line prints them without a traceback."""

from timbre.plain_text import printable


class TimbreError(Exception):
    """Something given to timbre cannot be used; the message names it and what was expected.

    Each argument is a line of the message. A line end within one, which may come with a name that is
    not ours, is written out, like all control characters; what may be secret in a URL is left out.
    """

    def __str__(self) -> str:
        """Return the message."""
        return "\n".join(printable(str(line)) for line in self.args)


class ConfigError(TimbreError):
    """A configuration or command line that cannot be used; the message names every bad key."""


class AudioError(TimbreError):
    """A file that holds no usable audio."""


class ShardError(TimbreError):
    """A shard, index or manifest that breaks the contract."""


class CheckpointError(TimbreError):
    """A file that is not the checkpoint or the weights that were expected."""


class WorkError(TimbreError):
    """Work that could not be finished; what was done is kept, and running again continues."""


class MissingPackageError(TimbreError):
    """An optional package that is not installed; the message says how to install it."""


class LostRankError(WorkError):
    """Work that could not go on, for another rank was not there any more."""


class LostWorkerError(WorkError):
    """Work that could not go on, for a reading process was killed, or does not answer any more."""


class PrintedError(TimbreError):
    """Work that failed on several ranks together; the main one has told why."""
