"""RNNoise through ctypes, beside the Python of the package that its library comes from."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.help.degrade_inputs import Clips, assert_in_time, make_clips
from timbre.audio import HOP, Wave, from_int16, to_int16
from timbre.denoise import load_denoiser
from timbre.denoise.rnnoise import LATENCY_SAMPLES, Rnnoise
from timbre.errors import ConfigError
from timbre.restore.hop_runner import HopRunner

package = pytest.importorskip("pyrnnoise.pyrnnoise")
library = pytest.importorskip("pyrnnoise.rnnoise")


@pytest.fixture(scope="module")
def clips() -> Clips:
    return make_clips()


@pytest.fixture(scope="module")
def noisy(clips: Clips) -> list[Wave]:
    """Whole 16-bit values, as the package's Python takes them."""
    return [from_int16(to_int16(pair[1])) for pair in clips]


def of_package(clip: Wave) -> Wave:
    """What the package makes of a clip, ``(samples,)`` in its whole hops, late."""
    state = library.create()
    hops = to_int16(clip)[: len(clip) // HOP * HOP].reshape(-1, HOP)
    frames = [library.process_mono_frame(state, hop)[0] for hop in hops]
    library.destroy(state)
    return np.concatenate(frames)


def test_rnnoise_equals_its_own_package(noisy: list[Wave]) -> None:
    for clip, result in zip(noisy, Rnnoise().denoise_clips(noisy), strict=True):
        theirs = of_package(clip)[LATENCY_SAMPLES:]
        # The package cuts what is behind the point.
        np.testing.assert_array_equal(np.trunc(result * 32768)[: len(theirs)], theirs)
        assert result.dtype == np.float32


def test_rnnoise_gives_clips_as_long_as_they_were_and_in_time(clips: Clips) -> None:
    assert_in_time(clips, "rnnoise")


@pytest.mark.parametrize("sizes", [[HOP], [1, 777, 480, 2399]])
def test_hops_of_any_cutting_give_what_the_whole_gives(noisy: list[Wave], sizes: list[int]) -> None:
    denoiser = Rnnoise()
    shortest = min(map(len, noisy))
    rows = np.stack([clip[:shortest] for clip in noisy])
    runner, pieces, start = HopRunner(denoiser.by_hop(), len(rows)), [], 0
    while start < shortest:
        size = sizes[len(pieces) % len(sizes)]
        pieces.append(runner.push(torch.from_numpy(rows[:, start : start + size])))
        start += size
    pieces.append(runner.flush())
    result = torch.cat(pieces, dim=1).numpy()
    np.testing.assert_array_equal(result, np.stack(denoiser.denoise_clips(list(rows))))


@pytest.mark.parametrize("samples", [0, 1, 479, 480, 481])
def test_a_short_clip_keeps_its_length(samples: int) -> None:
    (result,) = Rnnoise().denoise_clips([np.full(samples, 0.1, np.float32)])
    assert result.shape == (samples,)


def test_a_library_that_is_not_there_or_something_else_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pyrnnoise").mkdir()
    (tmp_path / "pyrnnoise/__init__.py").touch()
    monkeypatch.delitem(sys.modules, "pyrnnoise")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("timbre.denoise.rnnoise.LIBRARIES", {})
    with pytest.raises(ConfigError, match=r"^denoiser rnnoise: .*librnnoise\.so: no such file"):
        load_denoiser("rnnoise")
    (tmp_path / "pyrnnoise/librnnoise.so").write_bytes(b"no library")
    with pytest.raises(ConfigError, match=r"^denoiser rnnoise: .*not a library of RNNoise"):
        load_denoiser("rnnoise")
