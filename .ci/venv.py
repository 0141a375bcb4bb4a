"""Make a virtual environment with exactly the versions of a lock: python .ci/venv.py FOLDER LOCK

Needs nothing but Python. uv installs, which pip brings in; where uv cannot be had, pip does it all.
What needs a C compiler is left out where there is none, and named.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

LOWEST, HIGHEST = (3, 10), (3, 14)
# Measured on Linux: 5.8 GB, most of it CUDA's libraries; and what is downloaded on its way.
NEEDED_BYTES = 9_000_000_000
# No wheels of them: they are compiled. What timbre then goes without.
SOURCE_ONLY = {"pesq": "PESQ is not measured", "webrtcvad": "nothing of timbre needs it"}
# What pip, uv and the system call a network that is not there.
OFFLINE = re.compile(
    r"NewConnectionError|NameResolution|ConnectTimeout|ProxyError|Failed to fetch|"
    r"error sending request|dns error|from versions: none|Network is unreachable|client error \(Connect\)"
)
HERE = Path(__file__).parent


class InstallError(Exception):
    """What stands between this machine and an environment, in one line."""


def main(folder: Path, lock: Path) -> None:
    """Make the environment; run again, complete it."""
    check_python(sys.version_info[:2])
    check_disk(folder)
    print(f"Installing what {lock} lists into {folder}: some GB, a minute or several", flush=True)
    python = folder / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    if not python.exists():
        run([sys.executable, "-m", "venv", str(folder)])
    install = installer(python)
    whole = lock.read_text()
    sources = {name: text for name in SOURCE_ONLY if (text := entry(whole, name))}
    wheels = folder / "wheels.txt"
    wheels.write_text(remove(whole, sources))
    run([*install, "--require-hashes", "--requirement", str(wheels)])
    for name, text in sources.items():
        wheels.write_text(text)
        try:
            run(
                [*install, "--no-build-isolation", "--require-hashes", "--requirement", str(wheels)]
            )
        except InstallError:
            print(
                f"left out: {name}, as it could not be compiled: {SOURCE_ONLY[name]}. With a C compiler and "
                "Python's headers (Debian: gcc, python3-dev), remove .venv/.made and run this again",
                flush=True,
            )
    wheels.unlink()
    run([*install, "--no-build-isolation", "--editable", "."])


def check_python(version: "tuple[int, int]") -> None:
    """Refuse a Python that not all dependencies support."""
    if not LOWEST <= version <= HIGHEST:
        raise InstallError(
            f"timbre needs Python {with_dots(LOWEST)} to {with_dots(HIGHEST)}, and this is {with_dots(version)}: "
            f"name another, as in `make demo PYTHON=python{with_dots(HIGHEST)}`"
        )


def check_disk(folder: Path) -> None:
    """Refuse a disk that is too full, before anything is downloaded."""
    free = shutil.disk_usage(folder.absolute().parent).free
    if sys.platform == "linux" and not folder.exists() and free < NEEDED_BYTES:
        raise InstallError(
            f"{folder.absolute().parent} has {free / 1e9:.1f} GB free, and the environment needs "
            f"{NEEDED_BYTES / 1e9:.0f} GB: torch comes with CUDA's libraries"
        )


def installer(python: Path) -> "list[str]":
    """Return the words that install into the environment: uv's, or pip's where uv cannot be had."""
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    uv = python.with_name("uv")
    if not uv.exists():
        try:
            run([*pip, "--require-hashes", "--requirement", str(HERE / "uv.txt")])
        except InstallError as error:
            if "no network" in str(error):
                raise
            return [*pip, "--no-deps"]
    return [str(uv), "pip", "install", "--quiet", "--python", str(python), "--no-deps"]


def entry(lock: str, name: str) -> str:
    """Return a package's lines of a lock: one that ends in a backslash goes on in the next."""
    match = re.search(rf"^{name}==(?:.*\\\n)*.*\n", lock, re.MULTILINE)
    return match[0] if match else ""


def remove(lock: str, entries: "dict[str, str]") -> str:
    """Return a lock without these entries."""
    for text in entries.values():
        lock = lock.replace(text, "")
    return lock


def run(words: "list[str]") -> None:
    """Run a program; where it fails, raise what it said last."""
    process = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if process.returncode:
        if OFFLINE.search(process.stdout):
            raise InstallError("no network: the package index cannot be reached")
        lines = process.stdout.strip().splitlines() or ["it said nothing"]
        raise InstallError(f"{' '.join(words)} failed: " + "\n".join(lines[-15:]))


def with_dots(version: "tuple[int, int]") -> str:
    """Return a version as it is written."""
    return ".".join(map(str, version))


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), Path(sys.argv[2]))
    except InstallError as error:
        sys.exit(f"make venv: {error}")
