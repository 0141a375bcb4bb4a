"""A mix that changes at stated steps: exact at any number of ranks and after any resume."""

from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from tests.help.made_shards import make_shards
from timbre.errors import ConfigError
from timbre.shards import DataSource, open_corpus
from timbre.stream import DataMix, PairStream, Place, StreamConfig

BATCH, STEPS = 6, 24
# An epoch of the first mix has 5 steps, so that the second change comes within an epoch of the first.
FIRST, SECOND = 5, 12
CONFIG = StreamConfig(480, BATCH, 3, 2, 0)

Urls = dict[str, str]


@pytest.fixture(scope="module")
def urls(tmp_path_factory: pytest.TempPathFactory) -> Urls:
    sizes = {"one": [9, 9], "two": [7, 5], "three": [12]}
    return {
        name: make_shards(tmp_path_factory.mktemp(name), counts, seconds=0.05)
        for name, counts in sizes.items()
    }


def mix(urls: Urls, step: int, **weights: float) -> DataMix:
    sources = [DataSource(urls[name], weight) for name, weight in weights.items()]
    return DataMix(step, tuple(open_corpus(source, "train") for source in sources))


def changes(urls: Urls) -> list[DataMix]:
    return [mix(urls, FIRST, one=1, two=3), mix(urls, SECOND, two=1, three=1)]


def stream(
    urls: Urls, later_mixes: list[DataMix], place: Place | None = None, workers: int = 0
) -> PairStream:
    first = mix(urls, 0, one=1, two=1)
    return PairStream(first.corpora, CONFIG._replace(workers=workers), place, later_mixes)


def serve(
    urls: Urls,
    later_mixes: list[DataMix],
    steps: int,
    state: dict[str, Any] | None = None,
    world: int = 1,
    workers: int = 0,
) -> list[list[tuple[str, bytes]]]:
    """Return what all ranks together are served at each step: keys, and the sound, which tells the corpus."""
    each = []
    for rank in range(world):
        one = stream(urls, later_mixes, Place(rank, world), workers)
        if state:
            one.load_state_dict(state)
        each.append(
            [
                [(key, row.numpy().tobytes()) for key, row in zip(b.keys, b.clean, strict=True)]
                for b in islice(one, steps)
            ]
        )
    return [[pair for rank in each for pair in rank[step]] for step in range(steps)]


def state_at(urls: Urls, later_mixes: list[DataMix], step: int) -> dict[str, Any]:
    one = stream(urls, later_mixes)
    list(islice(one, step))
    assert one.step == step
    return one.state_dict()


def test_before_its_step_a_change_changes_nothing(urls: Urls) -> None:
    assert serve(urls, changes(urls), FIRST) == serve(urls, [], FIRST)
    assert serve(urls, changes(urls), SECOND) == serve(urls, changes(urls)[:1], SECOND)


@pytest.mark.parametrize("step", [0, 3, FIRST, FIRST + 1, SECOND - 1, SECOND, STEPS - 2])
@pytest.mark.parametrize(("world", "workers"), [(1, 0), (3, 1), (2, 2)])
def test_resuming_is_exact_across_changes_at_any_rank_and_worker_count(
    urls: Urls, step: int, world: int, workers: int
) -> None:
    whole = serve(urls, changes(urls), STEPS)
    state = state_at(urls, changes(urls), step)
    rest = serve(urls, changes(urls), STEPS - step, state, world, workers)
    assert rest == whole[step:]


def test_a_corpus_goes_on_where_it_was_and_is_served_by_its_new_weight(urls: Urls) -> None:
    one = stream(urls, changes(urls))
    rows = [
        one.order.rows(batch.epoch, int(batch.positions[0]), int(batch.positions[0]) + BATCH)
        for batch in islice(one, STEPS)
    ]
    count = Counter(int(number) for step in rows[FIRST:SECOND] for number in step[:, 0])
    assert count[1] == pytest.approx(3 * count[0], abs=3) and 2 not in count
    assert set(rows[SECOND][:, 0]) <= {1, 2}
    for number, pairs in enumerate([18, 12, 12]):
        own = [tuple(row[1:]) for step in rows for row in step.tolist() if row[0] == number]
        for turn in range(0, len(own) - pairs, pairs):  # each pair once before any comes again
            assert len(set(own[turn : turn + pairs])) == pairs, (number, turn)


def test_a_change_from_the_checkpoints_step_on_is_taken(urls: Urls) -> None:
    """It was asked for: a running job gets another mix."""
    state = state_at(urls, [], SECOND)
    later_mixes = [mix(urls, SECOND, three=1)]
    rest = serve(urls, later_mixes, 4, state)
    assert rest == serve(urls, later_mixes, SECOND + 4)[SECOND:]
    # What is still to come may be given up, or moved.
    assert (
        serve(urls, [], 4, state_at(urls, later_mixes, SECOND - 1))
        == serve(urls, [], SECOND + 3)[-4:]
    )


def test_a_change_that_is_not_to_come_is_refused(urls: Urls) -> None:
    state = state_at(urls, changes(urls), SECOND)
    for later_mixes in (
        [],
        [mix(urls, FIRST, one=1, two=2)],
        [mix(urls, FIRST + 1, one=1, two=3)],
        [mix(urls, 2, one=1, two=2), *changes(urls)],
    ):
        with pytest.raises(
            ConfigError, match=f"before step {SECOND}.*from_step of at least {SECOND}"
        ):
            stream(urls, later_mixes).load_state_dict(state)
    other = PairStream(mix(urls, 0, one=1, two=2).corpora, CONFIG, None, changes(urls))
    with pytest.raises(ConfigError, match=r"weights was .*data_changes"):
        other.load_state_dict(state)


def test_a_state_that_knows_of_no_changes_is_one_without_any(urls: Urls) -> None:
    state = state_at(urls, [], 7)
    old = {name: value for name, value in state.items() if name not in ("step", "changes")}
    assert serve(urls, [], 3, old) == serve(urls, [], 10)[7:]
    with pytest.raises(ConfigError, match="before step 7"):
        stream(urls, changes(urls)).load_state_dict(old)


def test_a_mix_that_is_smaller_than_a_batch_is_refused(urls: Urls, tmp_path: Path) -> None:
    small = open_corpus(DataSource(make_shards(tmp_path, [4], seconds=0.05)), "train")
    with pytest.raises(ConfigError, match="global_batch 6 is larger than an epoch of 4 pairs"):
        stream(urls, [DataMix(9, (small,))])


def test_an_epoch_ends_where_the_mix_changes_and_tells_it_before(urls: Urls) -> None:
    one = stream(urls, changes(urls))
    steps = [one.steps_left]
    epochs = []
    for batch in islice(one, SECOND + 2):
        epochs.append(batch.epoch)
        steps.append(one.steps_left)
    assert epochs == 5 * [0] + 5 * [1] + 2 * [2] + 2 * [3]
    assert steps == [5, 4, 3, 2, 1, 5, 4, 3, 2, 1, 2, 1, 4, 3, 2]
