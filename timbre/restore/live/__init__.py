"""A signal restored while it comes in, a hop at a time."""

from timbre.restore.live.restorer import Mix, StreamingRestorer

__all__ = ["Mix", "StreamingRestorer"]
