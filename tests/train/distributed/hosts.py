"""Network namespaces of this machine as hosts: each has one cable, to a switch that is a namespace, too.

Nothing of the machine's own network is touched or seen. They share its disk, as nodes share a mounted
one, and its processors.
"""

import contextlib
import itertools
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

INTERFACE = "eth0"
NUMBERS = itertools.count()


class Host:
    """One host: programs run in it, and its cable can be made slow."""

    def __init__(self, switch: str, number: int) -> None:
        self.name, self.address = f"{switch}-{number}", f"10.0.0.{number}"
        port = f"port{number}"
        _ip("netns", "add", self.name)
        self._ip("link", "set", "lo", "up")
        _ip("-n", switch, "link", "add", port, "type", "veth",
            "peer", "name", INTERFACE, "netns", self.name)  # fmt: skip
        _ip("-n", switch, "link", "set", port, "master", "switch", "up")
        self._ip("address", "add", f"{self.address}/24", "dev", INTERFACE)
        self._ip("link", "set", INTERFACE, "up")

    def start(
        self, words: Sequence[str], environment: Mapping[str, str], output: Path
    ) -> "subprocess.Popen[bytes]":
        """Start a program here; what it prints is appended to ``output``."""
        with output.open("ab") as file:
            return subprocess.Popen(
                ["ip", "netns", "exec", self.name, *words],
                env={**os.environ, **environment}, stdout=file, stderr=file,
            )  # fmt: skip

    def kill(self) -> None:
        """End every process here at once, without a word to any of them."""
        while processes := _ip("netns", "pids", self.name).split():
            for number in processes:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(number), signal.SIGKILL)

    def slow_down(self, rate: str) -> None:
        """Let it send only so much: ``20mbit``."""
        limit = ["root", "tbf", "rate", rate, "burst", "64kb", "latency", "2s"]
        subprocess.run(
            ["tc", "-n", self.name, "qdisc", "replace", "dev", INTERFACE, *limit], check=True
        )

    def sent_bytes(self) -> int:
        """Return what has left here since it was made, headers included."""
        path = f"/sys/class/net/{INTERFACE}/statistics/tx_bytes"
        return int(_check("ip", "netns", "exec", self.name, "cat", path))

    def received_bytes(self) -> int:
        """Return what has come in."""
        path = f"/sys/class/net/{INTERFACE}/statistics/rx_bytes"
        return int(_check("ip", "netns", "exec", self.name, "cat", path))

    def remove(self) -> None:
        """Kill what runs here, and undo all of it."""
        self.kill()
        _ip("netns", "delete", self.name)

    def _ip(self, *words: str) -> None:
        _ip("-n", self.name, *words)


@contextmanager
def connected_hosts(count: int) -> Iterator[list[Host]]:
    """Give so many hosts that reach each other, until the block is left.

    Raises:
        PermissionError, FileNotFoundError: this machine does not let us have any.
    """
    if os.geteuid() != 0:
        raise PermissionError("only root may make network namespaces")
    if shutil.which("ip") is None or shutil.which("tc") is None:
        raise FileNotFoundError("ip and tc (package iproute2) are not installed")
    # Two modules that import `network` have one each, at the same time.
    switch = f"timbre{os.getpid()}-{next(NUMBERS)}"
    try:
        _ip("netns", "add", switch)
        _ip("-n", switch, "link", "add", "switch", "up", "type", "bridge")
    except subprocess.CalledProcessError as error:
        subprocess.run(["ip", "netns", "delete", switch], stderr=subprocess.DEVNULL, check=False)
        raise PermissionError(f"no network namespace or bridge here: {error.stderr}") from None
    hosts: list[Host] = []
    try:
        for number in range(1, count + 1):
            hosts.append(Host(switch, number))
        yield hosts
    finally:
        for host in hosts:
            host.remove()
        _ip("netns", "delete", switch)


@pytest.fixture(scope="session")
def network() -> Iterator[list[Host]]:
    """Four hosts; skips where network namespaces are not possible."""
    with contextlib.ExitStack() as stack:
        try:
            hosts = stack.enter_context(connected_hosts(4))
        except OSError as error:
            pytest.skip(f"no hosts to be had: {error}")
        yield hosts


def _ip(*words: str) -> str:
    return _check("ip", *words)


def _check(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout
