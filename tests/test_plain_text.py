"""Text for users and logs: without secrets of URLs and control characters of names."""

import pytest

from timbre.command import command, print_result, table
from timbre.errors import ShardError
from timbre.plain_text import escape, printable, redact, redacted_tree

PASSWORD, TOKEN = "S3cret", "T0pSignature"
SECRETS = [
    f"http://user:{PASSWORD}@host/a/b.wav",
    f"ftp://{PASSWORD}@host",
    f"https://user:{PASSWORD}@s@host:8080/a?X-Amz-Signature={TOKEN}",
    f"https://host/my file.wav?sv=2024&sig={TOKEN}",
    f"/bucket/key?X-Amz-Date=1&X-Amz-Signature={TOKEN}&more=1",
    f"https://host/a.wav?{TOKEN}",
    f"https://host/a.wav?a={TOKEN}/manifest.json",
]


@pytest.mark.parametrize("url", SECRETS)
@pytest.mark.parametrize("sentence", ["{}", "{}: no such file", "('{}') is away.", 'a="{}",b'])
def test_no_secret_of_a_url_is_left_in_a_sentence(url: str, sentence: str) -> None:
    text = redact(sentence.format(url))
    assert PASSWORD not in text
    assert TOKEN not in text
    after = sentence.partition("{}")[2]
    assert text.endswith(after)


@pytest.mark.parametrize(
    "text",
    ["s3://bucket/a/b.tar: no such file", "take?1.wav", "a@b.org", "is s3://a/b there? no", "C:?x"],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redact(text) == text


def test_a_tree_is_redacted_at_every_depth() -> None:
    tree = {"data": [{"manifest": SECRETS[0], "weight": 1.0}], "cache": None}
    assert redacted_tree(tree) == {
        "data": [{"manifest": "http://***@host/a/b.wav", "weight": 1.0}],
        "cache": None,
    }


def test_control_characters_are_written_out_and_letters_stay() -> None:
    assert escape("\x1b[31m\r\n\t\x9b\u202e\udcff") == r"\x1b[31m\r\n\t\x9b\u202e\udcff"
    assert escape("\u00fcber \u0434\u043e\u043c \u5bb6 \U0001f3a4 \\n") == (
        "\u00fcber \u0434\u043e\u043c \u5bb6 \U0001f3a4 \\n"
    )
    once = printable(f"{SECRETS[0]}\x1b")
    assert printable(once) == once == "http://***@host/a/b.wav\\x1b"


def test_an_error_has_the_lines_that_it_was_made_of_and_no_other() -> None:
    error = ShardError("2 faults:", "x\nFORGED", SECRETS[0])
    assert str(error).split("\n") == ["2 faults:", "x\\nFORGED", "http://***@host/a/b.wav"]


def test_a_command_prints_no_control_character(capsys: pytest.CaptureFixture[str]) -> None:
    @command
    def run(_: object = None) -> None:
        print_result(table([["key", "n"], ["x\n\x1b[31m", "1"]], 1))
        raise OSError("a\nFORGED\x1b[31m")

    assert run() == 1
    out, err = capsys.readouterr()
    assert out.split("\n") == [f"key{' ' * 10}n", "-" * 14, "x\\n\\x1b[31m  1", ""]
    assert err == "timbre: error: a\\nFORGED\\x1b[31m\n"
