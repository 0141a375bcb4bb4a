"""Print what must not change when only the code's layout changes.

Run as ``python tests/whole/same_bits.py CORPUS OUT``. CORPUS holds ``speech/ noise/ rir/``, as ``timbre
demo`` makes it. The commands of the ``timbre`` that ``python -m timbre`` finds run in OUT: a tiny
prep, peek, 200 training steps, one restore, one evaluation. Each line is one thing with its SHA-256:
every shard file, the keys that peek shows, the loss curves, the averaged generator, a restored file,
every entry of ``metrics.json``. Compare the output of two commits by ``diff``. It takes minutes and is
no test.
"""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

# Curves whose values are times or sizes of this machine.
TAGS_LEFT_OUT = ("time", "speed", "second", "per_s", "wait", "memory", "clock")
HASH_DIGITS = 16
SOURCES = ("speech", "noise", "rir")


def main() -> None:
    corpus, out = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
    configs = Path(os.environ.get("CONFIGS", "configs")).resolve()
    out.mkdir(parents=True, exist_ok=True)
    for line in lines(corpus, out, configs):
        print(line, flush=True)  # noqa: T201 - its result


def lines(corpus: Path, out: Path, configs: Path) -> Iterator[str]:
    """Run every command and yield what it left."""
    sources = [f"{role}={corpus / role}" for role in SOURCES]
    run(out, "prep", str(configs / "prep_tiny.yaml"), *sources, "output=shards")
    for path in sorted((out / "shards").rglob("*")):
        if path.is_file() and path.suffix in (".tar", ".index"):
            yield f"shards {path.relative_to(out)} {sha256(path.read_bytes())}"
    keys = run(out, "peek", "shards", "--json", "--steps", "40", "--global-batch", "4")
    yield f"peek {sha256(keys.encode())}"
    run(out, "train", str(configs / "train_tiny.yaml"))
    yield from curves(out / "run")
    # The weights; before them lies a header, which may name more than it did.
    yield f"best {sha256((out / 'run/best.safetensors').read_bytes()[-100_000:])}"
    noisy = sorted((corpus / "speech").rglob("*.flac"))[0]
    run(out, "restore", str(noisy), "restored.wav", "--checkpoint", "run/best.safetensors")
    yield f"restored {sha256((out / 'restored.wav').read_bytes())}"
    data = ["--data", "shards/manifest.json", "--out", "report"]
    run(out, "evaluate", "run/best.safetensors", "df3", *data)
    metrics = json.loads((out / "report/metrics.json").read_text())
    for key in sorted(metrics):
        yield f"metrics {key} {sha256(json.dumps(metrics[key], sort_keys=True).encode())}"


def run(out: Path, *words: str) -> str:
    """Return what a command prints; end with its errors if it fails."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "timbre", *words]
    process = subprocess.run(
        command, cwd=out, env=environment, capture_output=True, text=True, check=False
    )
    if process.returncode:
        sys.exit(f"{' '.join(words)}: exit code {process.returncode}\n{process.stderr[-3000:]}")
    return process.stdout


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:HASH_DIGITS]


def curves(folder: Path) -> Iterator[str]:
    """Yield every scalar of a run's TensorBoard: the hash of all its values, and the last one."""
    for events in sorted({path.parent for path in folder.rglob("events.*")}):
        accumulator = EventAccumulator(str(events), size_guidance={"scalars": 0, "tensors": 0})
        accumulator.Reload()
        for tag in sorted(accumulator.Tags()["scalars"]):
            if any(word in tag for word in TAGS_LEFT_OUT):
                continue
            values = [(event.step, event.value) for event in accumulator.Scalars(tag)]
            curve = sha256(json.dumps(values).encode())
            yield f"scalar {tag} {curve} last {values[-1][1]!r}"


if __name__ == "__main__":
    main()
