"""YAML plus ``section.key=value`` into frozen dataclasses, refusing what the dataclass does not say."""

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

from timbre.errors import ConfigError

T = TypeVar("T")
Location = tuple[int | str, ...]

STRICT = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

# What fields may hold, told by the type: every violation is then reported in one go.
Name = Annotated[str, Field(min_length=1)]
Count = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
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
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as a YAML file: {error}") from None
    tree = _parse(text, str(path))
    tree = {} if tree is None else tree
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: expected 'key: value' lines, got {type(tree).__name__}")
    for item in overrides:
        _override(tree, item)
    return from_tree(schema, tree, str(path))


def from_tree(schema: type[T], tree: dict[str, Any], source: str) -> T:
    """Return ``schema`` filled from plain dicts, lists and scalars; ``source`` names them in errors.

    A wrong field is reported and then left at its default, so that the checks between fields still
    run, and everything wrong with a file is told at once. (They cannot where a field that is wrong
    has no default.)

    Raises:
        ConfigError: one line per mistake.
    """
    adapter: TypeAdapter[T] = TypeAdapter(schema)
    pending = json.loads(json.dumps(tree, default=str))
    lines: list[str] = []
    while True:
        try:
            config = adapter.validate_json(json.dumps(pending))
        except ValidationError as error:
            details = error.errors(include_url=False)
        else:
            if not lines:
                return config
            break
        if lines:  # a key that is missing now was wrong before, and told
            details = [detail for detail in details if detail["type"] != "missing"]
        fresh = [line for e in details if (line := _explain(schema, e)) not in lines]
        lines += fresh
        removed = [_remove(pending, detail["loc"]) for detail in details]
        if not fresh or not any(removed):
            break
    raise ConfigError(f"{source}:", *(f"  {line}" for line in lines))


def to_tree(config: Any) -> dict[str, Any]:
    """Return the dataclass as plain dicts, lists and scalars (what JSON and YAML can hold)."""
    tree: dict[str, Any] = TypeAdapter(type(config)).dump_python(config, mode="json")
    return tree


def dump(config: Any) -> str:
    """Return the YAML text from which :func:`load` makes an equal config."""
    return yaml.safe_dump(to_tree(config), sort_keys=False, allow_unicode=True)


class _Loader(yaml.SafeLoader):
    """YAML 1.2's core schema: ``3e-4`` is a number, ``no`` a string, a repeated key an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} is given twice", node.start_mark
                )
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in [
    ("null", r"^(~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("bool", r"^(true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    ("int", r"^[-+]?[0-9]+$", list("-+0123456789")),
    ("float", r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$", list("-+.0123456789")),
]:
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), _first)


def _construct_int(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    return int(loader.construct_scalar(node))  # 1.2: a leading zero does not mean octal


_Loader.add_constructor("tag:yaml.org,2002:int", _construct_int)


def _parse(text: str, source: str) -> Any:
    try:
        tree = yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise ConfigError(f"{source}: not valid YAML: {error}") from None
    return tree


def _override(tree: dict[str, Any], item: str) -> None:
    dotted, separator, text = item.partition("=")
    if not separator or not all(dotted.split(".")):
        raise ConfigError(f"override {item!r}: expected section.key=value")
    *parents, leaf = dotted.split(".")
    node: Any = tree
    for depth, part in enumerate(parents):
        if isinstance(node, dict) and node.get(part) is None:
            node[part] = {}
        node = _child(node, part, f"override {item!r}: {'.'.join(parents[: depth + 1])}")
    value = _parse(text, f"override {item!r}")
    if isinstance(node, dict):
        node[leaf] = value
    else:
        _child(node, leaf, f"override {item!r}: {dotted}")
        node[int(leaf)] = value


def _child(node: Any, part: str, where: str) -> Any:
    """Return ``node``'s entry ``part``, a key of a mapping or the number of a list entry."""
    if isinstance(node, dict):
        return node[part]
    if isinstance(node, list) and part.isdecimal() and int(part) < len(node):
        return node[int(part)]
    raise ConfigError(f"{where} is not in the file: {node!r} has no such entry")


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
        expected = error["msg"].replace("Input should be", "expected")
        return f"{name}: {expected}, got {error['input']!r}"
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
