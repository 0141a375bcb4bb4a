"""Installing: the promises of the locks, and the messages where a machine cannot install."""

import configparser
import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.version import Version

from tests.conftest import ROOT

# The program of `make venv` is no package: it runs before anything is installed.
SPEC = importlib.util.spec_from_file_location("venv_program", ROOT / ".ci/venv.py")
assert SPEC is not None and SPEC.loader is not None
venv = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(venv)
LOCK = (ROOT / "lock.txt").read_text()
LOWEST = (ROOT / "lowest.txt").read_text()
# Tried on its own, on 2026-11-30: what distillmos needs (extra `mos`) wants a later one beside it.
TRIED_ALONE = {"safetensors"}
PYTHONS = ["3.10", "3.11", "3.12", "3.13", "3.14"]


def pins(lock: str) -> list[Requirement]:
    return [
        Requirement(line.rstrip("\\ ")) for line in lock.splitlines() if re.match(r"[\w-]+==", line)
    ]


def requirements() -> Iterator[Requirement]:
    """Yield what timbre and its extra `dev` ask for directly."""
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    extras = parser["options.extras_require"]
    lines = parser["options"]["install_requires"].splitlines()
    waiting = ["dev"]
    while waiting:
        lines += extras[waiting.pop()].splitlines()
        for line in [line for line in lines if line.startswith("timbre[")]:
            lines.remove(line)
            waiting += re.findall(r"[\w]+", line.removeprefix("timbre"))
    yield from (Requirement(line) for line in lines if line and not line.startswith("#"))


def applies(requirement: Requirement, python: str) -> bool:
    environment = {
        **default_environment(),
        "python_version": python,
        "python_full_version": f"{python}.0",
    }
    return requirement.marker is None or requirement.marker.evaluate(environment)


@pytest.mark.parametrize("python", PYTHONS)
def test_the_lock_holds_one_version_of_all_that_is_asked_for(python: str) -> None:
    versions = {pin.name: pin for pin in pins(LOCK) if applies(pin, python)}
    assert len(versions) == sum(applies(pin, python) for pin in pins(LOCK))
    for requirement in requirements():
        if applies(requirement, python):
            (pin,) = versions[requirement.name.lower()].specifier
            assert requirement.specifier.contains(pin.version), (requirement, pin)


def test_every_lower_bound_is_the_version_that_is_tried() -> None:
    versions = {pin.name: next(iter(pin.specifier)).version for pin in pins(LOWEST)}
    for requirement in requirements():
        bounds = [s.version for s in requirement.specifier if s.operator == ">="]
        if bounds and applies(requirement, "3.10") and requirement.name not in TRIED_ALONE:
            assert Version(versions[requirement.name.lower()]) == Version(bounds[0]), requirement


def test_every_pin_of_a_lock_has_a_hash_and_no_lock_names_a_host() -> None:
    for lock in (LOCK, LOWEST, (ROOT / ".ci/uv.txt").read_text()):
        assert "://" not in lock
        for pin in pins(lock):
            assert "--hash=sha256:" in venv.entry(lock, pin.name)


def test_what_is_compiled_can_be_taken_out_of_the_lock() -> None:
    sources = {name: venv.entry(LOCK, name) for name in venv.SOURCE_ONLY}
    assert all(sources.values())
    rest = {pin.name for pin in pins(venv.remove(LOCK, sources))}
    assert rest == {pin.name for pin in pins(LOCK)} - set(venv.SOURCE_ONLY)


@pytest.mark.parametrize("version", [(3, 9), (3, 15)])
def test_a_python_that_is_not_supported_is_one_clear_line(version: tuple[int, int]) -> None:
    with pytest.raises(
        venv.InstallError, match=r"needs Python 3\.10 to 3\.14, and this is 3\.\d+: "
    ) as error:
        venv.check_python(version)
    assert "\n" not in str(error.value)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk with 3 GB free."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=3g", "tmpfs", str(tmp_path)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs to mount a disk")
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_disk_that_is_too_full_is_refused_before_anything_is_done(small_disk: Path) -> None:
    with pytest.raises(venv.InstallError, match=r"has 3\.\d GB free, and the environment needs"):
        venv.main(small_disk / ".venv", ROOT / "lock.txt")
    assert not list(small_disk.iterdir())


def test_no_network_is_one_clear_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        for spelling in (name, name.lower()):
            monkeypatch.setenv(spelling, "http://127.0.0.1:9")  # nobody listens
    words = [sys.executable, "-m", "pip", "download", "--no-deps", "--retries=0", "--no-cache-dir"]
    with pytest.raises(venv.InstallError, match=r"^no network: ") as error:
        venv.run([*words, "--dest", str(tmp_path), "braceexpand"])
    assert "\n" not in str(error.value)
