"""Text that may leave: names and messages of others, without secrets and control characters."""

import re
from typing import Any

# Control characters, line and paragraph separators, marks that turn the direction of what follows,
# and halves of surrogate pairs, which stand for bytes that are no UTF-8 and cannot be printed.
UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]"
)
# The user and the password before the host of a URL; and a query, which may be a token. What ends a
# sentence behind a query is not its.
USER = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)[^\s/?#\"<>]*@")
QUERY = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://[^\s?#\"<>]*)\?[^\s\"<>]*[^\s\"<>:;,.)\]}']")
# The same where a library names a path without its scheme and host, or a name has a space in it.
TOKEN = re.compile(
    r"([?&](?:X-(?:Amz|Goog|Ms)-[\w-]+|AWSAccessKeyId|GoogleAccessId|Signature|Policy|Expires"
    r"|Key-Pair-Id|sig|token|access_token|api_?key|password)=)[^\s&#\"'<>:,;)\]}]+",
    re.IGNORECASE,
)
HIDDEN = "***"


def redact(text: str) -> str:
    """Return a text whose URLs have neither user, password nor query; all else is as it was."""
    text = USER.sub(rf"\1{HIDDEN}@", text)
    text = QUERY.sub(rf"\1?{HIDDEN}", text)
    return TOKEN.sub(rf"\1{HIDDEN}", text)


def redacted_tree(tree: Any) -> Any:
    """Return what JSON or YAML can hold with every text in it redacted."""
    if isinstance(tree, str):
        return redact(tree)
    if isinstance(tree, dict):
        return {redacted_tree(key): redacted_tree(value) for key, value in tree.items()}
    return [redacted_tree(value) for value in tree] if isinstance(tree, list | tuple) else tree


def escape(text: str) -> str:
    """Return a text in which all that is no visible character is written out, as ``\\x1b``."""
    return UNPRINTABLE.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def printable(text: str) -> str:
    """Return a text redacted and escaped, on one line."""
    return escape(redact(text))


def printable_lines(text: str) -> str:
    """Return a text redacted and escaped line by line: for tables, whose line ends are ours."""
    return "\n".join(map(printable, text.split("\n")))
