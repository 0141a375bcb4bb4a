"""The page of a run: it holds all it shows, and a browser has nothing to complain about."""

import math
from pathlib import Path

import pytest

from tests.help.chromium import chromium, needs_chromium
from timbre import cli
from timbre.train.report import page, plots
from timbre.train.report.events import Events

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def page_file(whole_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    assert cli.main(["report", str(whole_run), "--to", str(path)]) == 0
    return path


def test_the_terminal_and_the_page_show_the_run(
    page_file: Path, whole_run: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["report", str(whole_run), "--to", str(page_file)]) == 0
    printed = capfd.readouterr().out
    assert "Step 10 of 10 after 1 start" in printed and "A perfect loader would give" in printed
    source = page_file.read_text()
    for title in ("Loss of the generator", "Shares in the generator", "Loss of the discriminator"):
        assert title in source
    assert source.count("data:image/png;") >= 1 and source.count("data:audio/wav;") >= 3
    assert "http:" not in source and "https:" not in source and "<script" not in source
    assert str(whole_run) not in source


def test_names_are_escaped_and_values_that_are_no_numbers_left_out() -> None:
    nan = [(1, math.nan), (2, math.inf)]
    source = page.to_html(HOSTILE, None, Events({"g/loss": nan, "d/loss": [(3, 1.0)]}, []))
    assert "<script" not in source and "Loss of the generator" not in source
    assert plots.plot("none", {"a": nan}) is None


def test_a_long_curve_is_thinned_to_means() -> None:
    curve = plots.plot("long", {"a": [(step, float(step % 2)) for step in range(100_000)]})
    assert curve is not None
    points = curve.lines[0].points.split()
    assert len(points) <= plots.MOST_POINTS
    assert len({point.split(",")[1] for point in points}) == 1  # all are 0.5


def test_a_folder_without_a_run_is_bad_usage(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["report", str(tmp_path / "gone")]) == 2
    assert "expected the run_dir of its config" in capfd.readouterr().err
    assert not (tmp_path / "gone").exists()


@needs_chromium
def test_the_page_opens_without_complaints_on_wide_and_narrow_screens(
    page_file: Path, tmp_path: Path
) -> None:
    with chromium(tmp_path) as browser:
        for width in (1300, 400):
            browser.open(page_file, width)
            images = "[...document.images].every((i) => i.complete && i.naturalWidth > 0)"
            assert browser.run(images) is True
            assert browser.run("document.documentElement.scrollWidth <= innerWidth") is True
        assert browser.complaints == []
