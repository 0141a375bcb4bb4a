"""Ogg files: every stream of them, or a refusal."""

import numpy as np
import pytest

from tests.audio.tone import tone
from timbre import audio
from timbre.errors import AudioError


def encode(hz: float, seconds: float, subtype: str = "VORBIS", rate: int = 48_000) -> bytes:
    return audio.encode_wave(tone(hz, rate, seconds), rate, "OGG", subtype)


def pages_of(data: bytes) -> list[bytes]:
    return [b"OggS" + page for page in data.split(b"OggS")[1:]]


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
@pytest.mark.parametrize("same_serial", [True, False])
def test_chained_streams_are_read_one_behind_the_other(subtype: str, same_serial: bool) -> None:
    first = encode(440, 0.5, subtype)
    second = first if same_serial else encode(880, 0.3, subtype)
    both, _ = audio.decode_bytes(first + second, "a.ogg")
    parts = [audio.decode_bytes(data, "a.ogg")[0] for data in (first, second)]
    np.testing.assert_array_equal(both, np.concatenate(parts, axis=1))


def test_streams_of_two_rates_in_one_file_are_refused() -> None:
    data = encode(440, 0.2) + encode(440, 0.2, rate=44_100)
    with pytest.raises(AudioError, match=r"a\.ogg: holds sounds of different layouts"):
        audio.decode_bytes(data, "a.ogg")


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_sounds_that_run_at_one_time_are_refused(subtype: str) -> None:
    first, second = (pages_of(encode(hz, 0.3, subtype)) for hz in (440, 880))
    both = b"".join([first[0], second[0], *first[1:], *second[1:]])
    with pytest.raises(AudioError, match=r"a\.ogg: holds several sounds at one time; write each"):
        audio.decode_bytes(both, "a.ogg")


def test_what_follows_the_last_stream_is_no_sound() -> None:
    data = encode(440, 0.2)
    np.testing.assert_array_equal(
        audio.decode_bytes(data + b"TAG" + bytes(125), "a.ogg")[0], audio.decode_bytes(data, "")[0]
    )


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_what_is_missing_is_noticed_wherever_it_is(subtype: str) -> None:
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 3 * 48_000).astype(np.float32)
    data = audio.encode_wave(noise, 48_000, "OGG", subtype)
    pages = pages_of(data)
    assert len(pages) > 5 and b"".join(pages) == data
    faults = [
        data[:-5],
        data[: len(data) // 2],
        b"".join(pages[:-1]),
        b"".join(pages[1:]),
        pages[-1],
        b"".join(pages[:3] + pages[4:]),  # a page of the middle is gone
        b"".join(pages[:-1]) + data,  # the first of two breaks off
        data + data[: len(data) // 2],
        data + b"some bytes" + data,
    ]
    for fault in faults:
        with pytest.raises(AudioError, match=r"a\.ogg: (breaks off|damaged)"):
            audio.decode_bytes(fault, "a.ogg")
