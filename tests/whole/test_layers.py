"""The arrows of the design: who may import whom, and what may happen at import."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Lowest first. A unit imports from lower rows only; units of one row do not import each other.
ROWS = [
    {"timbre.plain_text", "timbre.cores", "timbre.denoiser_names", "timbre.student"},
    {"timbre.memory"},
    {"timbre.errors"},
    {
        "timbre.environment",
        "timbre.torch_builds",
        "timbre.torch_settings",
        "timbre.packages",
        "timbre.plain_yaml",
    },
    {"timbre.config", "timbre.command", "timbre.processes", "timbre.pages"},
    {"timbre.storage"},
    {"timbre.audio"},
    {"timbre.shards", "timbre.denoise", "timbre.models"},
    {"timbre.stream", "timbre.restore", "timbre.export"},
    {
        "timbre.train",
        "timbre.evaluate",
        "timbre.peek",
        "timbre.index",
        "timbre.listen",
        "timbre.live",
        "timbre.agents",
        "timbre.ui",
    },
    {"timbre.publish"},
    {"timbre.replay"},
    {"timbre.cli", "timbre"},
    {"timbre.demo"},
    {"timbre.__main__"},
]
# The same for the tools; each may use the rows of timbre up to the nouns, but no models.
TOOL_ROWS = [
    {"shard_tools.mix", "shard_tools.judge", "shard_tools.metas"},
    {"shard_tools.degrade", "shard_tools.executors", "shard_tools.stats", "shard_tools.verify"},
    {"shard_tools.config"},
    {"shard_tools.scan"},
    {"shard_tools.plan", "shard_tools.speed"},
    {"shard_tools.make"},
    {"shard_tools.prep"},
]
# What a unit must not reach, by any way.
NEVER = {
    "timbre.train": {"timbre.denoise", "timbre.restore", "timbre.evaluate", "timbre.export"},
    "timbre.restore": {"timbre.shards", "timbre.stream", "timbre.train"},
    "timbre.export": {"timbre.shards", "timbre.stream", "timbre.train", "timbre.restore"},
    "timbre.evaluate": {"timbre.stream", "timbre.train"},
    "timbre.listen": {"timbre.models", "timbre.denoise", "timbre.evaluate", "timbre.train"},
    "timbre.live": {"timbre.shards", "timbre.stream", "timbre.train"},
    "timbre.ui": {"timbre.shards", "timbre.stream", "timbre.train", "timbre.evaluate"},
    "timbre.peek": {"timbre.models", "timbre.denoise", "timbre.train"},
    "timbre.shards": {"timbre.denoise", "timbre.models"},
    "timbre.denoise": {"timbre.shards", "timbre.models"},
    "timbre.models": {"timbre.shards", "timbre.denoise"},
    "shard_tools": {"timbre.models", "timbre.stream", "timbre.train", "timbre.restore"},
}
# The only files that read or write the environment.
ENVIRONMENT = {"timbre.environment", "shard_tools.executors.share"}


@cache
def modules() -> dict[str, Path]:
    paths = [
        path for package in ("timbre", "shard_tools") for path in (ROOT / package).rglob("*.py")
    ]
    paths_by_name = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in paths}
    return {name.removesuffix(".__init__"): path for name, path in paths_by_name.items()}


@cache
def imports(module: str) -> dict[str, str]:
    """Each module of ours that a module imports, with the names that it takes from there."""
    arrows: dict[str, str] = {}
    for node in ast.walk(ast.parse(modules()[module].read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            target = name if name in modules() else name.rpartition(".")[0]
            if target in modules():
                arrows[target] = f"{arrows[target]}, {name}" if target in arrows else name
    return arrows


def unit(module: str) -> str:
    """The package or file that a module belongs to: timbre.denoise.network -> timbre.denoise."""
    return ".".join(module.split(".")[:2])


def row(name: str, rows: list[set[str]]) -> int:
    return next(number for number, units in enumerate(rows) if name in units)


@pytest.mark.parametrize("module", sorted(modules()))
def test_arrows_point_to_lower_rows(module: str) -> None:
    for target, names in imports(module).items():
        if unit(target) == unit(module) or target in ("timbre", "shard_tools"):
            continue
        message = f"{module} imports {names}"
        if module.startswith("shard_tools"):
            rows = TOOL_ROWS if target.startswith("shard_tools") else ROWS
            limit = row("timbre.stream", ROWS) if rows is ROWS else row(unit(module), TOOL_ROWS)
        else:
            rows, limit = ROWS, row(unit(module), ROWS)
        assert unit(target) in set().union(*rows), f"{message}: {target} is in no row"
        assert row(unit(target), rows) < limit, message


def test_every_module_is_in_a_row() -> None:
    units = {unit(module) for module in modules()} - {"shard_tools"}
    assert units <= set().union(*ROWS, *TOOL_ROWS)


@pytest.mark.parametrize(("start", "never"), sorted(NEVER.items()))
def test_what_must_not_be_reached_is_not(start: str, never: set[str]) -> None:
    ways = {module: module for module in modules() if f"{module}.".startswith(f"{start}.")}
    queue = list(ways)
    while queue:
        module = queue.pop()
        for target in imports(module):
            # The face of the whole project hands its one name on only when asked for it.
            if target in ways or target == "timbre":
                continue
            ways[target] = f"{ways[module]} -> {target}"
            queue.append(target)
            assert unit(target) not in never, ways[target]


@pytest.mark.parametrize("package", ["timbre", "shard_tools"])
def test_no_modules_import_each_other_in_a_circle(package: str) -> None:
    graph = {
        module: {target for target in imports(module) if target.startswith(package)}
        for module in modules()
        if module.startswith(package)
    }
    while graph:
        free = [module for module, needs in graph.items() if not needs & graph.keys()]
        assert free, f"a circle among {sorted(graph)}"
        for module in free:
            del graph[module]


def test_nothing_below_imports_a_command_line() -> None:
    doors = ("timbre.cli", "timbre.demo")
    for module in modules():
        if module.endswith((".command", ".__main__")) or module in doors:
            continue
        lines = [t for t in imports(module) if t.endswith(".command") and t != "timbre.command"]
        assert not lines, f"{module} imports {lines}"


def test_help_loads_nothing_heavy() -> None:
    code = "import sys, timbre.cli; print([m for m in ('torch', 'numpy', 'pydantic') if m in sys.modules])"
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert process.stdout.strip() == "[]"


def test_only_two_files_touch_the_environment() -> None:
    for module, path in modules().items():
        if "os.environ" in path.read_text() or "getenv" in path.read_text():
            assert module in ENVIRONMENT, f"{module} reads or writes the environment"
