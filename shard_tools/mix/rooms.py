"""Simulated rooms: impulse responses of shoe-boxes by the image source method.

Images come from pyroomacoustics (Allen and Berkley 1979; Scheibler et al. 2018) and are added up
here, because its own sum depends on global settings and on its number of threads: a response is a
pure function of seed and number.
"""

import itertools
import math
from types import ModuleType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from timbre.audio import SAMPLE_RATE, Wave
from timbre.audio.spectra import fast_length
from timbre.errors import ConfigError

Floats = NDArray[np.float64]

SPEED_OF_SOUND = 343.0
SMALLEST_METRES = (2.5, 2.5, 2.3)
LARGEST_METRES = (8.0, 7.0, 3.5)
RT60_SECONDS = (0.15, 0.7)
WALL_DISTANCE_METRES = 0.5
DISTANCES_METRES = (0.5, 3.0)
# A furnished room takes at least this share of what meets its walls; a small room with less would
# also need millions of images.
LEAST_ABSORPTION = 0.2
# Eyring's formula holds for an evenly filled room; shoe-boxes with even walls ring this much longer
# (median of 60; 1.05 to 1.4 times).
SHOE_BOX_FACTOR = 1.2
# Images on an exact lattice sound as a falling whistle; moving them breaks it up (De Sena et al.
# 2015, "On the modeling of rectangular geometries in room acoustic simulations").
DISPLACEMENT_METRES = 0.08
# Images add up in phase near 0 Hz, which no real room does.
HIGH_PASS_HZ = 40.0
# Energy lost in air per metre in octaves at 20 degrees and 50 % humidity (ISO 9613-1).
AIR_LOSSES = (
    (2828.0, 5657.0, 0.0068),
    (5657.0, 11314.0, 0.024),
    (11314.0, SAMPLE_RATE / 2 + 1, 0.083),
)
DECAY_DB = 60.0
# Sound is followed for this many times RT60; below 4 kHz rooms ring a little longer than asked.
DECAYS_SIMULATED = 1.15


class Room(NamedTuple):
    """A room to simulate, in metres. The direct path arrives ``direct`` samples into the response."""

    size: tuple[float, ...]
    rt60_seconds: float
    absorption: float
    source: tuple[float, ...]
    microphone: tuple[float, ...]
    direct: int


def room_name(number: int) -> str:
    """Return what the response of a number is called."""
    return f"simulated-{number:04d}"


def simulate_room(seed: int, number: int) -> Wave:
    """Return the impulse response ``(samples,)`` of a small to medium room, trimmed at -60 dB.

    Its largest sample is the direct path. A pure function of seed and number.

    Raises:
        ConfigError: pyroomacoustics is not installed.
    """
    rng = np.random.default_rng([seed, number])
    while True:
        room = draw_room(rng)
        response = impulse_response(room, rng)
        # In 1 room of 400 two reflections meet at the microphone and drown the direct path.
        if np.argmax(np.abs(response)) == room.direct:
            return response


def draw_room(rng: np.random.Generator) -> Room:
    """Return a room, a source and a microphone in it."""
    size = rng.uniform(SMALLEST_METRES, LARGEST_METRES)
    rt60_seconds = absorption = 0.0
    while absorption < LEAST_ABSORPTION:
        rt60_seconds = rng.uniform(*RT60_SECONDS)
        absorption = _absorption(size, rt60_seconds / SHOE_BOX_FACTOR)
    inside = WALL_DISTANCE_METRES, size - WALL_DISTANCE_METRES
    shortest, longest = (round(d / SPEED_OF_SOUND * SAMPLE_RATE) for d in DISTANCES_METRES)
    while True:
        source = rng.uniform(*inside)
        direction = rng.standard_normal(3)
        # A whole number of samples: the direct path is then one sample, and the highest.
        travel = int(rng.integers(shortest, longest, endpoint=True))
        metres = travel * SPEED_OF_SOUND / SAMPLE_RATE
        microphone = source + direction * (metres / np.linalg.norm(direction))
        if np.all((microphone >= inside[0]) & (microphone <= inside[1])):
            places = (tuple(source.tolist()), tuple(microphone.tolist()))
            return Room(tuple(size.tolist()), rt60_seconds, absorption, *places, travel)


def impulse_response(room: Room, rng: np.random.Generator) -> Wave:
    """Return the response ``(samples,)`` of a room; ``rng`` moves its images."""
    distances, amplitudes = _images(room, rng)
    # To whole samples: 4 mm at most, which is nothing beside what the images are moved by.
    arrivals = np.rint(distances / SPEED_OF_SOUND * SAMPLE_RATE).astype(np.int64)
    response: Floats = np.bincount(arrivals, amplitudes).astype(np.float64)
    return _trim(_colour(response, room.direct)).astype(np.float32)


def _absorption(size: Floats, rt60_seconds: float) -> float:
    """Return the share of energy that walls take, by Eyring's formula."""
    surface = 2 * sum(a * b for a, b in itertools.combinations(size.tolist(), 2))
    sabine = 24 * math.log(10) * float(np.prod(size)) / (SPEED_OF_SOUND * surface * rt60_seconds)
    return 1 - math.exp(-sabine)


def _images(room: Room, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Return the distances in metres and amplitudes of the source and its images, ``(images,)``."""
    simulator = _simulator()
    order = min(_order_of_distance(room), _order_of_decay(room))
    box = simulator.ShoeBox(
        room.size,
        fs=SAMPLE_RATE,
        materials=simulator.Material(room.absorption),
        max_order=order,
        air_absorption=False,
    )
    box.add_source(room.source)
    box.add_microphone(room.microphone)
    box.image_source_model()
    source = box.sources[0]
    places = source.images.astype(np.float64)
    moves = rng.uniform(-DISPLACEMENT_METRES, DISPLACEMENT_METRES, places.shape)
    places += np.where(source.orders > 0, moves, 0.0)
    distances = np.sqrt(np.sum((places - np.reshape(room.microphone, (3, 1))) ** 2, axis=0))
    near = distances <= _farthest(room)
    return distances[near], source.damping[0, near] / distances[near]


def _farthest(room: Room) -> float:
    return DECAYS_SIMULATED * room.rt60_seconds * SPEED_OF_SOUND


def _order_of_distance(room: Room) -> int:
    """Return the reflections after which all sound has gone as far as it is followed.

    Images of one order lie on an octahedron; the smallest height of its faces is what counts.
    """
    heights = [a * b / math.hypot(a, b) for a, b in itertools.combinations(room.size, 2)]
    return math.ceil(_farthest(room) / min(heights))


def _order_of_decay(room: Room) -> int:
    """Return the reflections that take 60 dB by themselves."""
    return math.ceil(-DECAY_DB / 10 / math.log10(1 - room.absorption))


def _colour(response: Floats, direct: int) -> Floats:
    """Return the response without its lowest frequencies, and with what air takes.

    High octaves fade as the way grows beyond the direct path's.
    """
    length = fast_length(2 * len(response))
    hz = np.fft.rfftfreq(length, 1 / SAMPLE_RATE)
    # Butterworth's second order: causal, so nothing rings before the direct path.
    ratio = 1j * hz / HIGH_PASS_HZ
    spectrum = np.fft.rfft(response, length) * ratio**2 / (ratio**2 + math.sqrt(2) * ratio + 1)
    response_in_air = np.fft.irfft(spectrum, length)[: len(response)]
    metres = (np.arange(len(response)) - direct) * (SPEED_OF_SOUND / SAMPLE_RATE)
    for low, high, loss in AIR_LOSSES:
        band = np.fft.irfft(np.where((hz >= low) & (hz < high), spectrum, 0.0), length)
        response_in_air += band[: len(response)] * np.expm1(-loss / 2 * metres)
    return response_in_air


def _trim(response: Floats) -> Floats:
    """Return the response up to where the energy still to come is 60 dB below the whole."""
    energy_to_come = np.cumsum(np.square(response[::-1]))[::-1]
    return response[: int(np.sum(energy_to_come > energy_to_come[0] * 10 ** (-DECAY_DB / 10)))]


def _simulator() -> ModuleType:
    try:
        import pyroomacoustics
    except ImportError:
        raise ConfigError(
            "simulated rooms need the package pyroomacoustics: pip install 'timbre[prep]'"
        ) from None
    module: ModuleType = pyroomacoustics
    return module
