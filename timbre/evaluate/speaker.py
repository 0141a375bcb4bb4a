"""Whether it is still the same person: the likeness of two voices to a speaker encoder.

The encoder is that of the package ``Resemblyzer`` (a GE2E network of three LSTMs at 16 kHz). Only
its weights are taken from there: importing the package needs a voice detector's C extension and
parts of SciPy that are going away. Where the package cuts pauses by that detector, here the clean
side says where the voice is, for both sides alike.
"""

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchaudio.functional import melscale_fbanks, resample

from timbre import packages
from timbre.audio import SAMPLE_RATE, SPEECH_RANGE_DB

RATE = 16_000
N_FFT, MEL_HOP, BANDS = 400, 160, 40
HIDDEN = 256
# Stretches that are embedded, and how often one begins, in frames of 10 ms.
STRETCH, STEP = 160, 77
# The last stretch counts if so much of it is there.
LEAST_SHARE = 0.75
LEVEL_DB = -30.0
# Frames so near to one with a voice count, however quiet they are.
NEAR_FRAMES = 9
WEIGHTS = "pretrained.pt"


class SpeakerEncoder(nn.Module):
    """Resemblyzer's ``VoiceEncoder``."""

    filters: Tensor
    window: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(BANDS, HIDDEN, 3, batch_first=True)
        self.linear = nn.Linear(HIDDEN, HIDDEN)
        filters = melscale_fbanks(
            N_FFT // 2 + 1, 0.0, RATE / 2, BANDS, RATE, norm="slaney", mel_scale="slaney"
        )
        self.register_buffer("filters", filters, persistent=False)
        self.register_buffer("window", torch.hann_window(N_FFT), persistent=False)

    def forward(self, mels: Tensor) -> Tensor:
        """Return unit vectors ``(batch, 256)`` of mel spectra ``(batch, frames, 40)``."""
        _, (hidden, _) = self.lstm(mels)
        return F.normalize(F.relu(self.linear(hidden[-1])), dim=1)

    def mel(self, wave: Tensor) -> Tensor:
        """Return mel powers ``(samples // 160 + 1, 40)`` of ``(samples,)`` at 16 kHz."""
        spectrum = torch.stft(
            wave, N_FFT, MEL_HOP, window=self.window, pad_mode="constant", return_complex=True
        )
        power: Tensor = spectrum.abs().square().T @ self.filters
        return power

    def embed(self, wave: Tensor) -> Tensor:
        """Return the voice of ``(samples,)`` at 16 kHz: the mean over its stretches, ``(256,)``."""
        starts = _starts(len(wave))
        shortfall = (starts[-1] + STRETCH) * MEL_HOP - len(wave)
        mel = self.mel(F.pad(wave, (0, max(shortfall, 0))))
        stretches = torch.stack([mel[start : start + STRETCH] for start in starts])
        return F.normalize(self(stretches).mean(dim=0), dim=0)


@torch.inference_mode()
def similarity(estimate: Tensor, reference: Tensor) -> float:
    """Return how alike the voices of ``(samples,)`` at 48 kHz are, 0 to 1; NaN if one is silent.

    Different speakers are at 0.5 to 0.7, one speaker's recordings at 0.8 to 0.95.

    Raises:
        MissingPackageError: ``Resemblyzer`` is not installed.
    """
    encoder = _encoder(_weights())
    if not all(side.any() and side.isfinite().all() for side in (estimate, reference)):
        return np.nan
    sides = [resample(x.float().cpu(), SAMPLE_RATE, RATE) for x in (estimate, reference)]
    is_voice = voice_mask(sides[1])
    first, second = (encoder.embed(_to_level(side[is_voice])) for side in sides)
    return float(first @ second)


def voice_mask(wave: Tensor) -> Tensor:
    """Return which samples of ``(samples,)`` at 16 kHz lie in or near a voice: bool ``(samples,)``."""
    frames = F.pad(wave, (0, -len(wave) % MEL_HOP)).reshape(-1, MEL_HOP)
    power = frames.double().square().mean(dim=1)
    active = power > power.max() * 10 ** (-SPEECH_RANGE_DB / 10)
    near = F.max_pool1d(active[None, None].float(), 2 * NEAR_FRAMES + 1, 1, NEAR_FRAMES)
    return near[0, 0].bool().repeat_interleave(MEL_HOP)[: len(wave)]


def _to_level(wave: Tensor) -> Tensor:
    level = wave.double().square().mean().sqrt().clamp(min=1e-9)
    return wave * (10 ** (LEVEL_DB / 20) / level).float()


def _starts(samples: int) -> list[int]:
    """Return the frames at which stretches begin."""
    frames = -(-(samples + 1) // MEL_HOP)
    starts = list(range(0, max(1, frames - STRETCH + STEP + 1), STEP))
    share = (samples - starts[-1] * MEL_HOP) / (STRETCH * MEL_HOP)
    return starts[:-1] if share < LEAST_SHARE and len(starts) > 1 else starts


def _weights() -> Path:
    packages.require("resemblyzer", "speaker similarity")
    package = find_spec("resemblyzer")
    assert package is not None and package.submodule_search_locations
    return Path(package.submodule_search_locations[0]) / WEIGHTS


@lru_cache(maxsize=1)
def _encoder(weights: Path) -> SpeakerEncoder:
    encoder = SpeakerEncoder()
    state = torch.load(weights, map_location="cpu", weights_only=True)["model_state"]
    # The rest belongs to the loss that it was trained with.
    encoder.load_state_dict(
        {name: value for name, value in state.items() if name.startswith(("lstm.", "linear."))}
    )
    return encoder.eval()
