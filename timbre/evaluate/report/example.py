"""A pair to look at and listen to: spectrograms as small PNG files, sound as FLAC."""

import base64
import struct
import zlib
from collections.abc import Mapping
from html import escape
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from timbre import audio
from timbre.audio import SAMPLE_RATE, Wave
from timbre.audio.spectra import Stft, bin_power

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
    """A pair's waveforms ``(samples,)`` by name, the clean one last, and what is told of it."""

    title: str
    told: str
    waves: Mapping[str, Wave]


def cut(waves: Mapping[str, Wave]) -> dict[str, Wave]:
    """Return the same few seconds of all waveforms: where the last one is loudest."""
    reference = list(waves.values())[-1]
    shown = SHOWN_SECONDS * SAMPLE_RATE
    starts = range(0, max(len(reference) - shown, 0) + 1, round(SEARCH_SECONDS * SAMPLE_RATE))
    energy = np.concatenate([[0.0], np.cumsum(np.square(reference, dtype=np.float64))])
    best = max(starts, key=lambda start: energy[min(start + shown, len(reference))] - energy[start])
    return {name: wave[best : best + shown] for name, wave in waves.items()}


def case_html(example: Example) -> str:
    """Return a player that switches between the waveforms, and their spectrograms."""
    waves = cut(example.waves)
    full = float(_power(list(waves.values())[-1]).max())
    figures = "\n".join(_figure(name, wave, full) for name, wave in waves.items())
    seconds = max(len(wave) for wave in waves.values()) / SAMPLE_RATE
    return (
        f'<section class="case" data-seconds="{seconds}"><h3>{escape(example.title)}</h3>'
        f"<p>{escape(example.told)}</p>\n"
        '<div class="player" hidden><button class="play">Play</button> '
        f'<input class="seek" type="range" min="0" max="{seconds}" step="0.001" value="0" '
        'aria-label="position in seconds"> <output class="position">0.00 s</output> '
        '<label><input class="loop" type="checkbox"> repeat</label></div>\n'
        f'<div class="sides">{figures}</div></section>'
    )


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


def _figure(name: str, wave: Wave, full: float) -> str:
    image = _data_uri("image/png", png(picture(wave, full)))
    sound = _data_uri("audio/flac", audio.encode_wave(wave, SAMPLE_RATE, "FLAC"))
    label = escape(name)
    return (
        f'<figure data-name="{label}"><figcaption>{label}</figcaption><div class="picture">'
        f'<img alt="spectrogram, {label}, 0 to 24 kHz" src="{image}"><i class="cursor"></i></div>'
        f'<audio controls preload="none" src="{sound}"></audio></figure>'
    )


def _power(wave: Wave) -> NDArray[np.float64]:
    """Return the power spectrum ``(513, frames)`` of ``(samples,)``."""
    power: NDArray[np.float64] = bin_power(Stft(N_FFT, HOP)(torch.from_numpy(wave)[None]))[
        0
    ].numpy()
    return power


def _data_uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
