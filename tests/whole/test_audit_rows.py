"""The audit's table is whole: seventeen rows, and every test that it names is there."""

import ast
import re

import pytest

from tests.conftest import ROOT

ROWS = ["R1", "R2", "R3", *map(str, range(1, 15))]
TABLE = (ROOT / "docs/audit.md").read_text(encoding="utf-8")
TESTS = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", TABLE)


def test_every_row_of_the_audit_has_a_fault_an_answer_and_a_test() -> None:
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in TABLE.splitlines()]
    rows = {row[0]: row[1:] for row in cells if len(row) == 4}
    assert [name for name in rows if name in ROWS] == ROWS
    for name in ROWS:
        assert all(rows[name]) and "::test_" in rows[name][2], name


@pytest.mark.parametrize(("path", "name"), TESTS)
def test_every_test_that_the_table_names_is_there(path: str, name: str) -> None:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
