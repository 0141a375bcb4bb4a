"""The benchmark of the stream runs end to end, and its meters count what they say."""

import mmap
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from urllib.parse import urlsplit

import pytest

from benchmarks.stream.case import PEERS, ROOT, Figures
from benchmarks.stream.loaders import MODULES
from benchmarks.stream.meters import PeakMemory, cpu_seconds, memory, wait_until_idle
from benchmarks.stream.proxy import Request, most_in_flight, proxy
from benchmarks.stream.ratios import SEEKING, Case, compare
from benchmarks.stream.s3 import demand_between
from tests.benchmarks.test_benchmarks import figures, lines_of

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the meters read /proc")

SPIN = "import time\nwhile time.process_time() < 0.3: pass\n"
REPORT = "print(time.process_time(), flush=True)\n"
MEGABYTE = 1 << 20


def test_quick_run_prints_a_figure_of_each_kind_and_the_ratios_to_reach() -> None:
    lines = lines_of("stream", "--quick", "--only", "ours,transport")
    cases = {"wav, whole, ours", "flac, segment, ours", "wav, whole, transport"}
    for metric in ("CPU time", "speed", "first batch"):
        values = figures(lines, metric)
        assert cases <= values.keys()
        assert all(value > 0 for value in values.values())
    assert figures(lines, "in flight")["s3, ours"] >= 1
    ratios = lines[-1]["ratios"]
    # Those to peers are missing with them.
    assert ratios.keys() == {
        "wav_cpu/ours_to_transport",
        "first_batch/resume_to_start",
        "memory/growth_percent",
        "large/first_batch_to_5_s",
        "large/peak_to_1_GB",
        "s3/ours_to_bare_get",
        "clients/obstore_to_s3fs",
    }
    cpu = figures(lines, "CPU time")
    ratio = cpu["wav, whole, ours"] / cpu["wav, whole, transport"]
    assert ratios["wav_cpu/ours_to_transport"] == pytest.approx(ratio, rel=0.01)


def test_every_loader_that_can_be_asked_for_is_there() -> None:
    ours = {name for name, module in MODULES.items() if not module.startswith(PEERS)}
    for name in ours:
        assert name in import_module(MODULES[name]).LOADERS
    # The peers' own modules cannot be imported here.
    for name in MODULES.keys() - ours:
        path = ROOT.joinpath(*MODULES[name].split(".")).with_suffix(".py")
        assert f'"{name}": ' in path.read_text()


@contextmanager
def child(code: str) -> Iterator[subprocess.Popen[str]]:
    """A Python process that runs the code and then waits to be told to end."""
    command = [sys.executable, "-c", code + "\ninput()"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as process:  # type: ignore[call-overload]
        try:
            yield process
        finally:
            process.communicate("\n")


def go_on(process: subprocess.Popen[str]) -> None:
    """End the `input()` that a child waits in."""
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def test_cpu_time_is_that_of_living_and_ended_descendants_and_of_oneself() -> None:
    grandchild = f"import subprocess, sys, time\nsubprocess.run([sys.executable, '-c', {SPIN!r}])\n"
    before, own = cpu_seconds(os.getpid()), time.process_time()
    with child(grandchild + SPIN + REPORT) as process:
        assert process.stdout is not None
        child_seconds = float(process.stdout.readline())
        total = cpu_seconds(os.getpid()) - before - (time.process_time() - own)
        assert child_seconds >= 0.3
        assert total == pytest.approx(
            child_seconds + 0.3, abs=0.1
        )  # the grandchild's start is not told
    after = cpu_seconds(os.getpid()) - before - (time.process_time() - own)
    assert total - 0.02 <= after <= total + 0.1


def test_memory_of_a_child_is_seen_and_its_peak_is_remembered() -> None:
    next_step = "\nprint(flush=True)\ninput()\n"
    with child(f"{next_step}x = b'1' * 2**26{next_step}del x{next_step}") as one:
        assert one.stdout is not None
        one.stdout.readline()
        before = memory(one.pid)
        with PeakMemory(one.pid) as watch:
            go_on(one)
            one.stdout.readline()
            larger = memory(one.pid)
            while watch.peak.own < larger.own:
                os.sched_yield()
            go_on(one)
            one.stdout.readline()
        after = memory(one.pid)
        go_on(one)
    assert larger.own - before.own == pytest.approx(64 * MEGABYTE, abs=2 * MEGABYTE)
    assert after.own == pytest.approx(before.own, abs=2 * MEGABYTE)
    assert after.largest - before.largest == pytest.approx(64 * MEGABYTE, abs=4 * MEGABYTE)
    assert watch.peak.total >= watch.peak.own >= larger.own


def growth_of_shared_memory() -> None:
    """Print by how much 64 MB add to this process and a child that has read them, in MB."""
    block = mmap.mmap(-1, 64 * MEGABYTE)
    before = memory(os.getpid())
    block.write(b"1" * len(block))
    to_child, from_parent = os.pipe()
    to_parent, from_child = os.pipe()
    process = os.fork()
    if process == 0:
        block.seek(0)
        os.write(from_child, block.read(len(block))[:1])
        os.read(to_child, 1)
        os._exit(0)
    os.read(to_parent, 1)
    after = memory(os.getpid())
    os.write(from_parent, b"1")
    os.waitpid(process, 0)
    growth = (after.own - before.own) / MEGABYTE
    sys.stdout.write(f"{growth} {after.largest >= before.largest}")


def test_memory_that_two_processes_share_counts_once() -> None:
    program = "from tests.benchmarks.test_benchmarks_stream import *; growth_of_shared_memory()"
    command = [
        sys.executable,
        "-c",
        program,
    ]  # apart: servers of other tests are children of this one
    output = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    growth, largest_grew = output.split()
    # What else the child touched is little, and without most of the libraries it has less.
    assert float(growth) == pytest.approx(64, rel=0.3)
    assert largest_grew == "True"


def test_a_tree_that_goes_on_working_is_not_taken_for_idle() -> None:
    with child("print(flush=True)") as waiting:
        assert waiting.stdout is not None
        waiting.stdout.readline()
        wait_until_idle(waiting.pid)
    with child("while True: pass") as busy:
        with pytest.raises(TimeoutError, match=str(busy.pid)):
            wait_until_idle(busy.pid, quiet_seconds=0.1, longest_seconds=0.5)
        busy.kill()


def test_ratios_are_to_the_best_peer_within_each_round() -> None:
    def costs(*milliseconds: float) -> list[Figures]:
        return [Figures(cost, 1.0, 1.0) for cost in milliseconds]

    results = {
        Case("flac", "segment", "ours"): costs(1, 2, 30),
        Case("flac", "segment", "folder"): costs(4, 4, 60),
        Case("flac", "segment", "litdata"): costs(5, 5, 5),
        Case("flac", "segment", "webdataset", "float32"): costs(1, 1, 100),
        Case("flac", "segment", SEEKING): costs(1, 1, 1),
        Case("wav", "whole", "ours"): costs(3, 3, 3),
        Case("wav", "whole", "transport"): costs(2, 2, 2),
    }
    assert compare(results) == {
        "flac_cpu/ours_to_best_peer": 0.5,
        "flac_cpu/ours_to_best_float_peer": 1.0,
        "flac_cpu/ours_to_seeking_peer": 2.0,
        "wav_cpu/ours_to_transport": 1.5,
    }


def test_only_shards_that_were_asked_for_between_the_marks_are_asked_for_again() -> None:
    requests = [
        Request("GET", "/bucket/train/b.tar", "bytes=10-19", 3.0, 5.0),
        Request("GET", "/bucket/train/a.tar", "bytes=0-9", 2.0, 4.0),
        Request("GET", "/bucket/train/a.tar", "bytes=0-9", 0.5, 1.5),
        Request("HEAD", "/bucket/train/a.tar", "", 2.5, 2.6),
        Request("GET", "/bucket/train/a.index", "", 2.5, 2.6),
    ]
    demand = demand_between(requests, 1.0, 9.0, 2)
    assert demand.ranges == [("bucket/train/a.tar", 0, 10), ("bucket/train/b.tar", 10, 20)]
    assert demand.in_flight == 2


def test_requests_that_only_touch_are_not_in_flight_together() -> None:
    touching = [Request("GET", "/a", "", start, start + 1.0) for start in (0.0, 1.0, 2.0)]
    assert most_in_flight(touching) == 1
    assert most_in_flight([]) == 0


def test_proxy_passes_bodies_on_and_notes_what_was_in_flight_together() -> None:
    together = threading.Barrier(3)

    class Target(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if self.path != "/alone":
                together.wait(timeout=60)
            body = self.headers["Range"].encode() * 10_000
            self.send_response(206)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *parts: object) -> None:
            pass

    def get(address: str, path: str, span: str) -> bytes:
        parts = urlsplit(address)
        connection = HTTPConnection(str(parts.hostname), parts.port)
        connection.request("GET", path, headers={"Range": span})
        body = connection.getresponse().read()
        connection.close()
        return body

    server = ThreadingHTTPServer(("127.0.0.1", 0), Target)
    serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    serving.start()
    try:
        with proxy(f"http://127.0.0.1:{server.server_port}", 0.0) as noting:
            for part in ("bytes=0-1", "bytes=2-3"):
                assert get(noting.endpoint, "/alone", part) == part.encode() * 10_000
            with ThreadPoolExecutor(3) as threads:
                list(threads.map(lambda n: get(noting.endpoint, f"/{n}", f"bytes={n}-"), range(3)))
    finally:
        server.shutdown()
        serving.join()
        server.server_close()
    alone, crowd = noting.requests[:2], noting.requests[2:]
    assert [request.range for request in alone] == ["bytes=0-1", "bytes=2-3"]
    assert most_in_flight(alone) == 1
    assert {request.path for request in crowd} == {"/0", "/1", "/2"}
    assert most_in_flight(crowd) == 3
