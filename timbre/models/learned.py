"""Behind which denoisers a generator has learned, and behind which it runs."""

from collections.abc import Sequence

from timbre.denoiser_names import DF3, NONE, OFFICIAL, kind_of


def strangeness(url: str, denoisers: Sequence[str], name: str) -> str | None:
    """Return one line for a denoiser that a generator has not learned behind; None where it has.

    Args:
        url: of the checkpoint.
        denoisers: that it has learned behind; none where the data did not say.
        name: of the denoiser that it runs behind; ``none``: the input is denoised already.
    """
    names = {_network(known) for known in denoisers}
    if not names or name == NONE or _network(name) in names:
        return None
    return (
        f"{url} has learned behind {', '.join(denoisers)}, not behind {kind_of(name)}: it may repair "
        f"little there, or do harm; expected --denoiser {denoisers[0]}, or a checkpoint that was "
        f"trained on shards of {kind_of(name)}"
    )


def _network(name: str) -> str:
    """Return the name under which two names of one network are the same."""
    return DF3 if name == OFFICIAL else kind_of(name)
