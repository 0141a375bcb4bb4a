"""The composite prefers the checkpoints that a listener would."""

import math

import pytest

from timbre.train.validation.score import distance, harm_penalty, score, si_sdr_penalty

DEGRADED = {"mel_distance": 8.0, "lsd_0_8k": 12.0, "lsd_8_24k": 10.0, "si_sdr": 15.0}


def figures(
    share: float = 1.0, si_sdr: float = 15.0, harm: float = 0.0, harm_si_sdr: float = 100.0
) -> dict[str, float]:
    """Figures of a generator that leaves ``share`` of every distance and harms by ``harm`` of it."""
    restored = {name: share * value for name, value in DEGRADED.items()} | {"si_sdr": si_sdr}
    harm_figures = {name: harm * DEGRADED[name] for name in ("lsd_0_8k", "lsd_8_24k")}
    return {
        **{f"val/{name}": value for name, value in restored.items()},
        **{f"val/degraded/{name}": value for name, value in DEGRADED.items()},
        **{f"val/harm/{name}": value for name, value in harm_figures.items()},
        "val/harm/si_sdr": harm_si_sdr,
    }


def test_the_identity_has_score_1() -> None:
    assert score(figures()) == 1.0


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        pytest.param(figures(0.8), figures(0.9), id="nearer to clean"),
        pytest.param(figures(0.9), figures(0.8, si_sdr=14.0), id="waveform given up for spectra"),
        pytest.param(
            figures(0.8, si_sdr=14.8), figures(0.9), id="a little of the waveform is free"
        ),
        pytest.param(
            figures(), figures(0.9, harm=1.0), id="wrecks clean speech, identity is better"
        ),
        pytest.param(figures(0.85, harm=0.1), figures(0.8, harm=0.6), id="harms less"),
        pytest.param(figures(0.7, harm=0.2), figures(0.95), id="much better for a little harm"),
        pytest.param(figures(0.9), figures(0.85, harm_si_sdr=10.0), id="clean waveform is bent"),
    ],
)
def test_of_two_checkpoints_the_better_has_the_lower_score(
    better: dict[str, float], worse: dict[str, float]
) -> None:
    assert score(better) < score(worse)


def test_the_parts_are_what_they_are_said_to_be() -> None:
    # mel 6/8, 0-8 kHz 9/12 and 8-24 kHz 7.5/10 are left; 0.7 dB beyond what is free are lost.
    values = figures(0.75, si_sdr=14.0, harm=0.25, harm_si_sdr=15.0)
    assert distance(values) == pytest.approx(0.75)
    assert si_sdr_penalty(values) == pytest.approx(0.7)
    assert harm_penalty(values) == pytest.approx(0.5 * (0.25 - 0.15) + 5 * 0.02)
    assert score(values) == pytest.approx(0.75 + 0.7 + 0.15)


@pytest.mark.parametrize("absent", ["missing", "nan"])
def test_narrow_band_data_has_a_score_of_what_it_has(absent: str) -> None:
    wide = figures(0.75, harm=0.3)
    highs = {name: math.nan for name in wide if name.endswith("lsd_8_24k")}
    assert len(highs) == 3
    narrow = (
        {n: v for n, v in wide.items() if n not in highs} if absent == "missing" else wide | highs
    )
    assert score(narrow) == pytest.approx(score(wide))
    # Only the low band's harm counts then.
    assert harm_penalty(narrow | {"val/harm/lsd_0_8k": 12.0}) > harm_penalty(narrow)


def test_data_on_which_nothing_was_lost_or_measured_scores_1_and_harm_still_counts() -> None:
    assert score({}) == 1.0
    perfect = figures() | {
        name: 0.0 for name in figures() if "degraded" in name and "si" not in name
    }
    assert score(perfect) == 1.0
    assert score(perfect | {"val/harm/si_sdr": 5.0}) > 1.0


@pytest.mark.parametrize(
    "name", ["mel_distance", "lsd_0_8k", "si_sdr", "harm/lsd_0_8k", "harm/si_sdr"]
)
def test_a_broken_generator_is_never_the_best(name: str) -> None:
    assert score(figures(0.5) | {f"val/{name}": math.nan}) == math.inf
