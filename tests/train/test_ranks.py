"""Ranks that fail together, and print a message once."""

import re

import pytest
from accelerate import Accelerator

from tests.train.distributed.launch import launch
from timbre.errors import ConfigError, ShardError
from timbre.train.ranks import Looks, Turn, failing_together, printed_once, turn


def test_who_is_alone_prints_everything_himself() -> None:
    assert turn("words") == turn("words") == Turn(True, 0)
    with pytest.raises(ConfigError, match="global_batch"), printed_once():
        raise ConfigError("global_batch")


def test_of_a_fault_of_all_ranks_the_first_is_printed_with_its_traceback() -> None:
    process = launch(2, "-m", "tests.train.distributed.report_fault")
    assert process.returncode == 1
    message, _, summary = process.stderr.partition("torch/distributed/elastic")
    assert message.count("Traceback") == 1 and summary
    first, second = (
        re.findall(pattern + r"lost the peer of rank (\d)", message, re.M)
        for pattern in (
            r"^\[rank\d\]: RuntimeError: ",
            r"^timbre: error: rank \d, after another: RuntimeError: ",
        )
    )
    assert sorted(first + second) == ["0", "1"]


@pytest.mark.parametrize("error", [ShardError("a.tar"), OSError("full"), ValueError("a fault")])
def test_who_is_alone_fails_with_the_very_error(error: Exception) -> None:
    with pytest.raises(type(error)) as failure, failing_together(Accelerator(cpu=True)):
        raise error
    assert failure.value is error


def test_who_is_alone_is_asked_after_every_step() -> None:
    looks = Looks(Accelerator(cpu=True), 7)
    assert [looks.any(wish, step) for step, wish in ((7, False), (8, True), (8, False))] == [
        False,
        True,
        False,
    ]
