"""Opinions without a reference are those of the package whose weights they use."""

import sys

import numpy as np
import pytest
import torch
from torchaudio.functional import resample

from timbre.audio import SAMPLE_RATE
from timbre.audio.synthetic.noise import noise as made_noise
from timbre.audio.synthetic.voice import voice as made_voice
from timbre.errors import MissingPackageError
from timbre.evaluate import dnsmos


def voice(seconds: float, noise: float = 0.0) -> torch.Tensor:
    rng = np.random.default_rng(3)
    clean = made_voice(seconds, rng)
    return torch.from_numpy(clean + noise * made_noise("pink", seconds, rng))


@pytest.mark.parametrize("seconds", [3.0, 11.2])
def test_scores_are_those_of_speechmos(seconds: float) -> None:
    pytest.importorskip("speechmos")
    package = pytest.importorskip("speechmos.dnsmos")
    wave = voice(seconds, 0.2)
    theirs = package.run(resample(wave, SAMPLE_RATE, 16_000).clamp(-1, 1).numpy(), sr=16_000)
    ours = dnsmos.opinion(wave)
    assert ours.signal == pytest.approx(theirs["sig_mos"], abs=1e-4)
    assert ours.background == pytest.approx(theirs["bak_mos"], abs=1e-4)
    assert ours.overall == pytest.approx(theirs["ovrl_mos"], abs=1e-4)


def test_noise_is_heard_in_the_background_and_silence_is_nan() -> None:
    pytest.importorskip("speechmos")
    assert dnsmos.opinion(voice(2.0)).background > dnsmos.opinion(voice(2.0, 0.5)).background + 0.3
    for wave in (torch.zeros(SAMPLE_RATE), torch.full((SAMPLE_RATE,), torch.nan)):
        assert np.isnan(dnsmos.opinion(wave)).all()


@pytest.mark.parametrize("package", dnsmos.PACKAGES)
def test_a_missing_package_is_named(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    if package != "speechmos":
        pytest.importorskip("speechmos")
    with pytest.raises(MissingPackageError, match=rf"DNSMOS needs the package {package}: pip"):
        dnsmos.opinion(voice(1.0))
