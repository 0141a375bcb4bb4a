"""A page that shows and plays the segments of a run's steps, as training cuts and augments them."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import NamedTuple, Protocol

import numpy as np

from timbre import audio, pages, storage
from timbre.audio import SAMPLE_RATE
from timbre.audio.spectrogram import levels, peak_power, png
from timbre.pages import data_uri
from timbre.peek.settings import PeekConfig
from timbre.stream import DataMix, PairBatch, PairStream, Place, StreamConfig
from timbre.stream.augment import AugmentConfig, Draw, augment, draw

SIDES = ("degraded", "clean", "noisy")


class Listed(Protocol):
    """A batch as the command lists it."""

    @property
    def sample(self) -> int:
        """How far the epoch is consumed before it."""

    @property
    def step(self) -> int:
        """Its number in the epoch."""

    @property
    def shards(self) -> tuple[str, ...]:
        """The tar of each of its pairs."""


class ShownSide(NamedTuple):
    """One side of a segment: its name, its spectrogram and its sound, both as URIs."""

    name: str
    image: str
    sound: str


class Segment(NamedTuple):
    """A segment as the page shows it."""

    key: str
    where: str
    labels: str
    sides: list[ShownSide]


def write_page(
    url: str,
    settings: PeekConfig,
    mixes: Sequence[DataMix],
    place: Place,
    epoch: int,
    batches: Sequence[Listed],
) -> None:
    """Write the segments of some batches that follow each other in an epoch.

    Raises:
        ConfigError: no run could have these settings.
        ShardError, OSError: the pairs cannot be read, or the page cannot be written.
    """
    first, *changes = mixes
    config = StreamConfig(
        segment=round(settings.segment_seconds * SAMPLE_RATE),
        global_batch=settings.global_batch,
        seed=settings.seed,
        window=settings.shuffle_window,
        workers=0,
        noisy=settings.generator.noisy_input,
    )
    stream = PairStream(first.corpora, config, place, changes)
    begin = {"epoch": epoch, "sample_in_epoch": batches[0].sample}
    stream.load_state_dict(stream.state_dict() | begin)
    steps = [
        (
            f"Epoch {epoch}, step {listed.step}",
            list(segments(batch, listed.shards, settings.augment, settings.seed)),
        )
        for listed, batch in zip(batches, islice(stream, len(batches)), strict=True)
    ]
    publish_page(url, steps)


def publish_page(url: str, steps: Sequence[tuple[str, Sequence[Segment]]]) -> None:
    """Write the page of some steps, each with its title.

    Raises:
        OSError: it cannot be written.
    """
    storage.publish(url, pages.render("timbre.peek", "page.html.j2", {"steps": steps}).encode())


def segments(
    batch: PairBatch, shards: Sequence[str], config: AugmentConfig, seed: int
) -> Iterator[Segment]:
    """Yield the segments of a batch as they are shown.

    Args:
        batch: whose pairs they are.
        shards: the tar of each pair.
        config: how they are augmented.
        seed: the run's.
    """
    sides = augment(batch, config, seed)
    parameters = draw(config, seed, batch.epoch, batch.positions)
    for row, (key, shard) in enumerate(zip(batch.keys, shards, strict=True)):
        waves = {
            name: side[row, 0].cpu().numpy()
            for name, side in zip(SIDES, sides[: len(SIDES)], strict=True)
            if side is not None
        }
        full = peak_power(waves["clean"])
        yield Segment(
            key,
            f"{shard}, place {int(batch.positions[row])} of the epoch, clean up to "
            f"{float(sides.bandwidth_hz[row]) / 1000:.1f} kHz",
            _description(parameters, row, batch.noisy is not None),
            [
                ShownSide(
                    name,
                    data_uri(png(levels(wave, full)), "image/png"),
                    data_uri(audio.encode_wave(wave, SAMPLE_RATE, "FLAC"), "audio/flac"),
                )
                for name, wave in waves.items()
            ],
        )


def _description(parameters: Draw, row: int, noisy: bool) -> str:
    """Return what was drawn for a pair, in words."""
    one = Draw(*(values[row] for values in parameters))
    parts = [f"gain {float(one.gain):+.2f}"]
    if one.low_pass_hz < SAMPLE_RATE / 2:
        parts.append(f"low-pass at {float(one.low_pass_hz) / 1000:.1f} kHz")
    if one.tilt_db:
        parts.append(f"tilt {float(one.tilt_db):+.1f} dB an octave")
    if one.residual != 1:
        parts.append(f"residual {20 * np.log10(float(one.residual)):+.1f} dB")
    if holes := int((one.holes[:, 0] > 0).sum()):
        parts.append(f"holes {holes}")
    if noisy and not one.keep_noisy:
        parts.append("noisy side withheld")
    return ", ".join(parts)
