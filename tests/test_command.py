"""What all commands share: exit codes, the message of Ctrl-C, tables."""

from collections.abc import Sequence

import pytest

from timbre.command import Main, command, restartable_command, table


def interrupt(argv: Sequence[str] | None = None) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("main", "continues"), [(command(interrupt), False), (restartable_command(interrupt), True)]
)
def test_only_what_continues_promises_to_continue(
    main: Main, continues: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([]) == 1
    assert ("run the same command again" in capsys.readouterr().err) == continues


def test_words_of_a_table_stand_to_the_left_and_numbers_to_the_right() -> None:
    lines = table([["name", "pairs"], ["a", "7"], ["train", "1000"]], text_columns=1).split("\n")
    assert lines == ["name   pairs", "------------", "a          7", "train   1000"]
