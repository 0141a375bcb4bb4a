"""A pair to look at and listen to: spectrograms as small PNG files, sound as FLAC."""

from collections.abc import Mapping
from typing import NamedTuple

from timbre import audio
from timbre.audio import SAMPLE_RATE, Wave, loudest_start
from timbre.audio.spectrogram import levels, peak_power, png
from timbre.pages import data_uri

# Six pairs of six waveforms of this length take some 20 MB.
SHOWN_SECONDS = 5


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


class ExampleView(NamedTuple):
    """An example as the page shows it."""

    title: str
    labels: str
    seconds: float
    sides: list[Side]


def loudest_stretch(waves: Mapping[str, Wave]) -> dict[str, Wave]:
    """Return the same few seconds of all waveforms: where the last one is loudest."""
    reference = list(waves.values())[-1]
    samples = SHOWN_SECONDS * SAMPLE_RATE
    best = loudest_start(reference, samples)
    return {name: wave[best : best + samples] for name, wave in waves.items()}


def to_view(example: Example) -> ExampleView:
    """Return the loudest seconds of an example, drawn and encoded."""
    waves = loudest_stretch(example.waves)
    full = peak_power(list(waves.values())[-1])
    sides = [
        Side(
            name,
            data_uri(png(levels(wave, full)), "image/png"),
            data_uri(audio.encode_wave(wave, SAMPLE_RATE, "FLAC"), "audio/flac"),
        )
        for name, wave in waves.items()
    ]
    seconds = max(len(wave) for wave in waves.values()) / SAMPLE_RATE
    return ExampleView(example.title, example.labels, seconds, sides)
