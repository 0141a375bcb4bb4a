import json
from pathlib import Path

import pytest
import soundfile

from timbre.audio.synthetic.corpus import write_corpus

RATE = 48_000


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    write_corpus(folder, seed=7, speakers=2, clips_per_speaker=2, seconds=1.0)
    return folder


def test_corpus_manifest_names_every_file_and_what_it_is(corpus: Path) -> None:
    rows = [json.loads(line) for line in (corpus / "manifest.jsonl").read_text().splitlines()]
    files = {str(path.relative_to(corpus)) for path in corpus.rglob("*.flac")}
    assert {row["file"] for row in rows} == files
    for row in rows:
        header = soundfile.info(corpus / row["file"])
        assert (header.samplerate, header.channels, header.subtype) == (RATE, 1, "PCM_16")
        assert row["duration_s"] == pytest.approx(header.duration, abs=1e-3)
        assert row["licence"] == "CC0-1.0"
        assert (row["speaker"] is not None) == row["file"].startswith("speech/")
        assert ("rt60_s" in row) == row["file"].startswith("rir/")
    assert len({row["speaker"] for row in rows if row["speaker"]}) == 2


def test_corpus_is_the_same_bytes_again_and_grows_without_changing(
    corpus: Path, tmp_path: Path
) -> None:
    write_corpus(tmp_path, seed=7, speakers=3, clips_per_speaker=2, seconds=1.0)
    old = {path.relative_to(corpus): path.read_bytes() for path in corpus.rglob("*.flac")}
    new = {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*.flac")}
    assert {name: new[name] for name in old} == old
    assert len(new) == len(old) + 2
