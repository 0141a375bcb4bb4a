"""What a restorer did to a file: what was lifted, where, by how much, how surely.

It looks at the mean of the channels at 48 kHz. A passage is a stretch of time in a band where the
generator made the denoiser's output louder by 3 dB or more. How sure a lift is shows in a second
pass that begins half a hop later: what depends on where frames fall comes out otherwise there.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from timbre import audio
from timbre.audio import HOP, SAMPLE_RATE
from timbre.audio.labelled_spectrograms import change_panel, level_panel, to_png
from timbre.audio.spectra import Stft, bin_power
from timbre.audio.spectrogram import levels, peak_power
from timbre.errors import ConfigError
from timbre.models import build_generator, load_checkpoint
from timbre.restore.output import Output
from timbre.restore.pool import RestorerSettings
from timbre.restore.restorer import BothWaves, Restorer

# More is not to be seen in one picture; and all of it lies in memory, thrice.
MOST_SECONDS = 600
N_FFT = 1024
BANDS_HZ = (0, 1000, 2000, 4000, 8000, 12000, 16000, 24000)
# Levels are means over so many hops.
SMOOTH_HOPS = 5
# A band counts in a hop where it holds more than this below its own loudest hop, and a lift from here on.
COUNTED_RANGE_DB, LIFTED_DB = 50.0, 3.0
# Shorter passages, and shorter gaps in one, do not count.
SHORTEST_HOPS = 5
MOST_PASSAGES = 200
# A hop is held by the bound where the output would be so much louder without it.
HELD_DB = 1.0
TINY = 1e-12

Bands = NDArray[np.float64]
Counted = NDArray[np.bool_]


class Explained(NamedTuple):
    """The JSON tree and the PNG picture."""

    tree: dict[str, Any]
    picture: bytes


def check_explainable(url: str) -> None:
    """Do nothing if a file can be explained.

    Raises:
        AudioError, OSError: it cannot be read.
        ConfigError: it is too long for one picture.
    """
    info = audio.info(url)
    seconds = info.samples / info.sample_rate
    if seconds > MOST_SECONDS:
        raise ConfigError(
            f"--explain: {url} has {seconds:.0f} s; expected at most {MOST_SECONDS}, as one picture "
            "shows all of it. Cut the file"
        )


def explain(url: str, restorer: Restorer, settings: RestorerSettings, output: Output) -> Explained:
    """Return what the restorer of these settings does to a file.

    Raises:
        AudioError, OSError: the file cannot be read.
    """
    noisy = torch.from_numpy(audio.read_mono(url))[None]
    both = _mixed(restorer.process(noisy), output)
    later = _mixed(restorer.process(torch.nn.functional.pad(noisy, (HOP // 2, 0))), output)
    free = _without_bounds(restorer, settings)
    unbound = _mixed(free.process(noisy), output).restored if free else both.restored
    denoised, restored = band_levels(both.denoised), band_levels(both.restored)
    lift = restored - denoised
    again = band_levels(later.restored[:, HOP // 2 :]) - band_levels(later.denoised[:, HOP // 2 :])
    counted = restored > restored.max(axis=1, keepdims=True) - COUNTED_RANGE_DB
    held = (band_levels(unbound) - restored > HELD_DB) & counted
    tree = {
        "file": url,
        "seconds": noisy.shape[1] / SAMPLE_RATE,
        "checkpoint": settings.checkpoint,
        "denoiser": restorer.denoiser.name if restorer.denoiser else "none",
        "strength": output.strength,
        "bands": list(_bands(lift, again, counted, held)),
        "passages": passages(lift, again, counted),
        "seconds_held_by_the_bound": float(held.any(axis=0).sum()) * HOP / SAMPLE_RATE,
    }
    before = f"Denoised ({tree['denoiser']})"
    sides = {"Input": noisy[0], before: both.denoised[0], "Restored": both.restored[0]}
    full = max(peak_power(wave.numpy()) for wave in sides.values())
    drawn = {name: levels(wave.numpy(), full) for name, wave in sides.items()}
    panels = [level_panel(name, image) for name, image in drawn.items()]
    title = "Restored against denoised: red is louder, blue is quieter, full colour at 24 dB"
    panels.append(change_panel(title, drawn[before], drawn["Restored"]))
    return Explained(tree, to_png(panels, noisy.shape[1] / SAMPLE_RATE))


def to_json(tree: dict[str, Any]) -> bytes:
    """Return the tree as a file; numbers have three decimals."""
    return json.dumps(_rounded(tree), indent=1).encode()


def band_levels(wave: Tensor) -> Bands:
    """Return the level of each band and hop of ``(1, samples)``, ``(bands, hops)`` in dB."""
    power = bin_power(Stft(N_FFT, HOP)(wave))[0].double().numpy()
    edges = [round(hz * N_FFT / SAMPLE_RATE) for hz in BANDS_HZ]
    edges[-1] += 1
    bands = np.stack([power[low:high].sum(axis=0) for low, high in pairwise(edges)])
    kernel = np.full(SMOOTH_HOPS, 1 / SMOOTH_HOPS)
    padded = np.pad(bands, ((0, 0), (SMOOTH_HOPS // 2, SMOOTH_HOPS // 2)), mode="edge")
    smooth = np.stack([np.convolve(row, kernel, "valid") for row in padded])
    return np.asarray(10 * np.log10(np.maximum(smooth, TINY)), dtype=np.float64)


def passages(lift: Bands, again: Bands, counted: Counted) -> list[dict[str, float]]:
    """Return the lifted passages, those that were lifted most first.

    Args:
        lift: ``(bands, hops)`` in dB.
        again: the same of the second pass.
        counted: where a band holds sound.
    """
    found = []
    for band, row in enumerate((lift >= LIFTED_DB) & counted):
        for start, end in _runs(row):
            here = lift[band, start:end]
            found.append(
                {
                    "start_seconds": start * HOP / SAMPLE_RATE,
                    "end_seconds": end * HOP / SAMPLE_RATE,
                    "low_hz": float(BANDS_HZ[band]),
                    "high_hz": float(BANDS_HZ[band + 1]),
                    "lift_db": float(here.mean()),
                    "second_pass_differs_db": float(np.abs(here - again[band, start:end]).mean()),
                }
            )
    found.sort(key=lambda one: -one["lift_db"] * (one["end_seconds"] - one["start_seconds"]))
    return found[:MOST_PASSAGES]


def _bands(lift: Bands, again: Bands, counted: Counted, held: Counted) -> Iterator[dict[str, Any]]:
    for band, here in enumerate(counted):
        lifted = here & (lift[band] >= LIFTED_DB)
        yield {
            "low_hz": BANDS_HZ[band],
            "high_hz": BANDS_HZ[band + 1],
            "seconds_with_sound": float(here.sum()) * HOP / SAMPLE_RATE,
            "seconds_lifted": float(lifted.sum()) * HOP / SAMPLE_RATE,
            "mean_lift_db": float(lift[band][here].mean()) if here.any() else None,
            "second_pass_differs_db": float(np.abs(lift[band] - again[band])[here].mean())
            if here.any()
            else None,
            "seconds_held_by_the_bound": float(held[band].sum()) * HOP / SAMPLE_RATE,
        }


def _runs(row: Counted) -> Iterator[tuple[int, int]]:
    """Yield where a row is true, start and end; short gaps are closed, short runs left out."""
    places = np.flatnonzero(row)
    if not len(places):
        return
    breaks = np.flatnonzero(np.diff(places) > SHORTEST_HOPS)
    starts = [places[0], *places[breaks + 1]]
    ends = [*places[breaks], places[-1]]
    for start, end in zip(starts, ends, strict=True):
        if end + 1 - start >= SHORTEST_HOPS:
            yield int(start), int(end) + 1


def _mixed(both: BothWaves, output: Output) -> BothWaves:
    denoised, restored = both
    return BothWaves(denoised, denoised + output.strength * (restored - denoised))


def _without_bounds(restorer: Restorer, settings: RestorerSettings) -> Restorer | None:
    """Return the restorer without limits; None where there is none to leave out."""
    if settings.checkpoint is None:
        return None
    checkpoint = load_checkpoint(settings.checkpoint, settings.max_lift_db)
    bound = checkpoint.config
    if bound.max_lift_db is None and not bound.limit_change:
        return None
    config = replace(bound, max_lift_db=None, limit_change=False, limit_pauses=False)
    generator = build_generator(config)
    generator.load_state_dict(checkpoint.generator.state_dict())
    return Restorer(
        generator.eval(), restorer.denoiser, restorer.device, noisy_input=config.noisy_input
    )


def _rounded(tree: Any) -> Any:
    if isinstance(tree, float):
        return round(tree, 3)
    if isinstance(tree, dict):
        return {key: _rounded(value) for key, value in tree.items()}
    return [_rounded(value) for value in tree] if isinstance(tree, list) else tree
