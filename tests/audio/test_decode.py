"""Audio files in."""

import math
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.audio.tone import tone
from timbre import audio
from timbre.errors import AudioError


def test_read_mono_is_the_mean_of_the_channels_at_48_khz(tmp_path: Path) -> None:
    wave = np.stack([tone(500, 24000), np.zeros_like(tone(500, 24000))])
    audio.write(tmp_path / "a.wav", wave, 24000, "FLOAT")
    mono = audio.read_mono(tmp_path / "a.wav")
    assert mono.shape == (24000,)
    assert abs(audio.level_db(mono[2400:-2400]) - 20 * math.log10(0.25 / math.sqrt(2))) < 0.01


def test_unusable_files_are_named_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "empty.wav").write_bytes(b"")
    (tmp_path / "text.wav").write_text("this is no audio")
    audio.write(tmp_path / "whole.flac", tone(440, 48000), 48000)
    whole = (tmp_path / "whole.flac").read_bytes()
    (tmp_path / "cut.flac").write_bytes(whole[: len(whole) // 2])
    soundfile.write(tmp_path / "nan.wav", np.array([0.0, np.nan]), 48000, subtype="FLOAT")
    soundfile.write(tmp_path / "nothing.wav", np.zeros(0), 48000)
    for name in ["empty.wav", "text.wav", "cut.flac", "nan.wav", "nothing.wav"]:
        with pytest.raises(AudioError, match=name):
            audio.read(tmp_path / name)
    with pytest.raises(FileNotFoundError, match=r"gone\.wav"):
        audio.read(tmp_path / "gone.wav")


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"\0\0\0\x1cftypM4A \0\0\2\0", "MP4 or M4A"),
        (b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81\1", "Matroska or WebM"),
        (b"\xff\xf1\x50\x80\x2e\x7f\xfc\x21", "AAC"),
        (b"OggS\0\6" + bytes(20) + b"\1\x33" + b"\x7fFLAC\1\0\0\1fLaC", "FLAC in Ogg"),
    ],
)
def test_a_format_that_is_not_read_is_named_with_a_way_out(head: bytes, kind: str) -> None:
    with pytest.raises(AudioError, match=rf"^a: {kind}, .*: ffmpeg -i IN OUT\.flac$"):
        audio.decode_bytes(head + bytes(4096), "a")
