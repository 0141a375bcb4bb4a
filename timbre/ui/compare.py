"""A small page that plays some files at one position, and shows them: half a minute, mono, 48 kHz."""

from collections.abc import Mapping
from pathlib import Path

from timbre import audio, pages
from timbre.audio import SAMPLE_RATE, loudest_start
from timbre.audio.spectrogram import levels, peak_power, png

PACKAGE = "timbre.ui"
SHOWN_SECONDS = 30


def to_html(sides: Mapping[str, Path]) -> str:
    """Return a page with the sides of one recording, where the first one is loudest.

    Args:
        sides: files of equal length, by name.
    """
    first = next(iter(sides.values()))
    info = audio.info(first)
    whole = info.samples * SAMPLE_RATE // info.sample_rate
    samples = min(SHOWN_SECONDS * SAMPLE_RATE, whole)
    start = loudest_start(audio.read_mono(first), samples)
    waves = {}
    for name, path in sides.items():
        with path.open("rb") as file:
            waves[name] = audio.read_stretch(file, path.name, start, samples)
    full = max(peak_power(wave) for wave in waves.values())
    script = pages.own_text(PACKAGE, "compare.js")
    values = {
        "script": script,
        "script_hash": pages.script_hash(script),
        "style": pages.own_text("timbre", "pages.css"),
        "start": f"{start / SAMPLE_RATE:.1f}",
        "seconds": samples / SAMPLE_RATE,
        "sides": [
            (
                name,
                pages.data_uri(png(levels(wave, full)), "image/png"),
                pages.data_uri(audio.encode_wave(wave, SAMPLE_RATE, "FLAC"), "audio/flac"),
            )
            for name, wave in waves.items()
        ],
    }
    return pages.render(PACKAGE, "compare.html.j2", values)
