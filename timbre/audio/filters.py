"""What augmentation does to sound, each as a gain over frequency, or over time and frequency.

A gain of exactly 1 changes no bit: only the difference from 1 goes through a transform and is added
to the waveform. All of it is float32, in batch, and reads no value back from the device.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from timbre.audio.spectra import sine_window
from timbre.audio.waveform import HOP, SAMPLE_RATE

# The low-pass falls over this width. Its ringing, and a tilt's, has died down within the padding.
TRANSITION_HZ = 400.0
PADDING = 960
# Transforms are a multiple of this long, so that their factors are small.
BLOCK = 1024

# A tilt turns about the pivot and levels out below the flat end, which bounds its gain.
TILT_PIVOT_HZ = 1000.0
TILT_FLAT_HZ = 100.0
DB_PER_DOUBLING = 6.0206

# The edges of a hole, beyond its plateau.
HOLE_RAMP_SECONDS = 0.02
HOLE_RAMP_OCTAVES = 1 / 6


def frequencies_hz(waves: Tensor) -> Tensor:
    """Return the ``(bins,)`` frequencies at which a response to ``(…, samples)`` is given."""
    bins = _transform_length(waves) // 2 + 1
    return torch.linspace(0, SAMPLE_RATE / 2, bins, device=waves.device)


def apply_response(waves: Tensor, response: Tensor) -> Tensor:
    """Return ``(batch, side, samples)`` filtered without delay by ``(batch, bins)`` gains.

    Only the waves get a gradient.
    """
    filtered: Tensor = _Filter.apply(waves, response)
    return filtered


class _Filter(torch.autograd.Function):
    """A filter whose gradient is filtered likewise: without delay it is its own adjoint."""

    @staticmethod
    def forward(context: Any, waves: Tensor, response: Tensor) -> Tensor:
        context.save_for_backward(response)
        return _filtered(waves, response)

    @staticmethod
    @once_differentiable
    def backward(context: Any, of_filtered: Tensor) -> tuple[Tensor, None]:
        return _filtered(of_filtered, *context.saved_tensors), None


def _filtered(waves: Tensor, response: Tensor) -> Tensor:
    length = _transform_length(waves)
    spectra = torch.fft.rfft(waves, length) * (response - 1)[:, None]
    change: Tensor = torch.fft.irfft(spectra, length)
    return waves + change[..., : waves.shape[-1]]


def low_pass(waves: Tensor, cut_hz: Tensor) -> Tensor:
    """Return ``(batch, side, samples)`` without what lies above each pair's cut-off ``(batch,)``."""
    return apply_response(waves, low_pass_response(frequencies_hz(waves), cut_hz))


def low_pass_response(frequency: Tensor, cut_hz: Tensor) -> Tensor:
    """Return gains ``(batch, bins)``: 1 up to the transition below ``cut_hz``, 0 from there on.

    A cut-off at half the rate is none.
    """
    response = _fall((frequency - cut_hz[:, None]) / TRANSITION_HZ + 1)
    whole = (cut_hz >= SAMPLE_RATE / 2)[:, None]
    return torch.where(whole, torch.ones_like(response), response)


def tilt_response(frequency: Tensor, slope_db: Tensor) -> Tensor:
    """Return gains ``(batch, bins)`` that rise by ``slope_db`` ``(batch,)`` an octave, 1 at 1 kHz.

    The corner at the flat end is round, so the response in time falls off as ``exp(-2π 100 Hz t)``.
    """
    power = (frequency.square() + TILT_FLAT_HZ**2) / (TILT_PIVOT_HZ**2 + TILT_FLAT_HZ**2)
    return power ** (slope_db[:, None] / (2 * DB_PER_DOUBLING))


def analyse(waves: Tensor) -> Tensor:
    """Return spectra ``(batch, frames, bins)`` of ``(batch, samples)``, complex.

    The frames are DeepFilterNet3's own, in which it takes away and leaves: 20 ms every 10 ms. Sine windows, as in :class:`timbre.audio.spectra.FramedFourier`, but by FFT: TF32 does not round it,
    and unlike ``torch.istft`` the way back asks the device for no value.
    """
    padded = F.pad(waves, (HOP, HOP + -waves.shape[-1] % HOP))
    frames = padded.unfold(-1, 2 * HOP, HOP)
    spectra: Tensor = torch.fft.rfft(frames * _window(waves.device))
    return spectra


def synthesise(spectra: Tensor, samples: int) -> Tensor:
    """Return the waveforms ``(batch, samples)`` of which these are the spectra."""
    frames: Tensor = torch.fft.irfft(spectra, 2 * HOP) * _window(spectra.device)
    first, second = frames.chunk(2, dim=-1)
    return (second[:, :-1] + first[:, 1:]).flatten(1)[:, :samples]


def residual_gain(degraded: Tensor, clean: Tensor, factor: Tensor) -> Tensor:
    """Return the gains ``(batch, frames, bins)`` that scale what degraded holds beyond clean.

    A bin of degraded is its own direction times a magnitude; of that, as much as clean has is taken
    for voice, and the rest for residual noise, which is scaled by ``factor`` ``(batch,)``. Where
    degraded has less than clean, the gain is exactly 1: what is missing stays missing. Wrong phase
    at the right magnitude adds no energy and is left alone.

    Args:
        degraded: spectra ``(batch, frames, bins)``.
        clean: likewise.
        factor: what becomes of the residual's amplitude.
    """
    voice = clean.abs() / degraded.abs().clamp(min=torch.finfo(torch.float32).tiny)
    return 1 + (factor[:, None, None] - 1) * (1 - voice.clamp(max=1))


def hole_gain(holes: Tensor, frames: int, samples: int) -> Tensor:
    """Return gains ``(batch, frames, bins)`` with blocks taken down, as a starved codec does.

    Depths of overlapping holes add up.

    Args:
        holes: ``(batch, holes, 5)``: depth in dB, where the middle is from 0 at the start to 1 at
            the end, length in seconds, middle in Hz, width in octaves. Ramps lie outside of these.
        frames: of :func:`analyse`.
        samples: of the waveform.
    """
    depth_db, middle, seconds, middle_hz, octaves = holes[..., None].unbind(-2)
    # Frame t is centred on the first sample of block t.
    time = torch.arange(frames, device=holes.device) * (HOP / SAMPLE_RATE)
    away = (time - middle * (samples / SAMPLE_RATE)).abs()
    in_time = _fall((away - seconds / 2) / HOLE_RAMP_SECONDS)
    frequency = torch.linspace(0, SAMPLE_RATE / 2, HOP + 1, device=holes.device).clamp(min=1)
    away = torch.log2(frequency / middle_hz).abs()
    in_frequency = _fall((away - octaves / 2) / HOLE_RAMP_OCTAVES)
    depths_db = (depth_db * in_time).transpose(1, 2) @ in_frequency
    return 10 ** (-depths_db / 20)


def _fall(into: Tensor) -> Tensor:
    """Return half a cosine: 1 up to 0, 0 from 1 on."""
    return 0.5 + 0.5 * torch.cos(torch.pi * into.clamp(0, 1))


def _window(device: torch.device) -> Tensor:
    # In float32, as these spectra are: the loss curves of before depend on its bits.
    return sine_window(HOP, torch.float32, device)


def _transform_length(waves: Tensor) -> int:
    samples = waves.shape[-1] + PADDING
    return samples + -samples % BLOCK
