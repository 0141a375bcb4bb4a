"""The page itself, by gradio: what can be chosen, and what comes back."""

import atexit
import shutil
import tempfile
import time
from html import escape
from pathlib import Path
from typing import Any

from timbre.denoiser_names import NAMES
from timbre.environment import forbid_telemetry
from timbre.errors import ConfigError, TimbreError
from timbre.models import NAMES_OF_OURS
from timbre.packages import require
from timbre.ui.work import Choice, Limits, restore_upload

# Files that gradio keeps for download are deleted after so many seconds, looked at so often.
KEPT_SECONDS, LOOKED_EVERY_SECONDS = 600, 60
# More wait in the browser, with their place in the queue.
MOST_WAITING = 20
NO_LIMIT_DB = 0.0
HEAD = """# timbre
Drop a recording of speech, or record one. It is denoised, and what the denoiser took from the voice is restored.
Nothing is kept: the upload is deleted at once, the result after ten minutes."""


def build(limits: Limits, checkpoints: tuple[str, ...] = NAMES_OF_OURS) -> Any:
    """Return the page, a ``gradio.Blocks`` that serves visitors in turn.

    Args:
        limits: of an upload.
        checkpoints: what can be chosen; the first is chosen to begin with.

    Raises:
        MissingPackageError: gradio is not installed.
    """
    require("gradio", "timbre ui")
    forbid_telemetry()
    import gradio

    defaults = Choice(checkpoints[0])
    folder = Path(tempfile.mkdtemp(prefix="timbre-ui-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    cache = (LOOKED_EVERY_SECONDS, KEPT_SECONDS)
    with gradio.Blocks(title="timbre", analytics_enabled=False, delete_cache=cache) as page:
        gradio.Markdown(HEAD)
        upload = gradio.File(label="A sound file", type="filepath")
        record = gradio.Audio(
            label="Or record", sources=["microphone"], type="filepath", format="wav"
        )
        # As `timbre restore` has them; see Choice.
        controls = [
            gradio.Dropdown(list(checkpoints), value=defaults.checkpoint, label="Checkpoint"),
            gradio.Dropdown(list(NAMES), value=defaults.denoiser, label="Denoiser"),
            gradio.Slider(0, 1, value=defaults.strength, step=0.05, label="Strength: share of the correction"),
            gradio.Slider(0, 1, value=defaults.dry, step=0.05, label="Dry: share of the input"),
            gradio.Slider(0, 24, value=NO_LIMIT_DB, step=1, label="Largest lift in dB; 0 keeps the checkpoint's own"),
        ]  # fmt: skip
        # Not the theme's first colour: white on orange is too faint to read.
        button = gradio.Button("Restore", variant="secondary")
        result = gradio.File(label="Restored", interactive=False)
        comparison = gradio.HTML()

        def run(
            values: dict[Any, Any],
            progress: Any = gradio.Progress(),  # noqa: B008 - gradio finds it by its default
        ) -> tuple[str, str]:
            source = values[upload] or values[record]
            choice = Choice(*(values[control] for control in controls))
            choice = choice._replace(max_lift_db=choice.max_lift_db or None)
            try:
                if source is None:
                    raise ConfigError("There is no sound yet: drop a file or record one.")
                forget_old(folder)
                here = Path(tempfile.mkdtemp(dir=folder))
                done = restore_upload(Path(source), choice, limits, here, progress)
            except TimbreError as error:
                raise gradio.Error(
                    escape(str(error)), duration=None, print_exception=False
                ) from None
            for note in done.notes:
                gradio.Warning(escape(note))
            return str(done.path), frame(done.comparison)

        button.click(run, {upload, record, *controls}, [result, comparison], concurrency_limit=1)
    page.queue(max_size=MOST_WAITING)
    return page


def forget_old(folder: Path) -> None:
    """Delete the results below a folder that are older than gradio keeps its copies of them."""
    for result in folder.iterdir():
        if time.time() - result.stat().st_mtime > KEPT_SECONDS:
            shutil.rmtree(result)


def frame(page: str) -> str:
    """Return the element that shows a page of its own, which can reach nothing around it."""
    return (
        '<iframe title="Before, denoised and after" sandbox="allow-scripts" '
        f'style="width:100%;height:30em;border:0" srcdoc="{escape(page)}"></iframe>'
    )
