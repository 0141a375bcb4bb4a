"""Saving beside training: the state is copied to the host, and a thread writes it."""

import copy
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, NamedTuple

import torch
from torch import Tensor

from timbre import storage
from timbre.errors import TimbreError, WorkError
from timbre.torch_settings import one_thread
from timbre.train import checkpoints
from timbre.train.config import TrainConfig


class HostCopy:
    """Copies of training states in host memory, in the same buffers each time.

    Fresh memory costs more than the copy. Beside CUDA the buffers are pinned. Tensors that share
    memory share it in the copy, so that a file of it has the same bits.
    """

    def __init__(self) -> None:
        self._buffers: list[Tensor] = []

    def take(self, state: dict[str, Any]) -> dict[str, Any]:
        """Return a copy of ``state`` that training does not change; the next call overwrites it."""
        tensors = list(_tensors(state))
        memory = {_place(tensor): _memory(tensor) for tensor in tensors}
        if [m.shape for m in memory.values()] != [b.shape for b in self._buffers]:
            self._buffers = [_buffer(m) for m in memory.values()]
        with one_thread():  # a copy is bound by memory, and threads of torch wait by spinning
            for buffer, source in zip(self._buffers, memory.values(), strict=True):
                buffer.copy_(source, non_blocking=True)
        if any(source.device.type != "cpu" for source in memory.values()):
            torch.accelerator.synchronize()
        buffers = dict(zip(memory, self._buffers, strict=True))
        return copy.deepcopy(state, {id(t): _in(buffers[_place(t)], t) for t in tensors})


class PendingState(NamedTuple):
    """A copied training state that is not written yet, and the step that is to stay for being best."""

    step: int
    state: dict[str, Any]
    best_step: int | None


class Saver:
    """Writes a run's checkpoints in a thread; ``with`` it, none is left half written.

    A failure is reported at once. The next save tries again.

    Args:
        config: where checkpoints go, how many stay, and how often saving may fail.
        report: prints a line for the user; called from the thread.
    """

    def __init__(self, config: TrainConfig, report: Callable[[str], None]) -> None:
        self._config, self._report = config, report
        self._failures = 0
        self._error: Exception | None = None
        self._copy = HostCopy()
        self._thread = ThreadPoolExecutor(1, "save")
        self._saving: Future[None] | None = None
        self._state: PendingState | None = None
        self._best: bytes | None = None

    def __enter__(self) -> "Saver":
        """Return the saver."""
        return self

    def __exit__(self, *_: object) -> None:
        """Wait for what is being written; failures have been reported."""
        self._thread.shutdown()

    def save(self, step: int, state: dict[str, Any], best_step: int | None) -> None:
        """Copy a training state and write it in the thread; wait for the save before.

        Args:
            step: whose state it is.
            state: what :func:`timbre.train.checkpoints.save` takes.
            best_step: the step whose state stays for being best.

        Raises:
            WorkError: too many saves in a row have failed.
        """
        self._wait()
        self._state = PendingState(step, self._copy.take(state), best_step)
        self._saving = self._thread.submit(self._write)

    def save_best(self, generator: bytes) -> None:
        """Write the best generator so far in the thread."""
        self._best = generator
        self._thread.submit(self._write_best)

    def check(self) -> None:
        """Raise WorkError if too many saves in a row have failed by now."""
        if self._failures >= self._config.max_failed_saves:
            raise WorkError(
                f"{self._failures} saves in a row have failed (max_failed_saves "
                f"{self._config.max_failed_saves}), the last one: {self._error}"
            )

    def finish(self) -> None:
        """Wait until all is written; try once more what could not be.

        Raises:
            WorkError: it still cannot be written.
        """
        self._wait()
        again = self._write if self._state is not None else self._write_best
        self._thread.submit(again).result()
        if self._state is not None or self._best is not None:
            raise WorkError(f"the end of the run is not saved: {self._error}")

    def _wait(self) -> None:
        if self._saving is not None:
            self._saving.result()  # raises only timbre's own faults
        self.check()

    def _write(self) -> None:
        self._write_best()
        if (waiting := self._state) is None:
            return
        try:
            checkpoints.save(
                self._config.run_dir,
                waiting.step,
                waiting.state,
                self._config.keep_checkpoints,
                waiting.best_step,
            )
        except (TimbreError, OSError) as error:
            self._failures += 1
            most = self._config.max_failed_saves
            count = f"{self._failures} failed in a row, max_failed_saves is {most}"
            self._tell(f"step {waiting.step}: not saved: {error} ({count})", error)
        else:
            self._state, self._failures = None, 0

    def _write_best(self) -> None:
        if (generator := self._best) is None:
            return
        try:
            storage.publish(storage.join(self._config.run_dir, checkpoints.BEST), generator)
        except OSError as error:
            self._tell(f"not saved: {error} (the next save tries again)", error)
        else:
            if self._best is generator:  # else there is a better one meanwhile
                self._best = None

    def _tell(self, message: str, error: Exception) -> None:
        self._error = error
        with suppress(WorkError):  # the log lies on the same full disk
            self._report(f"warning: {message}")


def _tensors(tree: object) -> Iterator[Tensor]:
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, dict):
        for value in tree.values():
            yield from _tensors(value)
    elif isinstance(tree, list | tuple):
        for value in tree:
            yield from _tensors(value)


def _place(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _memory(tensor: Tensor) -> Tensor:
    """Return the bytes ``(bytes,)`` that a tensor lies in, maybe beside others."""
    memory = torch.empty(0, dtype=torch.uint8, device=tensor.device)
    return memory.set_(tensor.untyped_storage())


def _buffer(memory: Tensor) -> Tensor:
    pinned = memory.device.type == "cuda"
    return torch.empty(memory.shape, dtype=memory.dtype, device="cpu", pin_memory=pinned)


def _in(buffer: Tensor, tensor: Tensor) -> Tensor:
    """Return the tensor as it lies in a copy of its memory."""
    place = tensor.storage_offset(), tensor.size(), tensor.stride()
    return torch.empty(0, dtype=tensor.dtype).set_(buffer.untyped_storage(), *place)
