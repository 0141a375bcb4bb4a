"""A real S3 server on this machine (rclone's), for tests of what runs against a bucket.

Fixtures, to be imported by the test file or conftest that wants them: ``s3`` is the server,
``s3_bucket`` the URL of a bucket of one's own, with the environment set that leads there.
"""

import shutil
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import fsspec
import pytest

KEY, SECRET = "timbre-test", "timbre-test-secret"
START_SECONDS = 20.0


class Server(NamedTuple):
    """Where the server listens, and the folder that holds a folder for every bucket."""

    endpoint: str
    folder: Path
    process: subprocess.Popen[bytes]

    @property
    def environment(self) -> dict[str, str]:
        """Return the variables that lead any S3 client to this server, also in a subprocess."""
        return environment(self.endpoint)

    @property
    def storage_options(self) -> dict[str, str]:
        """The same for ``fsspec.filesystem("s3", ...)``."""
        return {"key": KEY, "secret": SECRET, "endpoint_url": self.endpoint}

    def make_bucket(self) -> str:
        """Return the name of a new, empty bucket; its objects are files in ``folder / name``."""
        name = f"bucket-{uuid.uuid4().hex[:12]}"
        (self.folder / name).mkdir()
        return name


def environment(endpoint: str, key: str = KEY, secret: str = SECRET) -> dict[str, str]:
    """Return the variables that lead S3 clients to an endpoint, and to nothing of this machine's."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
        "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        "NO_PROXY": "127.0.0.1",
    }


def use_environment(monkeypatch: pytest.MonkeyPatch, variables: Mapping[str, str]) -> None:
    """Set the variables, and forget connections that were made under other ones."""
    for name in ("AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    forget_connections()


def forget_connections() -> None:
    """Make fsspec connect anew: it keeps file systems, and they keep their endpoint."""
    fsspec.get_filesystem_class("s3").clear_instance_cache()


@contextmanager
def serve_s3(folder: Path, fresh: bool = True) -> Iterator[Server]:
    """Serve the sub-folders of ``folder`` as buckets until the block is left.

    If ``fresh``, files that are put into ``folder`` itself are seen at once, but a request takes up to
    0.1 s, for the server lists its folders each time; else only those that were there at the first.
    """
    for _ in range(3):  # another process may take the port between its choice and its use
        port = free_port()
        command = serve_command(folder, f"127.0.0.1:{port}", fresh)
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        if answers(port, process):
            break
    else:
        raise RuntimeError("rclone serve s3 does not start")
    try:
        yield Server(f"http://127.0.0.1:{port}", folder, process)
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server for the whole session; ``s3.environment`` leads there."""
    pytest.importorskip("s3fs")
    with serve_s3(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def s3_bucket(s3: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of an empty bucket; the environment leads there, also for subprocesses."""
    use_environment(monkeypatch, s3.environment)
    yield f"s3://{s3.make_bucket()}"
    forget_connections()


def serve_command(folder: Path, address: str, fresh: bool) -> list[str]:
    """Return the server's command line; skips where there is no server."""
    beside = Path(sys.executable).with_name("rclone")
    rclone = str(beside) if beside.exists() else shutil.which("rclone")
    if rclone is None:
        pytest.skip("rclone is not installed")
    listener = ["--addr", address, "--auth-key", f"{KEY},{SECRET}"]
    # With 0 every request would read all folders again, one second and more each.
    listings = ["--dir-cache-time", "1ms" if fresh else "24h", "--config", "/dev/null"]
    return [rclone, "serve", "s3", str(folder), *listener, *listings]


def free_port() -> int:
    """Return a port that nobody has."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def answers(port: int, process: "subprocess.Popen[bytes]") -> bool:
    """Wait until the port accepts; False if the process ended or took too long."""
    waits = int(START_SECONDS / 0.05)
    for _ in range(waits):
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return process.poll() is None
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0.05)
            return False
    process.kill()
    process.wait()
    return False
