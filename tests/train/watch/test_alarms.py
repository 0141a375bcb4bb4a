"""What a run is watched for, and when it is told or stopped."""

import pytest
import torch

from timbre.errors import WorkError
from timbre.train.watch.alarms import Alarms

GOOD, BAD = 1.0, float("nan")


def alarms(limit: int = 3) -> Alarms:
    return Alarms(limit, 0.9, torch.device("cpu"))


def watch(
    watched: Alarms, generator: list[float], discriminator: list[float] | None = None
) -> None:
    for number, norm in enumerate(generator):
        metrics = {"g/grad_norm": torch.tensor(norm), "g/loss": torch.tensor(norm)}
        if discriminator:
            metrics["d/grad_norm"] = torch.tensor(discriminator[number])
        watched.watch(metrics)


def test_skipped_steps_are_counted_and_printed_once() -> None:
    watched = alarms()
    watch(watched, [GOOD, BAD, GOOD, BAD], [BAD, GOOD, GOOD, GOOD])
    scalars, lines = watched.check({}, 4)
    assert scalars == {"g/skipped_steps": 2, "d/skipped_steps": 1}
    assert [line.split("alarm: step 4: ")[1][:35] for line in lines] == [
        "2 steps of the generator skipped, t",
        "1 steps of the discriminator skippe",
    ]
    assert watched.check({}, 5) == (scalars, [])
    assert not watched.sound
    watch(watched, [GOOD])
    assert watched.sound


def test_more_in_a_row_than_the_limit_stop_the_run_wherever_the_row_lies() -> None:
    watched = alarms()
    watch(watched, [BAD] * 3 + [GOOD] + [BAD] * 3 + [GOOD])
    watched.check({}, 8)
    watch(watched, [GOOD] + [BAD] * 4 + [GOOD])
    with pytest.raises(
        WorkError, match=r"step 14: .* generator was not finite for 4 steps in a row"
    ):
        watched.check({}, 14)


def test_a_row_goes_on_over_a_checkpoint() -> None:
    watched, resumed = alarms(), alarms()
    watch(watched, [BAD, BAD])
    resumed.load_state_dict(watched.state_dict())
    watch(resumed, [BAD, BAD])
    with pytest.raises(WorkError, match="4 steps"):
        resumed.check({}, 4)


def test_a_discriminator_that_has_won_is_told_once_and_only_while_it_weighs_in() -> None:
    watched = alarms()
    assert watched.check({"d/accuracy": 1.0}, 1)[1] == []  # it learns alone
    playing = {"g/adversarial": 1.0}
    scalars, lines = watched.check(playing | {"d/accuracy": 0.91}, 2)
    assert scalars["d/won"] == 1 and "the discriminator has won, 91.0%" in lines[0]
    assert watched.check(playing | {"d/accuracy": 0.95}, 3)[1] == []
    assert watched.check(playing | {"d/accuracy": 0.8}, 4)[0]["d/won"] == 0
    assert len(watched.check(playing | {"d/accuracy": 0.95}, 5)[1]) == 1
