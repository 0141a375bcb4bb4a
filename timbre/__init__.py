"""Repair the timbre of speech that DeepFilterNet3 has denoised.

``from timbre import Restorer`` is all that a program needs for files, and ``LiveRestorer`` for a signal
that comes in while it is restored; see :mod:`timbre.restore`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from timbre.restore import Restorer
    from timbre.restore.live import LiveRestorer

__all__ = ["LiveRestorer", "Restorer"]


def __getattr__(name: str) -> Any:
    # Only when asked for: torch takes seconds, and `timbre --help` needs none of it.
    if name == "Restorer":
        from timbre.restore import Restorer

        return Restorer
    # Programs that were written for the first releases know it by its second name.
    if name in ("LiveRestorer", "StreamingRestorer"):
        from timbre.restore.live import LiveRestorer

        return LiveRestorer
    raise AttributeError(f"module 'timbre' has no attribute {name!r}")
