"""The arrows of the design: who may import whom, and what may happen at import."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Lowest first; a module imports from lower rows, or from its own.
LAYERS = [
    {
        "timbre.errors",
        "timbre.storage.errors",
        "timbre.storage.ranged_file",
        "timbre.storage.atomic_write",
    },
    {
        "timbre.storage.listing",
        "timbre.train.agreement",
        "timbre.train.validation.score",
        "timbre.audio.waveform",
        "timbre.audio.libsndfile",
        "timbre.torch_settings",
    },
    {
        "timbre.audio.levels",
        "timbre.audio.resample",
        "timbre.audio.blocks",
        "timbre.audio.truncation",
        "timbre.models.shipped",
        "timbre.processes",
    },
    {"timbre.restore.live.pcm"},
    {"timbre.restore.output", "timbre.audio.working_level"},
    {"timbre.storage.retries"},
    {"timbre.command", "timbre.config", "timbre.storage.files", "timbre.train.gan.descent"},
    {"timbre.audio.decode", "timbre.storage.new_file"},
    {"timbre.audio.sound", "timbre.audio.encode"},
    {
        "timbre.audio.spectra",
        "timbre.audio.filters",
        "timbre.audio.synthetic.voice",
        "timbre.restore.live.products",
    },
    {
        "timbre.shards.records",
        "timbre.denoise",
        "timbre.models.generator",
        "timbre.stream.augment",
        "timbre.train.gan.schedule",
        "timbre.train.losses.perceptual",
    },
    {
        "timbre.shards.decode",
        "timbre.stream.shared_batches",
        "timbre.storage.remote",
        "timbre.restore.hop_runner",
    },
    {"timbre.shards.tar", "timbre.export"},
    {"timbre.shards.foreign", "timbre.train.gan.balance", "timbre.train.watch.alarms"},
    {
        "timbre.stream.order",
        "timbre.shards.pairs",
        "timbre.storage.cache",
        "timbre.train.watch.rank_log",
        "timbre.train.told_once",
    },
    {"timbre.train.ranks"},
    {
        "timbre.stream.reader",
        "timbre.train.losses.reconstruction",
        "timbre.audio.metrics",
        "timbre.audio.synthetic.noise",
    },
    {"timbre.stream.batches", "timbre.evaluate.dnsmos", "timbre.evaluate.speaker"},
    {
        "timbre.stream.pair_stream",
        "timbre.train.gan.gan",
        "timbre.models.checkpoint",
        "timbre.shards.whole_pairs",
    },
    {
        "timbre.stream.device_loader",
        "timbre.train.validation.validation",
        "timbre.train.watch.telemetry",
        "timbre.train.checkpoints",
    },
    {"timbre.train.config"},
    {"timbre.train.data"},
    {"timbre.restore.chunks"},
    {"timbre.restore.restorer", "timbre.restore.live.restorer"},
    {"timbre.restore.files"},
    {"timbre.train.run", "timbre.restore.pool", "timbre.evaluate", "timbre.restore.live.command"},
    {"timbre.train.dry_run.memory", "timbre.evaluate.report.page"},
    {"timbre.train.dry_run.describe"},
    {
        "timbre.train.step",
        "timbre.evaluate.command",
        "timbre.restore.command",
        "timbre.export.command",
        "timbre.peek.command",
        "timbre.demo",
    },
    {"timbre.cli"},
    {"timbre.__main__"},
]
PREP_MAY_USE = {
    "timbre.errors",
    "timbre.processes",
    "timbre.command",
    "timbre.config",
    "timbre.storage.files",
    "timbre.audio.decode",
    "timbre.shards.records",
    "timbre.shards.tar",
    "timbre.denoise",
    "timbre.audio.synthetic.voice",
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
    allowed = {"shard_tools.executors.local", "timbre.processes"}
    for package in ("timbre", "shard_tools"):
        for name, path in modules(package).items():
            if "os.environ" in path.read_text() or "getenv" in path.read_text():
                assert name in allowed, f"{name} reads or writes the environment"
