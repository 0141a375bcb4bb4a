"""A stream that is killed at random moments: nothing is left behind, and the next start goes on exactly.

Run as `python -m benchmarks.kill_readers [--times N]`; Linux only. A process reads batches with two
reading processes and notes each before it counts it as used. It is killed after a random time, with
SIGKILL; then no process of its group may be left, and no file of it in /dev/shm. The next one goes on
from the state that was saved last. In the end the batches must be those of one run without any death.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path

from benchmarks.report import print_figure, print_machine, print_ratios
from tests.help.made_shards import make_shards
from timbre.shards import DataSource, open_corpus
from timbre.storage import atomic_write
from timbre.stream import PairBatch, PairStream, StreamConfig

BENCH = "kill_readers"
SHARED = Path("/dev/shm")
STATE, NOTES = "state.json", "notes.txt"
# Before it a process is not yet reading. It ends in the middle of some batch from then on.
LONGEST_LIFE_SECONDS = 0.5
END_SECONDS = 10.0


def main() -> None:
    """Kill as often as asked for; exit with 1 if anything is left or was served otherwise."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--times", metavar="N", type=int, default=200, help="%(default)s")
    parser.add_argument("--seed", metavar="N", type=int, default=1, help="%(default)s")
    options = parser.parse_args()
    print_machine(BENCH)
    with tempfile.TemporaryDirectory() as folder:
        url = make_shards(Path(folder) / "shards", [9, 7, 8])
        faults = kill_often(Path(folder), url, options.times, random.Random(options.seed))
        faults += wrong_batches(Path(folder), url)
    for fault in faults:
        sys.stderr.write(f"{fault}\n")
    print_ratios(BENCH, faults_to_deaths=len(faults) / options.times)
    raise SystemExit(bool(faults))


def kill_often(folder: Path, url: str, times: int, draw: random.Random) -> list[str]:
    """Start and kill the reading program; return what each death left behind."""
    faults = []
    for number in range(1, times + 1):
        before = set(SHARED.iterdir())
        command = [sys.executable, "-m", "benchmarks.kill_readers_victim", str(folder), url]
        victim = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
        assert victim.stdout is not None
        if not victim.stdout.readline():  # else it reads
            raise SystemExit(f"start {number}: the reading program ended by itself")
        time.sleep(draw.uniform(0.0, LONGEST_LIFE_SECONDS))
        os.kill(victim.pid, signal.SIGKILL)
        if (end := victim.wait()) != -signal.SIGKILL:
            faults.append(f"death {number}: it had ended before, with {end}")
        victim.stdout.close()
        if left := wait_for_group(victim.pid):
            faults.append(f"death {number}: processes {left} are left")
        if files := sorted(path.name for path in set(SHARED.iterdir()) - before):
            faults.append(f"death {number}: {SHARED} has {files}")
    return faults


def wait_for_group(group: int) -> list[int]:
    """Return the processes of a group that do not end in time."""
    deadline = time.monotonic() + END_SECONDS
    while (left := members_of(group)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return left


def members_of(group: int) -> list[int]:
    """Return the living processes of a group."""
    members = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, number = path.read_text().rpartition(")")[2].split()[:3]
        except (OSError, ValueError):
            continue
        if int(number) == group and state != "Z":
            members.append(int(path.parent.name))
    return members


def wrong_batches(folder: Path, url: str) -> list[str]:
    """Return which noted batches are not those of a stream that nobody kills."""
    notes: dict[int, str] = {}
    for line in (folder / NOTES).read_text().splitlines():
        step, _, note = line.partition(" ")
        notes[int(step)] = note
    if sorted(notes) != list(range(len(notes))):
        return [f"steps {sorted(notes)} were noted, expected 0 to {len(notes) - 1}"]
    print_figure(BENCH, "all lives", "noted", len(notes), "batches")
    expected = [note_of(batch) for _, batch in zip(notes, open_stream(url, 0), strict=False)]
    return [
        f"step {step}: {notes[step]}, expected {note}"
        for step, note in enumerate(expected)
        if notes[step] != note
    ]


def open_stream(url: str, workers: int) -> PairStream:
    """Return the stream that is killed, or with 0 workers the one to compare with."""
    return PairStream([open_corpus(DataSource(url), "train")], StreamConfig(4800, 2, 3, 2, workers))


def note_of(batch: PairBatch) -> str:
    """Return keys and content of a batch as a line."""
    return f"{' '.join(batch.keys)} {zlib.crc32(batch.degraded.numpy().tobytes())}"


def read_until_killed(folder: Path, url: str) -> None:
    """Go on where the last life was, noting each batch before the state that is behind it."""
    stream = open_stream(url, 2)
    if (folder / STATE).exists():
        stream.load_state_dict(json.loads((folder / STATE).read_text()))
    with (folder / NOTES).open("a") as notes:
        for batch in stream:
            notes.write(f"{stream.step - 1} {note_of(batch)}\n")
            notes.flush()
            atomic_write.write(folder / STATE, json.dumps(stream.state_dict()).encode())
            sys.stdout.write("reads\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
