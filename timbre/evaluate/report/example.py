"""A pair to look at and listen to: spectrograms as small PNG files, sound as FLAC."""

import struct
import zlib
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from timbre import audio
from timbre.audio import SAMPLE_RATE, Wave
from timbre.audio.spectra import Stft, bin_power
from timbre.pages import data_uri

# Six pairs of six waveforms of this length take some 20 MB.
SHOWN_SECONDS = 5
SEARCH_SECONDS = 0.5
# From black over purple and orange to white.
COLOURS = ((0, 0, 0), (60, 15, 110), (180, 50, 90), (250, 150, 40), (255, 255, 220))
LEVELS = 128
RANGE_DB = 90.0
N_FFT, HOP = 1024, 480
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_INDEXED = 3  # colour type: a byte a pixel, its number in the palette


class Example(NamedTuple):
    """A pair's waveforms ``(samples,)`` by name, the clean one last, and what is known of it."""

    title: str
    labels: str
    waves: Mapping[str, Wave]


class Side(NamedTuple):
    """One waveform as the page holds it: picture and sound as data URIs."""

    name: str
    image: str
    sound: str


class View(NamedTuple):
    """An example as the page shows it."""

    title: str
    labels: str
    seconds: float
    sides: list[Side]


def loudest_stretch(waves: Mapping[str, Wave]) -> dict[str, Wave]:
    """Return the same few seconds of all waveforms: where the last one is loudest."""
    reference = list(waves.values())[-1]
    shown = SHOWN_SECONDS * SAMPLE_RATE
    starts = range(0, max(len(reference) - shown, 0) + 1, round(SEARCH_SECONDS * SAMPLE_RATE))
    energy = np.concatenate([[0.0], np.cumsum(np.square(reference, dtype=np.float64))])
    best = max(starts, key=lambda start: energy[min(start + shown, len(reference))] - energy[start])
    return {name: wave[best : best + shown] for name, wave in waves.items()}


def to_view(example: Example) -> View:
    """Return the loudest seconds of an example, drawn and encoded."""
    waves = loudest_stretch(example.waves)
    full = float(_power(list(waves.values())[-1]).max())
    sides = [
        Side(
            name,
            data_uri(png(picture(wave, full)), "image/png"),
            data_uri(audio.encode_wave(wave, SAMPLE_RATE, "FLAC"), "audio/flac"),
        )
        for name, wave in waves.items()
    ]
    seconds = max(len(wave) for wave in waves.values()) / SAMPLE_RATE
    return View(example.title, example.labels, seconds, sides)


def picture(wave: Wave, full: float) -> NDArray[np.uint8]:
    """Return levels ``(256, frames)`` of ``(samples,)``, 0 Hz at the bottom.

    Args:
        wave: ``(samples,)``.
        full: the power of the highest level.
    """
    # The louder of two bins: a window's main lobe is four bins wide.
    power = _power(wave)[1:].reshape(N_FFT // 4, 2, -1).max(axis=1)
    decibel = 10 * np.log10(np.maximum(power, 1e-12) / max(full, 1e-12))
    level = np.clip(1 + decibel / RANGE_DB, 0, 1) * (LEVELS - 1)
    levels: NDArray[np.uint8] = level.round().astype(np.uint8)[::-1]
    return levels


def png(levels: NDArray[np.uint8]) -> bytes:
    """Return ``(height, width)`` levels as a PNG file in colours."""
    height, width = levels.shape
    header = struct.pack(">IIBBBBB", width, height, 8, PNG_INDEXED, 0, 0, 0)
    # Every row begins with its filter: 0, none.
    rows = np.pad(levels, ((0, 0), (1, 0)))
    chunks = [
        (b"IHDR", header),
        (b"PLTE", palette().tobytes()),
        (b"IDAT", zlib.compress(rows.tobytes(), 9)),
        (b"IEND", b""),
    ]
    return PNG_SIGNATURE + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )


def palette() -> NDArray[np.uint8]:
    """Return the colour of each level, ``(LEVELS, 3)``."""
    place = np.linspace(0, len(COLOURS) - 1, LEVELS)
    anchors = np.array(COLOURS, np.float64)
    columns = [np.interp(place, np.arange(len(COLOURS)), anchors[:, c]) for c in range(3)]
    return np.stack(columns, axis=1).astype(np.uint8)


def _power(wave: Wave) -> NDArray[np.float64]:
    """Return the power spectrum ``(513, frames)`` of ``(samples,)``."""
    power: NDArray[np.float64] = bin_power(Stft(N_FFT, HOP)(torch.from_numpy(wave)[None]))[
        0
    ].numpy()
    return power
