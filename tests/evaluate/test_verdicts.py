"""What an evaluation says of checkpoints that help, harm and do nothing."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from tests.help.evaluations import GAIN_OF_TWO, PAIRS, lines_of, run, save_with_gain
from tests.help.made_shards import make_shards
from timbre import storage
from timbre.evaluate.cases import Labels
from timbre.evaluate.headline import headline
from timbre.evaluate.intervals import Estimate
from timbre.evaluate.measure import MAIN, Row
from timbre.evaluate.summary import groups, summarise
from timbre.evaluate.systems import TENTH
from timbre.models.checkpoint import save_generator
from timbre.models.generator import GeneratorConfig, build_generator
from timbre.models.spectral import SpectralGenerator


def test_an_identity_checkpoint_changes_no_figure_and_is_undecided(
    manifest: str, tmp_path: Path
) -> None:
    main = run(save_with_gain(tmp_path / "g.safetensors", 0.0), manifest, tmp_path / "out")["main"]
    differences = main["minus_df3"]["restored"]
    for name, figure in main["systems"]["restored"].items():
        assert figure["mean"] == pytest.approx(main["systems"]["df3"][name]["mean"], rel=1e-6)
        assert differences[name]["mean"] == pytest.approx(0, abs=1e-4)
    assert {figure["verdict"] for figure in differences.values()} == {"undecided"}


def test_a_checkpoint_that_undoes_the_damage_is_judged_better(better_run: Path) -> None:
    main = json.loads((better_run / "metrics.json").read_text())["main"]
    differences = main["minus_df3"]["restored"]
    for name in ("lsd_0_8k", "lsd_8_24k", "mel_distance", "over_suppressed_0_4k"):
        assert differences[name]["verdict"] == "better", name
        assert differences[name]["high"] < 0
        assert differences[name]["speakers"] == PAIRS
    assert differences["lsd_0_8k"]["mean"] == pytest.approx(-20 * math.log10(2), abs=0.1)


def test_several_checkpoints_are_measured_beside_each_other_and_judged(
    manifest: str, tmp_path: Path
) -> None:
    worse = save_with_gain(tmp_path / "worse.safetensors", -1.0)
    better = save_with_gain(tmp_path / "better.safetensors", GAIN_OF_TWO)
    metrics = run([f"good={better}", f"bad={worse}"], manifest, tmp_path / "out")
    assert [system["name"] for system in metrics["systems_measured"]] == ["df3", "good", "bad"]
    assert metrics["systems_measured"][2]["sha256"] == storage.sha256(Path(worse).read_bytes())
    for name in ("lsd_0_8k", "lsd_8_24k", "mel_distance"):
        verdicts = {
            s: differences[name]["verdict"]
            for s, differences in metrics["main"]["minus_df3"].items()
        }
        assert verdicts == {"good": "better", "bad": "worse"}


def test_clean_input_that_is_changed_is_told_under_harm(better_run: Path) -> None:
    """A generator that doubles everything makes clean speech 6 dB wrong; DF3 alone does not."""
    metrics = json.loads((better_run / "metrics.json").read_text())
    assert metrics["pairs_with_clean_input"] == 2
    alone = metrics["harm_alone"]["systems"]["restored"]["lsd_0_8k"]
    assert alone["mean"] == pytest.approx(20 * math.log10(2), abs=0.1) and alone["pairs"] == 2
    assert set(metrics["harm"]["systems"]) == {"df3", "restored"}
    assert "lsd_0_8k" in metrics["harm"]["minus_df3"]["restored"]


def test_a_generator_that_hears_the_noisy_side_is_given_it_where_it_is_stored(
    manifest: str, tmp_path: Path
) -> None:
    """Degraded is half of clean, noisy three quarters. One half and two thirds of noisy make clean."""
    config = GeneratorConfig("spectral", "tiny", noisy_input=True)
    generator = build_generator(config)
    assert isinstance(generator, SpectralGenerator) and generator.noisy_path is not None
    generator.noisy_path.share.bias.data += 2 / 3
    url = str(tmp_path / "g.safetensors")
    save_generator(url, generator, config, None)
    noisy_manifest = make_shards(tmp_path / "shards", (1,), (2,), noisy=True)
    for data, distance_db in [(noisy_manifest, 0.0), (manifest, 20 * math.log10(2))]:
        metrics = run(url, data, tmp_path / "out")
        distance = metrics["main"]["systems"]["restored"]["lsd_0_8k"]["mean"]
        assert distance == pytest.approx(distance_db, abs=0.1)
        assert metrics["systems_measured"][-1]["heard_noisy"] == (data == noisy_manifest)


def test_df3_with_a_share_of_the_noisy_input_is_a_system(tmp_path: Path) -> None:
    """Degraded is half of clean, noisy three quarters. A fifth of the way between is 0.55."""
    noisy_manifest = make_shards(tmp_path / "shards", (1,), (2,), noisy=True)
    systems = run("df3+20%", noisy_manifest, tmp_path / "out")["main"]["systems"]
    assert list(systems) == ["noisy", "df3", "df3+10%", "df3+20%"]
    expected = -20 * math.log10(0.55)
    assert systems["df3+20%"]["lsd_0_8k"]["mean"] == pytest.approx(expected, abs=0.1)


def test_json_and_csv_agree(better_run: Path) -> None:
    main = json.loads((better_run / "metrics.json").read_text())["main"]
    pairs = [line for line in lines_of(better_run / "pairs.csv") if line["condition"] == "main"]
    for system, estimates in main["systems"].items():
        for name, fields in estimates.items():
            estimate = Estimate(**fields)
            values = [pair[name] for pair in pairs if pair["system"] == system]
            numbers = [float(value) for value in values if value]
            assert len(values) == PAIRS and len(numbers) == estimate.pairs
            if numbers:
                assert estimate.mean == pytest.approx(np.mean(numbers), rel=1e-9)


def test_without_a_checkpoint_the_denoiser_alone_is_measured(manifest: str, tmp_path: Path) -> None:
    metrics = run("none", manifest, tmp_path, "--max-pairs", "1")
    assert list(metrics["main"]["systems"]) == ["df3"] and metrics["main"]["minus_df3"] == {}


@pytest.mark.parametrize(("gain", "expected"), [(1.5, "fooled"), (3.0, "better")])
def test_a_gain_that_mixing_noise_back_in_gives_too_is_no_proof(gain: float, expected: str) -> None:
    """The mix gains 2 on each pair, and both differ from speaker to speaker."""
    labels = Labels(None, None, None, None, None)
    rows = [
        Row(
            str(number), 1.0, labels,
            {MAIN: {
                "df3": {"pesq": 1.0 + number},
                TENTH: {"pesq": 3.0 + number},
                "x": {"pesq": 1.0 + gain + 1.01 * number},
            }},
            [],
        )
        for number in range(8)
    ]  # fmt: skip
    (finding,) = summarise(rows, MAIN)
    assert finding.verdicts == {TENTH: "better", "x": expected}
    assert (expected == "fooled") == ("No better than df3+10%: pesq" in headline([finding], "x"))


def test_pairs_are_grouped_by_how_good_df3_is_already() -> None:
    labels = Labels(None, None, None, None, None)
    rows = [
        Row(str(pesq), 1.0, labels, {MAIN: {"df3": {"pesq": pesq}, "noisy": {"si_sdr": snr}}}, [])
        for pesq, snr in [(1.2, -3.0), (2.7, 7.0), (2.9, 8.0), (math.nan, math.nan)]
    ]
    parts = groups(rows)
    assert {name: [row.key for row in some] for name, some in parts["df3 pesq"].items()} == {
        "under 1.5 MOS": ["1.2"],
        "2.5 to 3 MOS": ["2.7", "2.9"],
    }
    assert list(parts["noisy si_sdr"]) == ["under 0 dB", "5 to 10 dB"]
