"""Plain data from YAML 1.2: no other types, no recursion, no text that grows when it is read."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from timbre.errors import ConfigError

# A config has some hundred entries; these bounds only stop what is none.
MAX_BYTES = 1_000_000
MAX_ENTRIES = 10_000
MAX_DEPTH = 50
MAX_DIGITS = 40
MAX_CHARACTERS = 100

# What YAML's own tags begin with; ``!!int`` is short for ``tag:yaml.org,2002:int``.
TAG = "tag:yaml.org,2002:"


def load(path: Path | str) -> Any:
    """Return what a YAML file says; see :func:`parse`."""
    return parse(_read(path), str(path))


def parse(text: str, source: str) -> Any:
    """Return what a YAML 1.2 text says, as plain dicts, lists and scalars; None if it says nothing.

    Raises:
        ConfigError: it is not YAML, or no plain data; ``source`` names it.
    """
    try:
        _check_nesting(text)
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _check(node, loader, {}, 0)
        return loader.construct_document(node)
    except yaml.YAMLError as error:
        raise ConfigError(f"{source}: not valid YAML: {error}") from None


def shorten(value: object) -> str:
    """Return a value as an error shows it: short, and on one line."""
    text = repr(value)
    return text if len(text) <= MAX_CHARACTERS else f"{text[:MAX_CHARACTERS]}…"


def _read(path: Path | str) -> str:
    """Return the text of a file; a byte order mark is passed over."""
    try:
        with Path(path).open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        text = data.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as a YAML file: {error}") from None
    if len(data) > MAX_BYTES:
        raise ConfigError(f"{path}: expected a config file of at most {MAX_BYTES} bytes")
    return text


class _Loader(yaml.SafeLoader):
    """YAML 1.2's core schema: ``3e-4`` is a number, ``no`` a string, a repeated key an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = set()
        for key, _ in node.value:
            name = _key(key)
            if name in keys:
                raise _fault(f"key {shorten(name)} is given twice", node)
            keys.add(name)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in [
    ("null", r"^(~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("bool", r"^(true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    ("int", r"^[-+]?[0-9]+$", list("-+0123456789")),
    ("float", r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$", list("-+.0123456789")),
]:
    _Loader.add_implicit_resolver(f"{TAG}{_tag}", re.compile(_pattern), _first)


def _construct_int(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    return int(loader.construct_scalar(node))  # 1.2: a leading zero does not mean octal


_Loader.add_constructor(f"{TAG}int", _construct_int)


def _check_nesting(text: str) -> None:
    """Refuse deep nesting before the nodes are built, which takes a call a level."""
    depth = entries = 0
    for event in yaml.parse(text, _Loader):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        entries += isinstance(event, yaml.NodeEvent)
        if depth > MAX_DEPTH + 1:
            raise yaml.YAMLError(f"nested deeper than {MAX_DEPTH} levels")
        if entries > MAX_ENTRIES:
            raise yaml.YAMLError(f"more than {MAX_ENTRIES} entries")


class _Extent(NamedTuple):
    """How many entries a node has with every alias written out, and how deep they are nested."""

    entries: int
    height: int


# Of a node that is not finished; whoever meets it again is inside it.
NO_EXTENT = _Extent(0, 0)


def _check(node: yaml.Node, loader: _Loader, extents: dict[int, _Extent], depth: int) -> _Extent:
    """Return a node's extent; raise what is wrong with it.

    Args:
        node: of the document, in which an alias is its anchor's own node.
        loader: says what type a plain scalar has.
        extents: the nodes seen so far, each visited once.
        depth: of the node.
    """
    extent = extents.get(id(node))
    if extent is NO_EXTENT:
        raise _fault("an anchor contains itself", node)
    if extent is None:
        if depth > MAX_DEPTH:
            raise _fault(f"nested deeper than {MAX_DEPTH} levels", node)
        extents[id(node)] = NO_EXTENT
        entries, height = 1, 0
        for child in _children(node, loader):
            inner = _check(child, loader, extents, depth + 1)
            entries, height = entries + inner.entries, max(height, inner.height + 1)
            if entries > MAX_ENTRIES:
                message = f"more than {MAX_ENTRIES} entries when its aliases are written out"
                raise _fault(message, node)
        extent = extents[id(node)] = _Extent(entries, height)
    if depth + extent.height > MAX_DEPTH:
        raise _fault(f"nested deeper than {MAX_DEPTH} levels", node)
    return extent


def _children(node: yaml.Node, loader: _Loader) -> Sequence[yaml.Node]:
    """Return the nodes inside a node, whose own tag and value are checked."""
    if isinstance(node, yaml.ScalarNode):
        _check_scalar(node, loader)
        return ()
    _check_tag(node, {loader.DEFAULT_MAPPING_TAG, loader.DEFAULT_SEQUENCE_TAG})
    if isinstance(node, yaml.MappingNode):
        return [child for pair in node.value for child in pair]
    children: list[yaml.Node] = node.value
    return children


def _check_scalar(node: yaml.ScalarNode, loader: _Loader) -> None:
    plain = loader.resolve(yaml.ScalarNode, node.value, (True, False))  # type: ignore[no-untyped-call]
    number = f"{TAG}int", f"{TAG}float"
    _check_tag(node, {plain, loader.DEFAULT_SCALAR_TAG, *(number[1:] if plain in number else ())})
    if node.tag in number and len(node.value) > MAX_DIGITS:
        raise _fault(f"a number of {len(node.value)} digits: {shorten(node.value)}", node)


def _check_tag(node: yaml.Node, tags: set[str]) -> None:
    if node.tag not in tags:
        value = f": {shorten(node.value)}" if isinstance(node, yaml.ScalarNode) else ""
        raise _fault(f"tag {shorten(node.tag)} does not fit; expected a plain value{value}", node)


def _key(node: yaml.Node) -> str:
    if not isinstance(node, yaml.ScalarNode):
        raise _fault("a key is a list or a mapping: expected a word", node)
    name: str = node.value
    return name


def _fault(message: str, node: yaml.Node) -> yaml.YAMLError:
    return yaml.constructor.ConstructorError(None, None, message, node.start_mark)
