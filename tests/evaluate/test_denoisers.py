"""An evaluation behind any denoiser: of files, of shards anew, and of shards behind several."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.help.evaluations import GAIN_OF_TWO, lines_of, noisy_folder, run, save_with_gain
from tests.help.made_shards import make_shards, rewrite_shard
from timbre import shards
from timbre.audio import metrics, read_mono
from timbre.denoise import load_denoiser
from timbre.evaluate import command as evaluate


def test_files_go_through_the_denoiser_that_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("noisereduce")
    folder = noisy_folder(tmp_path / "data")
    url = save_with_gain(tmp_path / "g.safetensors", GAIN_OF_TWO)
    figures = run(url, folder, tmp_path / "out", "--denoiser", "gate")
    assert "has learned behind df3, not behind gate" in capsys.readouterr().err
    noisy, clean = (read_mono(f"{folder}/{side}/a/0.wav") for side in ("noisy", "clean"))
    denoiser = load_denoiser("gate")
    assert denoiser is not None
    (denoised,) = denoiser.denoise_clips([noisy])
    expected = metrics.si_sdr(torch.from_numpy(denoised), torch.from_numpy(clean))
    # The gate does not know levels.
    measured = figures["main"]["systems"]["df3"]["si_sdr"]["mean"]
    assert measured == pytest.approx(float(expected), abs=0.05)
    assert figures["denoisers"] == "gate" and "gate" in figures["df3"]
    assert {line["denoiser"] for line in lines_of(tmp_path / "out/pairs.csv")} == {"gate"}


def behind_two(folder: Path) -> str:
    """Shards with a noisy side, every second pair behind the gate."""
    manifest = make_shards(folder, (1,), (4,), noisy=True)

    def change(pair: Any) -> Any:
        second = int(pair.meta.key[-1]) % 2
        denoiser = "gate" if second else "deepfilternet3"
        band_hz, codec = (3_700.0, "gsm") if second else (21_000.0, "")
        return pair._replace(
            meta=replace(pair.meta, denoiser=denoiser, bandwidth_hz=band_hz, codec=codec)
        )

    for shard in shards.load_manifest(manifest).shards("val"):
        rewrite_shard(manifest, shard.path, change)
    return manifest


def test_the_figures_of_each_denoiser_and_of_telephones_are_groups(tmp_path: Path) -> None:
    figures = run("none", behind_two(tmp_path / "shards"), tmp_path / "out")
    expected = {
        "denoiser": {"df3", "gate"},
        "codec": {"gsm", "no codec"},
        "bandwidth": {"of 20 kHz and more", "up to 4 kHz"},
    }
    for name, values in expected.items():
        groups = figures["groups"][name]
        assert groups.keys() == values
        assert {group["systems"]["df3"]["si_sdr"]["pairs"] for group in groups.values()} == {2}


def test_noisy_sides_of_shards_are_denoised_anew_by_the_one_that_is_named(tmp_path: Path) -> None:
    manifest = behind_two(tmp_path / "shards")
    figures = run("noisy", manifest, tmp_path / "out", "--denoiser", "none")
    systems = figures["main"]["systems"]
    assert systems["df3"]["lsd_0_8k"]["mean"] == pytest.approx(
        systems["noisy"]["lsd_0_8k"]["mean"], abs=1e-4
    )
    assert "denoiser" not in figures["groups"] and figures["denoisers"] == "none"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--denoiser", "dpdfnet"], "--denoiser: expected df3, official, rnnoise, gate, none or"),
        (["--denoiser", "gate"], "holds no noisy side; expected shards made with store_noisy"),
    ],
)
def test_a_denoiser_that_cannot_run_is_one_line_and_leaves_no_file(
    manifest: str,
    words: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert evaluate.main(["none", "--data", manifest, "--out", str(tmp_path / "o"), *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert not (tmp_path / "o").exists()
