"""Simulated rooms."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest

from shard_tools.mix import reverb, rooms
from shard_tools.mix.rooms import Room
from timbre.audio import SAMPLE_RATE, Wave
from timbre.audio.spectra import fast_length
from timbre.errors import ConfigError

pyroomacoustics = pytest.importorskip("pyroomacoustics")

RoomDraw = tuple[Room, Wave]


@pytest.fixture(scope="module")
def room_draws() -> list[RoomDraw]:
    def each() -> Iterator[RoomDraw]:
        for number in range(30):
            rng = np.random.default_rng([7, number])
            room = rooms.draw_room(rng)
            yield room, rooms.impulse_response(room, rng)

    return list(each())


def below_4_khz(response: Wave) -> Wave:
    length = fast_length(2 * len(response))
    spectrum = np.fft.rfft(response, length)
    spectrum[np.fft.rfftfreq(length, 1 / SAMPLE_RATE) > 4000] = 0
    low_part: Wave = np.fft.irfft(spectrum, length)[: len(response)].astype(np.float32)
    return low_part


def test_rooms_ring_as_long_as_asked(room_draws: list[RoomDraw]) -> None:
    expected = np.array([room.rt60_seconds for room, _ in room_draws])
    seconds = np.array([reverb.decay_seconds(below_4_khz(response)) for _, response in room_draws])
    assert np.all(np.abs(seconds / expected - 1) < 0.3)
    assert abs(np.median(seconds / expected) - 1) < 0.1
    assert expected.min() < 0.22 and expected.max() > 0.5


def test_air_and_the_whole_band_shorten_the_decay_little(room_draws: list[RoomDraw]) -> None:
    for room, response in room_draws:
        seconds = reverb.decay_seconds(response)
        assert seconds is not None and 0.65 < seconds / room.rt60_seconds < 1.1


def test_places_are_inside_and_apart_as_asked(room_draws: list[RoomDraw]) -> None:
    for room, _ in room_draws:
        size, source, microphone = (
            np.array(place) for place in (room.size, room.source, room.microphone)
        )
        assert np.all(size >= rooms.SMALLEST_METRES) and np.all(size <= rooms.LARGEST_METRES)
        for place in (source, microphone):
            assert np.all(place >= 0.5) and np.all(size - place >= 0.5)
        apart = float(np.linalg.norm(source - microphone))
        assert 0.49 < apart < 3.01
        assert apart == pytest.approx(room.direct / SAMPLE_RATE * rooms.SPEED_OF_SOUND, rel=1e-6)


@pytest.mark.parametrize("number", range(8))
def test_the_direct_path_is_the_peak_and_nothing_comes_before(number: int) -> None:
    response = rooms.simulate_room(3, number)
    direct = reverb.prepare(response)[1]
    assert response[direct] > 0
    assert np.abs(response[:direct]).max() < 0.01 * response[direct]


def test_the_direct_path_falls_with_distance(room_draws: list[RoomDraw]) -> None:
    for room, response in room_draws:
        metres = room.direct / SAMPLE_RATE * rooms.SPEED_OF_SOUND
        # Reflections may fall on the same sample; the high pass takes less than 1 %.
        assert response[room.direct] == pytest.approx(1 / metres, rel=0.02)


def test_a_drowned_direct_path_is_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    simulate = rooms.impulse_response
    responses: list[Wave] = []

    def drown_first(room: Room, rng: np.random.Generator) -> Wave:
        response = simulate(room, rng)
        if not responses:
            response[room.direct + 50] = 2 * response[room.direct]
            responses.append(response)
        return response

    monkeypatch.setattr(rooms, "impulse_response", drown_first)
    response = rooms.simulate_room(3, 0)
    assert not np.array_equal(response, responses[0])
    assert np.abs(response[: np.argmax(response)]).max() < 0.01 * response.max()


def test_responses_end_once_they_have_decayed_by_60_db(room_draws: list[RoomDraw]) -> None:
    for room, response in room_draws:
        assert response.dtype == np.float32
        energy = np.square(response, dtype=np.float64)
        assert 10 * np.log10(energy[-1:].sum() / energy.sum()) < -60
        tail = round(0.05 * room.rt60_seconds * SAMPLE_RATE)
        assert -66 < 10 * np.log10(energy[-tail:].sum() / energy.sum()) < -48


def test_images_do_not_add_up_near_zero_hertz(room_draws: list[RoomDraw]) -> None:
    for _, response in room_draws:
        level = 20 * np.log10(np.abs(np.fft.rfft(response, SAMPLE_RATE)) + 1e-9)
        middle = np.median(level[200:4000])
        assert level[:10].max() < middle - 3
        assert level[0] < middle - 8


def test_high_octaves_decay_faster(room_draws: list[RoomDraw]) -> None:
    room, response = max(room_draws, key=lambda pair: pair[0].rt60_seconds)
    tail = response[room.direct + round(0.4 * room.rt60_seconds * SAMPLE_RATE) :]
    power = np.abs(np.fft.rfft(tail, SAMPLE_RATE)) ** 2
    middle, high = power[500:2500].mean(), power[12000:20000].mean()
    assert 10 * np.log10(high / middle) < -10


def test_a_room_depends_on_seed_and_number_alone() -> None:
    before = repr(np.random.get_state())  # noqa: NPY002
    settings = {key: pyroomacoustics.constants.get(key) for key in ("c", "num_threads")}
    first = rooms.simulate_room(1, 4)
    assert before == repr(np.random.get_state())  # noqa: NPY002
    assert settings == {key: pyroomacoustics.constants.get(key) for key in settings}
    assert not np.array_equal(first, rooms.simulate_room(2, 4)[: len(first)])
    assert not np.array_equal(first, rooms.simulate_room(1, 5)[: len(first)])
    code = (
        "import hashlib, numpy, pyroomacoustics, torch\n"
        "numpy.random.seed(9); pyroomacoustics.random.seed(9); torch.set_num_threads(2)\n"
        "pyroomacoustics.constants.set('c', 300.0)\n"
        "pyroomacoustics.constants.set('rir_hpf_enable', False)\n"
        "from shard_tools.mix.rooms import simulate_room\n"
        "simulate_room(1, 9); print(hashlib.sha256(simulate_room(1, 4).tobytes()).hexdigest())"
    )
    environment = os.environ | {"OMP_NUM_THREADS": "2", "PRA_NUM_THREADS": "3"}
    elsewhere = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert elsewhere.stdout.strip() == hashlib.sha256(first.tobytes()).hexdigest()


def test_names_sort_by_number() -> None:
    assert rooms.room_name(12) == "simulated-0012"


def test_without_pyroomacoustics_the_package_to_install_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "pyroomacoustics", None)
    with pytest.raises(ConfigError, match=r"pip install 'timbre\[prep\]'"):
        rooms.simulate_room(0, 0)
