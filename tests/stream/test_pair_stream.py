"""The stream: a batch depends on the data, the seed and the step alone."""

from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from tests.help.made_shards import content, make_shards, three_quarters
from timbre import shards
from timbre.errors import ConfigError
from timbre.shards.corpus import DataSource, open_corpus
from timbre.storage import files as storage
from timbre.stream import PairStream, Place, StreamConfig
from timbre.stream.batches import PairBatch

SEGMENT = 4800
GLOBAL_BATCH = 6


@pytest.fixture(scope="module")
def manifest_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_shards(tmp_path_factory.mktemp("shards"), [7, 5, 9, 4, 6])


def stream(url: str, world: int = 1, rank: int = 0, workers: int = 0, **changes: int) -> PairStream:
    config = {"segment": SEGMENT, "global_batch": GLOBAL_BATCH, "seed": 3, "window": 2} | changes
    corpora = [open_corpus(DataSource(url), "train")]
    return PairStream(corpora, StreamConfig(**config, workers=workers), Place(rank, world))


def global_keys(
    url: str, steps: int, world: int = 1, workers: int = 0, state: dict | None = None
) -> list[list[str]]:  # type: ignore[type-arg]
    """Return the keys that all ranks together are served at each step."""
    ranks = [stream(url, world, rank, workers) for rank in range(world)]
    for one in ranks:
        if state:
            one.load_state_dict(state)
    keys = [[batch.keys for batch in islice(one, steps)] for one in ranks]
    return [[key for rank in range(world) for key in keys[rank][step]] for step in range(steps)]


@pytest.mark.parametrize(("world", "workers"), [(1, 2), (2, 1), (3, 2), (6, 0)])
def test_global_batches_do_not_depend_on_ranks_or_workers(
    manifest_url: str, world: int, workers: int
) -> None:
    steps = 8  # past the end of the first epoch, which has 5
    assert global_keys(manifest_url, steps, world, workers) == global_keys(manifest_url, steps)


def test_an_epoch_serves_no_pair_twice(manifest_url: str) -> None:
    one = stream(manifest_url)
    keys = [key for batch in global_keys(manifest_url, one.steps_per_epoch) for key in batch]
    assert one.steps_per_epoch == 5
    assert len(set(keys)) == 30


@pytest.mark.parametrize("step", [0, 1, 4, 5, 7])
@pytest.mark.parametrize(("world", "workers"), [(1, 0), (3, 2), (2, 1)])
def test_resuming_is_exact_at_any_step_rank_and_worker_count(
    manifest_url: str, step: int, world: int, workers: int
) -> None:
    whole = global_keys(manifest_url, 10)
    first = stream(manifest_url, workers=2)
    list(islice(first, step))  # the workers have read ahead of this
    state = first.state_dict()
    assert global_keys(manifest_url, 10 - step, world, workers, state) == whole[step:]


def test_the_same_segments_are_cut_after_a_resume(manifest_url: str) -> None:
    whole = list(islice(stream(manifest_url), 4))
    second = stream(manifest_url, workers=1)
    second.load_state_dict(
        {**stream(manifest_url).state_dict(), "sample_in_epoch": 2 * GLOBAL_BATCH}
    )
    for before, after in zip(whole[2:], islice(second, 2), strict=True):
        assert before.clean.equal(after.clean)
        assert before.degraded.equal(after.degraded)


def check_aligned(batch: PairBatch, samples_of: dict[str, int]) -> None:
    for key, degraded, clean in zip(
        batch.keys, batch.degraded.numpy(), batch.clean.numpy(), strict=True
    ):
        np.testing.assert_array_equal(degraded, clean // 2)
        whole = content(key, samples_of[key])
        windows = np.lib.stride_tricks.sliding_window_view(whole, SEGMENT)
        assert (windows == clean).all(axis=1).any(), f"{key}: not a cut of its clean side"


def test_both_sides_of_a_segment_are_cut_at_one_instant(manifest_url: str) -> None:
    samples_of = {
        entry.key: entry.samples
        for shard in shards.load_manifest(manifest_url).shards("train")
        for entry in shards.load_index(shards.folder_of(manifest_url), shard).pairs
    }
    for batch in islice(stream(manifest_url, workers=1), 5):
        assert batch.clean.shape == (GLOBAL_BATCH, SEGMENT)
        check_aligned(batch, samples_of)


@pytest.mark.parametrize("workers", [0, 1])
def test_the_noisy_side_is_cut_with_the_others_and_changes_neither(
    tmp_path: Path, workers: int
) -> None:
    url = make_shards(tmp_path, [7, 5], noisy=True)
    without = islice(stream(url), 4)
    for batch, plain in zip(stream(url, workers=workers, noisy=True), without, strict=False):
        assert batch.noisy is not None and plain.noisy is None
        np.testing.assert_array_equal(batch.noisy.numpy(), three_quarters(batch.clean.numpy()))
        assert batch.degraded.equal(plain.degraded) and batch.clean.equal(plain.clean)


def test_cuts_reach_both_ends_of_a_pair(tmp_path: Path) -> None:
    url = make_shards(tmp_path, [1], seconds=0.1)
    starts = set()
    whole = content("train-000000-0000", 4800)  # offset -90: 4710 samples line up
    for epoch in range(60):
        one = stream(url, segment=4700, global_batch=1)
        one.load_state_dict({**one.state_dict(), "epoch": epoch})
        clean = next(iter(one)).clean[0].numpy()
        starts |= {
            start for start in range(90, 101) if np.array_equal(whole[start : start + 4700], clean)
        }
    assert starts == set(range(90, 101))


def test_a_segment_as_long_as_the_pair_is_aligned_and_ends_in_silence(tmp_path: Path) -> None:
    batch = next(
        iter(stream(make_shards(tmp_path, [1], seconds=0.1), segment=4800, global_batch=1))
    )
    degraded, clean = batch.degraded[0].numpy(), batch.clean[0].numpy()
    np.testing.assert_array_equal(degraded[:4710], clean[:4710] // 2)
    assert not degraded[4710:].any() and not clean[4710:].any()


def test_a_segment_longer_than_the_stored_pairs_is_refused_naming_both(manifest_url: str) -> None:
    with pytest.raises(ConfigError, match=r"segment_seconds 0\.5 .*save_segment_seconds 0\.25"):
        stream(manifest_url, segment=24000)


def test_an_indivisible_global_batch_is_refused_with_sizes_that_fit(manifest_url: str) -> None:
    with pytest.raises(ConfigError, match=r"global_batch 6 .* 4 ranks; near it are 4 and 8"):
        stream(manifest_url, world=4)


def test_a_global_batch_larger_than_an_epoch_is_refused(manifest_url: str) -> None:
    with pytest.raises(ConfigError, match="40 is larger than an epoch of 31 pairs"):
        stream(manifest_url, global_batch=40)


@pytest.mark.parametrize(
    "name", ["seed", "window", "global_batch", "manifests", "weights", "order"]
)
def test_resuming_on_other_data_or_order_is_refused_by_name(manifest_url: str, name: str) -> None:
    one = stream(manifest_url)
    with pytest.raises(ConfigError, match=name):
        one.load_state_dict({**one.state_dict(), name: "other"})


def test_worker_counts_may_change_at_every_resume(manifest_url: str) -> None:
    """The counts are 8, 2 and 8, with three resumes inside one epoch."""
    whole = global_keys(manifest_url, 12)
    keys: list[list[str]] = []
    state = None
    for workers, steps in [(8, 1), (2, 2), (8, 1), (0, 3), (3, 5)]:
        one = stream(manifest_url, workers=workers)
        if state:
            one.load_state_dict(state)
        keys += [batch.keys for batch in islice(one, steps)]
        state = one.state_dict()
    assert keys == whole


@pytest.mark.parametrize(
    ("counts", "world", "workers"), [([9, 8, 13], 2, 2), ([30], 1, 4), ([30], 3, 4)]
)
def test_few_shards_are_shared_by_many_ranks_and_processes(
    tmp_path: Path, counts: list[int], world: int, workers: int
) -> None:
    url = make_shards(tmp_path, counts)
    expected = global_keys(url, 7)
    assert global_keys(url, 7, world, workers) == expected
    assert len({key for keys in expected[:5] for key in keys}) == 30


def test_a_grown_manifest_is_refused_on_resume_and_its_former_version_is_not(
    tmp_path: Path,
) -> None:
    url = make_shards(tmp_path, [8, 8])
    one = stream(url)
    list(islice(one, 1))
    state = one.state_dict()
    before = storage.read(url)
    larger = make_shards(tmp_path, [8, 8, 4])
    with pytest.raises(ConfigError, match=r"manifests .* manifest-NNNNNN\.json, which lies beside"):
        stream(larger).load_state_dict(state)
    storage.publish(f"{tmp_path}/manifest-000001.json", before)
    former = stream(f"{tmp_path}/manifest-000001.json")
    former.load_state_dict(state)
    assert next(iter(former)).keys


def test_a_mixture_is_served_alike_over_ranks_processes_and_resumes(tmp_path: Path) -> None:
    sources = [
        DataSource(make_shards(tmp_path / name, counts), weight)
        for name, counts, weight in [("a", [9, 8, 13], 1.0), ("b", [6], 0.5)]
    ]

    def serve(world: int, workers: int, steps: int, state: dict | None) -> list[list[str]]:  # type: ignore[type-arg]
        keys_by_rank: list[list[list[str]]] = []
        for rank in range(world):
            corpora = [open_corpus(source, "train") for source in sources]
            config = StreamConfig(SEGMENT, GLOBAL_BATCH, 3, 2, workers)
            one = PairStream(corpora, config, Place(rank, world))
            if state:
                one.load_state_dict(state)
            keys_by_rank.append([batch.keys for batch in islice(one, steps)])
            states.append(one.state_dict())
        return [
            [key for keys in parts for key in keys] for parts in zip(*keys_by_rank, strict=True)
        ]

    states: list[dict] = []  # type: ignore[type-arg]
    whole = serve(1, 0, 14, None)
    assert serve(2, 1, 4, None) == whole[:4]
    assert serve(3, 2, 10, states[-1]) == whole[4:]
