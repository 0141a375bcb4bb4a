"""Our stream as the benchmarks run it: the one place that knows how it is built."""

from collections.abc import Iterator

from benchmarks.stream.case import BATCH, WORKERS, Batch, Load, Task
from timbre import storage
from timbre.shards import DataSource, open_corpus
from timbre.stream import PairStream, Place, StreamConfig

FOLDER = "ours"
SEED, WINDOW = 0, 8


def manifest_url(task: Task) -> str:
    """Return where the pairs of a task are, as ours."""
    return storage.join(task.folder, FOLDER, "manifest.json")


def open_stream(url: str, samples: int, first_step: int = 0) -> PairStream:
    """Return the stream of a manifest at a step of its first epoch."""
    config = StreamConfig(
        segment=samples, global_batch=BATCH, seed=SEED, window=WINDOW, workers=WORKERS
    )
    stream = PairStream([open_corpus(DataSource(url), "train")], config, Place())
    if first_step:
        stream.load_state_dict({**stream.state_dict(), "sample_in_epoch": first_step * BATCH})
    return stream


def ours(task: Task) -> Iterator[Batch]:
    """Yield what training would get, in shuffled order."""
    for batch in open_stream(manifest_url(task), task.samples, task.first_step):
        yield Batch(batch.degraded, batch.clean)


LOADERS: dict[str, Load] = {"ours": ours}
