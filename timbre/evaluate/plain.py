"""Names and messages of others as results may hold them: printable, bounded, without secrets."""

import hashlib
import re
from typing import Any

from timbre.evaluate.measure import Row
from timbre.plain_text import printable

# A longer name is cut and its hash put behind it, so that no two become one.
MOST_CHARACTERS = 200
MOST_IN_MESSAGES = 2000
# A path from the root, or a URL: what comes before its last name.
FOLDERS = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]*:/)?/(?:[^\s/,:;'\"]+/)+")


def shorten(text: str, most: int = MOST_CHARACTERS) -> str:
    """Return a text on one line of bounded length, without secrets or control characters."""
    if len(text) > most:
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
        text = f"{text[: most - 40]}… ({len(text)} characters, {digest})"
    return printable(text)


def plain_row(row: Row) -> Row:
    """Return a row whose texts are as :func:`shorten` gives them."""
    speaker, noise, room, denoiser, codec = (
        None if value is None else shorten(value)
        for value in (
            row.labels.speaker,
            row.labels.noise,
            row.labels.room,
            row.labels.denoiser,
            row.labels.codec,
        )
    )
    labels = row.labels._replace(
        speaker=speaker, noise=noise, room=room, denoiser=denoiser, codec=codec
    )
    troubles = [shorten(trouble, MOST_IN_MESSAGES) for trouble in row.troubles]
    error = None if row.error is None else shorten(row.error, MOST_IN_MESSAGES)
    return row._replace(key=shorten(row.key), labels=labels, troubles=troubles, error=error)


def plain_tree(tree: Any) -> Any:
    """Return what JSON can hold with every text in it as :func:`shorten` gives it."""
    if isinstance(tree, str):
        return shorten(tree, MOST_IN_MESSAGES)
    if isinstance(tree, dict):
        return {key: plain_tree(value) for key, value in tree.items()}
    return [plain_tree(value) for value in tree] if isinstance(tree, list | tuple) else tree


def without_folders(text: str) -> str:
    """Return a text in which of every path from the root only the last name is left."""
    return FOLDERS.sub("", text)
