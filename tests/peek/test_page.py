"""`timbre peek --html`: a page with the very segments that a step of training is computed with."""

import base64
import io
import re
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.help.made_shards import make_shards
from timbre.audio import to_int16
from timbre.peek.command import main
from timbre.shards import DataSource, open_corpus
from timbre.stream import DataMix, PairStream, Place, StreamConfig
from timbre.stream.augment import AugmentConfig, augment

AUGMENT = AugmentConfig(low_pass_share=1.0, hole_share=0.5, noisy_dropout=0.5)
CONFIG = """
data: [{{manifest: {one}}}]
data_changes: [{{from_step: 2, data: [{{manifest: {one}}}, {{manifest: {two}, weight: 2}}]}}]
run_dir: runs/some
global_batch: 4
segment_seconds: 0.1
seed: 5
shuffle_window: 2
generator: {{noisy_input: true, name: spectral}}
augment: {{low_pass_share: 1.0, hole_share: 0.5, noisy_dropout: 0.5}}
"""


@pytest.fixture
def urls(tmp_path: Path) -> list[str]:
    return [make_shards(tmp_path / name, [6, 6], noisy=True) for name in ("one", "two")]


def sounds(page: str) -> list[np.ndarray]:  # type: ignore[type-arg]
    """The sound of every side on a page, in their sequence."""
    texts = re.findall(r'src="data:audio/flac;base64,([^"]+)"', page)
    files = (io.BytesIO(base64.b64decode(data)) for data in texts)
    return [soundfile.read(file, dtype="int16")[0] for file in files]


@pytest.mark.parametrize(("epoch", "start"), [(0, 4), (1, 8)])  # the mix changes between them
def test_the_page_plays_what_a_step_is_computed_with(
    urls: list[str], tmp_path: Path, epoch: int, start: int
) -> None:
    (tmp_path / "run.yaml").write_text(CONFIG.format(one=urls[0], two=urls[1]))
    words = ["--epoch", str(epoch), "--start", str(start), "--world", "2", "--rank", "1"]
    page = tmp_path / "page.html"
    assert main([str(tmp_path / "run.yaml"), *words, "--html", str(page)]) == 0
    one, two = (open_corpus(DataSource(url), "train") for url in urls)
    stream = PairStream(
        [one],
        StreamConfig(4800, 4, 5, 2, 0, noisy=True),
        Place(1, 2),
        [DataMix(2, (one, two._replace(weight=2.0)))],
    )
    stream.load_state_dict(stream.state_dict() | {"epoch": epoch, "sample_in_epoch": start})
    (batch,) = islice(stream, 1)
    sides = augment(batch, AUGMENT, 5)
    assert sides.noisy is not None
    waves = [to_int16(w[row, 0].numpy()) for row in range(2) for w in sides[:3]]
    text = page.read_text()
    page_sounds = sounds(text)
    assert len(page_sounds) == len(waves) == 6
    for sound, wave in zip(page_sounds, waves, strict=True):
        np.testing.assert_array_equal(sound, wave)
    assert [text.index(f"<h3>{key}</h3>") for key in batch.keys] == sorted(
        text.index(f"<h3>{key}</h3>") for key in batch.keys
    )
    assert "http" not in text.replace("http-equiv", "")  # all of it is in the file


def test_a_manifest_alone_is_shown_with_what_training_does_by_default(
    urls: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "p.html"
    assert main([urls[0], "--global-batch", "4", "--html", str(page)]) == 0
    assert {len(sound) for sound in sounds(page.read_text())} == {
        12_000
    }  # as long as the pairs are
    capsys.readouterr()
    long = make_shards(tmp_path / "long", [4], seconds=2.1)
    assert main([long, "--global-batch", "2", "--steps", "2", "--html", str(page)]) == 0
    assert capsys.readouterr().out == f"{page}: 4 segments\n"
    text = page.read_text()
    assert text.count("<section>") == 4 and len(sounds(text)) == 8
    assert "Epoch 0, step 1" in text


def test_what_is_no_config_is_refused_by_its_key(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("data: [{manifest: a}]\nglobal_batch: none\nsteps: 7\n")
    assert main([str(path)]) == 2
    assert "global_batch" in capsys.readouterr().err
