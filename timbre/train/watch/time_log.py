"""Where a run's wall time goes: ``RUN/times.jsonl``, a line at each start, logging step and end.

Seconds count from the start of the process. ``timbre report`` adds up all starts.
"""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import psutil

from timbre import storage
from timbre.errors import WorkError

NAME = "times.jsonl"
# What is measured; the rest of the wall time is steps.
DATA, VALIDATION, SAVES = "data", "validation", "saves"


class TimeLog:
    """Measures what the main rank spends, and writes it down; ``with`` it, the end is written too.

    Appends on a disk. In a store the whole file is published by :meth:`flush`.

    Args:
        run_dir: the run's folder; None writes nothing.
        step, steps: where this start begins, and where the run ends.
        ranks: how many there are.

    Raises:
        WorkError: the file cannot be written; so do all methods.
    """

    def __init__(self, run_dir: str | None, step: int, steps: int, ranks: int) -> None:
        self._url = storage.join(run_dir, NAME) if run_dir is not None else None
        self._file: IO[str] | None = None
        self._text = ""
        self._seconds = {DATA: 0.0, VALIDATION: 0.0, SAVES: 0.0}
        self._last: dict[str, Any] = {"step": step, "skipped": 0.0}
        with self._naming():
            if self._url is not None and storage.is_local(self._url):
                path = Path(storage.local_path(self._url))
                path.parent.mkdir(parents=True, exist_ok=True)
                self._file = path.open("a", encoding="utf-8", buffering=1)
            elif self._url is not None:
                with suppress(FileNotFoundError):
                    self._text = storage.read(self._url).decode(errors="replace")
        began = psutil.Process().create_time()
        self._write({"kind": "start", "began": began, "step": step, "steps": steps, "ranks": ranks})

    def __enter__(self) -> "TimeLog":
        """Return the log."""
        return self

    def __exit__(self, *_: object) -> None:
        """Write the end; where that cannot be written, it has been reported or is lost."""
        with suppress(WorkError):
            self._write({"kind": "end", **self._last, **self._seconds})
            self.flush()
        if self._file:
            with suppress(OSError):
                self._file.close()

    @contextmanager
    def spending(self, kind: str) -> Iterator[None]:
        """Count the body's wall time as ``VALIDATION`` or ``SAVES``."""
        before = time.monotonic()
        try:
            yield
        finally:
            self._seconds[kind] += time.monotonic() - before

    def log(self, step: int, waited: float, skipped: float) -> None:
        """Write a logging step down.

        Args:
            step: which.
            waited: seconds since the last one in which the slowest rank waited for data.
            skipped: skipped steps of the generator, in the whole run.
        """
        self._seconds[DATA] += waited
        self._last = {"step": step, "skipped": skipped}
        self._write({"kind": "log", **self._last, **self._seconds})

    def flush(self) -> None:
        """Publish the file in a store; on a disk it is there already."""
        if self._url is not None and self._file is None:
            with self._naming():
                storage.publish(self._url, self._text.encode())

    def _write(self, line: dict[str, Any]) -> None:
        # Begins with a line end: a killed run may have left half a line.
        text = "\n" + json.dumps({"time": time.time(), **line})
        if self._file:
            with self._naming():
                self._file.write(text)
                self._file.flush()
        elif self._url is not None:
            self._text += text

    @contextmanager
    def _naming(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise WorkError(f"{self._url}: cannot be written: {error.strerror or error}") from error
