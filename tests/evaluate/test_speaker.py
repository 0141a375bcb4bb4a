"""The speaker encoder is Resemblyzer's, and hears who speaks."""

import sys

import numpy as np
import pytest
import torch
from torch import Tensor

from timbre.audio.synthetic.voice import voice as made_voice
from timbre.errors import MissingPackageError
from timbre.evaluate import speaker


def voice(seed: int, seconds: float = 3.0) -> Tensor:
    return torch.from_numpy(made_voice(seconds, np.random.default_rng(seed)))


@pytest.mark.parametrize("samples", [9_000, 26_000, 57_321])
def test_embeddings_are_those_of_resemblyzer(samples: int) -> None:
    package = pytest.importorskip("resemblyzer", exc_type=Exception)
    wave = 0.1 * torch.randn(samples, generator=torch.Generator().manual_seed(0))
    theirs = package.VoiceEncoder("cpu", verbose=False).embed_utterance(wave.numpy())
    with torch.inference_mode():
        ours = speaker._encoder(speaker._weights()).embed(wave)
    np.testing.assert_allclose(ours.numpy(), theirs, atol=1e-5)


def test_a_voice_is_most_like_itself_at_any_level() -> None:
    pytest.importorskip("resemblyzer", exc_type=Exception)
    one, other = voice(1), voice(2)
    assert speaker.similarity(0.1 * one, one) == pytest.approx(1, abs=1e-4)
    assert speaker.similarity(other, one) < speaker.similarity(one + 0.01 * other, one) < 1
    assert np.isnan(speaker.similarity(torch.zeros_like(one), one))


def test_pauses_are_cut_where_the_reference_has_them() -> None:
    wave = torch.cat([torch.zeros(16_000), torch.ones(8000), torch.full((16_000,), 1e-3)])
    mask = speaker.voice_mask(wave)
    near = speaker.NEAR_FRAMES * speaker.MEL_HOP
    assert mask.nonzero()[[0, -1], 0].tolist() == [16_000 - near, 24_000 + near - 1]
    assert mask.sum() == 8000 + 2 * near


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "resemblyzer", None)
    with pytest.raises(MissingPackageError, match=r"Resemblyzer.*timbre\[mos\]"):
        speaker.similarity(voice(1), voice(1))
