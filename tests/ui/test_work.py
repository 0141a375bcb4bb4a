"""What the page gives is what `timbre restore` gives, and an upload is gone afterwards."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from timbre import audio
from timbre.audio import SAMPLE_RATE
from timbre.audio.synthetic.noise import noise
from timbre.audio.synthetic.voice import voice
from timbre.errors import AudioError
from timbre.restore import command as restore
from timbre.ui.work import Choice, Limits, restore_upload

CHOICE = Choice("offline", strength=0.7, dry=0.1, max_lift_db=6.0)
OPTIONS = ["--strength", "0.7", "--dry", "0.1", "--max-lift-db", "6", "--device", "cpu"]


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("recording") / "voice.flac"
    audio.write(path, voice(1.0, rng) + 0.02 * noise("white", 1.0, rng), SAMPLE_RATE)
    return path


def test_two_visitors_at_once_get_what_restore_gives_bit_for_bit(
    recording: Path, tmp_path: Path
) -> None:
    expected = tmp_path / "expected.wav"
    assert restore.main([str(recording), str(expected), *OPTIONS]) == 0
    shares: list[float] = []

    def visit(name: str) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        upload = folder / "my voice.flac"
        shutil.copy(recording, upload)
        done = restore_upload(
            upload, CHOICE, Limits(), folder, lambda share, _: shares.append(share)
        )
        assert [path.name for path in folder.iterdir()] == ["my voice-restored.wav"]
        assert done.comparison.count("data:audio/flac;base64,") == 3
        assert "Denoised (df3)" in done.comparison and str(folder) not in done.comparison
        return done.path

    with ThreadPoolExecutor(2) as pool:
        for path in pool.map(visit, ["one", "two"]):
            assert path.read_bytes() == expected.read_bytes()
    assert shares[0] == 0 and shares[-1] == 1


BAD = {
    "empty.wav": (b"", "empty.wav: "),
    "film.mp4": (b"\x00\x00\x00\x18ftypmp42" + bytes(200), "film.mp4: "),
    "<b>.txt": (b"no sound", "<b>.txt: "),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_gets_restores_own_message_without_its_folder(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, begin = BAD[name]
    upload = tmp_path / name
    upload.write_bytes(data)
    assert restore.main([str(upload), str(tmp_path / "out.wav")]) == 1
    message = capsys.readouterr().err.removeprefix("timbre: error: ").strip()
    with pytest.raises(AudioError) as error:
        restore_upload(upload, Choice(), Limits(), tmp_path, lambda *_: None)
    assert str(error.value) == message.replace(f"{tmp_path}/", "")
    assert str(error.value).startswith(begin) and not upload.exists()


@pytest.mark.parametrize(
    ("samples", "limits", "message"),
    [
        (61 * 8000, Limits(minutes=1), "long.wav has 1.0 minutes; this page takes up to 1"),
        (800_000, Limits(megabytes=1), "long.wav has 2 MB; this page takes up to 1"),
    ],
)
def test_too_large_a_file_is_refused_before_the_work(
    samples: int, limits: Limits, message: str, tmp_path: Path
) -> None:
    upload = tmp_path / "long.wav"
    audio.write(upload, np.zeros(samples, np.float32), 8000)
    with pytest.raises(AudioError, match=message):
        restore_upload(upload, Choice("nothing"), limits, tmp_path, lambda *_: None)
    assert not upload.exists()
