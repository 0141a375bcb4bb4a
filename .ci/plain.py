"""Prove what a plain ``pip install .`` resolves to today: python .ci/plain.py FOLDER

A new environment, only the ranges of setup.cfg: every dependency is imported, then `timbre demo` goes
the whole way in an empty folder. What breaks is named with its version.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

# Prints each dependency that timbre declares, with its version; stops at one that does not import.
IMPORT = """
import importlib, re, sys
from importlib.metadata import packages_distributions, requires, version
names = [re.match(r"[\\w.-]+", line)[0] for line in requires("timbre") if "extra ==" not in line]
modules = {}
for module, packages in packages_distributions().items():
    for package in packages:
        modules.setdefault(package.lower().replace("_", "-"), []).append(module)
for name in names:
    print(name, version(name), flush=True)
    for module in modules.get(name.lower(), []):
        if not module.startswith("_"):
            importlib.import_module(module)
"""
LAST_PACKAGE = re.compile(r"site-packages/([\w]+)")


def main(folder: Path) -> None:
    """Install, import, and run the demo."""
    shutil.rmtree(folder, ignore_errors=True)
    run([sys.executable, "-m", "venv", str(folder)])
    python = str(folder.absolute() / "bin/python")
    run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "."])
    versions = run([python, "-c", IMPORT])
    print("pip install . resolves to: " + ", ".join(versions.splitlines()), flush=True)
    with tempfile.TemporaryDirectory() as empty:
        for words in (["--help"], ["--version"], ["demo"]):
            run([python, "-m", "timbre", *words], empty)
    print("plain pip install: every dependency imports, and timbre demo went the whole way")


def run(words: Sequence[str], folder: "str | None" = None) -> str:
    """Return what a program prints; where it fails, name the package and end."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    process = subprocess.run(
        words,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if process.returncode:
        print(process.stdout[-6000:])
        sys.exit(
            f"plain pip install: BROKEN by {culprit(process.stdout, words)}: {' '.join(words[:4])}"
        )
    return process.stdout


def culprit(output: str, words: Sequence[str]) -> str:
    """Return the package that a traceback ends in, with its version; else the last one printed."""
    packages = LAST_PACKAGE.findall(output)
    lines = [line for line in output.splitlines() if line]
    if not packages:
        return lines[-1] if lines else "nothing that it names"
    show = f"import importlib.metadata as m; print(m.version({packages[-1]!r}))"
    process = subprocess.run([words[0], "-c", show], capture_output=True, text=True)
    return f"{packages[-1]} {process.stdout.strip()}".strip()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
