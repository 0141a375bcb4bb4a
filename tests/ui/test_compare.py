"""The page that compares: one position for all sides, in a real browser."""

from pathlib import Path

import numpy as np
import pytest

from tests.help.chromium import chromium, needs_chromium
from tests.help.seen import check_seen
from timbre import audio
from timbre.audio import SAMPLE_RATE
from timbre.audio.synthetic.voice import voice
from timbre.ui import compare


@needs_chromium
def test_sides_play_at_one_position_and_are_those_of_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare, "SHOWN_SECONDS", 1)
    wave = voice(1.5, np.random.default_rng(0))
    wave[: SAMPLE_RATE // 2] *= 0.01
    for name, side in {"<b>before": wave, "after": 0.5 * wave}.items():
        audio.write(tmp_path / f"{name}.wav", side, SAMPLE_RATE)
    sides = {name: tmp_path / f"{name}.wav" for name in ("<b>before", "after")}
    page = tmp_path / "page.html"
    page.write_text(compare.to_html(sides))
    with chromium(tmp_path / "profile") as browser:
        browser.open(page)
        check_seen(browser)
        browser.press("2")
        browser.press(" ")
        browser.wait_for("playing && position() > 0.1")
        before, after = browser.run(
            "(() => { const a = position(); select(0); return [a, position()]; })()"
        )
        assert after == pytest.approx(before, abs=0.02) and browser.run("selected") == 0
        ratio = "buffers[0].getChannelData(0).reduce((s, v, n) => s + v * buffers[1].getChannelData(0)[n], 0)"
        power = browser.run("buffers[0].getChannelData(0).reduce((s, v) => s + v * v, 0)")
        assert browser.run(ratio) == pytest.approx(0.5 * power, rel=1e-3)
        assert browser.run("[buffers[0].length, seconds]") == [SAMPLE_RATE, 1]
        assert browser.run("(stop(), playing)") is False and browser.complaints == []
