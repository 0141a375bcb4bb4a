"""TensorBoard's event files: scalars, pictures and sound under ``RUN/tensorboard``."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray
from torch.utils.tensorboard import SummaryWriter

from timbre import storage
from timbre.audio import SAMPLE_RATE, Wave
from timbre.errors import WorkError

FOLDER = "tensorboard"


class EventFiles:
    """TensorBoard's writer, whose errors name the folder.

    It writes in a thread, which prints a traceback where the disk is full; the error itself comes
    with the next call. The traceback is left out.

    Args:
        run_dir: the files go to its ``tensorboard``.
        first: the step that the run goes on from; what was logged beyond it is hidden.

    Raises:
        WorkError: the files cannot be written; so do all methods but :meth:`close`.
    """

    def __init__(self, run_dir: str, first: int) -> None:
        self._is_local = storage.is_local(run_dir)
        folder = str(storage.local_path(run_dir)) if self._is_local else run_dir
        self.folder = here = storage.join(folder, FOLDER)
        self._temporary = ExitStack()
        if not self._is_local:  # TensorBoard appends, which few stores can
            here = self._temporary.enter_context(TemporaryDirectory(prefix="timbre-events-"))
        self._former, threading.excepthook = threading.excepthook, self._hook
        try:
            with self._name_in_errors():
                self._writer = SummaryWriter(here, purge_step=first + 1)
        except WorkError:
            threading.excepthook = self._former
            raise

    def scalars(self, metrics: Mapping[str, float], step: int) -> None:
        """Write scalars under their names."""
        with self._name_in_errors():
            for name, value in metrics.items():
                self._writer.add_scalar(name, value, step)

    def picture(self, tag: str, picture: NDArray[np.uint8], step: int) -> None:
        """Write a picture ``(height, width, 3)``."""
        with self._name_in_errors():
            self._writer.add_image(tag, picture, step, dataformats="HWC")

    def sound(self, tag: str, wave: Wave, step: int) -> None:
        """Write a sound ``(samples,)`` at 48 kHz."""
        with self._name_in_errors():
            self._writer.add_audio(tag, wave[None], step, SAMPLE_RATE)

    def flush(self) -> None:
        """Write out what waits to be written."""
        with self._name_in_errors():
            self._writer.flush()
            self._send()

    def close(self) -> None:
        """Write out the rest; what could not be written by now has been reported."""
        with suppress(WorkError), self._temporary, self._name_in_errors():
            self._writer.close()
            self._send()
        threading.excepthook = self._former

    def _send(self) -> None:
        """Put the files into the store, whole."""
        if not self._is_local:
            for path in Path(self._writer.log_dir).iterdir():
                storage.publish(storage.join(self.folder, path.name), path.read_bytes())

    @contextmanager
    def _name_in_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise WorkError(
                f"{self.folder}: cannot be written: {error.strerror or error}"
            ) from error

    def _hook(self, arguments: "threading.ExceptHookArgs") -> None:
        if not isinstance(arguments.exc_value, OSError):
            self._former(arguments)
