"""Results: intervals that hold what they promise, and files that are none refused by name."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from timbre import config as configs
from timbre.listen import command
from timbre.listen.answers import Answers, screen
from timbre.listen.figures import Value, crossed_mean, differences, preferences, ratings
from timbre.listen.results_page import results_of, to_html


def mushra(listener: str, by_clip: dict[str, dict[str, float]], **more: Any) -> dict[str, Any]:
    trials = [{"clip": clip, "ratings": values} for clip, values in by_clip.items()]
    return {
        "format": "timbre listen 1", "test": "t", "method": "mushra", "reference": "clean",
        "parts": len(trials), "listener": listener, "headphones": None, "started": "1",
        "finished": "2", "trials": trials, **more,
    }  # fmt: skip


def answers_of(tree: dict[str, Any]) -> Answers:
    return configs.from_tree(Answers, tree, "tree")


def preference(listener: str, answers: list[tuple[str, str, str, str | None]]) -> Answers:
    trials = [dict(zip(("clip", "a", "b", "preferred"), one, strict=True)) for one in answers]
    tree = mushra(listener, {}, method="ab", reference=None, parts=len(trials), trials=trials)
    return answers_of(tree)


@pytest.mark.parametrize(("listeners", "clips"), [(3, 4), (12, 6)])
def test_intervals_hold_the_truth_nineteen_times_in_twenty(listeners: int, clips: int) -> None:
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(400):
        mean = (
            60
            + rng.normal(0, 8, (listeners, 1))
            + rng.normal(0, 8, (1, clips))
            + rng.normal(0, 6, (listeners, clips))
        )
        values = [Value(str(i), str(j), float(x)) for (i, j), x in np.ndenumerate(mean)]
        result = crossed_mean(values)
        assert result.low is not None and result.high is not None
        inside += result.low <= 60 <= result.high
    assert 0.92 <= inside / 400 <= 0.995


def test_one_listener_or_one_clip_has_a_mean_and_no_interval() -> None:
    for values in ([Value("a", "1", 3.0), Value("a", "2", 5.0)], [Value("a", "1", 4.0)] * 2):
        assert crossed_mean(values)[:3] == (4.0, None, None)


def test_means_and_differences_are_of_the_same_parts() -> None:
    answers = [
        answers_of(mushra(name, {c: {"clean": 100, "x": 50 + d, "y": 30 + d} for c in "pq"}))
        for name, d in [("a", 0), ("b", 10)]
    ]
    means = ratings(answers)
    assert [(name, m.mean) for name, m in means.items()] == [("clean", 100), ("x", 55), ("y", 35)]
    (better,) = differences(answers, ["x", "y"])
    # Listeners differ, the difference does not.
    assert better.mean[:3] == (20, 20, 20)


def test_no_preference_is_half_of_each_and_the_better_comes_first() -> None:
    answers = [
        preference(name, [("p", "x", "y", "y"), ("q", "y", "x", "y"), ("r", "x", "y", None)])
        for name in "ab"
    ]
    (pair,) = preferences(answers)
    assert (pair.better, pair.worse) == ("y", "x")
    assert pair.mean.mean == pytest.approx(5 / 6)
    assert pair.mean.high is not None and pair.mean.high <= 1


def test_who_misses_the_reference_in_more_than_15_percent_is_left_out_and_named() -> None:
    good = {str(n): {"clean": 95.0, "x": 40.0} for n in range(20)}
    three = good | {str(n): {"clean": 89.0, "x": 40.0} for n in range(3)}
    four = three | {"3": {"clean": 0.0, "x": 100.0}}
    answers = [
        answers_of(mushra(name, trials))
        for name, trials in [("good", good), ("three", three), ("<b>four", four)]
    ]
    screened = screen(answers)
    assert [one.listener for one in screened.answers] == ["good", "three"]
    assert screened.left_out == ["<b>four: rated the hidden reference below 90 in 4 of 20 parts"]
    page = to_html(results_of(screened))
    assert "&lt;b&gt;four" in page and "<b>four" not in page


BAD: dict[str, tuple[Any, str]] = {
    "no json": ("{", "expected the JSON file that a listening test saves"),
    "a list": ([], "expected the JSON file"),
    "another format": (mushra("a", {}, format="x"), "not the file that a listening test saves"),
    "not finished": (mushra("a", {}, parts=3), "has 0 of 3 parts; let the listener finish"),
    "beyond": (mushra("a", {"p": {"clean": 101.0}}), "trials.0.ratings.clean 101: expected 0 to 100"),
    "no reference": (mushra("a", {"p": {"x": 1.0}}), "expected one of the hidden reference, clean"),
    "words": (mushra("a", {"p": {"clean": "good"}}), "trials.0.ratings.clean"),  # type: ignore[dict-item]
    "same name": (mushra("one", {"p": {"clean": 100.0}}), "listener 'one' is in "),
    "other test": (mushra("a", {"p": {"clean": 100.0}}, test="u"), "is of test u, but "),
    "missed all": (mushra("a", {"p": {"clean": 1.0}}), "no listener is left"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_file_that_is_no_result_is_refused_by_name(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree, message = BAD[name]
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    good.write_text(json.dumps(mushra("one", {"p": {"clean": 100.0, "x": 5.0}})))
    bad.write_text(tree if isinstance(tree, str) else json.dumps(tree))
    files = [str(bad)] if name == "missed all" else [str(good), str(bad)]
    page = tmp_path / "page.html"
    assert command.main(["--results", *files, "--out", str(page)]) in (1, 2)
    error = capsys.readouterr().err
    assert message in error and (name == "missed all" or "bad.json" in error)
    assert not page.exists()
