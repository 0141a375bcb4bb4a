"""What all generators share: their sizes, and checks of their input and of what looks ahead."""

from typing import Literal

from torch import Tensor

from timbre.audio import HOP

Size = Literal["tiny", "small", "base"]


def check_causal(latency_samples: int) -> None:
    """Raise ValueError if a generator with this latency looks ahead, and so cannot go hop by hop."""
    # A causal one waits for the two hops of a frame at most.
    if latency_samples >= 2 * HOP:
        raise ValueError("this generator looks ahead; expected one built with causal true")


def check_noisy(degraded: Tensor, noisy: Tensor | None, takes_noisy: bool) -> None:
    """Raise ValueError if a noisy input is given that cannot be used.

    Args:
        degraded: ``(batch, 1, samples)``.
        noisy: what must have the same shape, or None.
        takes_noisy: whether the generator was built with ``noisy_input``.
    """
    if noisy is None:
        return
    if not takes_noisy:
        raise ValueError(
            "this generator was built with noisy_input false and takes no noisy input; "
            "expected noisy=None, or a generator with noisy_input true"
        )
    if noisy.shape != degraded.shape:
        raise ValueError(
            f"noisy of shape {tuple(noisy.shape)}: expected that of degraded, {tuple(degraded.shape)}"
        )
