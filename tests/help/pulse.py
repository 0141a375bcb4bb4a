"""A real PulseAudio daemon without hardware: null sinks, reached by PortAudio through ALSA."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes.util import find_library
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from timbre.audio import Wave

PLUGINS = next(Path("/usr/lib").glob("*/alsa-lib/libasound_module_pcm_pulse.so"), None)
READY = bool(shutil.which("pulseaudio") and PLUGINS and find_library("portaudio"))
# Without a daemon the tests are skipped, but not where CI says that it has made the machine ready.
needs_pulse = pytest.mark.skipif(
    not READY and os.environ.get("CI") != "true",
    reason="pulseaudio, libasound2-plugins or libportaudio2 is not installed",
)
RATE = 48_000


class Pulse(NamedTuple):
    """A running daemon with the sinks ``mic`` and ``phones``; what is played to ``mic`` is recorded.

    ALSA's device ``pulse`` is the daemon, ``phones`` that sink, and ``gone`` one that there is not.

    Attributes:
        environment: of programs that use it.
        process: the daemon.
    """

    environment: dict[str, str]
    process: "subprocess.Popen[bytes]"

    def play(self, sink: str, wave: Wave) -> "subprocess.Popen[bytes]":
        """Begin to play ``(samples,)`` at 48 kHz."""
        process = self._client("pacat", "--playback", f"--device={sink}", stdin=subprocess.PIPE)
        assert process.stdin
        process.stdin.write(wave.astype("<f4").tobytes())
        process.stdin.close()
        return process

    def record(self, source: str, path: Path) -> "subprocess.Popen[bytes]":
        """Begin to record into a file of floats."""
        with path.open("wb") as file:
            return self._client("parec", f"--device={source}", stdout=file.fileno())

    def _client(
        self, program: str, *words: str, stdin: int | None = None, stdout: int | None = None
    ) -> "subprocess.Popen[bytes]":
        layout = ["--format=float32le", "--channels=1", f"--rate={RATE}", "--latency-msec=100"]
        command = [program, *words, "--raw", *layout]
        return subprocess.Popen(command, stdin=stdin, stdout=stdout, env=self.environment)


def read(path: Path) -> Wave:
    """Return what was recorded into a file."""
    data = path.read_bytes()
    return np.frombuffer(data[: len(data) // 4 * 4], "<f4")


@contextmanager
def pulse(folder: Path) -> Iterator[Pulse]:
    """Run a daemon with its files in a folder; it ends with the block."""
    assert READY, "CI=true, but PulseAudio or PortAudio is not installed; .ci/run does it"
    devices = [
        f'pcm.{name} {{ type pulse device {sink} hint.description "{name}" }}'
        for name, sink in (("phones", "phones"), ("gone", "nowhere"))
    ]
    config, socket = folder / "asoundrc", folder / "socket"
    config.write_text("\n".join(["</usr/share/alsa/alsa.conf>", *devices]))
    environment = {
        **os.environ,
        "HOME": str(folder),
        "XDG_RUNTIME_DIR": str(folder),
        "PULSE_SERVER": f"unix:{socket}",
        "PULSE_SOURCE": "mic.monitor",
        "ALSA_CONFIG_PATH": str(config),
    }
    sinks = [
        f"module-null-sink sink_name={name} rate={RATE}" for name in ("mic", "voice", "phones")
    ]
    modules = [f"module-native-protocol-unix auth-anonymous=1 socket={socket}", *sinks]
    command = ["pulseaudio", "-n", "--daemonize=no", "--exit-idle-time=-1", "--use-pid-file=no"]
    command += ["--disable-shm=yes", "--realtime=no", "--high-priority=no"]
    command += [word for module in modules for word in ("-L", module)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        # It answers once all modules are loaded.
        waited = ["pactl", "info"]
        while subprocess.run(waited, env=environment, capture_output=True, check=False).returncode:
            assert process.poll() is None, (folder / "log").read_text()
        yield Pulse(environment, process)
    finally:
        process.kill()
        process.wait()
