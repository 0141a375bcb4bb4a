"""The stream: what is served when depends on nothing but the data, the seed and the step."""

from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from tests.made_shards import content, make_shards, mixed
from timbre import shards, storage
from timbre.batches import PairBatch
from timbre.errors import ConfigError, ShardError
from timbre.order import DataSource, EpochOrder, SampleOrder, open_corpus
from timbre.stream import PairStream, Place, StreamConfig

SEGMENT = 4800
GLOBAL_BATCH = 6


@pytest.fixture(scope="module")
def manifest_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_shards(tmp_path_factory.mktemp("shards"), [7, 5, 9, 4, 6])


def whole_order(counts: list[int], seed: int, epoch: int, window: int) -> np.ndarray:  # type: ignore[type-arg]
    return EpochOrder(counts, seed, epoch, window).rows(0, sum(counts))


def stream(url: str, world: int = 1, rank: int = 0, workers: int = 0, **changed: int) -> PairStream:
    config = {"segment": SEGMENT, "global_batch": GLOBAL_BATCH, "seed": 3, "window": 2} | changed
    corpora = [open_corpus(DataSource(url), "train")]
    return PairStream(corpora, StreamConfig(**config, workers=workers), Place(rank, world))


def global_keys(
    url: str, steps: int, world: int = 1, workers: int = 0, state: dict | None = None
) -> list[list[str]]:  # type: ignore[type-arg]
    """What all ranks together are served at each step."""
    ranks = [stream(url, world, rank, workers) for rank in range(world)]
    for one in ranks:
        if state:
            one.load_state_dict(state)
    served = [[batch.keys for batch in islice(one, steps)] for one in ranks]
    return [[key for rank in range(world) for key in served[rank][step]] for step in range(steps)]


def test_an_epoch_is_a_permutation_and_two_epochs_differ() -> None:
    counts = [7, 5, 9, 4, 6]
    everything = {(s, i) for s, n in enumerate(counts) for i in range(n)}
    epochs = [whole_order(counts, 0, epoch, 2) for epoch in range(2)]
    for rows in epochs:
        assert len(rows) == 31
        assert set(map(tuple, rows)) == everything
    assert not np.array_equal(*epochs)
    assert np.array_equal(epochs[0], whole_order(counts, 0, 0, 2))
    assert not np.array_equal(epochs[0], whole_order(counts, 1, 0, 2))


def test_pairs_are_shuffled_only_within_their_window_of_shards() -> None:
    rows = whole_order([10] * 6, 0, 0, window=2)
    for first in range(0, 60, 20):
        assert len(set(rows[first : first + 20, 0])) == 2


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
    interrupted = stream(manifest_url, workers=2)
    list(islice(interrupted, step))  # the workers have read ahead of this
    state = interrupted.state_dict()
    assert global_keys(manifest_url, 10 - step, world, workers, state) == whole[step:]


def test_the_same_segments_are_cut_after_a_resume(manifest_url: str) -> None:
    whole = list(islice(stream(manifest_url), 4))
    resumed = stream(manifest_url, workers=1)
    resumed.load_state_dict(
        {**stream(manifest_url).state_dict(), "sample_in_epoch": 2 * GLOBAL_BATCH}
    )
    for before, after in zip(whole[2:], islice(resumed, 2), strict=True):
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
        np.testing.assert_array_equal(batch.noisy.numpy(), mixed(batch.clean.numpy()))
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


def damaged_copy(folder: Path, count: int, bad: range) -> str:
    url = make_shards(folder, [count])
    shard = shards.load_manifest(url).shards("train")[0]
    path = storage.join(folder, shard.path)
    data = bytearray(storage.read(path))
    for entry in shards.load_index(str(folder), shard).pairs[bad.start : bad.stop]:
        data[entry.members["clean.wav"].offset + 60] ^= 1
    storage.publish(path, bytes(data))
    return url


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_pair_is_replaced_by_the_next_counted_and_named(
    tmp_path: Path, workers: int
) -> None:
    url = damaged_copy(tmp_path, 12, range(4, 5))
    rows = SampleOrder([open_corpus(DataSource(url), "train")], 3, 2).rows(0, 0, 12)
    expected = [int(row[2]) for row in rows]
    at = expected.index(4)
    expected[at] = expected[(at + 1) % 12]
    one = stream(url, workers=workers)
    batches = list(islice(one, 2))
    assert [int(key[-4:]) for batch in batches for key in batch.keys] == expected
    assert (one.served, one.replaced) == (12, 1)
    assert one.last_replaced is not None
    assert one.last_replaced.shard.endswith("train/shard-000000.tar")
    assert one.last_replaced.key == "train-000000-0004"
    assert one.last_replaced.reason == "clean.wav: CRC-32 differs from the index"


@pytest.mark.parametrize("workers", [0, 1])
def test_more_than_a_hundred_bad_pairs_in_a_row_end_the_stream_with_one_message(
    tmp_path: Path, workers: int
) -> None:
    url = damaged_copy(tmp_path, 104, range(104))
    with pytest.raises(ShardError, match=r"^100 pairs in a row cannot be read; last: .*CRC-32"):
        next(iter(stream(url, workers=workers)))


@pytest.mark.parametrize("damage", ["missing", "truncated"])
def test_a_missing_or_cut_shard_is_noticed(tmp_path: Path, damage: str) -> None:
    url = make_shards(tmp_path, [6, 6])
    path = storage.join(tmp_path, shards.load_manifest(url).shards("train")[1].path)
    whole = storage.read(path)
    storage.remove(path)
    if damage == "truncated":
        storage.publish(
            path, whole[:-1024]
        )  # cut at a member boundary, where tar readers see an end
    one = stream(url, seed=0)
    list(islice(one, 2))
    assert one.replaced >= 6
    assert "shard-000001.tar" in str(one.last_replaced)


def test_several_corpora_are_mixed_by_weight_and_each_keeps_its_own_epochs(tmp_path: Path) -> None:
    urls = [make_shards(tmp_path / "a", [8, 8]), make_shards(tmp_path / "b", [4])]
    corpora = [
        open_corpus(DataSource(url, weight), "train")
        for url, weight in zip(urls, (1.0, 3.0), strict=True)
    ]
    epochs = [SampleOrder(corpora, 0, 2).rows(epoch, 0, 20) for epoch in range(4)]
    assert all(len(rows) == 20 for rows in epochs)
    assert all((rows[:, 0] == 1).sum() == 15 for rows in epochs)
    small = np.concatenate([rows[rows[:, 0] == 1, 2] for rows in epochs])
    for first in range(0, 60, 4):  # every four in a row are all four pairs of the small one
        assert set(small[first : first + 4]) == {0, 1, 2, 3}
    large = np.concatenate([rows[rows[:, 0] == 0, 1:] for rows in epochs])[:16]
    assert len(set(map(tuple, large))) == 16
