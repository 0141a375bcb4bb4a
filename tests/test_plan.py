"""The plan: a pure function of sources, config and seed."""

import numpy as np
import pytest

from shard_tools import plan
from shard_tools.plan import MixConfig, PlanSize, cut, draw_recipes, make_plan, split_names
from shard_tools.sources import Clip
from timbre.errors import ConfigError

SIZE = PlanSize(segment=96000, variants=2, shard_pairs=5, val_ratio=0.1, seed=0)


def clips(speakers: int, each: int, samples: int = 250_000) -> tuple[Clip, ...]:
    return tuple(
        Clip(f"{s}/{i}.wav", f"/{s}/{i}.wav", samples, f"speaker {s}")
        for s in range(speakers)
        for i in range(each)
    )


def noises(count: int) -> tuple[Clip, ...]:
    return tuple(Clip(f"n{i}.wav", f"/n{i}.wav", 48000, None) for i in range(count))


@pytest.mark.parametrize("samples", [1, 95_999, 96_000, 191_999, 192_000, 1_000_001])
def test_pieces_cover_a_clip_once_and_are_one_to_two_segments_long(samples: int) -> None:
    pieces = cut(clips(1, 1, samples)[0], 96_000)
    assert pieces[0][0] == 0
    assert [start + length for start, length in pieces[:-1]] == [start for start, _ in pieces[1:]]
    assert sum(length for _, length in pieces) == max(samples, 96_000)
    assert all(96_000 <= length < 192_000 for _, length in pieces)


def test_every_piece_appears_in_every_variant_exactly_once() -> None:
    made = make_plan(clips(10, 3), noises(5), (), SIZE)
    pieces = [piece for split in made.pieces.values() for piece in split]
    assert len(pieces) == len(set(pieces)) == 10 * 3 * 2 * 2
    shards = [piece for shard in made.shards() for piece in made.shard(*shard)]
    assert sorted(shards) == sorted(pieces)


def test_no_speaker_noise_or_room_is_on_both_sides() -> None:
    made = make_plan(clips(30, 2), noises(40), noises(20), SIZE)
    speakers = [{piece.clip.speaker for piece in made.pieces[split]} for split in ("train", "val")]
    assert speakers[0] and speakers[1] and not speakers[0] & speakers[1]
    for pool in ("noises", "rirs"):
        train, val = (set(getattr(made.pools[split], pool)) for split in ("train", "val"))
        assert train and val and not train & val


def test_speakers_fall_to_validation_by_about_the_ratio_and_a_new_one_moves_nobody() -> None:
    names = {f"speaker {i}" for i in range(1000)}
    split = split_names(names, 0.08)
    assert 50 <= sum(side == "val" for side in split.values()) <= 110
    grown = split_names(names | {"somebody new"}, 0.08)
    assert all(grown[name] == side for name, side in split.items())


def test_two_names_are_enough_for_two_sides() -> None:
    for pair in [{"a", "b"}, {"x", "y"}, {"one", "two"}]:
        assert set(split_names(pair, 0.08).values()) == {"train", "val"}


def test_a_few_speakers_do_not_all_fall_to_validation_by_chance() -> None:
    for salt in range(200):
        split = split_names({f"{salt}/{i}" for i in range(6)}, 0.2)
        assert 1 <= sum(side == "val" for side in split.values()) <= 2


def test_a_single_speaker_is_split_by_recording() -> None:
    made = make_plan(clips(1, 12), noises(3), (), SIZE)
    paths = [{piece.clip.path for piece in made.pieces[split]} for split in ("train", "val")]
    assert paths[0] and paths[1] and not paths[0] & paths[1]


def test_one_clip_cannot_be_split() -> None:
    with pytest.raises(ConfigError, match="speech: 1 usable clips"):
        make_plan(clips(1, 1), noises(3), (), SIZE)


def test_recipes_depend_on_the_shard_alone() -> None:
    made = make_plan(clips(20, 3), noises(9), noises(6), SIZE)
    drawn = {
        shard: draw_recipes(made, shard, MixConfig(), 0.5) for shard in reversed(made.shards())
    }
    again = {shard: draw_recipes(made, shard, MixConfig(), 0.5) for shard in made.shards()}
    assert drawn == again
    assert len({tuple(recipes) for recipes in drawn.values()}) == len(drawn)


def test_recipes_follow_the_config() -> None:
    made = make_plan(clips(200, 5), noises(50), noises(20), SIZE)
    mix = MixConfig(snr_db_low=3, snr_db_high=9, near_clean_share=0.2, near_clean_snr_db=50)
    drawn = [r for shard in made.shards() for r in draw_recipes(made, shard, mix, 0.3)]
    near_clean = [recipe for recipe in drawn if recipe.snr_db == 50]
    others = np.array([recipe.snr_db for recipe in drawn if recipe.snr_db != 50])
    assert abs(len(near_clean) / len(drawn) - 0.2) < 0.03
    assert others.min() >= 3 and others.max() <= 9 and abs(others.mean() - 6) < 0.2
    assert abs(np.mean([recipe.rir is not None for recipe in drawn]) - 0.3) < 0.03
    levels = [recipe.level_db for recipe in drawn]
    assert min(levels) >= -28 and max(levels) <= -22
    for split, number in made.shards():
        pool = made.pools[split]
        for recipe in draw_recipes(made, (split, number), mix, 0.3):
            assert recipe.noise in pool.noises and (recipe.rir is None or recipe.rir in pool.rirs)


def test_another_seed_gives_another_plan() -> None:
    one, other = (
        make_plan(clips(10, 3), noises(5), (), SIZE._replace(seed=seed)) for seed in (0, 1)
    )
    assert one.pieces["train"] != other.pieces["train"]
    assert set(one.pieces["train"]) == set(other.pieces["train"])
    assert plan.shard_seed(one, ("train", 0)) != plan.shard_seed(other, ("train", 0))
