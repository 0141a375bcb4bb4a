"""The sound of every system, as files to listen to: ``sounds/SYSTEM/PAIR.flac``."""

from collections.abc import Sequence

from timbre import audio, storage
from timbre.audio import SAMPLE_RATE
from timbre.errors import TimbreError
from timbre.evaluate import cases
from timbre.evaluate.cases import Case
from timbre.evaluate.measure import Setup
from timbre.evaluate.systems import CLEAN

FOLDER = "sounds"


def write_sounds(folder: str, setup: Setup, some: Sequence[Case]) -> str:
    """Write what every system makes of some pairs, and their clean side; return where.

    Files that are there are written again; a pair that cannot be read is left out, as its row in the
    results says.
    """
    chains = setup.chains()
    target = storage.join(folder, FOLDER)
    for case in some:
        try:
            pair = cases.load(case)
        except (TimbreError, OSError):
            continue
        for system, wave in {**chains.outputs(pair), CLEAN: pair.clean}.items():
            name = system.replace("/", "_")
            url = storage.join(target, f"{name}/{case.key}.flac")
            data = audio.encode_wave(wave.numpy(), SAMPLE_RATE, "FLAC", "PCM_24")
            storage.publish(url, data)
    return target
