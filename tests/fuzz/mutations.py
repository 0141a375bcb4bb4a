"""Damage to good bytes, JSON and YAML. Every choice comes from the random generator."""

import copy
import json
import random
from collections.abc import Callable
from typing import Any

# Values that programs choke on, in place of any other.
NASTY: list[Any] = [
    None, True, -1, 0, 1, 2**31, 2**63, -(2**63), 10**12, 1e308, -0.5, 10**400, "", "\0", "../x",
    "/etc/passwd", "a::b", "x" * 10_000, "\x1b[31m", "\ud800", "nan", [], {}, [[]] * 50, {"a": {}},
]  # fmt: skip
SNIPPETS = [
    "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\n",
    "loop: &loop [*loop]\n",
    "deep: " + "[" * 3000 + "]" * 3000 + "\n",
    "n: !!int abc\n",
    "n: " + "9" * 5000 + "\n",
    "!!python/object/apply:os.system ['true']\n",
    "? [a]\n: b\n",
    "\t- x\n",
    "a: 1\na: 2\n",
    "d: 2026-99-99\n",
    "\ufeff",
    "steps: .inf\n",
    "data: [*nowhere]\n",
]
BOMB = "z0: &z0 [x]\n" + "".join(
    f"z{n}: &z{n} [{', '.join([f'*z{n - 1}'] * 9)}]\n" for n in range(1, 12)
)


def changed_bytes(data: bytes, rng: random.Random) -> bytes:
    """Return bytes that were flipped, overwritten, cut, doubled, inserted or zeroed, a few times."""
    result = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5, 20))):
        how = rng.choice(BYTE_CHANGES)
        how(
            result,
            rng,
            rng.randrange(len(result) + 1) if rng.random() < 0.5 else _early(result, rng),
        )
    return bytes(result)


def changed_tree(tree: Any, rng: random.Random) -> bytes:
    """Return JSON with a few values replaced, removed or doubled."""
    tree = json.loads(json.dumps(tree))
    for _ in range(rng.choice((1, 1, 2, 4))):
        places = list(_places(tree))
        if not places:
            break
        holder, key = rng.choice(places)
        how = rng.randrange(4)
        if how == 0:
            del holder[key]
        elif how == 1 and isinstance(holder, list):
            holder.insert(rng.randrange(len(holder) + 1), holder[key])
        else:
            holder[key] = copy.deepcopy(rng.choice(NASTY))  # the next change may be in it
    return json.dumps(tree).encode()


def changed_yaml(text: str, rng: random.Random) -> bytes:
    """Return YAML with values of others, hostile lines in it, or damaged bytes."""
    lines = text.splitlines(keepends=True)
    for _ in range(rng.choice((1, 1, 2, 4))):
        place = rng.randrange(len(lines) + 1)
        how = rng.randrange(4)
        if how == 0:
            lines.insert(place, rng.choice([*SNIPPETS, BOMB]))
        elif how == 1 and place < len(lines):
            key, colon, _ = lines[place].partition(":")
            value = rng.choice(NASTY)
            lines[place] = f"{key}{colon} {json.dumps(value) if value != 10**400 else '9' * 400}\n"
        elif how == 2 and place < len(lines):
            del lines[place]
        else:
            return changed_bytes("".join(lines).encode(), rng)
    return "".join(lines).encode()


def _places(tree: Any) -> Any:
    holders = [tree]
    while holders:
        holder = holders.pop()
        items = holder.items() if isinstance(holder, dict) else enumerate(holder)
        for key, value in list(items):
            yield holder, key
            if isinstance(value, dict | list):
                holders.append(value)


def _early(data: bytearray, rng: random.Random) -> int:
    return min(rng.randrange(600), len(data))  # headers are there


def _flip(data: bytearray, rng: random.Random, at: int) -> None:
    if at < len(data):
        data[at] ^= 1 << rng.randrange(8)


def _overwrite(data: bytearray, rng: random.Random, at: int) -> None:
    count = min(rng.choice((1, 2, 4, 8, 16)), len(data) - at)
    filling = rng.choice((b"\xff", b"\0", b"\x80", b"7", None))
    data[at : at + count] = filling * count if filling else rng.randbytes(count)


def _cut(data: bytearray, _: random.Random, at: int) -> None:
    del data[at:]


def _drop(data: bytearray, rng: random.Random, at: int) -> None:
    del data[at : at + rng.choice((1, 3, 512, 5000))]


def _double(data: bytearray, rng: random.Random, at: int) -> None:
    data[at:at] = data[at : at + rng.choice((4, 512, 4096))]


def _insert(data: bytearray, rng: random.Random, at: int) -> None:
    data[at:at] = rng.randbytes(rng.choice((1, 5, 512)))


BYTE_CHANGES: list[Callable[[bytearray, random.Random, int], None]] = [
    _flip, _flip, _overwrite, _overwrite, _cut, _drop, _double, _insert
]  # fmt: skip
