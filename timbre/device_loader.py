"""A stream for a trainer: sized epochs, batches on the device, the next copied meanwhile."""

import time
from collections.abc import Generator, Iterator
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from timbre.batches import PairBatch
from timbre.stream import PairStream


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
        self._device = accelerator.device
        on_cuda = self._device.type == "cuda"
        self._copies = torch.cuda.Stream(self._device) if on_cuda else None  # type: ignore[no-untyped-call]
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
        """
        if self._batches is None:
            self._batches = self._read()
        for _ in range(len(self)):
            begun = time.perf_counter()
            batch = next(self._batches)
            self.waited_seconds += time.perf_counter() - begun
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

    def _read(self) -> Generator[PairBatch, None, None]:
        batches = self.stream.read_ahead()
        if self._copies is None:
            yield from batches
            return
        last = None
        for batch in batches:
            following = self._copy(batch, self._copies)
            if last is not None:
                yield self._hand_over(*last)
            last = following

    def _copy(
        self, batch: PairBatch, copies: torch.cuda.Stream
    ) -> tuple[PairBatch, torch.cuda.Event]:
        """Start the copy of a batch; the event tells its end."""
        with torch.cuda.stream(copies):
            copied = batch.change(lambda wave: wave.to(self._device, non_blocking=True))
            return copied, copies.record_event()

    def _hand_over(self, batch: PairBatch, copied: torch.cuda.Event) -> PairBatch:
        """Return a batch for use on the current stream; the device waits for the copy, not the host."""
        current = torch.cuda.current_stream(self._device)
        current.wait_event(copied)

        def keep(wave: Tensor) -> Tensor:
            wave.record_stream(current)  # else the next copy may take its memory too early
            return wave

        return batch.change(keep)
