"""Alarms of a run: when a line is printed, and when the run stops."""

import pytest
import torch

from timbre.errors import WorkError
from timbre.train.watch.alarms import Alarms

GOOD, BAD = 1.0, float("nan")


def alarms(limit: int = 3) -> Alarms:
    return Alarms(limit, 0.9, torch.device("cpu"))


def watch(one: Alarms, generator: list[float], discriminator: list[float] | None = None) -> None:
    for number, norm in enumerate(generator):
        metrics = {"g/grad_norm": torch.tensor(norm), "g/loss": torch.tensor(norm)}
        if discriminator:
            metrics["d/grad_norm"] = torch.tensor(discriminator[number])
        one.watch(metrics)


def test_skipped_steps_are_counted_and_printed_once() -> None:
    one = alarms()
    watch(one, [GOOD, BAD, GOOD, BAD], [BAD, GOOD, GOOD, GOOD])
    scalars, lines = one.check({}, 4)
    assert scalars == {"g/skipped_steps": 2, "d/skipped_steps": 1}
    assert [line.split("alarm: step 4: ")[1][:35] for line in lines] == [
        "2 steps of the generator skipped, t",
        "1 steps of the discriminator skippe",
    ]
    assert one.check({}, 5) == (scalars, [])
    assert not one.sound
    watch(one, [GOOD])
    assert one.sound


def test_more_in_a_row_than_the_limit_stop_the_run_wherever_the_row_lies() -> None:
    one = alarms()
    watch(one, [BAD] * 3 + [GOOD] + [BAD] * 3 + [GOOD])
    one.check({}, 8)
    watch(one, [GOOD] + [BAD] * 4 + [GOOD])
    with pytest.raises(
        WorkError, match=r"step 14: .* generator was not finite for 4 steps in a row"
    ):
        one.check({}, 14)


def test_a_row_goes_on_over_a_checkpoint() -> None:
    before, after = alarms(), alarms()
    watch(before, [BAD, BAD])
    after.load_state_dict(before.state_dict())
    watch(after, [BAD, BAD])
    with pytest.raises(WorkError, match="4 steps"):
        after.check({}, 4)


def test_a_discriminator_that_has_won_is_told_once_and_only_while_it_weighs_in() -> None:
    one = alarms()
    assert one.check({"d/accuracy": 1.0}, 1)[1] == []  # it learns alone
    playing = {"g/adversarial": 1.0}
    scalars, lines = one.check(playing | {"d/accuracy": 0.91}, 2)
    assert scalars["d/won"] == 1 and "the discriminator has won, 91.0%" in lines[0]
    assert one.check(playing | {"d/accuracy": 0.95}, 3)[1] == []
    assert one.check(playing | {"d/accuracy": 0.8}, 4)[0]["d/won"] == 0
    assert len(one.check(playing | {"d/accuracy": 0.95}, 5)[1]) == 1
