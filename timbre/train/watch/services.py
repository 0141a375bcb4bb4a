"""W&B, MLflow and trackio as takers of what a run has to show, through Accelerate's trackers.

Each writes where its own settings say (``WANDB_MODE``, ``MLFLOW_TRACKING_URI``, ``TRACKIO_DIR`` and so
on). Their packages are optional.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

import numpy as np
from accelerate.tracking import GeneralTracker
from numpy.typing import NDArray

from timbre.audio import SAMPLE_RATE, Wave, encode_wave, to_int16


class Service(Protocol):
    """A tracker in which a run is logged."""

    def scalars(self, metrics: Mapping[str, float], step: int) -> None:
        """Log scalars under their names."""

    def picture(self, tag: str, picture: NDArray[np.uint8], step: int) -> None:
        """Log a picture ``(height, width, 3)``."""

    def sound(self, tag: str, wave: Wave, step: int) -> None:
        """Log a sound ``(samples,)`` at 48 kHz."""

    def close(self) -> None:
        """Write out the rest."""


class WandB:
    """A run of W&B.

    The step is one of the scalars: W&B's own must rise, so that it would drop the steps that a
    restarted run repeats.
    """

    def __init__(self, tracker: GeneralTracker, config: dict[str, Any]) -> None:
        self._tracker = tracker
        tracker.tracker.define_metric("step")
        tracker.tracker.define_metric("*", step_metric="step")
        tracker.store_init_configuration(config)

    def scalars(self, metrics: Mapping[str, float], step: int) -> None:
        """Log scalars under their names."""
        self._tracker.log({**metrics, "step": step})

    def picture(self, tag: str, picture: NDArray[np.uint8], step: int) -> None:
        """Log a picture ``(height, width, 3)``."""
        import wandb

        self._tracker.log({tag: wandb.Image(picture), "step": step})

    def sound(self, tag: str, wave: Wave, step: int) -> None:
        """Log a sound ``(samples,)`` at 48 kHz."""
        import wandb

        self._tracker.log({tag: wandb.Audio(wave, sample_rate=SAMPLE_RATE), "step": step})

    def close(self) -> None:
        """Write out the rest."""
        self._tracker.finish()


class MLflow:
    """A run of MLflow; pictures and sounds are its artifacts, and so is the config of each start."""

    def __init__(
        self, tracker: GeneralTracker, config: dict[str, Any], first: int, is_new: bool
    ) -> None:
        import mlflow

        self._tracker = tracker
        if is_new:  # a parameter cannot be changed
            tracker.store_init_configuration(_flat(config))
        mlflow.log_dict(config, f"config-{first:08d}.yaml")

    def scalars(self, metrics: Mapping[str, float], step: int) -> None:
        """Log scalars under their names."""
        self._tracker.log(dict(metrics), step=step)

    def picture(self, tag: str, picture: NDArray[np.uint8], step: int) -> None:
        """Log a picture ``(height, width, 3)``."""
        import mlflow

        mlflow.log_image(picture, key=tag, step=step, synchronous=True)

    def sound(self, tag: str, wave: Wave, step: int) -> None:
        """Log a sound ``(samples,)`` at 48 kHz."""
        import mlflow

        place = PurePosixPath(tag)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, f"{place.name}-{step:08d}.wav")
            path.write_bytes(encode_wave(wave, SAMPLE_RATE))
            mlflow.log_artifact(str(path), str(place.parent))

    def close(self) -> None:
        """Write out the rest."""
        self._tracker.finish()


class Trackio:
    """A run of trackio."""

    def __init__(self, tracker: GeneralTracker) -> None:
        self._tracker = tracker

    def scalars(self, metrics: Mapping[str, float], step: int) -> None:
        """Log scalars under their names."""
        self._tracker.log(dict(metrics), step=step)

    def picture(self, tag: str, picture: NDArray[np.uint8], step: int) -> None:
        """Log a picture ``(height, width, 3)``."""
        import trackio

        self._tracker.log({tag: trackio.Image(picture)}, step=step)

    def sound(self, tag: str, wave: Wave, step: int) -> None:
        """Log a sound ``(samples,)`` at 48 kHz."""
        import trackio

        # Of floats it would take the peak for full scale.
        sound = trackio.Audio(to_int16(wave), sample_rate=SAMPLE_RATE)
        self._tracker.log({tag: sound}, step=step)

    def close(self) -> None:
        """Write out the rest."""
        self._tracker.finish()


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return a tree's leaves by their keys, joined by dots."""
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        inner = isinstance(value, dict) and value
        leaves |= _flat(value, f"{prefix}{key}.") if inner else {f"{prefix}{key}": value}
    return leaves
