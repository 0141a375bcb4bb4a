"""A folder of files: on several processes, in a store, and as people have folders."""

import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from tests.help.moved_generators import build
from tests.restore.sounds import encode, noisy, restore
from timbre import audio, cli
from timbre.audio import Wave
from timbre.errors import AudioError, ConfigError
from timbre.restore import Restorer
from timbre.restore.files import FileTask, folder_work, is_below
from timbre.restore.output import FULL_OUTPUT
from timbre.restore.pool import serially
from timbre.storage import files as storage


def test_names_that_lead_out_of_the_folder_are_refused_and_the_rest_goes_on(tmp_path: Path) -> None:
    for path in ("../a.wav", "a/../../b.wav", "/etc/a.wav", "a/\0.wav"):
        assert not is_below(path)
    for path in ("a.wav", "a/b..c/d.wav", "...wav"):
        assert is_below(path)
    memory = fsspec.filesystem("memory")
    data = encode(noisy(0.1))
    memory.pipe_file("/traversal/in/good.wav", data)
    memory.store["/traversal/in/../../evil.wav"] = memory.store["/traversal/in/good.wav"]
    work = folder_work("memory://traversal/in", str(tmp_path / "out"))
    del memory.store["/traversal/in/../../evil.wav"]
    assert [Path(task.target).name for task in work.tasks] == ["good.wav"]
    assert len(work.refusals) == 1 and "leads out of the folder" in work.refusals[0]


def test_a_bucket_is_read_and_written(
    checkpoint_path: str,
    restorer: Restorer,
    s3_bucket: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    audio.write(tmp_path / "a.ogg", noisy(0.4), 44_100)
    storage.publish(f"{s3_bucket}/in/deep/a.ogg", (tmp_path / "a.ogg").read_bytes())
    storage.publish(f"{s3_bucket}/in/bad.wav", b"no audio")
    words = ["restore", f"{s3_bucket}/in", f"{s3_bucket}/out", "--checkpoint", checkpoint_path]
    assert cli.main([*words, "--device", "cpu"]) == 1
    assert f"{s3_bucket}/in/bad.wav: not readable as audio" in capsys.readouterr().err
    assert list(storage.find_below(f"{s3_bucket}/out")) == ["deep/a.ogg"]
    restore(restorer, tmp_path / "a.ogg", tmp_path / "b.ogg")
    output, alone = audio.read(f"{s3_bucket}/out/deep/a.ogg"), audio.read(tmp_path / "b.ogg")
    np.testing.assert_array_equal(output[0], alone[0])  # the files differ in their serial numbers
    storage.remove(f"{s3_bucket}/in/bad.wav")
    assert cli.main([*words, "--device", "cpu"]) == 0
    assert "skipped 1 files that exist in" in capsys.readouterr().out


def test_an_output_in_the_input_folder_or_on_the_input_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    audio.write(tmp_path / "in/a.wav", noisy(0.1), 48_000)
    with pytest.raises(ConfigError, match="lies in the input folder"):
        folder_work(f"{tmp_path}/in", f"{tmp_path}/in/../in/deep")
    assert cli.main(["restore", f"{tmp_path}/in/a.wav", f"{tmp_path}/in/../in/a.wav"]) == 2
    assert "is the input; choose another name" in capsys.readouterr().err


def test_processes_do_what_one_does_and_name_the_bad_file(
    checkpoint_path: str, restorer: Restorer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a.wav", "deep/b.flac"):
        audio.write(tmp_path / "in" / name, noisy(0.3), 48_000)
    (tmp_path / "in/bad.wav").write_text("no audio")
    shutil.copy(tmp_path / "in/bad.wav", tmp_path / "in/notes.txt")  # not audio by its name
    stale = tmp_path / f"out/.a.wav.{'0' * 32}.tmp"  # what a killed run leaves
    stale.parent.mkdir()
    stale.touch()
    folders = [f"{tmp_path}/in", f"{tmp_path}/out", "--checkpoint", checkpoint_path]
    assert cli.main(["restore", *folders, "--workers", "2", "--device", "cpu"]) == 1
    out, error = capsys.readouterr()
    assert "2 files, 0:00:01 of sound" in out
    assert error.count("timbre: error:") == 1 and "1 of 3 files failed" in error
    assert f"{tmp_path}/in/bad.wav: not readable as audio" in error
    files = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.*")}
    assert files == {"a.wav", "deep/b.flac"}
    restore(restorer, tmp_path / "in/a.wav", tmp_path / "alone.wav")
    assert (tmp_path / "out/a.wav").read_bytes() == (tmp_path / "alone.wav").read_bytes()


def test_links_to_folders_are_followed_once_and_a_loop_ends(tmp_path: Path) -> None:
    audio.write(tmp_path / "in/a.wav", noisy(0.1), 48_000)
    audio.write(tmp_path / "disk2/deep/b.wav", noisy(0.1), 48_000)
    (tmp_path / "in/linked").symlink_to("../disk2")
    (tmp_path / "in/loop").symlink_to(".")
    (tmp_path / "disk2/back").symlink_to("../in")
    work = folder_work(f"{tmp_path}/in", f"{tmp_path}/out")
    assert [task.target for task in work.tasks] == [
        f"{tmp_path}/out/a.wav",
        f"{tmp_path}/out/linked/deep/b.wav",
    ]
    assert [line.partition(": ")[0] for line in work.left_out] == [
        f"{tmp_path}/in/linked/back",
        f"{tmp_path}/in/loop",
    ]


def test_what_is_no_audio_for_timbre_is_named_with_the_reason(
    through: Restorer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "in"
    audio.write(folder / "a.wav", noisy(0.1), 48_000)
    soundfile.write(folder / "b.caf", noisy(0.1), 48_000, format="CAF")
    audio.write(folder / "c.WAVE", noisy(0.1), 48_000)
    for name in ("voice.m4a", "film.MP4", "._a.wav", "notes.txt", "._notes.txt", "picture.jpg"):
        (folder / name).write_bytes(b"\0\5\x16\7 and more")
    os.mkfifo(folder / "live.wav")
    work = folder_work(str(folder), f"{tmp_path}/out")
    assert [Path(task.source).name for task in work.tasks] == ["a.wav", "b.caf", "c.WAVE"]
    reasons = {Path(line.partition(": ")[0]).name: line for line in work.left_out}
    assert set(reasons) == {"voice.m4a", "film.MP4", "._a.wav", "live.wav"}
    assert "ffmpeg" in reasons["voice.m4a"] and "macOS" in reasons["._a.wav"]
    assert "pipe" in reasons["live.wav"]
    for task in work.tasks:
        restore(through, Path(task.source), Path(task.target))
        assert soundfile.info(task.target).format == soundfile.info(task.source).format


@pytest.mark.skipif(os.geteuid() == 0, reason="root enters every folder")
def test_a_folder_that_may_not_be_entered_is_a_failure_and_the_rest_goes_on(tmp_path: Path) -> None:
    for name in ("a/a.wav", "b/b.wav"):
        audio.write(tmp_path / "in" / name, noisy(0.1), 48_000)
    (tmp_path / "in/b").chmod(0)
    try:
        work = folder_work(f"{tmp_path}/in", f"{tmp_path}/out")
    finally:
        (tmp_path / "in/b").chmod(0o755)
    assert [Path(task.source).name for task in work.tasks] == ["a.wav"]
    assert work.refusals == [f"{tmp_path}/in/b: Permission denied"]


def test_a_file_for_which_memory_is_short_is_a_failure_and_the_rest_goes_on(
    through: Restorer, tmp_path: Path
) -> None:
    class Greedy(Restorer):
        """A restorer that needs a petabyte for a stereo signal."""

        def _mixed(
            self, blocks: Iterable[Tensor], gains: Tensor, strength: float
        ) -> Iterator[Wave]:
            if len(gains) == 2:
                torch.empty(1 << 50)
            yield from super()._mixed(blocks, gains, strength)

    audio.write(tmp_path / "a.wav", np.stack([noisy(0.1), 0.5 * noisy(0.1)]), 48_000)
    audio.write(tmp_path / "b.wav", noisy(0.1), 48_000)
    tasks = [FileTask(f"{tmp_path}/{n}.wav", f"{tmp_path}/out/{n}.wav", 1) for n in "ab"]
    outcomes = list(serially(Greedy(None, None), tasks, FULL_OUTPUT, lambda *_: None))
    assert outcomes[0].result is None and f"{tmp_path}/a.wav: RuntimeError" in str(
        outcomes[0].error
    )
    assert outcomes[1].result is not None and (tmp_path / "out/b.wav").exists()
    assert not (tmp_path / "out/a.wav").exists()


def test_an_output_that_is_not_finite_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    generator = build("spectral", moved=True)
    with torch.no_grad():
        next(generator.parameters()).fill_(torch.nan)
    audio.write(tmp_path / "in/a.wav", noisy(0.3), 48_000)
    with pytest.raises(AudioError, match=r"a\.wav: the restored sound is not finite"):
        restore(Restorer(generator, None), tmp_path / "in/a.wav", tmp_path / "out/a.wav")
    assert not list((tmp_path / "out").glob("*"))
