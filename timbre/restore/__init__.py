"""Noisy sound in, repaired sound out: arrays, files, folders and live signals."""

from timbre.restore.restorer import Restorer

__all__ = ["Restorer"]
