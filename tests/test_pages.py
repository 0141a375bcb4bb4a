"""Pages: a value is text, never markup, and a missing value is an error."""

import base64
import hashlib

import jinja2
import pytest

from timbre.pages import data_uri, render, script_hash

VALUES = {
    "edition": 1,
    "clips": [("speech", "<script>alert(1)</script>", 3)],
    "counts": [],
    "thresholds": [],
    "reasons": {},
}


def test_what_a_value_says_is_text() -> None:
    page = render("shard_tools.make", "left_out.html.j2", VALUES)
    assert "<script" not in page and "&lt;script&gt;alert(1)&lt;/script&gt;" in page


def test_a_value_that_is_missing_is_an_error() -> None:
    some = {name: value for name, value in VALUES.items() if name != "clips"}
    with pytest.raises(jinja2.UndefinedError, match="clips"):
        render("shard_tools.make", "left_out.html.j2", some)


def test_data_lies_in_the_page_and_a_script_is_known_by_its_hash() -> None:
    kind, _, data = data_uri(b"\x00\xff", "audio/mpeg").partition(";base64,")
    assert (kind, base64.b64decode(data)) == ("data:audio/mpeg", b"\x00\xff")
    digest = base64.b64decode(script_hash("go()").removeprefix("sha256-"))
    assert digest == hashlib.sha256(b"go()").digest()
