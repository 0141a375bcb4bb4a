"""Stores as Google's and Azure's on this machine, each a real emulator in a process of its own.

``google`` and ``azure`` yield the URL of an empty bucket, with the environment set that leads there.
Azurite is Node's: `.ci/run` installs it into `~/.cache/timbre-azurite`.
"""

import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import fsspec
import pytest

from tests.help.object_store import answers, free_port

BUCKET = "bucket"
AZURITE = Path("~/.cache/timbre-azurite/node_modules/azurite/dist/src/blob/main.js")
ACCOUNT = "devstoreaccount1"
# Everybody's: the emulator's documentation names it.
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


@contextmanager
def google() -> Iterator[str]:
    """Serve a bucket of Google's."""
    pytest.importorskip("gcsfs")
    pytest.importorskip("gcp_storage_emulator")
    program = [sys.executable, "-m", "gcp_storage_emulator", "start", "--host", "127.0.0.1"]
    options = ["--in-memory", "--default-bucket", BUCKET, "--port"]
    with served([*program, *options]) as port, environment("gs", emulator(port)):
        yield f"gs://{BUCKET}"


@contextmanager
def azure() -> Iterator[str]:
    """Serve a container of Azure's."""
    pytest.importorskip("adlfs")
    node, azurite = shutil.which("node"), AZURITE.expanduser()
    if node is None or not azurite.exists():
        pytest.skip("Azurite is not installed; .ci/run does it")
    options = ["--inMemoryPersistence", "--silent", "--disableTelemetry", "--skipApiVersionCheck"]
    program = [node, str(azurite), *options, "--blobHost", "127.0.0.1", "--blobPort"]
    with served(program) as port, environment("az", connection(port)):
        fsspec.filesystem("az").mkdir(BUCKET)
        yield f"az://{BUCKET}"


def emulator(port: int) -> dict[str, str]:
    """Return the variables that lead Google's clients to the emulator."""
    return {"STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{port}"}


def connection(port: int) -> dict[str, str]:
    """Return the variables that lead Azure's clients to the emulator."""
    account = f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY}"
    endpoint = f"BlobEndpoint=http://127.0.0.1:{port}/{ACCOUNT}"
    return {"AZURE_STORAGE_CONNECTION_STRING": f"{account};{endpoint};"}


@contextmanager
def served(command: Sequence[str]) -> Iterator[int]:
    """Run a server with its port behind its command until the block is left."""
    port = free_port()
    null = subprocess.DEVNULL
    process = subprocess.Popen([*command, str(port)], stdout=null, stderr=null)
    if not answers(port, process):
        raise RuntimeError(f"{command[0]} does not start")
    try:
        yield port
    finally:
        process.kill()
        process.wait()


@contextmanager
def environment(scheme: str, variables: Mapping[str, str]) -> Iterator[None]:
    """Set variables, and forget what was connected under other ones."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"NO_PROXY": "127.0.0.1", **variables}.items():
            patch.setenv(name, value)
        fsspec.get_filesystem_class(scheme).clear_instance_cache()
        yield
    fsspec.get_filesystem_class(scheme).clear_instance_cache()
