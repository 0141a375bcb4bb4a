"""The plan: a pure function of catalogue, config and seed."""

from collections import Counter

import numpy as np
import pytest

from shard_tools import plan
from shard_tools.catalogue import Clip
from shard_tools.plan import (
    PlanSize,
    count_pieces,
    make_plan,
    piece_of,
    split_names,
    split_pool,
)
from shard_tools.recipes import BabbleEntry, MixConfig, Pools, RoomShares, draw_recipes
from timbre.shards import Split

SIZE = PlanSize(segment=96_000, margin=4_800, variants=2, shard_pairs=5, seed=0)
POOLS = Pools(
    noises=tuple(range(10, 60)),
    babbles=(
        BabbleEntry(90, frozenset({"speaker 0"}), ()),
        BabbleEntry(91, frozenset({"speaker 1"}), ()),
    ),
    measured_rooms=(3, 4, 5),
    simulated_rooms=(8, 9),
)
ROOMS = RoomShares(reverberant=0.3, simulated=0.5)


def clip(name: str, speaker: str, samples: int = 250_000, split: Split = "train") -> Clip:
    return Clip(
        f"{name}.wav", 1, name, samples=samples, speech_stop=samples, speaker=speaker, split=split
    )


def clips(speakers: int, each: int, samples: int = 250_000) -> list[Clip]:
    return [
        clip(f"{s}/{i}", f"speaker {s}", samples, "val" if s % 5 == 4 else "train")
        for s in range(speakers)
        for i in range(each)
    ]


@pytest.mark.parametrize("samples", [1, 95_999, 96_000, 191_999, 192_000, 1_000_001])
def test_pieces_cover_a_clip_once_and_are_one_to_two_segments_long(samples: int) -> None:
    whole = clip("a", "b", samples)
    pieces = [piece_of(whole, number, SIZE) for number in range(count_pieces(whole, SIZE))]
    assert pieces[0][0] == 0
    assert [start + length for start, length in pieces[:-1]] == [start for start, _ in pieces[1:]]
    assert sum(length for _, length in pieces) == max(samples, 96_000)
    assert all(96_000 <= length < 192_000 for _, length in pieces)


def test_silence_around_the_speech_is_left_out_but_for_a_margin() -> None:
    quiet = Clip("a", 1, "a", samples=500_000, speech_start=100_000, speech_stop=300_000)
    pieces = [piece_of(quiet, number, SIZE) for number in range(count_pieces(quiet, SIZE))]
    assert pieces[0][0] == 95_200
    assert sum(pieces[-1]) == 304_800
    kept = SIZE._replace(margin=None)
    assert count_pieces(quiet, kept) == 5 and piece_of(quiet, 0, kept)[0] == 0


def test_every_piece_appears_in_every_variant_exactly_once() -> None:
    made = make_plan(clips(10, 3, 20 * 48_000), SIZE)
    pieces = [piece for shard in made.shards() for piece in made.shard(*shard)]
    assert len(pieces) == 10 * 3 * 10 * 2
    assert len({(p.clip.path, p.start, p.variant) for p in pieces}) == len(pieces)
    assert all(len(made.shard(*shard)) <= 5 for shard in made.shards())
    for split, number in made.shards():
        assert {piece.clip.split for piece in made.shard(split, number)} == {split}


def test_a_long_recording_is_spread_over_the_shards() -> None:
    """An hour of one speaker must not fill a window of shards by itself."""
    long = [clip(f"long{i}", f"s{i}", 3600 * 48_000) for i in range(4)]
    made = make_plan(long, SIZE._replace(shard_pairs=120))
    speakers = [
        len({piece.clip.speaker for piece in made.shard(*shard)}) for shard in made.shards()
    ]
    assert np.mean(speakers) > 1.5


def test_takes_are_read_in_one_stretch() -> None:
    made = make_plan([clip("long", "s", 600 * 48_000)], SIZE._replace(variants=3))
    first = made.shard("train", 0)
    assert [piece.variant for piece in first] == [0, 1, 2, 0, 1]
    assert first[3].start == first[0].start + first[0].samples


def test_a_later_edition_numbers_its_shards_on() -> None:
    made = make_plan(clips(10, 3), SIZE, edition=2, first_shard={"train": 7, "val": 2})
    numbers = [number for split, number in made.shards() if split == "train"]
    assert numbers == list(range(7, 7 + len(numbers)))
    pieces = [piece for shard in made.shards() for piece in made.shard(*shard)]
    assert len(pieces) == 10 * 3 * 2 * 2
    again = make_plan(clips(10, 3), SIZE, edition=3, first_shard={"train": 7, "val": 2})
    assert [again.shard(*s) for s in again.shards()] != [made.shard(*s) for s in made.shards()]


def test_speakers_fall_to_validation_by_about_the_ratio_and_a_new_one_moves_nobody() -> None:
    names = {f"speaker {i}" for i in range(1000)}
    split = split_names(names, 0.08)
    assert 50 <= sum(side == "val" for side in split.values()) <= 110
    for number in range(50):
        grown = split_names(names | {f"somebody new {number}"}, 0.08)
        assert all(grown[name] == side for name, side in split.items())


@pytest.mark.parametrize("count", range(12, 60, 6))
def test_a_new_speaker_moves_nobody_among_few(count: int) -> None:
    names = {f"voice {i}" for i in range(count)}
    split = split_names(names, 0.2)
    grown = split_names(names | {"somebody new"}, 0.2)
    assert all(grown[name] == side for name, side in split.items())


def test_whoever_is_settled_stays_whatever_the_hash_says() -> None:
    settled: dict[str, Split] = {f"speaker {i}": "val" for i in range(20)}
    split = split_names({f"speaker {i}" for i in range(40)}, 0.08, settled)
    assert all(split[name] == "val" for name in settled)
    assert "train" in split.values()


def test_two_names_are_enough_for_two_sides() -> None:
    for number in range(300):
        pair = {f"{number}", f"other {number}"}
        assert set(split_names(pair, 0.08).values()) == {"train", "val"}


def test_a_few_speakers_do_not_all_fall_to_validation_by_chance() -> None:
    for salt in range(300):
        split = split_names({f"{salt}/{i}" for i in range(8)}, 0.2)
        assert 1 <= sum(side == "val" for side in split.values()) <= 4


def test_noises_are_divided_and_a_single_one_is_shared() -> None:
    pool = split_pool([f"n{i}.wav" for i in range(100)], 0.1)
    assert pool["train"] and pool["val"] and not set(pool["train"]) & set(pool["val"])
    assert len(pool["train"]) + len(pool["val"]) == 100
    assert split_pool(["only.wav"], 0.1) == {"train": (0,), "val": (0,)}


def test_recipes_depend_on_the_shard_alone() -> None:
    made = make_plan(clips(20, 3), SIZE)
    drawn = {
        shard: draw_recipes(made, shard, POOLS, MixConfig(), ROOMS)
        for shard in reversed(made.shards())
    }
    again = {shard: draw_recipes(made, shard, POOLS, MixConfig(), ROOMS) for shard in made.shards()}
    assert drawn == again
    assert len({tuple(recipes) for recipes in drawn.values()}) == len(drawn)


def test_recipes_follow_the_config() -> None:
    made = make_plan(clips(200, 5), SIZE)
    mix = MixConfig(
        snr_db_low=3,
        snr_db_high=9,
        near_clean_share=0.2,
        near_clean_snr_db=50,
        several_noises_share=0.4,
        babble_share=0.15,
    )
    pairs = [
        (piece, recipe)
        for shard in made.shards()
        for piece, recipe in zip(
            made.shard(*shard), draw_recipes(made, shard, POOLS, mix, ROOMS), strict=True
        )
    ]
    recipes = [recipe for _, recipe in pairs]
    others = np.array([recipe.snr_db for recipe in recipes if recipe.snr_db != 50])
    assert abs(len(others) / len(recipes) - 0.8) < 0.03
    assert others.min() >= 3 and others.max() <= 9 and abs(others.mean() - 6) < 0.2
    levels = [recipe.level_db for recipe in recipes]
    assert min(levels) >= -28 and max(levels) <= -22
    counts = Counter(len(recipe.noises) for recipe in recipes)
    assert abs(1 - counts[1] / len(recipes) - 0.4) < 0.04
    assert set(counts) == {1, 2, 3} and 0.7 < counts[2] / counts[3] < 1.5
    rooms = Counter(recipe.rir for recipe in recipes)
    assert abs(1 - rooms[None] / len(recipes) - 0.3) < 0.03
    assert 0.7 < (rooms[8] + rooms[9]) / (rooms[3] + rooms[4] + rooms[5]) < 1.4
    babbled = [(p, r) for p, r in pairs if r.noises[0].number >= 90]
    assert abs(len(babbled) / len(pairs) - 0.15) < 0.03
    for piece, recipe in pairs:
        assert recipe.noises[0].gain_db == 0
        assert len({draw.number for draw in recipe.noises}) == len(recipe.noises)
        assert not any(
            piece.clip.owner in entry.owners
            for entry in POOLS.babbles
            for draw in recipe.noises
            if draw.number == entry.number
        )


def test_reverberant_pairs_take_what_kind_of_room_there_is() -> None:
    made = make_plan(clips(50, 3), SIZE)
    for pools, allowed in [
        (POOLS._replace(measured_rooms=()), {None, 8, 9}),
        (POOLS._replace(simulated_rooms=()), {None, 3, 4, 5}),
        (POOLS._replace(measured_rooms=(), simulated_rooms=()), {None}),
    ]:
        drawn = [
            recipe
            for shard in made.shards()
            for recipe in draw_recipes(made, shard, pools, MixConfig(), ROOMS)
        ]
        assert {recipe.rir for recipe in drawn} == allowed


def test_another_seed_gives_another_plan() -> None:
    one, other = (make_plan(clips(10, 3), SIZE._replace(seed=seed)) for seed in (0, 1))
    assert one.shard("train", 0) != other.shard("train", 0)
    assert plan.shard_seed(one, ("train", 0)) != plan.shard_seed(other, ("train", 0))
