"""The sides of a pair before they are mixed: speech, target and noise, as its recipe has them."""

from typing import NamedTuple

import numpy as np

from shard_tools.mix import mixture as mix
from shard_tools.mix import reverb
from shard_tools.mix.bank import Bank
from shard_tools.mix.colour import colour_wave
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
    """Return (voice, target), both ``(samples,)``: the noisy side but for its noise, and the clean side.

    Args:
        speech: ``(samples,)`` of the recording, its lead-in first.
        recipe: what is done to it.
        room: the response of the room that it is in; None: no room.
        early: what the target keeps of the room, in samples after the direct path.
        lead_in: samples before the piece.
    """
    voice, target = _alter_speech(speech, recipe.variety.speech, lead_in)
    if room is not None:
        same = voice is target
        voice, early_part = reverb.reverberate(voice, room, early)
        target = early_part if same else reverb.reverberate(target, room, early)[1]
    if recipe.variety.hiss is not None:
        voice = voice + _hiss(recipe.variety.hiss, target, lead_in)
    return voice, target


def noise_side(bank: Bank, recipe: Recipe, samples: int, lead_in: int) -> Noise:
    """Return the noise of a pair, at any level; silence where all its recordings are silent."""
    variety = recipe.variety
    layers = [_layer(bank, draw, samples, lead_in) for draw in recipe.noises]
    sources = [
        _source(bank, draw, layer, samples)
        for draw, layer in zip(recipe.noises, layers, strict=True)
    ]
    made_layers = [_made_layer(noise, samples) for noise in variety.made_noise]
    sources += [Source(noise.name, 0, samples) for noise in variety.made_noise]
    wave = mix.layer([*layers, *made_layers], samples)
    if (change := variety.change) is not None:
        if change.made_noise is not None:
            after = _made_layer(change.made_noise, samples)
            sources.append(Source(change.made_noise.name, 0, samples))
        else:
            assert change.noise_draw is not None
            after = _layer(bank, change.noise_draw, samples, lead_in)
            sources.append(_source(bank, change.noise_draw, after, samples))
        place = lead_in + int(change.start * (samples - lead_in))
        wave = np.concatenate([wave[:place], mix.layer([after], samples)[place:]])
    return Noise(colour_wave(wave, variety.noise_colour), tuple(sources))


def _alter_speech(speech: Wave, draw: SpeechDraw, lead_in: int) -> tuple[Wave, Wave]:
    if draw.gap is not None:
        start = lead_in + int(draw.gap.start * (len(speech) - lead_in))
        speech = insert_gap(speech, start, round(draw.gap.seconds * SAMPLE_RATE))
    speech = colour_wave(speech, draw.colour)
    if draw.pause_db is None:
        return speech, speech
    target = lower_pauses(speech, draw.pause_db)
    return (target if draw.quiet_input else speech), target


def _hiss(hiss: Hiss, speech: Wave, lead_in: int) -> Wave:
    level_db = audio.active_level_db(speech[lead_in:]) - hiss.below_db
    return make_noise(hiss.noise, len(speech)) * np.float32(audio.gain(level_db))


def _layer(bank: Bank, draw: NoiseDraw, samples: int, lead_in: int) -> Layer:
    """Return a stretch of a noise. It begins at the drawn start, or at the next place with sound."""
    rate = round(draw.speed * SAMPLE_RATE / SPEED_STEP_HZ) * SPEED_STEP_HZ
    samples_to_read = _source_samples(draw, samples)

    def sound(start: int) -> Wave:
        stretch = bank.stretch(draw.number, start, samples_to_read)
        wave = audio.resample(stretch, rate, SAMPLE_RATE)[:samples]
        return wave[::-1].copy() if draw.backwards else wave

    length = bank.length(draw.number)
    start, wave = mix.start_that_sounds(sound, length, int(draw.start * length), lead_in)
    return Layer(wave, start, draw.gain_db)


def _made_layer(noise: MadeNoise, samples: int) -> Layer:
    return Layer(make_noise(noise, samples), 0, noise.gain_db)


def _source(bank: Bank, draw: NoiseDraw, layer: Layer, samples: int) -> Source:
    return Source(bank.names[draw.number], layer.start, _source_samples(draw, samples))


def _source_samples(draw: NoiseDraw, samples: int) -> int:
    """Return how many samples of a recording become ``samples``."""
    rate = round(draw.speed * SAMPLE_RATE / SPEED_STEP_HZ) * SPEED_STEP_HZ
    return -(-samples * rate // SAMPLE_RATE)
