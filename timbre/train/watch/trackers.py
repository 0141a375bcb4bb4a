"""The trackers that a run is logged in beside TensorBoard: begun, gone on in, left alone if they fail."""

import json
import secrets
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import PurePosixPath
from typing import Any, Literal, NamedTuple

import numpy as np
from accelerate import Accelerator
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker
from numpy.typing import NDArray

from timbre import packages, storage
from timbre.audio import Wave
from timbre.errors import MissingPackageError, TimbreError, WorkError
from timbre.train.watch.services import MLflow, Service, Trackio, WandB

TENSORBOARD = "tensorboard"
TrackerName = Literal["tensorboard", "wandb", "mlflow", "trackio"]
# By which name each tracker knows this run: the next start goes on there.
IDS = "trackers.json"


class TrackedRun(NamedTuple):
    """What trackers need to know of a run.

    Attributes:
        run_dir: its folder.
        first: the step that it goes on from.
        project: what its runs are listed under.
        config: its config as plain lists, dicts and scalars, without secrets.
    """

    run_dir: str
    first: int
    project: str
    config: dict[str, Any]


class Tracker:
    """A run in a tracker whose service may fail: training does not end by it, nor wait for it again.

    Args:
        name: of the tracker.
        service: what it is.
        report: prints a line for the user.
    """

    def __init__(self, name: str, service: Service, report: Callable[[str], None]) -> None:
        self._name, self._service, self._report = name, service, report
        self._failed = False

    def scalars(self, metrics: Mapping[str, float], step: int) -> None:
        """Log scalars under their names."""
        self._do(lambda service: service.scalars(metrics, step))

    def picture(self, tag: str, picture: NDArray[np.uint8], step: int) -> None:
        """Log a picture ``(height, width, 3)``."""
        self._do(lambda service: service.picture(tag, picture, step))

    def sound(self, tag: str, wave: Wave, step: int) -> None:
        """Log a sound ``(samples,)`` at 48 kHz."""
        self._do(lambda service: service.sound(tag, wave, step))

    def close(self) -> None:
        """Write out the rest."""
        self._do(lambda service: service.close())

    def _do(self, work: Callable[[Service], None]) -> None:
        if self._failed:
            return
        try:
            with redirect_stdout(sys.stderr):
                work(self._service)
        except Exception as error:  # whatever another's library raises
            self._failed = True
            self._report(
                f"warning: tracker {self._name}: {_words(error)}; nothing more is logged there until "
                "the next start"
            )


def refuse_missing(names: Sequence[TrackerName]) -> None:
    """Do nothing if the packages of all trackers are installed.

    Raises:
        MissingPackageError: one is not; the message says how to install it.
    """
    for name in names:
        if name == TENSORBOARD:
            continue
        packages.require(name, f"trackers: {name}")
        if name not in LOGGER_TYPE_TO_CLASS:
            raise MissingPackageError(
                f"trackers: {name} needs a newer accelerate: pip install 'timbre[trackers]'"
            )


def open_trackers(
    names: Sequence[TrackerName],
    run: TrackedRun,
    accelerator: Accelerator,
    report: Callable[[str], None],
) -> list[Tracker]:
    """Return the trackers beside TensorBoard; a run begins there, or goes on in what is there of it.

    Args:
        names: which.
        run: what they need to know of it.
        accelerator: of the main process.
        report: prints a line for the user, if one fails later.

    Raises:
        WorkError: one cannot be started.
    """
    ids = _read_ids(run.run_dir)
    trackers: list[Tracker] = []
    try:
        for name in names:
            if name != TENSORBOARD:
                trackers.append(Tracker(name, _start(name, run, ids, accelerator), report))
        if ids:
            storage.publish(storage.join(run.run_dir, IDS), json.dumps(ids, indent=2).encode())
    except (TimbreError, OSError):
        for tracker in trackers:
            tracker.close()
        raise
    return trackers


def _start(
    name: TrackerName, run: TrackedRun, ids: dict[str, str], accelerator: Accelerator
) -> Service:
    """Start a tracker, in the run that ``ids`` names, else in a new one, which they name then."""
    title = PurePosixPath(run.run_dir.rstrip("/")).name or "run"
    if name != "mlflow":  # which names its runs itself
        ids.setdefault(name, secrets.token_hex(4))
    try:
        with redirect_stdout(sys.stderr):
            if name == "wandb":
                # Its metadata would hold the command line, and so the secrets of overrides.
                settings = {"x_disable_meta": True}
                names = {"id": ids[name], "name": title}
                options = {**names, "resume": "allow", "settings": settings}
                return WandB(_launch(accelerator, name, run.project, options), run.config)
            if name == "trackio":
                names = {"name": f"{title}-{ids[name]}"}
                options = {**names, "resume": "allow", "config": run.config}
                return Trackio(_launch(accelerator, name, run.project, options))
            tracker = _launch(
                accelerator, name, run.project, {"run_id": ids.get(name), "run_name": title}
            )
            is_new = name not in ids
            ids[name] = tracker.tracker.info.run_id
            return MLflow(tracker, run.config, run.first, is_new)
    except Exception as error:  # whatever another's library raises
        raise WorkError(
            f"tracker {name}: cannot be started: {_words(error)}; mend that, or leave it out of the "
            f"key trackers; without {storage.join(run.run_dir, IDS)} it begins a new run"
        ) from error


def _launch(
    accelerator: Accelerator, name: str, project: str, options: dict[str, Any]
) -> GeneralTracker:
    accelerator.log_with, accelerator.trackers = [name], []
    try:
        accelerator.init_trackers(project, init_kwargs={name: options})
        return accelerator.trackers[0]
    finally:
        accelerator.trackers = []  # we close it, also where the run ends by an error


def _read_ids(run_dir: str) -> dict[str, str]:
    url = storage.join(run_dir, IDS)
    try:
        ids = json.loads(storage.read(url))
    except FileNotFoundError:
        return {}
    except ValueError:
        ids = None
    if not isinstance(ids, dict) or not all(isinstance(value, str) for value in ids.values()):
        raise WorkError(
            f"{url}: expected JSON with a name for each tracker; delete it to begin new runs there"
        )
    return ids


def _words(error: Exception) -> str:
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"
