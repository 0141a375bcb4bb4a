"""Torch on one thread or in exact float32 for a while; and on which device."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from timbre.errors import ConfigError


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread meanwhile: another number adds in another sequence, to other bits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def exact_float32() -> Iterator[None]:
    """Forbid TF32 (and bfloat16 on CPU) in products and convolutions, then restore the settings.

    Training turns TF32 on, and cuDNN's convolutions use it unless told not to. The settings are
    global to the process: another thread that computes meanwhile gets exact float32 too.
    """
    backends = torch.backends
    settings = [
        backends.cuda.matmul,
        backends.cudnn.conv,  # type: ignore[attr-defined]
        backends.cudnn.rnn,
        backends.mkldnn.matmul,  # type: ignore[attr-defined]
        backends.mkldnn.conv,  # type: ignore[attr-defined]
        backends.mkldnn.rnn,  # type: ignore[attr-defined]
    ]
    before = [setting.fp32_precision for setting in settings]
    try:
        for setting in settings:
            setting.fp32_precision = "ieee"
        yield
    finally:
        for setting, precision in zip(settings, before, strict=True):
            setting.fp32_precision = precision


def usable_device(name: str | None) -> torch.device:
    """Return the device of a name, or the GPU if there is one and else the CPU.

    Args:
        name: as torch names it: cpu, cuda, cuda:1; None for the usual one.

    Raises:
        ConfigError: torch cannot compute there.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        (torch.ones(1, device=device) + 1).cpu()
    except (RuntimeError, AssertionError, ImportError):  # whatever a back end that lacks raises
        gpus = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
        devices = ", ".join(["cpu", *gpus])
        raise ConfigError(
            f"device {name}: torch cannot compute there; expected one of {devices}"
        ) from None
    return device
