import numpy as np
import pytest
from numpy.typing import NDArray

from timbre.audio.synthetic.room import DIRECT_DELAY, room_response

RATE = 48_000


def decay_seconds(response: NDArray[np.float32]) -> float:
    """RT60 from the -5 to -35 dB slope of Schroeder's backward integral."""
    energy = np.cumsum(np.square(response, dtype=np.float64)[::-1])[::-1]
    level = 10 * np.log10(energy / energy[0] + 1e-30)
    where = np.flatnonzero((level <= -5) & (level >= -35))
    return float(-60 / np.polyfit(where / RATE, level[where], 1)[0])


@pytest.mark.parametrize("rt60_seconds", [0.2, 0.4, 0.8, 1.5])
@pytest.mark.parametrize("seed", range(3))
def test_room_decays_in_the_time_asked_for(rt60_seconds: float, seed: int) -> None:
    response = room_response(rt60_seconds, np.random.default_rng(seed))
    assert abs(decay_seconds(response) / rt60_seconds - 1) < 0.15


def test_room_has_its_direct_path_of_one_at_the_known_sample() -> None:
    for delay in (0, DIRECT_DELAY, 500):
        response = room_response(0.3, np.random.default_rng(1), direct_delay=delay)
        assert int(np.argmax(np.abs(response))) == delay
        assert response[delay] == 1.0
        assert not response[:delay].any()


def test_room_loses_its_highs_first() -> None:
    response = room_response(0.8, np.random.default_rng(0))[DIRECT_DELAY:]
    early, late = (
        np.abs(np.fft.rfft(response[start : start + 9600])) ** 2 for start in (2400, 16800)
    )
    low, high = slice(100, 600), slice(2000, 4000)
    assert late[high].sum() / late[low].sum() < 0.2 * early[high].sum() / early[low].sum()
