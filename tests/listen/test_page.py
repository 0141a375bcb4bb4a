"""The pages of a test and of its results, in a real browser, by keyboard alone."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.help.chromium import Browser, chromium, needs_chromium
from tests.help.seen import check_seen
from timbre import audio
from timbre.audio import SAMPLE_RATE
from timbre.audio.synthetic.voice import voice
from timbre.listen import command
from timbre.listen.stimuli import ANCHOR

pytestmark = needs_chromium
CLIPS, VERSIONS = 2, 4
SLIDER = "document.activeElement.value"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two systems and the reference; one is six times as loud."""
    root = tmp_path_factory.mktemp("systems")
    for clip in range(CLIPS):
        rng = np.random.default_rng(clip)
        wave = voice(1.2, rng)
        hiss = rng.normal(0, 0.01, len(wave)).astype(np.float32)
        for name, side in {"clean": wave, "df3": 0.1 * (wave + hiss), "secret": wave * 0.6}.items():
            (root / name).mkdir(exist_ok=True)
            audio.write(root / name / f"clip {clip}.wav", side, SAMPLE_RATE)
    return root


@pytest.fixture(scope="module")
def page_browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


def make(folder: Path, page: Path, *more: str) -> Path:
    assert command.main([str(folder), "--out", str(page), *more]) == 0
    return page


def start(browser: Browser, page: Path, listener: str) -> None:
    browser.open(page)
    browser.run("listener.focus()")
    browser.type(listener)
    browser.press("Tab")
    browser.press("Tab")
    browser.press("Enter")
    browser.wait_for("player")


def pass_headphone_check(browser: Browser) -> None:
    browser.run("listener.focus()")
    browser.type("one")
    browser.press("Tab")
    browser.press("Enter")
    for answered in range(6):
        browser.run("tones.focus()")
        browser.press("Enter")
        browser.press(str(browser.run("toneTrial.quiet") + 1))
        assert browser.run("state.headphones.right") == answered + 1


def check_reference_and_stop(browser: Browser) -> None:
    browser.press("0")
    assert browser.run("player.selected") == VERSIONS
    assert browser.run("reference.getAttribute('aria-pressed')") == "true"
    browser.run("document.activeElement.blur()")
    browser.press(" ")
    assert browser.run("player.playing") is False


def rate_all(browser: Browser) -> None:
    """Give the reference 100 and the others 0, as a perfect ear would."""
    for version in range(1, VERSIONS + 1):
        browser.press(str(version))
        name = browser.run(
            "(() => { const { number, order } = state.order[state.trials.length];"
            f" return plan.trials[number].stimuli[order[{version - 1}]].name; }})()"
        )
        browser.press("Home" if browser.run(SLIDER) != "0" else "End")
        browser.press("End" if name == "clean" else "Home")


def test_a_listener_rates_by_keyboard_stops_goes_on_and_saves(
    folder: Path, page_browser: Browser, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = make(folder, tmp_path / "test.html")
    assert "secret" not in page.read_text()
    page_browser.open(page)
    check_seen(page_browser)
    page_browser.click("#begin")
    assert "write a name" in page_browser.run("message.textContent")
    pass_headphone_check(page_browser)
    page_browser.wait_for("player")
    check_seen(page_browser)
    page_browser.press("Enter")  # nothing is played or rated yet
    assert page_browser.run("state.trials.length") == 0
    assert page_browser.run("todo.textContent").startswith("Still to play: version 1")
    rate_all(page_browser)
    assert page_browser.run("player.playing && player.selected") == VERSIONS - 1
    check_reference_and_stop(page_browser)
    page_browser.press("Enter")
    page_browser.wait_for("player && state.trials.length === 1")
    # Closed and opened again: the second part, with what was rated of the first.
    page_browser.open(page)
    page_browser.wait_for("player")
    assert page_browser.run("progress.textContent") == "Part 2 of 2"
    rate_all(page_browser)
    page_browser.press("Enter")
    page_browser.wait_for("!end.hidden")
    file = page_browser.download("#save", tmp_path)
    result = json.loads(file.read_text())
    assert result["listener"] == "one" and result["headphones"]["passed"]
    assert sorted(trial["clip"] for trial in result["trials"]) == ["clip 0", "clip 1"]
    for trial in result["trials"]:
        assert trial["ratings"] == {"clean": 100, "df3": 0, "secret": 0, ANCHOR: 0}
    names = [str(file), *(str(path) for path in others(result, tmp_path))]
    capsys.readouterr()
    assert command.main(["--results", *names, "--out", str(tmp_path / "results.html")]) == 0
    out, err = capsys.readouterr()
    assert "deaf: rated the hidden reference below 90 in 2 of 2 parts" in err
    assert "2 listeners, 2 clips" in out and ["clean", "97.5"] in [x.split()[:2] for x in out.splitlines()]  # fmt: skip
    page_browser.open(tmp_path / "results.html")
    check_seen(page_browser)
    assert "deaf" in page_browser.run("document.querySelector('ul').textContent")


def others(result: dict[str, Any], folder: Path) -> Iterator[Path]:
    """Two more listeners: one with another ear, one who cannot tell the reference."""
    for name, reference in [("two", 95), ("deaf", 20)]:
        trials = [{**t, "ratings": {**t["ratings"], "clean": reference}} for t in result["trials"]]
        path = folder / f"{name}.json"
        path.write_text(json.dumps({**result, "listener": name, "trials": trials}))
        yield path


def test_two_versions_are_compared_by_keyboard_and_all_are_equally_loud(
    folder: Path, page_browser: Browser, tmp_path: Path
) -> None:
    page = make(folder, tmp_path / "ab.html", "--method", "ab", "--against", "df3")
    start(page_browser, page, "x")
    check_seen(page_browser)
    level = (
        "player.buffers.map((b) => Math.sqrt(b.getChannelData(0).reduce((s, v) => s + v * v, 0)"
        " / b.length))"
    )
    first, second = page_browser.run(level)
    assert first == pytest.approx(second, rel=0.1)
    for part in range(4):
        page_browser.wait_for(f"player && state.trials.length === {part}")
        for key in ("1", "2", "a" if part else "n"):
            page_browser.press(key)
        page_browser.run("document.activeElement.blur()")
        page_browser.press("Enter")
    page_browser.wait_for("!end.hidden")
    result = json.loads(page_browser.download("#save", tmp_path).read_text())
    answers = [(t["preferred"], t["a"], "df3" in (t["a"], t["b"])) for t in result["trials"]]
    assert [answer[0] == answer[1] for answer in answers] == [False, True, True, True]
    assert answers[0][0] is None and all(answer[2] for answer in answers)
    names = []
    for name in ("x", "y"):
        names.append(str(tmp_path / f"{name}.json"))
        Path(names[-1]).write_text(json.dumps({**result, "listener": name}))
    assert command.main(["--results", *names, "--out", str(tmp_path / "results.html")]) == 0
    page_browser.open(tmp_path / "results.html")
    check_seen(page_browser)
