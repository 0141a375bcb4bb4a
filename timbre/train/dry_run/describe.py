"""What a training run would do and need, worked out from its config, its data and its networks."""

from collections.abc import Sequence
from typing import NamedTuple

from timbre import storage
from timbre.audio import SAMPLE_RATE
from timbre.shards import NOISY_SIDES, SIDES, Corpus, audio_member, load_index, open_corpus
from timbre.stream import PairStream, Place
from timbre.train.dry_run.memory import (
    StepMemory,
    parameter_bytes,
    step_memory,
    trained_networks,
)
from timbre.train.run import Run
from timbre.train.watch.rank_log import threads
from timbre.train.watch.telemetry import SHOWN_SECONDS

UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
LABEL = 12
# Measured, of three sides of real speech in noise.
PICTURE_BYTES_A_SECOND = 180_000


class Volume(NamedTuple):
    """Bytes that all ranks together read, and that the run leaves on its disk."""

    pair: float
    epoch: float
    validation: float
    whole_run: float
    checkpoint: int
    generator: int
    pictures: float


def describe_run(run: Run, ranks: int) -> str:
    """Return what a run that has not begun would do and need on ``ranks``; nothing is written.

    Args:
        run: as :func:`timbre.train.run.open_run` gives it with ``writing=False``.
        ranks: how many would share each global batch.

    Raises:
        ConfigError: the global batch does not divide over them.
    """
    stream, config = run.data.stream, run.config
    PairStream(
        stream.mixes[0].corpora, stream.config, Place(0, ranks)
    )  # refuses what cannot be divided
    batch = config.global_batch // ranks
    volume = find_volume(run)
    rows = [
        ("run", f"{config.run_dir}: {_start_text(run)}"),
        *_course(run, ranks, batch),
        *_volumes(run, volume),
        *_memory(step_memory(run, batch, ranks), batch, ranks),
        ("threads", f"{threads()}, in this process; {config.workers} more read"),
        *(("note", line) for line in run.warnings()),
    ]
    return "\n".join(f"{name:<{LABEL}}{text}" for name, text in rows)


def find_volume(run: Run) -> Volume:
    """Return what the run reads and leaves behind."""
    config, stream = run.config, run.data.stream
    shares = zip(stream.mixes[0].corpora, stream.order.pairs_of_each(0), strict=True)
    sides = NOISY_SIDES if config.generator.noisy_input else SIDES
    pair = sum(_pair_bytes(corpus, sides) * pairs for corpus, pairs in shares) / stream.pairs
    epoch = pair * stream.steps_per_epoch * config.global_batch
    held_out = [open_corpus(source, "val") for source in config.data]
    validation = sum(_pair_bytes(corpus, sides) * corpus.pairs for corpus in held_out)
    times = _validations(run)
    seconds = sum(shard.seconds for c in held_out for shard in c.shards) / len(run.validation.pairs)
    pair_count = min(config.validation.shown_pairs, len(run.validation.pairs))
    shown_seconds = min(seconds, SHOWN_SECONDS) * pair_count
    sound = shown_seconds * (times + 2) * SAMPLE_RATE * 2  # degraded and clean once
    gan = run.gan
    moments = 2 * sum(parameter_bytes(network) for network in trained_networks(run))
    tensors = [
        tensor
        for network in (gan.generator, gan.average, gan.discriminator)
        for tensor in network.state_dict().values()
    ]
    return Volume(
        pair=pair,
        epoch=epoch,
        validation=validation,
        whole_run=pair * config.steps * config.global_batch + validation * times,
        checkpoint=sum(t.numel() * t.element_size() for t in tensors) + moments,
        generator=sum(t.numel() * t.element_size() for t in gan.average.state_dict().values()),
        pictures=sound + shown_seconds * times * PICTURE_BYTES_A_SECOND,
    )


def _pair_bytes(corpus: Corpus, sides: Sequence[str]) -> float:
    """Return the mean bytes that are read of a pair: whole sides, whatever is cut from them."""
    bytes_a_pair = sum(shard.bytes for shard in corpus.shards) / max(corpus.pairs, 1)
    # The first shard tells which share of a tar they are: all are written alike.
    first = next(shard for shard in corpus.shards if shard.pairs)
    entries = load_index(corpus.index_folder, first).pairs
    bytes_to_read = sum(
        e.members[audio_member(e.members, side)].length for e in entries for side in sides
    )
    return bytes_a_pair * bytes_to_read / first.bytes


def _start_text(run: Run) -> str:
    if run.gan.step >= run.config.steps:
        return f"finished at step {run.gan.step}"
    return f"from step {run.gan.step} to {run.config.steps}"


def _validations(run: Run) -> int:
    """Return how often the whole run validates: at its last step, too."""
    steps, every = run.config.steps, run.config.validate_every
    return steps // every + (steps % every > 0)


def _course(run: Run, ranks: int, batch: int) -> list[tuple[str, str]]:
    config, stream = run.config, run.data.stream
    tail_pairs = stream.pairs - stream.steps_per_epoch * config.global_batch
    epochs = config.steps / stream.steps_per_epoch
    adversarial, start = config.adversarial, run.adversarial_start
    alone = start + adversarial.discriminator_steps
    full = alone + adversarial.ramp_steps
    seconds = config.steps * config.global_batch * config.segment_seconds
    return [
        ("steps", f"{config.steps}, in {config.precision}: {epochs:.1f} epochs, {_hours(seconds)}"),
        ("batch", f"{config.global_batch} pairs of {config.segment_seconds:g} s: "
         f"{ranks} rank{'s' * (ranks > 1)} of {batch}"),
        ("epoch", f"{stream.pairs} pairs, {stream.steps_per_epoch} steps; the {tail_pairs} left over "
         "differ each time"),
        *(
            ("change", f"from step {mix.from_step}: {sum(one.pairs for one in mix.corpora)} pairs of "
             f"{len(mix.corpora)} sources")
            for mix in stream.mixes[1:]
        ),
        ("generator", f"{config.generator.name} {config.generator.size}, learns from step 0; its "
         f"rate rises for {config.optimizer.warmup_steps} steps, then {config.optimizer.schedule}"),
        ("adversary", "never: it would start at step " + str(start) if start >= config.steps else
         f"{config.discriminator.preset}, learns alone from step {start}, weighs from {alone}, "
         f"in full from {full}"),
        ("validation", f"every {config.validate_every} steps, {_validations(run)} times, "
         f"{len(run.validation.pairs)} pairs"),
    ]  # fmt: skip


def _volumes(run: Run, volume: Volume) -> list[tuple[str, str]]:
    config = run.config
    # One more while it is written, and one that stays for being best.
    most = config.keep_checkpoints + 1 + config.keep_best_state
    checkpoint_count = config.steps // config.save_every + 1
    disk = min(most, checkpoint_count) * volume.checkpoint + volume.generator + volume.pictures
    rows = [
        ("read", f"{size(volume.pair)} a pair, {size(volume.epoch)} an epoch, "
         f"{size(volume.validation)} a validation, {size(volume.whole_run)} in the whole run, over "
         "all ranks"),
        ("disk", f"{size(disk)} at most: checkpoints of {size(volume.checkpoint)} "
         f"(up to {min(most, checkpoint_count)}), {size(volume.generator)} for the best generator, "
         f"about {size(volume.pictures)} of sound and pictures"),
    ]  # fmt: skip
    if config.reading.cache_dir and not all(
        storage.is_local(c.folder) for c in run.data.stream.order.corpora
    ):
        rows.append(("cache", f"up to {size(config.reading.cache_bytes)} a machine in "
                     f"{config.reading.cache_dir}; shards come whole"))  # fmt: skip
    return rows


def _memory(memory: StepMemory, batch: int, ranks: int) -> list[tuple[str, str]]:
    total = memory.state + memory.activations
    bucket_text = f" + buckets {size(memory.buckets)}" if ranks > 1 else ""
    return [
        ("memory", f"{size(total)} a rank = parameters {size(memory.parameters)} + average "
         f"{size(memory.average)} + gradients {size(memory.gradients)} + moments "
         f"{size(memory.moments)}{bucket_text} + activations {size(memory.activations)}"),
        ("", f"activations: {size(memory.activations / batch)} a pair, counted in the very step; "
         "CUDA takes up to a tenth more, and 1 GiB: docs/operations.md"),
    ]  # fmt: skip


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:,.1f} h of sound"


def size(bytes: float) -> str:
    """Return a number of bytes in the unit that suits it."""
    number, unit = float(bytes), 0
    while number >= 1024 and unit < len(UNITS) - 1:
        number, unit = number / 1024, unit + 1
    return f"{number:.1f} {UNITS[unit]}" if unit else f"{number:.0f} B"
