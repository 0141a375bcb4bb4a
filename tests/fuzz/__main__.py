"""Try damaged and hostile files on timbre: ``python -m tests.fuzz [--count 2000] [--seed 0]``.

Each input is used in a process of its own, and must be used or refused: within 20 s and 1.5 GB, with no
error but those that name the file. Input N of a seed is always the same; ``--only N`` repeats it. Prints
a JSON line a fault and one at the end; exit code 1 if there was a fault.
"""

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

import torch

from tests.fuzz import targets
from timbre.errors import TimbreError

SECONDS, BYTES = 20, 1_500_000_000
# A child is forked from a process that has imported all of this; that is no memory of the input's.
PAGE = 1024


def fuzz(number: int, seed: int, folder: Path) -> dict[str, Any]:
    """Use one input in a child; return its kind and what came of it."""
    kind = list(targets.TARGETS)[number % len(targets.TARGETS)]
    place = folder / f"input-{number}"
    place.mkdir()
    targets.TARGETS[kind].write(place, random.Random(f"{seed}/{number}"))
    for_us, for_child = os.pipe()
    child = os.fork()
    if not child:
        os.close(for_us)
        _use(kind, place, for_child)
    os.close(for_child)
    with os.fdopen(for_us) as pipe:
        answer = pipe.read()
    _, status, usage = os.wait4(child, 0)
    if os.WIFSIGNALED(status):
        killer = os.WTERMSIG(status)
        answer = f"no end after {SECONDS} s" if killer == signal.SIGALRM else f"signal {killer}"
    elif usage.ru_maxrss * PAGE > BYTES:
        answer = f"{usage.ru_maxrss * PAGE / 1e9:.1f} GB"
    for path in sorted(place.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    place.rmdir()
    return {"input": number, "seed": seed, "kind": kind, "outcome": answer}


def _use(kind: str, place: Path, pipe: int) -> None:
    signal.alarm(SECONDS)
    sys.stderr = sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115 - till the child ends
    try:
        targets.TARGETS[kind].use(place)
        answer = "used"
    except (TimbreError, OSError) as error:
        names = [place.name, *(path.name for path in place.rglob("*"))]
        is_named = any(name in str(error) for name in names)
        answer = "refused" if is_named else f"names no file: {type(error).__name__}: {error}"
    except BaseException:
        answer = traceback.format_exc(limit=-6)
    os.write(pipe, answer[:4000].encode("utf-8", "replace"))
    os._exit(0)


def main() -> int:
    """Return the exit code."""
    parser = argparse.ArgumentParser("python -m tests.fuzz", description=__doc__)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="one input")
    options = parser.parse_args()
    torch.set_num_threads(1)
    start, outcomes, faults = time.monotonic(), Counter[str](), 0
    numbers = range(options.count) if options.only is None else [options.only]
    with tempfile.TemporaryDirectory() as folder:
        targets.GOOD = Path(folder) / "good"
        targets.GOOD.mkdir()
        for number in numbers:
            result = fuzz(number, options.seed, Path(folder))
            fault = result["outcome"] not in ("used", "refused")
            faults += fault
            outcomes["fault" if fault else result["outcome"]] += 1
            if fault:
                print(json.dumps(result), flush=True)  # noqa: T201 - a program
    seconds = round(time.monotonic() - start, 1)
    print(json.dumps({"inputs": len(numbers), "seconds": seconds, **outcomes}))  # noqa: T201
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main())
