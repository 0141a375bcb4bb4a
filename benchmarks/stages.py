"""How long does each stage of a shard take? The functions are timed where they are, by the CPU clock."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any

from shard_tools.judge import quality
from shard_tools.make import shard as make
from shard_tools.mix import mixture as mix
from shard_tools.mix import reverb
from shard_tools.mix.bank import Bank
from shard_tools.plan import editions
from timbre import audio

# Its name, and a function of it: where that is looked up, under which name.
Stage = tuple[str, Any, str]

DENOISE = "denoise"
# The functions of a shard's way that call none of each other.
STAGES: tuple[Stage, ...] = (
    ("read and resample", make, "read_stretch"),
    ("noises and rooms", Bank, "wave"),
    ("noises and rooms", Bank, "stretch"),
    ("reverb", reverb, "reverberate"),
    ("reverb", reverb, "decay_seconds"),
    ("mix", mix, "layer"),
    ("mix", mix, "mix"),
    (DENOISE, make, "degrade_by"),
    ("align", make, "estimate_offset"),
    ("quality", quality, "measure_pair"),
    ("quality", quality, "reason_to_refuse"),
    ("encode and write", audio, "to_int16"),
    ("encode and write", make, "write_shard"),
)
SCAN: tuple[Stage, ...] = (("scan", editions, "scan"),)


@contextmanager
def stage_clocks(stages: Sequence[Stage]) -> Iterator[dict[str, float]]:
    """Add up the CPU seconds that functions take meanwhile, by stage; the code knows nothing of it."""
    seconds = dict.fromkeys((stage for stage, _, _ in stages), 0.0)

    def with_clock(stage: str, run: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(run)
        def run_by_clock(*positional: Any, **keywords: Any) -> Any:
            start = time.process_time()
            try:
                return run(*positional, **keywords)
            finally:
                seconds[stage] += time.process_time() - start

        return run_by_clock

    originals = [(owner, name, getattr(owner, name)) for _, owner, name in stages]
    for (stage, owner, name), (_, _, run) in zip(stages, originals, strict=True):
        setattr(owner, name, with_clock(stage, run))
    try:
        yield seconds
    finally:
        for owner, name, run in originals:
            setattr(owner, name, run)
