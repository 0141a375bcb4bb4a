"""What is heard of a pair before it is mixed: its speech, its target and its noise, by its recipe."""

from typing import NamedTuple

import numpy as np

from shard_tools.mix import mixture as mix
from shard_tools.mix import reverb
from shard_tools.mix.bank import Bank
from shard_tools.mix.colour import coloured
from shard_tools.mix.made_noise import MadeNoise, make_noise
from shard_tools.mix.mixture import Layer
from shard_tools.mix.pauses import insert_gap, lower_pauses
from shard_tools.plan.recipes import Recipe
from shard_tools.plan.variety import Hiss, NoiseDraw, SpeechDraw
from timbre import audio
from timbre.audio import SAMPLE_RATE, Wave
from timbre.shards import Source

# Noises at other speeds are resampled between rates that are multiples of this.
SPEED_STEP_HZ = 480


class Noise(NamedTuple):
    """The noise of a pair ``(samples,)``, and the recordings in it, the loudest first."""

    wave: Wave
    sources: tuple[Source, ...]


def speech_sides(
    speech: Wave, recipe: Recipe, room: Wave | None, early: int, lead_in: int
) -> tuple[Wave, Wave]:
    """Return (heard, target), both ``(samples,)``: speech with all but the noise, and the clean side.

    Args:
        speech: ``(samples,)`` of the recording, its lead-in first.
        recipe: what is done to it.
        room: the response that it is heard through; None: none.
        early: what the target keeps of the room, in samples after the direct path.
        lead_in: samples before the piece.
    """
    heard, target = _altered(speech, recipe.variety.speech, lead_in)
    if room is not None:
        same = heard is target
        heard, early_part = reverb.reverberate(heard, room, early)
        target = early_part if same else reverb.reverberate(target, room, early)[1]
    if recipe.variety.hiss is not None:
        heard = heard + _hiss(recipe.variety.hiss, target, lead_in)
    return heard, target


def noise_side(bank: Bank, recipe: Recipe, samples: int, lead_in: int) -> Noise:
    """Return the noise of a pair, at any level; silence where all its recordings are silent."""
    variety = recipe.variety
    layers = [_layer(bank, draw, samples, lead_in) for draw in recipe.noises]
    sources = [
        _source(bank, draw, layer, samples)
        for draw, layer in zip(recipe.noises, layers, strict=True)
    ]
    made = [_made_layer(noise, samples) for noise in variety.made]
    sources += [Source(noise.name, 0, samples) for noise in variety.made]
    wave = mix.layer([*layers, *made], samples)
    if (change := variety.change) is not None:
        if change.made is not None:
            after = _made_layer(change.made, samples)
            sources.append(Source(change.made.name, 0, samples))
        else:
            assert change.recorded is not None
            after = _layer(bank, change.recorded, samples, lead_in)
            sources.append(_source(bank, change.recorded, after, samples))
        place = lead_in + int(change.start * (samples - lead_in))
        wave = np.concatenate([wave[:place], mix.layer([after], samples)[place:]])
    return Noise(coloured(wave, variety.noise_colour), tuple(sources))


def _altered(speech: Wave, draw: SpeechDraw, lead_in: int) -> tuple[Wave, Wave]:
    if draw.gap is not None:
        start = lead_in + int(draw.gap.start * (len(speech) - lead_in))
        speech = insert_gap(speech, start, round(draw.gap.seconds * SAMPLE_RATE))
    speech = coloured(speech, draw.colour)
    if draw.pause_db is None:
        return speech, speech
    target = lower_pauses(speech, draw.pause_db)
    return (target if draw.quiet_input else speech), target


def _hiss(hiss: Hiss, speech: Wave, lead_in: int) -> Wave:
    level_db = audio.active_level_db(speech[lead_in:]) - hiss.below_db
    return make_noise(hiss.noise, len(speech)) * np.float32(audio.gain(level_db))


def _layer(bank: Bank, draw: NoiseDraw, samples: int, lead_in: int) -> Layer:
    """Return what is heard of a noise: from its drawn start, or further on where it is silent there."""
    rate = round(draw.speed * SAMPLE_RATE / SPEED_STEP_HZ) * SPEED_STEP_HZ
    read = _source_samples(draw, samples)

    def hear(start: int) -> Wave:
        stretch = bank.stretch(draw.number, start, read)
        heard = audio.resample(stretch, rate, SAMPLE_RATE)[:samples]
        return heard[::-1].copy() if draw.backwards else heard

    length = bank.length(draw.number)
    start, heard = mix.start_that_sounds(hear, length, int(draw.start * length), lead_in)
    return Layer(heard, start, draw.gain_db)


def _made_layer(noise: MadeNoise, samples: int) -> Layer:
    return Layer(make_noise(noise, samples), 0, noise.gain_db)


def _source(bank: Bank, draw: NoiseDraw, layer: Layer, samples: int) -> Source:
    return Source(bank.names[draw.number], layer.start, _source_samples(draw, samples))


def _source_samples(draw: NoiseDraw, samples: int) -> int:
    """Return how many samples of a recording are heard as ``samples``."""
    rate = round(draw.speed * SAMPLE_RATE / SPEED_STEP_HZ) * SPEED_STEP_HZ
    return -(-samples * rate // SAMPLE_RATE)
