"""Variety of the pairs: drawn apart, so that nothing else moves."""

from collections import Counter
from typing import Any

import numpy as np
import pytest

from shard_tools.config import PrepConfig, settings, to_record
from shard_tools.mix.mixture import MixConfig
from shard_tools.mix.variety import TargetConfig, VarietyConfig
from shard_tools.plan.plan import PlanSize, make_plan
from shard_tools.plan.recipes import Pools, Recipe, RoomShares, Settings, draw_recipes
from shard_tools.plan.variety import Variety, describe
from shard_tools.scan.catalogue import Clip
from timbre import config as configs
from timbre.errors import ConfigError

PAIRS = 600
EVERYTHING = VarietyConfig(
    speech_low_pass_share=0.4,
    noise_low_pass_share=0.3,
    speech_equaliser_share=0.25,
    noise_equaliser_share=0.2,
    gap_share=0.2,
    made_noise_share=0.45,
    noise_speed_share=0.5,
    noise_backwards_share=0.2,
    noise_change_share=0.15,
    hiss_share=0.15,
)


def recipes(
    variety: VarietyConfig | None = None,
    target: TargetConfig | None = None,
    mix: MixConfig | None = None,
) -> list[Recipe]:
    clips = [
        Clip(f"{n}", 1, f"{n}", samples=48_000, speech_stop=48_000, split="train")
        for n in range(PAIRS)
    ]
    plan = make_plan(clips, PlanSize(48_000, None, 1, PAIRS, 7))
    pools = Pools(tuple(range(40)), (), (0, 1), ())
    by = Settings(
        mix or MixConfig(babble_share=0.0),
        RoomShares(0.3, 0.0),
        variety or VarietyConfig(),
        target or TargetConfig(),
    )
    return draw_recipes(plan, ("train", 0), pools, by)


def test_by_default_no_pair_has_any() -> None:
    plain = recipes()
    assert {recipe.variety for recipe in plain} == {Variety()}
    assert all(draw.speed == 1.0 and not draw.backwards for r in plain for draw in r.noises)
    assert not any(describe(recipe.variety) for recipe in plain)


def test_variety_moves_no_other_choice() -> None:
    for plain, other in zip(recipes(), recipes(EVERYTHING), strict=True):
        assert (plain.snr_db, plain.level_db, plain.rir) == (
            other.snr_db,
            other.level_db,
            other.rir,
        )
        before = {draw.number: (draw.start, draw.gain_db) for draw in plain.noises}
        for draw in other.noises:
            assert before[draw.number] == (draw.start, draw.gain_db)
        assert len(other.noises) + len(other.variety.made_noise) == len(plain.noises)


def test_a_higher_share_adds_pairs_and_changes_none() -> None:
    less, more = (recipes(VarietyConfig(hiss_share=share, gap_share=share)) for share in (0.2, 0.6))
    for one, other in zip(less, more, strict=True):
        if one.variety.hiss is not None:
            assert one.variety.hiss == other.variety.hiss
        if one.variety.speech.gap is not None:
            assert one.variety.speech.gap == other.variety.speech.gap
    assert sum(r.variety.hiss is not None for r in more) > sum(
        r.variety.hiss is not None for r in less
    )


def test_every_kind_of_variety_has_its_share() -> None:
    all_recipes = recipes(EVERYTHING, TargetConfig(pause_db=-30.0))
    counts: Counter[str] = Counter()
    for recipe in all_recipes:
        variety = recipe.variety
        counts["speech_low_pass"] += variety.speech.colour.low_pass_hz is not None
        counts["noise_low_pass"] += variety.noise_colour.low_pass_hz is not None
        counts["speech_equaliser"] += bool(variety.speech.colour.gains_db)
        counts["noise_equaliser"] += bool(variety.noise_colour.gains_db)
        counts["gap"] += variety.speech.gap is not None
        counts["noise_change"] += variety.change is not None
        counts["hiss"] += variety.hiss is not None
        counts["quiet_input"] += variety.speech.quiet_input
        assert variety.speech.pause_db == -30.0
    for name, count in counts.items():
        share = 0.5 if name == "quiet_input" else getattr(EVERYTHING, f"{name}_share")
        assert abs(count / PAIRS - share) < 4 * np.sqrt(share * (1 - share) / PAIRS), name
    made_noises = sum(len(recipe.variety.made_noise) for recipe in all_recipes)
    recorded_noises = [draw for recipe in all_recipes for draw in recipe.noises]
    assert abs(made_noises / (made_noises + len(recorded_noises)) - 0.45) < 0.08
    assert abs(np.mean([draw.speed != 1.0 for draw in recorded_noises]) - 0.5) < 0.1
    assert all(0.7 <= draw.speed <= 1.4 for draw in recorded_noises)
    assert (
        len({noise.seed for recipe in all_recipes for noise in recipe.variety.made_noise})
        == made_noises
    )


def test_near_clean_pairs_lie_between_both_ratios() -> None:
    mix = MixConfig(
        snr_db_low=-2.0,
        snr_db_high=20.0,
        near_clean_share=0.3,
        near_clean_snr_db=25.0,
        near_clean_snr_db_high=60.0,
    )
    near = [recipe.snr_db for recipe in recipes(mix=mix) if recipe.snr_db > 20]
    assert abs(len(near) / PAIRS - 0.3) < 0.07
    assert 25 <= min(near) < 30 and 55 < max(near) <= 60
    usual = recipes(mix=MixConfig(near_clean_share=0.3))
    assert {r.snr_db for r in usual if r.snr_db > 20} == {40.0}


def tree(**more: Any) -> dict[str, Any]:
    return {"speech": "s", "noise": "n", "output": "o", **more}


def test_newer_keys_at_their_defaults_are_not_part_of_a_plan() -> None:
    plain = configs.from_tree(PrepConfig, tree(), "test")
    config = configs.from_tree(
        PrepConfig,
        tree(split_by="name", variety={"gap_share": 0.0}, target={"pause_db": None}),
        "test",
    )
    assert settings(plain) == settings(config)
    for record in (settings(plain), to_record(plain)):
        assert not {"variety", "target", "split_by"} & record.keys()
        assert "near_clean_snr_db_high" not in record["mix"]
        assert "max_pause_db" not in record["clips"]
    other = configs.from_tree(PrepConfig, tree(variety={"gap_share": 0.1}), "test")
    assert settings(other)["variety"] == {"gap_share": 0.1}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"variety": {"noise_speeds": [1.4, 0.7]}}, "noise_speeds"),
        ({"variety": {"gap_share": 1.5}}, "variety.gap_share"),
        ({"variety": {"low_pass_hz": []}}, "variety.low_pass_hz"),
        ({"target": {"pause_db": 3.0}}, "target.pause_db"),
        ({"split_by": "speaker"}, "split_by"),
        ({"mix": {"near_clean_snr_db": 40.0, "near_clean_snr_db_high": 30.0}}, "near_clean_snr_db"),
    ],
)
def test_a_wrong_value_is_named(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        configs.from_tree(PrepConfig, tree(**wrong), "test")
