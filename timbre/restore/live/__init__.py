"""A signal restored while it comes in, a hop at a time."""

from timbre.restore.live.restorer import LiveRestorer, Mix

__all__ = ["LiveRestorer", "Mix"]
