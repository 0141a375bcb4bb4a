"""What `evaluate --sounds` writes is what the systems give, and can be listened to."""

from pathlib import Path

import numpy as np
import pytest

from tests.help.evaluations import run
from tests.help.made_shards import make_shards
from timbre import audio
from timbre.evaluate import command as evaluate
from timbre.listen import command as listen


def test_sounds_are_what_systems_give_and_make_a_listening_test(
    better_run: Path, tmp_path: Path
) -> None:
    manifest = make_shards(tmp_path / "shards", [2], [2], seconds=0.5)
    more = ("--max-pairs", "2", "--sounds", "1", "--figures", "si_sdr")
    run([f"twice={better_run.parent / 'g.safetensors'}"], manifest, tmp_path, *more)
    (clean,) = audio.find_below(str(tmp_path / "sounds" / "clean"))
    sides = {
        name: audio.read_mono(str(tmp_path / "sounds" / name / clean))
        for name in ("clean", "df3", "twice")
    }
    # The degraded side of made shards is half the clean one; the generator doubles it.
    np.testing.assert_allclose(2 * sides["df3"], sides["clean"], atol=1e-4)
    middle = slice(2000, -2000)
    np.testing.assert_allclose(sides["twice"][middle], sides["clean"][middle], 0.01, 1e-3)
    page = tmp_path / "test.html"
    assert listen.main([str(tmp_path / "sounds"), "--out", str(page), "--seconds", "1"]) == 0
    assert page.exists()


def test_sounds_without_pairs_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["none", "--stress", "--sounds", "1", "--out", "nowhere"]
    assert evaluate.main(words) == 2
    assert "--sounds: needs --data" in capsys.readouterr().err
