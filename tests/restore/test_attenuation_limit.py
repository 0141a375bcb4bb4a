"""The attenuation limit means what it means in the official package."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.help.official_deepfilternet import INSTALLED, Official
from tests.restore.live.test_restorer import live
from tests.restore.sounds import noisy
from timbre import audio, cli
from timbre.errors import AudioError
from timbre.restore import Restorer
from timbre.restore.live import LiveRestorer, Mix
from timbre.restore.output import Output


@pytest.mark.official
@pytest.mark.skipif(not INSTALLED, reason="deepfilternet is not installed")
def test_without_correction_the_limit_is_the_official_packages() -> None:
    wave, official = noisy(1.1), Official()
    level = np.float32(audio.gain(-25 - audio.active_level_db(wave)))
    restorer = Restorer.load(None, device="cpu")
    for limit_db in (0, 6, 12.5, -12.5, 100):
        enhanced = official._enhance(
            official.model,
            official.state,
            torch.from_numpy(wave * level)[None],
            pad=True,
            atten_lim_db=limit_db,
        )
        result = restorer(wave, 48_000, attenuation_limit_db=limit_db)
        np.testing.assert_allclose(result * level, enhanced[0], atol=2e-6)


def test_a_limit_is_so_much_of_the_input_in_phase_in_files_and_live(
    restorer: Restorer, tmp_path: Path, checkpoint_path: str
) -> None:
    wave = noisy(0.5)
    share = 10 ** (-9 / 20)
    whole = restorer(wave, 48_000)
    expected = (1 - share) * whole + share * wave
    np.testing.assert_allclose(restorer(wave, 48_000, attenuation_limit_db=9), expected, atol=1e-6)
    audio.write(tmp_path / "in.wav", wave[None], 48_000, "FLOAT")
    words = [str(tmp_path / name) for name in ("in.wav", "out.wav")]
    words += ["--checkpoint", checkpoint_path, "--attenuation-limit-db", "9", "--device", "cpu"]
    assert cli.main(["restore", *words]) == 0
    np.testing.assert_allclose(audio.read(tmp_path / "out.wav")[0][0], expected, atol=1e-5)
    mixes = [Mix(), Mix(attenuation_limit_db=9)]
    one, other = (live(LiveRestorer(None, None, mix=mix), wave[None], [480]) for mix in mixes)
    np.testing.assert_allclose(other, (1 - share) * one + share * wave, atol=1e-6)


def test_a_limit_beside_a_share_of_the_input_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=r"attenuation_limit_db 12.*dry 0\.1.*one of the two"):
        Output(1.0, 0.1, attenuation_limit_db=12)
    with pytest.raises(AudioError, match="attenuation_limit_db nan: expected decibels"):
        Output(attenuation_limit_db=math.nan)
    audio.write(tmp_path / "in.wav", noisy(0.1)[None], 48_000)
    words = [str(tmp_path / name) for name in ("in.wav", "out.wav")]
    for stream in ([], ["--stream"]):
        limits = ["--dry", "0.1", "--attenuation-limit-db", "12"]
        assert cli.main(["restore", *stream, *words, *limits]) == 2
    assert not (tmp_path / "out.wav").exists()
