"""Full float32 arithmetic for a stretch of code, whatever the process has allowed elsewhere."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


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
