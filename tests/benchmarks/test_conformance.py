"""The suite for loaders: it passes what keeps a promise, and fails or spares what does not."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.conformance.__main__ import (
    FAILED,
    MODULES,
    OURS,
    PASSED,
    UNSUPPORTED,
    Outcome,
    to_table,
    try_scenario,
)
from benchmarks.conformance.loader_process import LoaderProcess
from benchmarks.conformance.scenarios import SCENARIOS

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="ranks are forked")
BY_NAME = {scenario.run.__name__: scenario for scenario in SCENARIOS}


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoaderProcess]:
    folder = tmp_path_factory.mktemp("ours")
    with LoaderProcess(sys.executable, MODULES[OURS], folder / "data", folder / "log") as loader:
        yield loader


@pytest.mark.parametrize("name", ["epoch", "resume_twice", "mix", "bad_item", "changed_data"])
def test_ours_passes(ours: LoaderProcess, name: str) -> None:
    assert try_scenario(ours, BY_NAME[name], {}) == Outcome(PASSED)


def test_a_loader_is_told_what_it_did_instead_and_spared_what_it_does_not_promise(
    tmp_path: Path,
) -> None:
    module = "tests.benchmarks.forgetful_adapter"
    with LoaderProcess(sys.executable, module, tmp_path / "data", tmp_path / "log") as loader:
        lacks = loader.ask("describe")["lacks"]
        outcomes = {
            name: try_scenario(loader, BY_NAME[name], lacks)
            for name in ("epoch", "two_epochs", "seeds", "resume_twice", "any_topology", "mix")
        }
    assert [outcomes[name].verdict for name in ("epoch", "two_epochs", "seeds")] == 3 * [PASSED]
    assert outcomes["resume_twice"] == Outcome(FAILED, "three parts of an epoch: step 1 differs")
    assert outcomes["any_topology"] == Outcome(UNSUPPORTED, "nobody asked for it")
    assert outcomes["mix"].verdict == FAILED and "asked for" in outcomes["mix"].reason


def test_the_table_never_counts_what_was_not_run_as_passed() -> None:
    outcomes = [Outcome(PASSED), Outcome(UNSUPPORTED, "why"), Outcome(FAILED, "what")]
    filler = [Outcome(PASSED)] * (len(SCENARIOS) - 3)
    table = to_table({"some 1.0": outcomes + filler}).splitlines()
    cells = [line.split("|")[2].strip() for line in table[2:5]]
    assert cells == ["passed", "unsupported (1)", "failed (2)"]
    assert table[-2:] == ["1. some 1.0: why", "2. some 1.0: what"]
