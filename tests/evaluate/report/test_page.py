"""The page: what it holds, and how it behaves in a real browser."""

import base64
import json
import math
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from tests.help.chromium import Browser, chromium, needs_chromium
from timbre import audio
from timbre.audio import SAMPLE_RATE
from timbre.audio.synthetic.noise import noise
from timbre.audio.synthetic.voice import voice
from timbre.evaluate import summary
from timbre.evaluate.cases import Labels
from timbre.evaluate.intervals import Estimate
from timbre.evaluate.measure import MAIN, Row
from timbre.evaluate.report.example import SHOWN_SECONDS, Example, loudest_stretch
from timbre.evaluate.report.page import Content, to_html
from timbre.evaluate.report.page_tables import MOST_ROWS
from timbre.evaluate.report.plots import by_class
from timbre.evaluate.summary import Finding

HOSTILE = "</script><script>alert('&\"')</script>@@"
FIGURES = ("pesq", "mel_distance", "lsd_0_8k", "over_suppressed")
SIDES = ("noisy", "df3", "restored", "clean")
SECONDS = 5.0


class Page(HTMLParser):
    """What a page holds: addresses, text, and whether every tag is closed."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "img", "input"):
            self.open.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "data")]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """SVG's marks are closed at once."""

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("script", "style"):
            self.text += data


def row(number: int, name: str = "") -> Row:
    rng = np.random.default_rng(number)
    before = {figure: float(rng.uniform(1, 3)) for figure in FIGURES}
    after = {figure: value * (0.8 if figure != "pesq" else 1.1) for figure, value in before.items()}
    noisy = {figure: value * 2 for figure, value in before.items()}
    if number == 3:
        before["pesq"] = math.nan
    values = {MAIN: {"noisy": noisy, "df3": before, "restored": after, "clean": {}}}
    bandwidth = 21_000.0 if number % 2 else 15_000.0
    labels = Labels(
        f"speaker {number % 7}{name}", 3.0 * number, f"noise {number % 3}", "dry", bandwidth
    )
    return Row(f"pair {number:02d}{name}", 4.0, labels, values, [])


def example(title: str, seed: int = 0) -> Example:
    rng = np.random.default_rng(seed)
    clean = voice(SECONDS, rng)
    waves = {"noisy": clean + 0.1 * noise("pink", SECONDS, rng), "df3": 0.7 * clean}
    return Example(title, "speaker x", {**waves, "restored": 0.9 * clean, "clean": clean})


def content(rows: list[Row], examples: list[Example], facts: list[str]) -> Content:
    groups = {
        group: {value: summary.summarise(some, MAIN) for value, some in values.items()}
        for group, values in summary.groups(rows).items()
    }
    main = {"All pairs": summary.summarise(rows, MAIN)}
    return Content(["restored HELPS"], facts, main, groups, rows, examples, "restored")


@pytest.fixture(scope="module")
def source() -> str:
    rows = [row(number) for number in range(14)]
    return to_html(content(rows, [example("the worst"), example("the best", 1)], ["data: here"]))


@pytest.fixture(scope="module")
def page_file(source: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(source, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def page_browser(page_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("profile")) as browser:
        browser.open(page_file)
        yield browser


def test_the_page_loads_nothing_and_every_tag_is_closed(source: str) -> None:
    page = Page(source)
    assert page.open == []
    assert len(page.addresses) == 2 * 2 * len(SIDES)
    assert all(
        address.startswith(("data:image/png;", "data:audio/flac;")) for address in page.addresses
    )
    assert "http:" not in source and "https:" not in source
    assert "default-src 'none'" in source


def test_its_sound_is_the_waveform_to_the_bit_of_flac(source: str) -> None:
    sounds = [a.partition(",")[2] for a in Page(source).addresses if "audio" in a[:20]]
    for data, wave in zip(sounds, example("the worst").waves.values(), strict=False):
        sound, rate = audio.decode_bytes(base64.b64decode(data), "sound")
        assert rate == SAMPLE_RATE
        np.testing.assert_allclose(sound[0], np.clip(wave, -1, 1), atol=1 / 32768)


def test_long_pairs_are_cut_to_the_loudest_seconds_on_all_sides() -> None:
    clean = np.full((SHOWN_SECONDS + 4) * SAMPLE_RATE, 0.01, np.float32)
    clean[3 * SAMPLE_RATE : 8 * SAMPLE_RATE] = 0.5
    stretch = loudest_stretch({"df3": 0.5 * clean, "clean": clean})
    assert (stretch["clean"] == 0.5).all() and (stretch["df3"] == 0.25).all()
    assert len(stretch["clean"]) == SHOWN_SECONDS * SAMPLE_RATE


def test_six_pairs_of_seven_sides_stay_under_thirty_megabytes() -> None:
    """Every side is noise, which no codec makes smaller."""
    rng = np.random.default_rng(0)
    waves = {
        f"side {n}": rng.uniform(-0.5, 0.5, 9 * SAMPLE_RATE).astype(np.float32) for n in range(7)
    }
    examples = [Example("one", "", waves)]
    size = len(to_html(content([row(n) for n in range(9)], examples, [])))
    empty = len(to_html(content([row(n) for n in range(9)], [], [])))
    assert 6 * (size - empty) + empty < 31e6


def test_an_interval_of_two_speakers_does_not_flatten_a_plot() -> None:
    wide = Estimate(2.0, -100.0, 104.0, 5, 2, 0)
    sure = Estimate(3.0, 2.5, 3.5, 9, 8, 0)
    classes = {
        name: [Finding("pesq", {"df3": value}, {}, {})]
        for name, value in [("0 to 5 dB", wide), ("5 to 10 dB", sure)]
    }
    plot = by_class(classes, "pesq", ["df3"])
    low, high = (float(y) for y in re.findall(r'y1="([\d.]+)" y2="([\d.]+)"/><circle', plot)[1])
    assert low - high > 50  # of 138 pixels
    assert "-100.000" in plot


def test_a_long_list_of_pairs_is_cut_in_the_middle() -> None:
    many = [row(number) for number in range(MOST_ROWS + 5)]
    source = to_html(content(many, [], []))
    assert f"{MOST_ROWS} of {MOST_ROWS + 5} pairs" in source
    keys = [case.key for _, case in summary.rank(many, "restored")]
    assert f'data-value="{keys[0]}"' in source and f'data-value="{keys[-1]}"' in source
    assert f'data-value="{keys[len(keys) // 2]}"' not in source


def test_pairs_are_ranked_by_what_was_measured() -> None:
    rows = [row(number) for number in range(9)]
    pesq_alone = [
        each._replace(
            values={MAIN: {s: {"pesq": v["pesq"]} for s, v in each.values[MAIN].items() if v}}
        )
        for each in rows
    ]
    assert summary.figure_of_rank(rows) == "mel_distance"
    assert summary.figure_of_rank(pesq_alone) == "pesq"
    gains = [gain for gain, _ in summary.rank(pesq_alone, "restored")]
    assert len(gains) == 8 and gains == sorted(gains)  # one pair has no PESQ
    for gain, each in summary.rank(pesq_alone, "restored"):
        values = each.values[MAIN]
        assert gain == values["restored"]["pesq"] - values["df3"]["pesq"]
    assert "pesq gained by restored" in to_html(content(pesq_alone, [], []))


def test_names_are_escaped_in_the_page() -> None:
    rows = [row(number, HOSTILE) for number in range(8)]
    hostile = Example(HOSTILE, HOSTILE, {HOSTILE: np.zeros(4800, np.float32)})
    source = to_html(content(rows, [hostile], [HOSTILE]))
    assert "<script>alert" not in source
    page = Page(source)
    assert page.open == [] and page.text.count(HOSTILE) >= 5


@needs_chromium
def test_the_page_opens_without_complaints(page_browser: Browser) -> None:
    assert page_browser.complaints == []
    assert page_browser.run("document.title") == "timbre evaluate"
    images = "[...document.images].every((i) => i.complete && i.naturalWidth > 0)"
    assert page_browser.run(images) is True
    assert page_browser.run("document.documentElement.scrollWidth <= innerWidth") is True


@needs_chromium
def test_another_script_does_not_run(source: str, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text(source.replace("</body>", "<script>document.title = 'taken'</script></body>"))
    with chromium(tmp_path / "profile") as browser:
        browser.open(path)
        assert browser.run("document.title") == "timbre evaluate"
        assert any("Content Security Policy" in complaint for complaint in browser.complaints)


@needs_chromium
def test_a_click_on_a_head_sorts_by_number_and_another_turns_it_round(
    page_browser: Browser,
) -> None:
    column = "[...document.querySelectorAll('#pairs ~ .wide tbody tr')].map((r) => r.cells[%d].dataset.value)"
    assert (
        page_browser.run("document.querySelectorAll('#pairs ~ .wide th')[2].textContent")
        == "SNR, dB"
    )
    page_browser.click("#pairs ~ .wide th:nth-child(3) button")
    snr = [float(value) for value in page_browser.run(column % 2)]
    assert snr == sorted(snr) == [3.0 * n for n in range(14)]
    page_browser.click("#pairs ~ .wide th:nth-child(3) button")
    assert [float(value) for value in page_browser.run(column % 2)] == snr[::-1]
    page_browser.click("#pairs ~ .wide th:nth-child(1) button")
    names = page_browser.run(column % 0)
    assert names == sorted(names)
    # A figure that one pair does not have: it comes last, both ways.
    head = page_browser.run(
        "[...document.querySelectorAll('#pairs ~ .wide th')].map((h) => h.textContent)"
    )
    place = head.index("pesq df3")
    for _ in range(2):
        page_browser.click(f"#pairs ~ .wide th:nth-child({place + 1}) button")
        values = page_browser.run(column % place)
        assert values[-1] == "" and values.count("") == 1
    numbers = [float(value) for value in values[:-1]]
    assert numbers == sorted(numbers, reverse=True)


@needs_chromium
def test_the_breakdown_shows_the_chosen_figure_by_the_chosen_group(page_browser: Browser) -> None:
    choose = "(() => {{ const s = document.getElementById('{}'); s.value = '{}'; s.dispatchEvent(new Event('change')); }})()"
    page_browser.run(choose.format("group", "noise"))
    page_browser.run(choose.format("figure", "pesq"))
    rows = page_browser.run(
        "[...document.querySelectorAll('#broken-down tbody tr')].map((r) => [...r.cells].map((c) => c.textContent))"
    )
    some = [row(number) for number in range(0, 14, 3)]
    (finding,) = (f for f in summary.summarise(some, MAIN) if f.name == "pesq")
    first = rows[0]
    assert first[0] == "noise 0" and str(finding.systems["df3"]) in first
    assert str(finding.differences["restored"]) in first
    assert len(rows) == 3


@needs_chromium
def test_switching_sides_keeps_the_position_stopped_and_playing(page_browser: Browser) -> None:
    page_browser.run("players[0].go(0.7)")
    page_browser.click(".case figure[data-name=restored] figcaption")
    assert page_browser.run("[players[0].selected, players[0].position()]") == ["restored", 0.7]
    page_browser.click(".case .play")
    page_browser.run(
        "new Promise((done) => { const wait = () => players[0].playing && players[0].position() > 0.75 ? done() : setTimeout(wait, 5); wait(); })"
    )
    # At one instant of the clock, before and after the switch.
    before, after, name = page_browser.run(
        "(() => { const p = players[0]; const t = context.currentTime; const before = p.position();"
        " p.select('clean'); return [before, p.position() - (context.currentTime - t), p.selected]; })()"
    )
    assert name == "clean" and after == pytest.approx(before, abs=1e-6) and before > 0.7
    assert page_browser.run("players[0].playing") is True
    page_browser.press("2")
    assert page_browser.run("players[0].selected") == "df3"
    # All sides run from one start; only the chosen one is let through.
    gains = (
        "new Promise((done) => { const wait = () => { const g = players[0].gains;"
        " g.df3.gain.value > 0.99 ? done(Object.fromEntries(Object.entries(g).map(([n, x]) =>"
        " [n, Math.round(x.gain.value)]))) : setTimeout(wait, 5); }; wait(); })"
    )
    assert page_browser.run(gains) == {"noisy": 0, "df3": 1, "restored": 0, "clean": 0}
    page_browser.run("players[0].stop()")
    assert page_browser.complaints == []


@needs_chromium
def test_what_is_heard_is_what_the_page_was_given(page_browser: Browser) -> None:
    """The browser decodes it; every sample is compared."""
    page_browser.run("(async () => { await players[1].play(); players[1].stop(); })()")
    waves = example("the best", 1).waves
    for number, name in enumerate(SIDES):
        answer = page_browser.run(
            f"(() => {{ const [name, b] = players[1].buffers[{number}];"
            " return [name, b.sampleRate, [...b.getChannelData(0).slice(20000, 20100)]]; })()"
        )
        assert answer[:2] == [name, SAMPLE_RATE]
        np.testing.assert_allclose(answer[2], waves[name][20_000:20_100], atol=1 / 32768)


@needs_chromium
def test_only_one_pair_plays_at_a_time(page_browser: Browser) -> None:
    page_browser.run("players[0].play()")
    page_browser.run("players[1].play()")
    assert page_browser.run("players.map((p) => p.playing)") == [False, True]
    page_browser.run("players[1].stop()")
    assert json.loads(json.dumps(page_browser.complaints)) == []
