"""Every random choice of every pair: how loud, in what noises, in which room."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from shard_tools.degrade.shares import Shares, pick
from shard_tools.mix.mixture import MixConfig
from shard_tools.mix.variety import TargetConfig, VarietyConfig
from shard_tools.plan.plan import Piece, Plan, Shard, shard_seed
from shard_tools.plan.variety import (
    STREAM,
    NoiseDraw,
    Variety,
    draw_change,
    draw_hiss,
    draw_noise_colour,
    draw_noises,
    draw_speech,
)

# Beside the first noise, the others lie this far below it.
SOFTER_DB = (-10.0, 0.0)
MOST_NOISES = 3
# Tell the streams of a shard's denoisers and codecs from other streams of its seed.
DENOISER_STREAM, CODEC_STREAM = 2, 3


class BabbleEntry(NamedTuple):
    """One babble that may be heard as noise: its position in the bank, and whose voices it has."""

    number: int
    owners: frozenset[str]
    paths: tuple[str, ...]


class Pools(NamedTuple):
    """What a split draws from: positions in the banks of noises and of rooms."""

    noises: tuple[int, ...]
    babbles: tuple[BabbleEntry, ...]
    measured_rooms: tuple[int, ...]
    simulated_rooms: tuple[int, ...]


class Recipe(NamedTuple):
    """Every random choice of one pair."""

    snr_db: float
    level_db: float
    noises: tuple[NoiseDraw, ...]
    rir: int | None
    variety: Variety = Variety()
    # As plans and shards call it; None where all pairs go through the same.
    denoiser: str | None = None
    codec: str | None = None


class RoomShares(NamedTuple):
    """How many pairs are reverberant, and how many of those in a simulated room."""

    reverberant: float
    simulated: float


class Settings(NamedTuple):
    """The parts of the config that recipes are drawn by."""

    mix: MixConfig
    rooms: RoomShares
    variety: VarietyConfig
    target: TargetConfig
    denoisers: Shares | None = None


def draw_recipes(plan: Plan, shard: Shard, pools: Pools, settings: Settings) -> list[Recipe]:
    """Return the recipe of each piece of a shard."""
    seed = shard_seed(plan, shard)
    rng = np.random.default_rng(seed)
    recipes = [
        _draw(rng, piece, pools, settings.mix, settings.rooms) for piece in plan.shard(*shard)
    ]
    recipes = [
        _with_variety(np.random.default_rng([*seed, STREAM, number]), recipe, pools, settings)
        for number, recipe in enumerate(recipes)
    ]
    chances = np.random.default_rng([*seed, CODEC_STREAM]).random((len(recipes), 2))
    recipes = [
        recipe._replace(codec=_codec(settings.variety, *chance))
        for recipe, chance in zip(recipes, chances.tolist(), strict=True)
    ]
    if settings.denoisers is None:
        return recipes
    chances = np.random.default_rng([*seed, DENOISER_STREAM]).random(len(recipes))
    return [
        recipe._replace(denoiser=pick(settings.denoisers, chance))
        for recipe, chance in zip(recipes, chances.tolist(), strict=True)
    ]


def _draw(
    rng: np.random.Generator, piece: Piece, pools: Pools, mix: MixConfig, rooms: RoomShares
) -> Recipe:
    """Return one recipe. Every pair takes the same numbers from ``rng``, whatever comes of them."""
    chance = rng.random(6)
    snr_db = rng.uniform(mix.snr_db_low, mix.snr_db_high)
    level_db = rng.uniform(mix.level_db_low, mix.level_db_high)
    starts, picks = rng.random(MOST_NOISES), rng.random(MOST_NOISES)
    gains_db = rng.uniform(*SOFTER_DB, MOST_NOISES)
    gains_db[0] = 0.0
    count = 2 + int(2 * chance[2]) if chance[1] < mix.several_noises_share else 1
    noises = [int(_pick(pools.noises, pick)) for pick in picks[:count]]
    strangers = [b.number for b in pools.babbles if piece.clip.owner not in b.owners]
    if strangers and chance[3] < mix.babble_share:
        noises[0] = int(_pick(strangers, picks[0]))
    distinct = dict.fromkeys(noises)  # a noise drawn twice is heard once
    return Recipe(
        round(_near_clean_db(mix, chance[0]) if chance[0] < mix.near_clean_share else snr_db, 3),
        round(level_db, 3),
        tuple(
            NoiseDraw(number, float(starts[i]), round(float(gains_db[i]), 3))
            for i, number in enumerate(distinct)
        ),
        _room(pools, rooms, chance[4], chance[5], rng.random()),
    )


def _near_clean_db(mix: MixConfig, chance: float) -> float:
    """Return the ratio of a near-clean pair; ``chance`` is below the share, evenly."""
    high = mix.near_clean_snr_db_high
    if high is None:
        return mix.near_clean_snr_db
    return mix.near_clean_snr_db + chance / mix.near_clean_share * (high - mix.near_clean_snr_db)


def _with_variety(
    rng: np.random.Generator, recipe: Recipe, pools: Pools, settings: Settings
) -> Recipe:
    """Return a recipe with its variety; by default it is as it was."""
    variety = settings.variety
    speech = draw_speech(rng, variety, settings.target)
    recordings, inventions = draw_noises(rng, recipe.noises, variety)
    return recipe._replace(
        noises=recordings,
        variety=Variety(
            speech,
            inventions,
            draw_noise_colour(rng, variety),
            draw_change(rng, pools.noises, variety),
            draw_hiss(rng, variety),
        ),
    )


def _codec(variety: VarietyConfig, chance: float, choice: float) -> str | None:
    """Return the codec of a pair that is a telephone's; None of the others."""
    if chance >= variety.telephone_share:
        return None
    return variety.telephone_codecs[int(choice * len(variety.telephone_codecs))]


def _room(
    pools: Pools, rooms: RoomShares, reverberant: float, simulated: float, pick: float
) -> int | None:
    """Return the room of a pair. With rooms of one kind only, all reverberant pairs are in these."""
    if reverberant >= rooms.reverberant:
        return None
    kinds = [pools.simulated_rooms, pools.measured_rooms]
    room = kinds[0] if simulated < rooms.simulated else kinds[1]
    room = room or kinds[0] or kinds[1]
    return int(_pick(room, pick)) if room else None


def _pick(options: Sequence[int], chance: float) -> int:
    return options[int(chance * len(options))]
