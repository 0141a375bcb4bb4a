"""`timbre stats`: its figures are those of the pairs, whole or by a repeatable sample."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from shard_tools.make.tar import FinishedPair
from shard_tools.metas import read_metas
from shard_tools.stats import plots
from shard_tools.stats.command import main
from shard_tools.stats.quantities import BINS, QUANTILES, bin_edges, describe, speaker_hours
from tests.help.made_shards import change_manifest, make_shards, rewrite_shard
from timbre import shards
from timbre.shards import PairMeta, Source

TRAIN, VAL = "train/shard-000000.tar", "val/shard-000000.tar"


def vary(pair: FinishedPair) -> FinishedPair:
    """Return the pair with a ratio, room, level and speaker that follow from its number."""
    number = int(pair.meta.key[-4:])
    meta = replace(
        pair.meta,
        snr_db=float(number),
        snr_reached_db=number + 0.5,
        speaker=f"{pair.meta.key.partition('-')[0]}-{number % 5}",
        rir=f"room-{number % 3}.wav" if number % 2 else None,
        rt60_seconds=0.2 + number / 100 if number % 2 else None,
        quality={"clean_db": -20.0 - number, "kept_db": -number / 10, "snr_db": number - 1.0},
        noises=(Source("a.wav"), Source("b.wav"))[: 1 + number % 2],
        voices=("v.wav",) if number == 0 else (),
        denoiser="deepfilternet3",
        denoiser_sha256="ab" * 32,
    )
    return FinishedPair(meta, pair.clean, pair.degraded)


@pytest.fixture
def manifest_url(tmp_path: Path) -> str:
    url = make_shards(tmp_path / "shards", [20, 11], (9,), seconds=0.5)
    for path in (TRAIN, VAL):
        rewrite_shard(url, path, vary)
    counts = {"unaligned": 3, "denoiser_lost_speech": 7}
    clips = {"speech": {"used": 40, "too quiet": 2}, "noise": {"used": 1}}
    change_manifest(url, rejected=counts, clips=clips)
    return url


def stats(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    assert main([*words, "--json"]) == 0
    tree: dict[str, Any] = json.loads(capsys.readouterr().out)
    return tree


def test_the_json_has_the_figures_of_the_pairs(
    manifest_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = stats(capsys, manifest_url)
    manifest = shards.load_manifest(manifest_url)
    val = tree["splits"]["val"]
    metas = read_metas(manifest_url, manifest, "val")
    assert (val["pairs"], val["pairs_looked_at"], val["shards"]) == (9, 9, 1)
    assert val["hours"] == pytest.approx(sum(m.samples for m in metas) / 48000 / 3600, abs=1e-4)
    assert (val["speakers"], val["recordings"], val["rooms"]) == (5, 9, 3)
    assert (val["pairs_in_a_room"], val["pairs_with_babble"]) == (4, 1)
    assert val["pairs_with_several_noises"] == 4
    assert val["denoisers"] == {"df3 " + "ab" * 32: 9}
    snr = val["figures"]["snr_reached"]
    assert (snr["unit"], snr["pairs"], snr["mean"]) == ("dB", 9, 4.5)
    expected = np.quantile(np.arange(9) + 0.5, QUANTILES)
    assert list(snr["quantiles"].values()) == pytest.approx(expected.tolist())
    assert val["figures"]["rt60"]["pairs"] == 4
    assert val["figures"]["clean_level"]["quantiles"]["0"] == -28
    assert tree["clips"] == {"speech": {"used": 40, "too quiet": 2}, "noise": {"used": 1}}
    assert list(tree["refused_pairs"]) == ["denoiser_lost_speech", "unaligned"]
    assert tree["refused_pairs"]["unaligned"] == {"pairs": 3, "share": 0.06}  # of 40 + 10


def test_histograms_count_every_pair_in_bins_that_splits_share(
    manifest_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    splits = stats(capsys, manifest_url)["splits"]
    for name, figure in splits["train"]["figures"].items():
        other = splits["val"]["figures"][name]
        assert figure["histogram"]["edges"] == other["histogram"]["edges"]
        for one in (figure, other):
            assert sum(one["histogram"]["counts"]) == one["pairs"]
            assert len(one["histogram"]["edges"]) == len(one["histogram"]["counts"]) + 1


@pytest.mark.parametrize("high", [0, 3, 39, 40, 1000])
def test_whole_numbers_lie_in_the_middle_of_their_bins(high: int) -> None:
    edges = bin_edges([0.0, float(high)])
    assert len(edges) <= BINS + 1
    assert edges[0] == -0.5 and edges[-1] >= high + 0.5
    assert all((edge + 0.5).is_integer() for edge in edges)


def test_a_sample_is_the_same_each_time_and_is_told(
    manifest_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = shards.load_manifest(manifest_url)
    everything = read_metas(manifest_url, manifest, "train")
    part = read_metas(manifest_url, manifest, "train", 12)
    assert len(everything) == 31 and len(part) == 12
    assert part == read_metas(manifest_url, manifest, "train", 12)
    assert [meta for meta in everything if meta in part] == part
    assert len({meta.key.rpartition("-")[0] for meta in part}) == 2  # of both shards
    tree = stats(capsys, manifest_url, "--sample", "12")
    assert (tree["splits"]["train"]["pairs"], tree["splits"]["train"]["pairs_looked_at"]) == (
        31,
        12,
    )
    assert main([manifest_url, "--sample", "12"]) == 0
    assert "pairs looked at" in capsys.readouterr().out
    assert main([manifest_url]) == 0
    assert "pairs looked at" not in capsys.readouterr().out


def test_the_tables_say_what_the_json_says(
    manifest_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([manifest_url]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["val", "9", "1", "0.0013", "9", "5", "9", "3", "4", "1", "4"] in rows
    assert ["snr_reached", "(dB)", "val", "0.5", "0.9", "2.5", "4.5", "6.5", "8.1", "8.5"] in rows
    assert ["unaligned", "3", "6.00", "%"] in rows
    assert ["speech", "too", "quiet", "2"] in rows
    assert ["df3", "ab" * 6, "val", "9"] in rows


def test_speakers_hours_add_up_whoever_is_named(manifest_url: str) -> None:
    metas = read_metas(manifest_url, shards.load_manifest(manifest_url), "train")
    nameless = [replace(meta, speaker="") for meta in metas[:3]]
    hours = speaker_hours([*metas, *nameless])
    whole = sum(meta.samples for meta in [*metas, *nameless]) / 48000 / 3600
    assert sum(hours.values()) == pytest.approx(whole)
    assert hours["(no name)"] == pytest.approx(sum(m.samples for m in nameless) / 48000 / 3600)


def test_the_largest_speakers_and_the_rest_are_all_the_hours(manifest_url: str) -> None:
    manifest = shards.load_manifest(manifest_url)
    metas = read_metas(manifest_url, manifest, "train")
    many = [replace(metas[i % 31], speaker=f"{i}", samples=9600 * (i + 1)) for i in range(100)]
    tree = describe(manifest, {"train": many, "val": []})["splits"]
    hours = tree["train"]["hours_of_speakers"]
    assert list(hours["largest"]) == [f"{i}" for i in range(99, 69, -1)]
    assert hours["rest"] == pytest.approx(0.2 * sum(range(1, 71)) / 3600, abs=1e-4)
    assert tree["val"]["figures"]["duration"]["pairs"] == 0


def test_each_picture_is_there_and_shows_something(
    manifest_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "pictures"
    assert main([manifest_url, "--plots", str(folder)]) == 0
    names = {path.name for path in folder.iterdir()}
    expected = [*plots.HISTOGRAMS, "snr_reached_by_asked", "speakers", "refused_pairs"]
    assert names == {f"{name}.png" for name in expected}
    output = capsys.readouterr().out
    assert all(f"written: {folder}/{name}" in output for name in names)
    for name in names:
        with Image.open(folder / name) as picture:
            pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3)
        assert len(np.unique(pixels, axis=0)) > 20, name


def test_what_no_pair_has_is_left_out_of_the_pictures(tmp_path: Path) -> None:
    url = make_shards(tmp_path / "plain", [3])
    assert main([url, "--plots", str(tmp_path / "pictures")]) == 0
    names = {path.stem for path in (tmp_path / "pictures").iterdir()}
    assert not names & {"levels", "rooms", "refused_pairs"}
    assert {"durations", "snr", "offsets", "bandwidth", "speakers"} <= names


def test_without_matplotlib_pictures_are_refused_with_what_to_install(manifest_url: str) -> None:
    code = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "from shard_tools.stats.command import main\n"
        f"assert main([{manifest_url!r}]) == 0\n"
        f"sys.exit(main([{manifest_url!r}, '--plots', 'nowhere']))"
    )
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert process.returncode == 2
    assert "pip install 'timbre[prep]'" in process.stderr and "Traceback" not in process.stderr


def test_only_pictures_load_matplotlib() -> None:
    code = "import sys, shard_tools.stats.command, shard_tools.verify.command; print('matplotlib' in sys.modules)"
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert process.stdout.strip() == "False"


def test_a_damaged_meta_and_a_missing_manifest_are_told(
    manifest_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    tar = Path(shards.folder_of(manifest_url)) / VAL
    whole = tar.read_bytes()
    tar.write_bytes(whole.replace(b'"speaker":"', b'"speaker":"x', 1)[: len(whole)])
    assert main([manifest_url]) == 1
    output = capsys.readouterr().err
    assert "val-000000-0000" in output and "CRC-32" in output
    assert main([str(tar.parents[2])]) == 2


def test_tars_of_another_program_are_refused_in_one_line(
    manifest_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rewrite_shard(manifest_url, VAL, plan="")
    assert main([manifest_url]) == 1
    assert f"{VAL}: another program made it" in capsys.readouterr().err


@pytest.mark.parametrize("sample", ["0", "-1", "few"])
def test_a_sample_of_nothing_is_bad_usage(
    manifest_url: str, sample: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([manifest_url, "--sample", sample])
    assert "expected a whole number of at least 1" in capsys.readouterr().err


def test_metas_keep_the_order_of_the_shards(manifest_url: str) -> None:
    metas: list[PairMeta] = read_metas(manifest_url, shards.load_manifest(manifest_url), "train")
    assert [meta.key for meta in metas] == sorted(meta.key for meta in metas)
