"""Optional packages."""

import sys

import pytest

from timbre import packages
from timbre.errors import MissingPackageError, TimbreError


def test_a_package_that_is_there_is_not_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(packages.NEEDS, "json", "json")
    assert packages.missing("json") is None
    packages.require("json")


def test_a_missing_package_is_an_error_that_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "visqol", None)
    message = "ViSQOL needs the package visqol-python: pip install 'timbre[eval]'"
    assert packages.missing("visqol", "ViSQOL") == message
    with pytest.raises(MissingPackageError) as failure:
        packages.require("visqol", "ViSQOL")
    assert str(failure.value) == message and isinstance(failure.value, TimbreError)


def test_every_extra_that_is_named_is_one_of_ours() -> None:
    from configparser import ConfigParser
    from pathlib import Path

    setup = ConfigParser()
    setup.read(Path(__file__).parents[1] / "setup.cfg")
    extras = set(setup["options.extras_require"])
    assert {name.removeprefix("timbre[").rstrip("]") for name in packages.NEEDS.values()} <= extras
