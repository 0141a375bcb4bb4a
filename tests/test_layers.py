"""The arrows of the design: who may import whom, and what may happen at import."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Lowest first; a module imports from lower rows, or from its own.
LAYERS = [
    {"timbre.errors", "timbre.store_errors", "timbre.ranged_file", "timbre.atomic_write"},
    {
        "timbre.listing",
        "timbre.agreement",
        "timbre.score",
        "timbre.waveform",
        "timbre.kept_errors",
        "timbre.one_thread",
    },
    {
        "timbre.levels",
        "timbre.resampling",
        "timbre.blocks",
        "timbre.truncation",
        "timbre.shipped",
        "timbre.workers",
    },
    {"timbre.raw_pcm"},
    {"timbre.wanted", "timbre.working_level"},
    {"timbre.retries"},
    {"timbre.command", "timbre.config", "timbre.storage", "timbre.descent"},
    {"timbre.audio", "timbre.new_file"},
    {"timbre.audio_reader", "timbre.audio_writer"},
    {"timbre.spectral", "timbre.filters", "timbre.synthetic_voice", "timbre.products"},
    {
        "timbre.shards",
        "timbre.denoise",
        "timbre.models",
        "timbre.augment",
        "timbre.schedule",
        "timbre.perceptual",
    },
    {"timbre.pcm_wave", "timbre.row_pool", "timbre.remote", "timbre.hop_stream"},
    {"timbre.tars", "timbre.portable"},
    {"timbre.foreign", "timbre.balance", "timbre.alarms"},
    {"timbre.order", "timbre.pairs", "timbre.cache", "timbre.rank_log", "timbre.told_once"},
    {"timbre.ranks"},
    {"timbre.reader", "timbre.losses", "timbre.metrics", "timbre.signals"},
    {"timbre.batches", "timbre.dnsmos", "timbre.speaker"},
    {"timbre.stream", "timbre.gan", "timbre.checkpoint", "timbre.whole_pairs"},
    {"timbre.device_loader", "timbre.validate", "timbre.telemetry", "timbre.fine_tuning"},
    {"timbre.train_config"},
    {"timbre.training_data"},
    {"timbre.chunks"},
    {"timbre.restorer", "timbre.streaming"},
    {"timbre.restore_files"},
    {"timbre.run", "timbre.restore_pool", "timbre.evaluation", "timbre.stream_command"},
    {"timbre.memory", "timbre.report"},
    {"timbre.plan"},
    {
        "timbre.train",
        "timbre.evaluate",
        "timbre.restore",
        "timbre.export",
        "timbre.peek",
        "timbre.demo",
    },
    {"timbre.cli"},
    {"timbre.__main__"},
]
PREP_MAY_USE = {
    "timbre.errors",
    "timbre.workers",
    "timbre.command",
    "timbre.config",
    "timbre.storage",
    "timbre.audio",
    "timbre.shards",
    "timbre.tars",
    "timbre.denoise",
    "timbre.synthetic_voice",
}


def modules(package: str) -> dict[str, Path]:
    found = {}
    for path in (ROOT / package).rglob("*.py"):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        found[name.removesuffix(".__init__")] = path
    return found


def imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in names if name.startswith(("timbre", "shard_tools"))}


def unit(name: str) -> str:
    """The row entry that a dotted name belongs to: timbre.denoise.network -> timbre.denoise."""
    return ".".join(name.split(".")[:2])


def level(name: str) -> int:
    return next(number for number, row in enumerate(LAYERS) if unit(name) in row)


@pytest.mark.parametrize("name", sorted(set(modules("timbre")) - {"timbre"}))
def test_imports_point_downward(name: str) -> None:
    for imported in imports(modules("timbre")[name]):
        assert not imported.startswith("shard_tools"), f"{name} imports {imported}"
        # `from timbre import audio` names the module, `from timbre.audio import read` its content.
        if imported != "timbre" and unit(imported) != unit(name):
            assert level(imported) < level(name), f"{name} imports {imported}, which is above it"


@pytest.mark.parametrize("name", sorted(modules("shard_tools")))
def test_prep_uses_only_the_contract_and_what_lies_below(name: str) -> None:
    for imported in imports(modules("shard_tools")[name]):
        if imported.startswith("timbre."):
            assert unit(imported) in PREP_MAY_USE, f"{name} imports {imported}"


def test_modules_of_one_package_import_each_other_without_a_cycle() -> None:
    graph = {
        name: {next(m for m in (i, i.rpartition(".")[0]) if m in modules("shard_tools"))
               for i in imports(path) if i.startswith("shard_tools")}
        for name, path in modules("shard_tools").items()
    }  # fmt: skip
    while graph:
        free = [name for name, needs in graph.items() if not needs & graph.keys()]
        assert free, f"a cycle among {sorted(graph)}"
        for name in free:
            del graph[name]


def test_help_loads_nothing_heavy() -> None:
    code = "import sys, timbre.cli; print([m for m in ('torch', 'numpy', 'pydantic') if m in sys.modules])"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert loaded.stdout.strip() == "[]"


def test_only_the_command_line_and_executors_touch_the_environment() -> None:
    # Shares of a job array; the allocator of worker processes.
    allowed = {"shard_tools.executors", "timbre.workers"}
    for package in ("timbre", "shard_tools"):
        for name, path in modules(package).items():
            if "os.environ" in path.read_text() or "getenv" in path.read_text():
                assert name in allowed, f"{name} reads or writes the environment"
