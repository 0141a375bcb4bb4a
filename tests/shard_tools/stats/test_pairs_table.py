"""`timbre stats --table`: every pair is a row; other people's programs read what we write."""

from pathlib import Path

import pytest

from shard_tools.metas import read_metas
from shard_tools.stats.command import main
from tests.help.made_shards import make_shards
from timbre import shards

parquet = pytest.importorskip("pyarrow.parquet")


def test_every_pair_is_a_row_with_what_its_meta_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = make_shards(tmp_path, [3, 2], (2,), seconds=0.05)
    assert main([str(tmp_path), "--sample", "1", "--table"]) == 0
    assert f"written: {tmp_path}/pairs.parquet" in capsys.readouterr().out
    rows = parquet.read_table(tmp_path / "pairs.parquet").to_pylist()
    manifest = shards.load_manifest(url)
    expected = [
        (split, meta) for split in manifest.splits for meta in read_metas(url, manifest, split)
    ]
    assert len(rows) == 7
    for row, (split, meta) in zip(rows, expected, strict=True):
        assert (row["split"], row["key"], row["samples"]) == (split, meta.key, meta.samples)
        assert row["shard"] == f"{split}/shard-{meta.key.split('-')[1]}.tar"
        assert row["noises"] == ["noise.wav"] and row["rir"] is None and row["seed"] == [0, 0, 0]
        assert (row["snr_db"], row["alignment_offset"]) == (meta.snr_db, meta.alignment_offset)


def test_the_tars_open_in_hugging_face_datasets(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    pytest.importorskip("torchcodec")  # datasets opens no sound without it, not even undecoded
    make_shards(tmp_path, [3, 2], audio_format="flac", seconds=0.05)
    files = {"train": str(tmp_path / "train/*.tar")}
    opened = datasets.load_dataset(
        "webdataset", data_files=files, cache_dir=str(tmp_path / "cache")
    )
    rows = opened["train"]
    for side in ("clean.flac", "degraded.flac"):
        rows = rows.cast_column(side, datasets.Audio(decode=False))
    assert [row["__key__"] for row in rows] == [
        *(f"train-000000-{number:04d}" for number in range(3)),
        *(f"train-000001-{number:04d}" for number in range(2)),
    ]
    assert all(row["clean.flac"]["bytes"][:4] == b"fLaC" for row in rows)
    assert [row["pair.json"]["samples"] for row in rows] == [2400, 2407, 2414, 2400, 2407]
