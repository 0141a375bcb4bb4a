"""The audio filter for pipecat, with the real package."""

import asyncio

import numpy as np
import pytest

from tests.help.denoise_inputs import noisy_voice
from timbre.audio import Wave, resample, to_int16
from timbre.errors import MissingPackageError
from timbre.packages import missing
from timbre.restore.live import LiveRestorer, Mix

needs_pipecat = pytest.mark.skipif(
    missing("pipecat") is not None, reason="pipecat-ai is not installed; .ci/run does not do it"
)


def through(wave: Wave, rate: int, piece: int, enable: list[bool] | None = None) -> Wave:
    """Return ``(samples,)`` through the filter in pieces, each sent with the filter on or off."""
    from pipecat.frames.frames import FilterEnableFrame

    from timbre.agents import TimbreFilter

    async def run() -> bytes:
        audio_filter = TimbreFilter(checkpoint=None, mix=Mix(input_gain_db=3.0))
        await audio_filter.start(rate)
        parts = []
        for number, first in enumerate(range(0, len(wave), piece)):
            if enable:
                await audio_filter.process_frame(FilterEnableFrame(enable[number % len(enable)]))
            parts.append(await audio_filter.filter(to_int16(wave[first : first + piece]).tobytes()))
        await audio_filter.stop()
        assert await audio_filter.filter(b"1234") == b"1234"
        return b"".join(parts)

    return np.frombuffer(asyncio.run(run()), np.int16).astype(np.float32) / 32768


@needs_pipecat
@pytest.mark.parametrize("piece", [960, 480, 333])
def test_audio_at_48_khz_is_what_a_live_restorer_gives(piece: int) -> None:
    wave = noisy_voice(24_000).numpy()
    restorer = LiveRestorer.load(None, mix=Mix(input_gain_db=3.0))
    expected = restorer.push(to_int16(wave)[None])[0]
    result = through(wave, 48_000, piece)
    np.testing.assert_allclose(result, expected[: len(result)], atol=1 / 32768)
    assert len(result) == len(expected)


@needs_pipecat
@pytest.mark.parametrize("rate", [8_000, 16_000])
def test_audio_of_a_call_comes_back_at_its_rate_and_soon(rate: int) -> None:
    wave = resample(noisy_voice(48_000).numpy(), 48_000, rate)
    result = through(wave, rate, rate // 50)
    late = len(wave) - len(result)
    assert 0.03 * rate < late < 0.15 * rate
    restorer = LiveRestorer.load(None, mix=Mix(input_gain_db=3.0))
    whole = np.concatenate(
        [restorer.push(resample(wave, rate, 48_000)[None]), restorer.flush()], axis=1
    )
    expected = resample(whole[0], 48_000, rate)[: len(result)]
    likeness = np.corrcoef(result, expected)[0, 1]
    assert likeness > 0.98 > np.corrcoef(result, wave[: len(result)])[0, 1]


@needs_pipecat
def test_a_filter_that_is_turned_off_gives_what_it_takes() -> None:
    wave = noisy_voice(4_800).numpy()
    np.testing.assert_array_equal(through(wave, 48_000, 960, [False]), to_int16(wave) / 32768)


@pytest.mark.skipif(missing("pipecat") is None, reason="pipecat-ai is installed")
def test_without_pipecat_one_line_says_what_to_install() -> None:
    with pytest.raises(MissingPackageError, match=r"pip install 'timbre\[agents\]'"):
        import timbre.agents  # noqa: F401
