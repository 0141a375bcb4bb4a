"""Changed sounds: phones that a recogniser hears otherwise than on the clean side.

PocketSphinx decodes phones without a language model, so it corrects nothing, and a language that it
does not know is compared all the same: the reference is what it hears on the clean side.
"""

import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from torchaudio.functional import resample

from timbre import packages
from timbre.audio import SAMPLE_RATE, SILENCE_DB, WORKING_LEVEL_DB, active_level_db, gain, to_int16
from timbre.audio.metrics import PERCEPTUAL_RATE

# Silence and noises of the recogniser's alphabet.
NO_PHONES = ("SIL", "+")


def phone_error(estimate: Tensor, reference: Tensor) -> float:
    """Return the share of phones that are changed, lost or added, 0 for none; NaN without any.

    Args:
        estimate: ``(samples,)`` at 48 kHz.
        reference: likewise.

    Raises:
        MissingPackageError: ``pocketsphinx`` is not installed.
    """
    packages.require("pocketsphinx", "phone error")
    sides = [_decode(side) for side in (reference, estimate)]
    return _edits(*sides) / len(sides[0]) if sides[0] else math.nan


def _decode(wave: Tensor) -> list[str]:
    """Return the phones of ``(samples,)``."""
    level_db = active_level_db(wave.float().cpu().numpy())
    if level_db <= SILENCE_DB:
        return []
    levelled = wave.float().cpu() * gain(WORKING_LEVEL_DB - level_db)
    samples = to_int16(resample(levelled, SAMPLE_RATE, PERCEPTUAL_RATE).numpy())
    decoder = _decoder()
    # What it learned of the last recording's noise is forgotten.
    decoder.reinit_feat()
    decoder.start_utt()
    decoder.process_raw(samples.tobytes(), full_utt=True)
    decoder.end_utt()
    phones = [segment.word for segment in decoder.seg() or ()]
    return [phone for phone in phones if not phone.startswith(NO_PHONES)]


def _edits(first: Sequence[str], second: Sequence[str]) -> int:
    """Return how many insertions, deletions and changes lead from one to the other (Levenshtein)."""
    row = np.arange(len(second) + 1)
    for number, phone in enumerate(first, start=1):
        is_new = row[:-1] + (np.array(list(second), dtype=object) != phone)
        best = np.minimum(np.concatenate([[number], is_new]), np.append([number], row[1:] + 1))
        # An insertion costs one more than the place before: a running minimum of best - place.
        places = np.arange(len(best))
        row = np.minimum.accumulate(best - places) + places
    return int(row[-1])


@cache
def _decoder() -> Any:
    from pocketsphinx import Decoder, get_model_path

    model = str(Path(get_model_path()) / "en-us" / "en-us")
    # Levels are taken over the whole utterance, so that none depends on the one before.
    decoder = Decoder(hmm=model, lm=None, dict=None, cmn="batch", loglevel="FATAL")
    decoder.add_allphone_file("phones", None)
    decoder.activate_search("phones")
    return decoder
