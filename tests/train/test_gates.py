"""Three gates that a change must pass if it is to leave training as it is."""

import json
import shutil
import tempfile
from pathlib import Path

import pytest
import torch

from tests.help.made_shards import make_shards
from tests.train.runs import WHOLE_RUN, check_same, config, scalars
from timbre.models import checkpoint
from timbre.train.loop import train

# Written by `python -m tests.train.test_gates`, when a change is to alter them.
BASELINE = Path(__file__).with_name("baseline_losses.json")
TAGS = ("g/loss", "g/grad_norm", "d/loss")
# Processors and versions of torch sum in other sequences; a change of the arithmetic is larger.
TOLERANCE = 2e-3
LAST = "checkpoints/step-00000010.pt"


def curves(run_dir: Path) -> dict[str, list[float]]:
    events = scalars(run_dir)
    return {tag: [event.value for event in events.Scalars(tag)] for tag in TAGS}


def check_same_end(one: Path, other: Path) -> None:
    states = [checkpoint.load(str(run_dir / LAST)) for run_dir in (one, other)]
    for part in ("gan", "stream", "alarms"):
        check_same(states[0][part], states[1][part], part)


def test_gate_1_the_same_run_twice_has_the_same_bits(
    pair_url: str, whole_run: Path, tmp_path: Path
) -> None:
    train(config(pair_url, tmp_path, *WHOLE_RUN, "workers=1"))
    assert curves(tmp_path) == curves(whole_run)
    check_same_end(tmp_path, whole_run)


def test_gate_2_losses_are_those_of_the_stored_baseline(whole_run: Path) -> None:
    baseline, now = json.loads(BASELINE.read_text()), curves(whole_run)
    assert baseline.keys() == now.keys()
    for tag, values in baseline.items():
        assert now[tag] == pytest.approx(values, rel=TOLERANCE), tag


def test_gate_3_a_run_restarted_in_the_middle_ends_at_the_same_bits(
    pair_url: str, whole_run: Path, tmp_path: Path
) -> None:
    middle = "checkpoints/step-00000006.pt"
    (tmp_path / "checkpoints").mkdir()
    shutil.copy(whole_run / middle, tmp_path / middle)
    train(config(pair_url, tmp_path, *WHOLE_RUN))
    whole, rest = curves(whole_run), curves(tmp_path)
    assert all(rest[tag] == whole[tag][-len(rest[tag]) :] for tag in TAGS)
    check_same_end(tmp_path, whole_run)


def write_baseline() -> None:
    """Write the losses of the run of the tests as they are now."""
    torch.set_num_threads(1)  # as in the tests
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder, "run")
        train(config(make_shards(Path(folder, "shards"), [2], [1]), run_dir, *WHOLE_RUN))
        BASELINE.write_text(json.dumps(curves(run_dir), indent=1) + "\n")


if __name__ == "__main__":
    write_baseline()
