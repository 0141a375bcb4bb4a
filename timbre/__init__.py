"""Repair the timbre of speech that DeepFilterNet3 has denoised.

``from timbre import Restorer`` is all that a program needs; see :class:`timbre.restore.Restorer`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from timbre.restore import Restorer

__all__ = ["Restorer"]


def __getattr__(name: str) -> Any:
    # Only when asked for: torch takes seconds, and `timbre --help` needs none of it.
    if name == "Restorer":
        from timbre.restore import Restorer

        return Restorer
    raise AttributeError(f"module 'timbre' has no attribute {name!r}")
