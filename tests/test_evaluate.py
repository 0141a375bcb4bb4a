import base64
import csv
import io
import json
import math
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image

from tests.made_shards import make_shards
from timbre import audio, evaluate, report, signals
from timbre.audio import SAMPLE_RATE, Wave
from timbre.checkpoint import save_generator
from timbre.errors import TimbreError
from timbre.models import GeneratorConfig, build_generator
from timbre.models.spectral import SpectralGenerator
from timbre.report import Estimate, Example, Measured

PAIRS = 6
GAIN_OF_TWO = math.log(2)


def save_with_gain(url: Path, log_gain: float) -> str:
    """A generator that multiplies every bin; the degraded side of made shards is half the clean."""
    config = GeneratorConfig("spectral", "tiny")
    generator = build_generator(config)
    bins = generator.head.out_features // 4
    generator.head.bias.data[:bins] = log_gain
    save_generator(str(url), generator, config, None)
    return str(url)


def run(checkpoint: str, data: str, out: Path, *more: str) -> dict[str, Any]:
    assert evaluate.main([checkpoint, "--data", data, "--out", str(out), *more]) == 0
    metrics: dict[str, Any] = json.loads((out / "metrics.json").read_text())
    return metrics


def write_stereo(path: Path, wave: Wave, sample_rate: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.stack([wave, 0.5 * wave], axis=1), sample_rate)


def noisy_folder(folder: Path, files: int = 1) -> str:
    """Voices at 44.1 kHz in noise, in stereo."""
    for number in range(files):
        rng = np.random.default_rng(number)
        clean, noise = signals.voice(1.0, rng), signals.noise("pink", 1.0, rng)
        for side, wave in [("clean", clean), ("noisy", clean + 0.5 * noise)]:
            at_44_khz = audio.resample(wave, SAMPLE_RATE, 44_100)
            write_stereo(folder / side / "a" / f"{number}.wav", at_44_khz, 44_100)
    return str(folder)


class Page(HTMLParser):
    """What a report holds: table cells, text, addresses, and whether every tag is closed."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.addresses: list[str] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(path.read_text())
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "img"):
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "data")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1].append(data)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_shards(tmp_path_factory.mktemp("shards"), (1,), (PAIRS - 2, 2))


@pytest.fixture(scope="module")
def improved(manifest: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An evaluation of the checkpoint that undoes the damage of the made shards."""
    folder = tmp_path_factory.mktemp("improved")
    run(save_with_gain(folder / "g.safetensors", GAIN_OF_TWO), manifest, folder / "out")
    return folder / "out"


def test_an_identity_checkpoint_changes_no_figure_and_is_undecided(
    manifest: str, tmp_path: Path
) -> None:
    metrics = run(save_with_gain(tmp_path / "g.safetensors", 0.0), manifest, tmp_path / "out")
    assert metrics["systems"]["restored"] == metrics["systems"]["degraded"]
    differences = metrics["restored_minus_degraded"]
    assert differences["mel_distance"]["mean"] == 0
    assert {figure["verdict"] for figure in differences.values()} == {"undecided"}


def test_a_checkpoint_that_undoes_the_damage_is_judged_better(improved: Path) -> None:
    differences = json.loads((improved / "metrics.json").read_text())["restored_minus_degraded"]
    for name in ("lsd_0_8k", "lsd_8_24k", "mel_distance", "over_suppressed_0_4k"):
        assert differences[name]["verdict"] == "better", name
        assert differences[name]["high"] < 0
    assert differences["lsd_0_8k"]["mean"] == pytest.approx(-20 * math.log10(2), abs=0.1)


def test_a_checkpoint_that_adds_to_the_damage_is_judged_worse(
    manifest: str, tmp_path: Path
) -> None:
    metrics = run(save_with_gain(tmp_path / "g.safetensors", -1.0), manifest, tmp_path / "out")
    for name in ("lsd_0_8k", "lsd_8_24k", "mel_distance"):
        assert metrics["restored_minus_degraded"][name]["verdict"] == "worse", name


def test_a_generator_that_hears_the_noisy_side_is_given_it_where_it_is_stored(
    manifest: str, tmp_path: Path
) -> None:
    """Half of clean and two thirds of noisy's three quarters: clean."""
    config = GeneratorConfig("spectral", "tiny", noisy_input=True)
    generator = build_generator(config)
    assert isinstance(generator, SpectralGenerator) and generator.noisy_path is not None
    generator.noisy_path.share.bias.data += 2 / 3
    url = str(tmp_path / "g.safetensors")
    save_generator(url, generator, config, None)
    stored = make_shards(tmp_path / "shards", (1,), (2,), noisy=True)
    for data, distance_db in [(stored, 0.0), (manifest, 20 * math.log10(2))]:
        metrics = run(url, data, tmp_path / "out")
        distance = metrics["systems"]["restored"]["lsd_0_8k"]["mean"]
        assert distance == pytest.approx(distance_db, abs=0.1)
        assert metrics["heard_noisy"] == (data == stored)


@pytest.mark.parametrize(("better", "good"), [("higher", 1.0), ("lower", -1.0)])
def test_a_verdict_takes_the_direction_of_the_figure_into_account(
    better: report.Direction, good: float
) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 50)
    assert report.judge(report.estimate(good + noise), better) == "better"
    assert report.judge(report.estimate(-good + noise), better) == "worse"
    assert report.judge(report.estimate(noise - noise.mean()), better) == "undecided"


def test_too_few_pairs_give_no_verdict_even_if_they_agree() -> None:
    assert report.judge(report.estimate(np.array([1.0, 1.1, 0.9, 1.2, 1.0])), "higher") == (
        "undecided"
    )
    assert report.judge(report.estimate(np.array([1.0, 1.1, 0.9, 1.2, 1.0, 1.0])), "higher") == (
        "better"
    )


def test_a_difference_as_small_as_rounding_gives_no_verdict_however_sure_it_is() -> None:
    rounding = 1e-5 + np.random.default_rng(0).normal(0, 1e-7, 50)
    assert report.judge(report.estimate(rounding), "lower") == "undecided"
    assert report.judge(report.estimate(1000 * rounding), "lower") == "worse"
    assert str(report.estimate(-rounding)) == "0.000 [0.000, 0.000]"


def test_an_interval_covers_its_mean_and_is_the_same_every_time() -> None:
    values = np.random.default_rng(1).exponential(1.0, 30)
    found = report.estimate(values)
    assert found.low is not None and found.mean is not None and found.high is not None
    assert found.low < found.mean < found.high
    assert report.estimate(values) == found


def test_an_interval_holds_the_true_mean_about_95_times_in_100() -> None:
    rng = np.random.default_rng(2)
    held = 0
    for _ in range(100):
        found = report.estimate(rng.normal(3.0, 1.0, 40))
        assert found.low is not None and found.high is not None
        held += found.low <= 3.0 <= found.high
    assert 88 <= held <= 99


def test_pairs_without_a_figure_are_left_out_and_counted() -> None:
    assert report.estimate(np.array([1.0, np.nan, 3.0])) == report.estimate(
        np.array([1.0, 3.0])
    )._replace(left_out=1)
    assert report.estimate(np.array([np.nan])) == Estimate(None, None, None, 0, 1)


def test_json_table_and_page_agree_with_the_figures_of_the_pairs(improved: Path) -> None:
    metrics = json.loads((improved / "metrics.json").read_text())
    pairs = list(csv.DictReader(io.StringIO((improved / "pairs.csv").read_text())))
    assert len(pairs) == 2 * PAIRS == 2 * metrics["pairs"]
    head, *rows = Page(improved / "report.html").rows
    assert [row[0] for row in rows] == list(metrics["systems"]["degraded"])
    for row in rows:
        cells = dict(zip(head, row, strict=True))
        for system, estimates in metrics["systems"].items():
            estimate = Estimate(**estimates[row[0]])
            values = [pair[row[0]] for pair in pairs if pair["system"] == system]
            found = [float(value) for value in values if value]
            assert len(found) == estimate.pairs == PAIRS - estimate.left_out
            if found:
                assert estimate.mean == pytest.approx(np.mean(found), rel=1e-9)
            assert cells[system] == str(estimate)
        difference = metrics["restored_minus_degraded"][row[0]]
        assert cells["verdict"] == difference.pop("verdict")
        assert cells["difference"] == str(Estimate(**difference))


def test_the_terminal_shows_the_table_of_the_page(
    manifest: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("none", manifest, tmp_path, "--max-pairs", "1")
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    for row in Page(tmp_path / "report.html").rows:
        assert " ".join(row).split() in lines


def test_the_page_shows_every_waveform_and_loads_nothing(improved: Path) -> None:
    page = Page(improved / "report.html")
    assert page.open == []
    kinds = [address.partition(",")[0] for address in page.addresses]
    shown = 3 * PAIRS  # degraded, restored, clean
    assert kinds.count("data:image/png;base64") == kinds.count("data:audio/wav;base64") == shown
    assert len(kinds) == 2 * shown
    source = (improved / "report.html").read_text()
    assert "http:" not in source and "https:" not in source and "<script" not in source
    for address in page.addresses[:6]:
        kind, _, data = address.partition(",")
        if "image" in kind:
            Image.open(io.BytesIO(base64.b64decode(data))).verify()
        else:
            _, rate = audio.decode(base64.b64decode(data), "sound")
            assert rate == SAMPLE_RATE


def test_a_png_holds_the_picture_it_was_made_of() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    np.testing.assert_array_equal(Image.open(io.BytesIO(report.png(picture))), picture)


def test_names_are_escaped_in_the_page(tmp_path: Path) -> None:
    hostile = "<script>alert('&\"')</script>"
    example = Example(hostile, {hostile: np.zeros(4800, np.float32)})
    path = tmp_path / "report.html"
    path.write_text(report.to_html([hostile], [[hostile], [hostile]], [example]))
    assert "<script" not in path.read_text()
    assert Page(path).text.count(hostile) == 5


def test_the_worst_pairs_come_first_and_none_is_shown_without_a_distance() -> None:
    def row(key: str, before: float, after: float) -> Measured:
        figures = {"degraded": {"mel_distance": before}, "restored": {"mel_distance": after}}
        return Measured(key, 1.0, figures)

    rows = [row("gains", 5.0, 3.0), row("loses", 5.0, 6.0), row("silent", math.nan, math.nan)]
    assert evaluate.rank(rows) == [(-1.0, 1), (2.0, 0)]


def test_a_folder_of_stereo_files_at_44_khz_is_denoised_and_measured(tmp_path: Path) -> None:
    data = noisy_folder(tmp_path / "data", files=2)
    checkpoint = save_with_gain(tmp_path / "g.safetensors", -1.0)
    systems = run(checkpoint, data, tmp_path / "out")["systems"]
    assert list(systems) == ["noisy", "degraded", "restored"]
    assert systems["degraded"]["si_sdr"]["mean"] > systems["noisy"]["si_sdr"]["mean"] + 1
    assert systems["restored"]["lsd_0_8k"]["mean"] > systems["degraded"]["lsd_0_8k"]["mean"]


def test_without_a_checkpoint_the_denoiser_alone_is_measured(manifest: str, tmp_path: Path) -> None:
    metrics = run("none", manifest, tmp_path)
    assert list(metrics["systems"]) == ["degraded"]
    assert metrics["checkpoint"] is None
    assert metrics["restored_minus_degraded"] == {}


def test_a_limited_number_of_pairs_is_spread_over_all(manifest: str, tmp_path: Path) -> None:
    assert run("none", manifest, tmp_path, "--max-pairs", "3")["pairs"] == 3
    lines = (tmp_path / "pairs.csv").read_text().splitlines()[1:]
    assert [line.partition(",")[0] for line in lines] == [
        "val-000000-0000",
        "val-000000-0002",
        "val-000001-0001",
    ]


def test_figures_whose_package_is_missing_are_left_out_and_named_once(
    manifest: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "pesq", None)
    figures = run("none", manifest, tmp_path)["systems"]["degraded"]
    assert "pesq" not in figures and "estoi" in figures
    assert capsys.readouterr().out.count("pip install 'timbre[eval]'") == 1


def test_files_of_different_length_are_refused_by_name_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = noisy_folder(tmp_path / "data")
    write_stereo(tmp_path / "data/clean/a/0.wav", np.zeros(44_099, np.float32), 44_100)
    out = tmp_path / "out"
    assert evaluate.main(["none", "--data", data, "--out", str(out)]) == 1
    error = capsys.readouterr().err
    assert "noisy/a/0.wav: 48000 samples" in error and "47999" in error
    assert not out.exists()


def test_a_file_without_a_partner_is_refused_by_name(tmp_path: Path) -> None:
    data = noisy_folder(tmp_path / "data")
    (tmp_path / "data/clean/a/0.wav").rename(tmp_path / "data/clean/a/1.wav")
    with pytest.raises(TimbreError, match=r"only one of noisy and clean: a/0\.wav and 1 more"):
        evaluate.open_data(data, "val")


def test_a_damaged_shard_is_named_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = make_shards(tmp_path / "shards", (1,), (1,))
    tar = tmp_path / "shards/val/shard-000000.tar"
    data = bytearray(tar.read_bytes())
    data[2000] ^= 1
    tar.write_bytes(data)
    out = tmp_path / "out"
    assert evaluate.main(["none", "--data", manifest, "--out", str(out)]) == 1
    assert "val/shard-000000.tar" in capsys.readouterr().err
    assert list(out.iterdir()) == []


@pytest.mark.parametrize(
    ("changed", "refusal"),
    [
        ({"checkpoint": "nothing.safetensors"}, (1, "nothing.safetensors")),
        ({"checkpoint": "foreign.safetensors"}, (1, "not a generator of timbre")),
        ({"--data": "nowhere"}, (2, "nowhere: expected a manifest")),
        ({"--split": "test"}, (1, "no shards in split 'test'")),
        ({"--max-pairs": "0"}, (2, "--max-pairs 0: expected at least 1")),
        ({"--out": "foreign.safetensors/out"}, (1, "foreign.safetensors")),
    ],
)
def test_bad_usage_is_refused_with_its_exit_code(
    changed: dict[str, str],
    refusal: tuple[int, str],
    manifest: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("foreign.safetensors").write_bytes(b"no such thing")
    given = {"checkpoint": "none", "--data": manifest, "--out": "out", **changed}
    checkpoint = given.pop("checkpoint")
    argv = [checkpoint, *(word for option in given.items() for word in option)]
    code, told = refusal
    assert evaluate.main(argv) == code
    assert told in capsys.readouterr().err
    assert not Path("out").exists()
