"""Read YAML and ``section.key=value`` overrides into a frozen dataclass.

A key or type that the dataclass does not have is an error. So is a file that is no plain config: one
that grows when its aliases are written out, contains itself, or asks for other types by tags.
"""

import dataclasses
import difflib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_type_hints

import yaml
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from timbre import plain_yaml
from timbre.errors import ConfigError

T = TypeVar("T")
Location = tuple[int | str, ...]

STRICT = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

# What fields may hold. As the type says it, one error names every violation.
Name = Annotated[str, Field(min_length=1)]
Count = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]


def load(schema: type[T], path: Path | str, overrides: Sequence[str] = ()) -> T:
    """Return ``schema`` filled from the YAML file ``path``, then from the overrides.

    Args:
        schema: a dataclass decorated with ``@dataclass(config=STRICT)``.
        path: a YAML 1.2 file whose top level is a mapping.
        overrides: ``section.key=value`` items; the value is YAML, a number selects a list entry.

    Raises:
        ConfigError: one line per mistake, with the full key, the value and what was expected.
    """
    tree = plain_yaml.load(path)
    tree = {} if tree is None else tree
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: expected 'key: value' lines, got {type(tree).__name__}")
    for item in overrides:
        _override(tree, item)
    return from_tree(schema, tree, str(path))


def from_tree(schema: type[T], tree: dict[str, Any], source: str) -> T:
    """Return ``schema`` filled from plain dicts, lists and scalars; ``source`` names them in errors.

    A wrong field is named and then left at its default, so that the checks between fields still run:
    one error names everything that is wrong. (A wrong field without a default stops these checks.)

    Raises:
        ConfigError: one line per mistake.
    """
    adapter: TypeAdapter[T] = TypeAdapter(schema)
    rest = json.loads(json.dumps(tree, default=str))
    lines: list[str] = []
    while True:
        try:
            config = adapter.validate_json(json.dumps(rest))
        except ValidationError as error:
            details = error.errors(include_url=False)
        else:
            if not lines:
                return config
            break
        if lines:  # a key that is missing now was wrong before, and is named
            details = [detail for detail in details if detail["type"] != "missing"]
        fresh = [line for e in details if (line := _explain(schema, e)) not in lines]
        lines += fresh
        removals = [_remove(rest, detail["loc"]) for detail in details]
        if not fresh or not any(removals):
            break
    raise ConfigError(f"{source}:", *(f"  {line}" for line in lines))


def to_tree(config: Any) -> dict[str, Any]:
    """Return the dataclass as plain dicts, lists and scalars (what JSON and YAML can hold)."""
    tree: dict[str, Any] = TypeAdapter(type(config)).dump_python(config, mode="json")
    return tree


def dump(config: Any) -> str:
    """Return the YAML text from which :func:`load` makes an equal config."""
    return dump_tree(to_tree(config))


def dump_tree(tree: dict[str, Any]) -> str:
    """Return plain dicts, lists and scalars as YAML text."""
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)


def check_group(pattern: str) -> None:
    """Raise ValueError, which says why, unless this is a regular expression with a (group) in it."""
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        raise ValueError(f"{pattern!r}: {error}") from None
    if groups == 0:
        raise ValueError(f"{pattern!r}: expected a (group) in it")


def _override(tree: dict[str, Any], item: str) -> None:
    path, separator, text = item.partition("=")
    if not separator or not all(path.split(".")):
        raise ConfigError(f"override {item!r}: expected section.key=value")
    *parents, leaf = path.split(".")
    node: Any = tree
    for depth, part in enumerate(parents):
        if isinstance(node, dict) and node.get(part) is None:
            node[part] = {}
        node = _child(node, part, f"override {item!r}: {'.'.join(parents[: depth + 1])}")
    value = plain_yaml.parse(text, f"override {item!r}")
    if isinstance(node, dict):
        node[leaf] = value
    else:
        _child(node, leaf, f"override {item!r}: {path}")
        node[int(leaf)] = value


def _child(node: Any, part: str, where: str) -> Any:
    """Return ``node``'s entry ``part``, a key of a mapping or the number of a list entry."""
    if isinstance(node, dict):
        return node[part]
    if isinstance(node, list) and part.isdecimal() and int(part) < len(node):
        return node[int(part)]
    raise ConfigError(f"{where} is not in the file: {plain_yaml.shorten(node)} has no such entry")


def _remove(tree: Any, location: Location) -> bool:
    """Delete the entry at ``location``; a list cannot lose one entry, so it goes whole."""
    parent, holder, key = tree, None, None
    for part in location:
        if isinstance(parent, dict) and part in parent:
            holder, key, parent = parent, part, parent[part]
        else:
            break
    if holder is None:
        return False
    del holder[key]
    return True


def _explain(schema: Any, error: ErrorDetails) -> str:
    location = error["loc"]
    name = ".".join(map(str, location))
    if error["type"] == "missing":
        return f"{name}: missing; it has no default"
    if error["type"] == "value_error":  # a check between fields, in some __post_init__
        message = str(error["ctx"]["error"])
        return f"{name}: {message}" if name else message
    if error["type"] != "unexpected_keyword_argument":
        expectation = error["msg"].replace("Input should be", "expected")
        return f"{name}: {expectation}, got {plain_yaml.shorten(error['input'])}"
    fields = _fields_at(schema, location[:-1])
    close = difflib.get_close_matches(str(location[-1]), fields, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"known keys: {', '.join(fields)}"
    return f"{name}: unknown key; {hint}"


def _fields_at(schema: Any, location: Location) -> list[str]:
    for part in location:
        if isinstance(part, int):
            continue
        hint = get_type_hints(schema)[part]
        schema = next((a for a in get_args(hint) if dataclasses.is_dataclass(a)), hint)
    return [field.name for field in dataclasses.fields(schema)]
