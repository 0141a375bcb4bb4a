"""Our spectra and distances equal those of auraloss and librosa where they measure the same.

Of librosa only the mel filters: its ``stft`` compiles for 16 s in a fresh environment, and auraloss
has magnitudes too.
"""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from timbre.audio import SAMPLE_RATE
from timbre.audio.spectra import MEL_FLOOR, RESOLUTIONS, LogMel, Stft, pair_gain
from timbre.train.losses.reconstruction import ReconstructionLoss
from timbre.train.losses.spectral_terms import SPECTRUM_FLOOR

freq = pytest.importorskip("auraloss.freq")
librosa = pytest.importorskip("librosa")
EACH = pytest.mark.parametrize(("n_fft", "bands"), RESOLUTIONS)


def pair() -> tuple[Tensor, Tensor]:
    """Restored and clean ``(2, 24000)``, noises of unit level.

    Silent at the ends, which auraloss mirrors where we go on with zeros.
    """
    rng = torch.Generator().manual_seed(0)
    clean, error = F.pad(torch.randn(2, 2, 24000 - 4096, generator=rng), (2048, 2048))
    clean = clean * pair_gain(clean)
    return 0.6 * clean + 0.3 * error, clean


def auraloss_magnitudes(waves: Tensor, n_fft: int) -> Tensor:
    """Return ``(batch, bins, frames)``, at our windows' unit energy; theirs is 3/8 of the length."""
    magnitudes: Tensor = freq.STFTLoss(n_fft, n_fft // 4, n_fft).stft(waves)[0]
    return magnitudes / math.sqrt(0.375 * n_fft)


def librosa_log_mel(magnitudes: Tensor, n_fft: int, bands: int) -> Tensor:
    filters = librosa.filters.mel(sr=SAMPLE_RATE, n_fft=n_fft, n_mels=bands)
    return torch.log(torch.from_numpy(filters) * (SAMPLE_RATE / n_fft) @ magnitudes + MEL_FLOOR)


@EACH
def test_magnitudes_equal_auralosss(n_fft: int, bands: int) -> None:
    _, clean = pair()
    ours = Stft(n_fft, n_fft // 4)(clean).abs()
    torch.testing.assert_close(ours, auraloss_magnitudes(clean, n_fft), atol=2e-5, rtol=1e-4)


@EACH
def test_log_mel_bands_equal_librosas(n_fft: int, bands: int) -> None:
    magnitudes = Stft(n_fft, n_fft // 4)(pair()[1]).abs()
    theirs = librosa_log_mel(magnitudes, n_fft, bands)
    torch.testing.assert_close(LogMel(n_fft, bands)(magnitudes), theirs, atol=1e-4, rtol=0)


def test_the_mel_term_equals_one_made_of_auralosss_spectra_and_librosas_bands() -> None:
    distances = []
    for n_fft, bands in RESOLUTIONS:
        magnitudes = [auraloss_magnitudes(wave, n_fft) for wave in pair()]
        magnitudes_with_floor = [(m.square() + SPECTRUM_FLOOR**2).sqrt() for m in magnitudes]
        restored, clean = (librosa_log_mel(m, n_fft, bands) for m in magnitudes_with_floor)
        distances.append((restored - clean).abs().mean())
    restored, clean = (wave[:, None] for wave in pair())
    term = ReconstructionLoss()(restored, clean, torch.full((2,), SAMPLE_RATE / 2))["mel"]
    assert term.item() == pytest.approx(torch.stack(distances).mean().item(), rel=1e-4)


@EACH
def test_the_mel_distance_equals_auralosss_own_where_no_floor_is_near(
    n_fft: int, bands: int
) -> None:
    theirs = freq.STFTLoss(
        n_fft,
        n_fft // 4,
        n_fft,
        w_sc=0.0,
        scale="mel",
        n_bins=bands,
        sample_rate=SAMPLE_RATE,
    )
    log_mel, stft = LogMel(n_fft, bands), Stft(n_fft, n_fft // 4)
    inside = [wave[:, 2048:-2048] for wave in pair()]
    ours = [log_mel(stft(F.pad(wave, (n_fft, n_fft))).abs())[..., 6:-6] for wave in inside]
    # Mirrored ends are noise as well: the same mean, but for chance.
    expected = theirs(*(wave[:, None] for wave in inside)).item()
    assert (ours[0] - ours[1]).abs().mean().item() == pytest.approx(expected, rel=0.03)
