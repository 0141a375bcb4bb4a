"""A run's folder: one run at a time, cleaned and marked before anything else is written.

On a disk ``RUN/run.lock`` is locked by the operating system, and says who holds it; the holder's
death releases it. A store has no locks: there the same file is a lease. It is renewed while the run
lives, and taken over when it has not been renewed for long.
"""

import errno
import fcntl
import json
import os
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from accelerate import Accelerator

from timbre import config as configs
from timbre import storage
from timbre.errors import ConfigError
from timbre.train import checkpoints
from timbre.train.config import TrainConfig
from timbre.train.ranks import failing_together

CONFIG_NAME = "config.yaml"
LOCK_NAME = "run.lock"
# A lease that is older is nobody's; it is renewed when half of this has gone, or earlier.
LEASE_SECONDS = 600.0
RENEWAL_SECONDS = 60.0
# What a file system says that has no locks.
NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


class RunFolder:
    """The folder of a run, held by its main process; ``with`` it, it is free again after.

    Nothing has been written before. Then what killed runs left half written is deleted, and the
    config is written, without users, passwords and queries of URLs.

    Args:
        config: the run's.
        accelerator: places the ranks; all must come here.
        writes: False: nothing is taken or written.
        newest_state: the last checkpoint when the run looked for one, before it held the folder.

    Raises:
        ConfigError: on every rank, if another run holds it, or has saved there meanwhile.
        OSError: on every rank, if it cannot be written to.
    """

    def __init__(
        self, config: TrainConfig, accelerator: Accelerator, writes: bool, newest_state: str | None
    ) -> None:
        self._lock: RunLock | None = None
        try:
            with failing_together(accelerator):
                if writes and accelerator.is_main_process:
                    self._lock = RunLock(config.run_dir)
                    _refuse_later(config.run_dir, newest_state)
                    storage.remove_stale_temporaries(config.run_dir)
                    text = configs.dump_tree(config.public_tree())
                    storage.publish(storage.join(config.run_dir, CONFIG_NAME), text.encode())
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self) -> "RunFolder":
        """Return the folder."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let the next run in."""
        if self._lock is not None:
            self._lock.release()

    def renew(self) -> None:
        """Say that the run is alive, where a store wants to hear it."""
        if self._lock is not None:
            self._lock.renew()


def _refuse_later(run_dir: str, newest_state: str | None) -> None:
    last = checkpoints.latest(run_dir)
    if last != newest_state:
        raise ConfigError(
            f"run_dir {run_dir}: another run has saved {last} meanwhile; run the same command again"
        )


class RunLock:
    """A run's hold on its folder, from the start until :meth:`release` or the process's death.

    Raises:
        ConfigError: another run holds it; the message says which.
        OSError: the folder cannot be written to.
    """

    def __init__(self, run_dir: str) -> None:
        self.url = storage.join(run_dir, LOCK_NAME)
        self.run_dir = run_dir
        self._file: IO[str] | None = None
        self._renewal = 0.0
        if storage.is_local(run_dir) and self._lock(storage.local_path(run_dir)):
            return
        self._take_lease()

    def renew(self) -> None:
        """Renew a lease, where it is one and time has come."""
        if self._file is None and time.monotonic() - self._renewal > RENEWAL_SECONDS:
            self._write_lease()

    def release(self) -> None:
        """Let the next run in."""
        if self._file is not None:
            self._file.truncate(0)
            self._file.close()
            self._file = None
        else:
            with suppress(FileNotFoundError):
                storage.remove(self.url)

    def _lock(self, folder: Path) -> bool:
        """Lock the file on a disk; return False if its file system has no locks."""
        folder.mkdir(parents=True, exist_ok=True)
        # Not "w": the file may be another run's, and a link is not followed.
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        file = os.fdopen(os.open(folder / LOCK_NAME, flags, 0o644), "r+", encoding="utf-8")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with file:
                raise self._refusal(_parse(file.read())) from None
        except OSError as error:
            file.close()
            if error.errno in NO_LOCKS:
                return False
            raise
        file.truncate(0)
        file.write(json.dumps(_holder()))
        file.flush()
        self._file = file
        return True

    def _take_lease(self) -> None:
        try:
            holder = _parse(storage.read(self.url).decode(errors="replace"))
        except FileNotFoundError:
            holder = {}
        renewal = holder.get("renewed", 0.0)
        age = time.time() - renewal if isinstance(renewal, int | float) else LEASE_SECONDS
        mine = _holder()
        same = all(holder.get(key) == mine[key] for key in ("host", "process"))
        if age < LEASE_SECONDS and not same:
            raise self._refusal(holder, f"{age:.0f} s ago it was alive; if it is dead, wait "
                                f"{LEASE_SECONDS - age:.0f} s, or delete {self.url}")  # fmt: skip
        self._write_lease()

    def _write_lease(self) -> None:
        text = json.dumps(_holder() | {"renewed": time.time()})
        storage.publish(self.url, text.encode())
        self._renewal = time.monotonic()

    def _refusal(self, holder: dict[str, Any], hint: str = "") -> ConfigError:
        who = f"host {holder.get('host', 'unknown')}, process {holder.get('process', 'unknown')}"
        return ConfigError(
            f"run_dir {self.run_dir}: another run is in it: {who}, since {holder.get('since', '?')}; "
            f"end that one first, or choose another run_dir{'; ' if hint else ''}{hint}"
        )


def _holder() -> dict[str, Any]:
    since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    return {"host": socket.gethostname(), "process": os.getpid(), "since": since}


def _parse(text: str) -> dict[str, Any]:
    """Return who holds a lock; nothing where the file does not say it (yet)."""
    try:
        holder = json.loads(text)
    except ValueError:
        return {}
    return holder if isinstance(holder, dict) else {}
