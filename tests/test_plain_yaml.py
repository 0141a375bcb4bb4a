"""Hostile YAML ends in one short error, soon; ordinary anchors and tags are read."""

from pathlib import Path

import pytest

from timbre import plain_yaml
from timbre.errors import ConfigError

BOMB = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9)
)
LADDER = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 100))


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("x: [" + "1," * 15_000 + "]", "more than 10000 entries"),
        (BOMB, "more than 10000 entries"),
        (LADDER, "nested deeper than 50 levels"),
        ("x: &x [*x]", "contains itself"),
        ("x: &x {a: [{b: *x}]}", "contains itself"),
        ("[" * 5000, "nested deeper than 50 levels"),
        ("[" * 60 + "]" * 60, "nested deeper than 50 levels"),
        ("x: !!int abc", "tag 'tag:yaml.org,2002:int' does not fit"),
        ("x: !!float abc", "does not fit"),
        ("x: !!bool abc", "does not fit"),
        ("x: !!timestamp abc", "does not fit"),
        ("x: !!binary abc", "does not fit"),
        ("x: !!set {a, b}", "does not fit"),
        ("x: !!python/object:os.system {}", "does not fit"),
        ("x: " + "9" * 5000, "a number of 5000 digits"),
        ("x: 0." + "9" * 5000, "a number of 5002 digits"),
        ("x: -" + "9" * 100_000, "a number of 100001 digits"),
        ("? [a, b]\n: c", "a key is a list or a mapping"),
        ("a: 1\n'a': 2", "given twice"),
        ("a: *b", "undefined alias"),
        ("\x00", "not valid YAML"),
        ("x: !" + "y" * 5000 + " 3", "does not fit"),
    ],
    ids=lambda text: text[:16],
)
def test_what_is_no_plain_data_is_refused_in_few_words(text: str, part: str) -> None:
    with pytest.raises(ConfigError) as failure:
        plain_yaml.parse(text, "config.yaml")
    assert part in str(failure.value) and str(failure.value).startswith("config.yaml: ")
    assert len(str(failure.value)) < 500


def test_a_file_that_is_too_large_or_no_text_is_refused_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    for data, part in [(b"x: 1\n" + b"#" * 1_000_000, "at most 1000000 bytes"), (b"\xff", "utf-8")]:
        path.write_bytes(data)
        with pytest.raises(ConfigError, match=part) as failure:
            plain_yaml.load(path)
        assert str(path) in str(failure.value)
    with pytest.raises(ConfigError, match="cannot be read"):
        plain_yaml.load(tmp_path / "nowhere.yaml")


def test_anchors_plain_tags_and_a_byte_order_mark_are_read(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes("﻿a: &n 300\nb: *n\nc: !!str 3\nd: !!float 3\ne: !!int '7'\n".encode())
    assert plain_yaml.load(path) == {"a": 300, "b": 300, "c": "3", "d": 3.0, "e": 7}
    text = "a: &list [1, 2, 3]\n" + "".join(f"b{n}: *list\n" for n in range(1000))
    assert plain_yaml.parse(text, "text")["b999"] == [1, 2, 3]
