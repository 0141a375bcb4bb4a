"""A stream for a trainer: sized epochs, batches on the device, the next copied meanwhile."""

import time
from collections.abc import Callable, Generator, Iterator
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from timbre.stream.batches import PairBatch
from timbre.stream.pair_stream import PairStream
from timbre.stream.reading_processes import Wait, wait_quietly


class DeviceLoader:
    """The batches of a stream on this rank's device, an epoch at a time.

    ``for batch in loader`` serves the epoch that the stream is in, or what is left of it, and
    ``len(loader)`` says how many batches that is; the next loop serves the next epoch. Its reading
    processes live on from epoch to epoch. It is registered with the accelerator, so that
    ``save_state`` and ``load_state`` take the stream along, and neither it nor the stream is to be
    given to ``accelerator.prepare``, which would split what is split already. It talks to no rank.

    On CUDA batches come by pinned memory and a stream of their own: one is copied while the one
    before is computed with. ``waited_seconds`` is how long the caller has waited for batches.
    """

    def __init__(self, stream: PairStream, accelerator: Accelerator) -> None:
        self.stream = stream
        self.waited_seconds = 0.0
        # Called every second of a wait for a batch; what it raises ends the wait.
        self.while_waiting: Callable[[Wait], None] = wait_quietly
        self._device = accelerator.device
        self._batches: Generator[PairBatch, None, None] | None = None
        accelerator.register_for_checkpointing(self)

    def __len__(self) -> int:
        """Return how many batches the next loop serves."""
        return self.stream.steps_left

    def __iter__(self) -> Iterator[PairBatch]:
        """Yield what is left of the epoch; the state follows what was yielded.

        Raises:
            ShardError: too many pairs in a row cannot be read.
            StoreError: the store kept failing.
            LostWorkerError: a reading process was killed, or does not answer.
        """
        if self._batches is None:
            batches = self.stream.read_ahead(self.while_waiting)
            on_cuda = self._device.type == "cuda"
            self._batches = _copy_ahead(batches, self._device) if on_cuda else batches
        batches = self._batches
        for _ in range(len(self)):
            if self._batches is not batches:  # closed, or moved elsewhere, by the loop's own body
                return
            start = time.perf_counter()
            try:
                batch = next(batches)
            except BaseException:  # its generator has ended
                self.close()
                raise
            self.waited_seconds += time.perf_counter() - start
            self.stream.consume(batch)
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """Return the stream's state."""
        return self.stream.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go where ``state`` was taken; raises like the stream's."""
        self.stream.load_state_dict(state)
        self.close()  # the processes have read ahead from where it was

    def close(self) -> None:
        """End the reading processes, which a program would wait for when it ends; a loop starts anew."""
        if self._batches is not None:
            self._batches.close()
            self._batches = None


# Not a method: a generator that knew its loader would keep it, and its processes, alive.
def _copy_ahead(
    batches: Iterator[PairBatch], device: torch.device
) -> Generator[PairBatch, None, None]:
    """Yield batches on a CUDA device, while the next one is copied by a stream of its own."""
    copies = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    last = None
    for batch in batches:
        with torch.cuda.stream(copies):
            # Pinned memory is PyTorch's: it is kept until the copy is done, the batch's need not be.
            gpu_batch = batch.change(lambda wave: wave.pin_memory().to(device, non_blocking=True))
            coming = gpu_batch, copies.record_event()
        if last is not None:
            yield _hand_over(*last, torch.cuda.current_stream(device))
        last = coming


def _hand_over(
    batch: PairBatch, gpu_batch: torch.cuda.Event, current: torch.cuda.Stream
) -> PairBatch:
    """Return a batch for use on the current stream: the device waits for the copy, not the host."""
    current.wait_event(gpu_batch)

    def keep(wave: Tensor) -> Tensor:
        wave.record_stream(current)  # else the next copy may take its memory too early
        return wave

    return batch.change(keep)
