"""Errors that tell the user what to change; the command line prints them without a traceback."""


class TimbreError(Exception):
    """Something given to timbre cannot be used; the message names it and what was expected."""


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


class LostRankError(WorkError):
    """Work that could not go on, for another rank was not there any more."""


class ToldError(TimbreError):
    """Work that failed on several ranks together; the main one has told why."""
