"""What both generators demand of their second input, the denoiser's own input."""

from torch import Tensor


def check_noisy(degraded: Tensor, noisy: Tensor | None, taken: bool) -> None:
    """Raise ValueError if a noisy input is given that cannot be used.

    Args:
        degraded: ``(batch, 1, samples)``.
        noisy: what must have the same shape, or None.
        taken: whether the generator was built with ``noisy_input``.
    """
    if noisy is None:
        return
    if not taken:
        raise ValueError(
            "this generator was built with noisy_input false and takes no noisy input; "
            "expected noisy=None, or a generator with noisy_input true"
        )
    if noisy.shape != degraded.shape:
        raise ValueError(
            f"noisy of shape {tuple(noisy.shape)}: expected that of degraded, {tuple(degraded.shape)}"
        )
