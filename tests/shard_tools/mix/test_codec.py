"""Telephone and radio: in time, in their band, the same each time, and one line where ffmpeg is not."""

import shutil

import numpy as np
import pytest

from shard_tools.mix import codec
from shard_tools.mix.codec import CODECS, USUAL, fingerprint, through_codec
from timbre.audio import SAMPLE_RATE, Wave, level_db
from timbre.audio.align import estimate_offset
from timbre.audio.synthetic.voice import voice
from timbre.errors import ConfigError

needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")


@pytest.fixture(scope="module")
def speech() -> Wave:
    return voice(1.31, np.random.default_rng(3))


def above(wave: Wave, hz: float) -> Wave:
    spectrum = np.fft.rfft(wave)
    spectrum[np.fft.rfftfreq(len(wave), 1 / SAMPLE_RATE) < hz] = 0
    result: Wave = np.fft.irfft(spectrum, len(wave)).astype(np.float32)
    return result


@needs_ffmpeg
@pytest.mark.parametrize("name", USUAL)
def test_what_comes_out_is_as_long_in_time_and_ends_where_the_band_does(
    speech: Wave, name: str
) -> None:
    coded = through_codec(speech, name)
    assert coded.shape == speech.shape and coded.dtype == np.float32
    assert estimate_offset(speech, coded, 2400).offset == 0
    assert abs(level_db(coded) - level_db(speech)) < 2
    edge_hz = CODECS[name].rate / 2
    assert level_db(above(coded, 1.1 * edge_hz)) < level_db(speech) - 60
    assert level_db(above(coded, 0.7 * edge_hz)) > level_db(above(speech, 0.7 * edge_hz)) - 40


@needs_ffmpeg
def test_a_fingerprint_is_the_same_each_time_and_another_for_other_codecs() -> None:
    first = fingerprint(("alaw", "gsm"))
    fingerprint.cache_clear()
    assert fingerprint(("gsm", "alaw")) == first != fingerprint(("alaw",))


def test_without_ffmpeg_one_line_says_what_to_install(
    speech: Wave, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codec, "FFMPEG", "no-such-ffmpeg")
    codec._delay.cache_clear()
    with pytest.raises(ConfigError) as failure:
        through_codec(speech, "gsm")
    assert str(failure.value) == (
        "variety.telephone_codecs: gsm: needs the program no-such-ffmpeg, which is not there: "
        "apt-get install ffmpeg"
    )
