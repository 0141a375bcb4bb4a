"""Kill a process while its thread writes a checkpoint: ``python -m tests.train.kill_saves 100``."""

import multiprocessing
import sys
import tempfile
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from tests.train.runs import config
from timbre import storage
from timbre.models import checkpoint
from timbre.storage import atomic_write
from timbre.torch_settings import one_thread
from timbre.train import checkpoints
from timbre.train.saver import Saver

MEBIBYTES = 4
STEPS = 10**6


def state(step: int) -> dict[str, Any]:
    weights = torch.full((MEBIBYTES * 2**18,), float(step))
    return {"config": {}, "gan": {"step": step, "x": weights}, "stream": {}, "best_score": 0.0}


def keep_saving(run_dir: Path, whole: Connection) -> None:
    """Save one step after the other; send each that is known to be whole."""
    with one_thread(), Saver(config("memory://none", run_dir), print) as saver:
        for step in range(1, STEPS):
            saver.save(step, state(step), None)  # so the step before is written
            whole.send(step - 1)


def kill_during_a_save(run_dir: Path, saves: int) -> tuple[int, int]:
    """Kill a process while it writes; return its last step known to be whole, and the one found.

    Args:
        run_dir: where it saves.
        saves: after how many that happens.
    """
    context = multiprocessing.get_context("fork")
    mine, its = context.Pipe(duplex=False)
    process = context.Process(target=keep_saving, args=(run_dir, its))
    process.start()
    its.close()
    folder = run_dir / checkpoints.FOLDER
    report = 0
    while report < saves:
        report = mine.recv()
    while not any(atomic_write.is_temporary(path.name) for path in folder.iterdir()):
        pass
    process.kill()
    process.join()
    try:
        while True:
            report = mine.recv()
    except EOFError:
        pass
    state = checkpoints.load_latest(str(run_dir))
    assert state is not None and not state.warnings
    step = int(state.state["gan"]["step"])
    assert state.state["gan"]["x"].eq(step).all()
    # Its hash is listed; of those that it was about to delete, perhaps none.
    sha256 = checkpoint.read_sums(str(folder))[Path(state.url).name]
    assert sha256 == storage.sha256(Path(state.url).read_bytes())
    return report, step


def main(times: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for number in range(times):
            report, step = kill_during_a_save(Path(folder, str(number)), 1 + number % 5)
            assert step >= report, (report, step)
            line = f"{number + 1}: step {report} was known to be whole, step {step} was found"
            sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    main(int(sys.argv[1]))
