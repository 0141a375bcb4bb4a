"""Telephone and radio: sound at 8 or 16 kHz, and through a codec of low rate, by Debian's ffmpeg.

What a codec makes depends on its version and, to the last bit, on the machine: a plan therefore holds
:func:`fingerprint`, and a machine that codes differently makes no shard of it.
"""

import hashlib
import subprocess
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal, NamedTuple, get_args

import numpy as np

from timbre.audio import SAMPLE_RATE, Wave, from_int16, resample, to_int16
from timbre.audio.align import MIN_CONFIDENCE, estimate_offset
from timbre.audio.synthetic.voice import voice
from timbre.errors import ConfigError, WorkError

CodecName = Literal[
    "plain_8k", "plain_16k", "alaw", "mulaw", "gsm", "opus_8k", "opus_16k", "amr_nb", "amr_wb"
]
# AMR is decoded by every ffmpeg, and coded by Debian's libavcodec-extra only.
USUAL: tuple[CodecName, ...] = (
    "plain_8k", "plain_16k", "alaw", "mulaw", "gsm", "opus_8k", "opus_16k",
)  # fmt: skip
FFMPEG = "ffmpeg"
# Where speech ends, as a share of half the rate: below what resampling takes away.
BAND = 0.925
# Silence behind a clip pushes its end out of a codec.
TAIL_SECONDS = 0.1
PROBE_SECONDS, PROBE_SEED = 2.0, 21
MAX_DELAY = SAMPLE_RATE // 10


class Codec(NamedTuple):
    """A rate in Hz, and ffmpeg's format and words for the encoder; no format: only the rate."""

    rate: int
    file_format: str = ""
    encoder: tuple[str, ...] = ()

    @property
    def band_hz(self) -> float:
        """Where speech through it ends."""
        return BAND * self.rate / 2


CODECS: dict[str, Codec] = {
    "plain_8k": Codec(8_000),
    "plain_16k": Codec(16_000),
    "alaw": Codec(8_000, "wav", ("pcm_alaw",)),
    "mulaw": Codec(8_000, "wav", ("pcm_mulaw",)),
    "gsm": Codec(8_000, "gsm", ("libgsm",)),
    "opus_8k": Codec(8_000, "ogg", ("libopus", "-b:a", "10k", "-application", "voip")),
    "opus_16k": Codec(16_000, "ogg", ("libopus", "-b:a", "20k", "-application", "voip")),
    "amr_nb": Codec(8_000, "amr", ("libopencore_amrnb", "-b:a", "7.95k")),
    "amr_wb": Codec(16_000, "amr", ("libvo_amrwbenc", "-b:a", "12.65k")),
}
assert set(CODECS) == set(get_args(CodecName))


def through_codec(wave: Wave, name: str) -> Wave:
    """Return ``(samples,)`` at 48 kHz as it comes out of a codec, in time with what went in.

    Raises:
        ConfigError: there is no ffmpeg, it lacks the codec, or the codec's delay cannot be measured.
        WorkError: ffmpeg failed.
    """
    delay = _delay(name)
    late, early = max(delay, 0), max(-delay, 0)
    coded = _coded(np.pad(wave, (early, late)), name)[late : late + len(wave)]
    return np.pad(coded, (0, len(wave) - len(coded)))


@lru_cache
def fingerprint(names: tuple[str, ...]) -> str:
    """Return a SHA-256 of what some codecs make of a made-up voice on this machine.

    Raises like :func:`through_codec`.
    """
    digest = hashlib.sha256()
    for name in sorted(set(names)):
        digest.update(name.encode() + to_int16(through_codec(_probe(), name)).tobytes())
    return digest.hexdigest()


@lru_cache
def _delay(name: str) -> int:
    """Return how many samples late a codec's output is, measured once a process."""
    if not CODECS[name].file_format:
        return 0
    probe = _probe()
    alignment = estimate_offset(probe, _coded(probe, name), MAX_DELAY)
    if alignment.confidence < MIN_CONFIDENCE:
        raise ConfigError(
            f"variety.telephone_codecs: {name}: its delay cannot be measured (confidence "
            f"{alignment.confidence:.2f}): what {FFMPEG} gives is no speech; leave it out"
        )
    return alignment.offset


@lru_cache(maxsize=1)
def _probe() -> Wave:
    return voice(PROBE_SECONDS, np.random.default_rng(PROBE_SEED))


def _coded(wave: Wave, name: str) -> Wave:
    codec = CODECS[name]
    tail = round(TAIL_SECONDS * SAMPLE_RATE)
    samples = to_int16(resample(np.pad(wave, (0, tail)), SAMPLE_RATE, codec.rate)).tobytes()
    if codec.file_format:
        raw = ("-f", "s16le", "-ar", str(codec.rate), "-ac", "1")
        words = (*raw, "-i", "pipe:0", "-c:a", *codec.encoder, "-f", codec.file_format)
        file = _ffmpeg((*words, "pipe:1"), samples, name)
        samples = _ffmpeg(("-f", codec.file_format, "-i", "pipe:0", *raw, "pipe:1"), file, name)
    return resample(from_int16(np.frombuffer(samples, "<i2")), codec.rate, SAMPLE_RATE)


def _ffmpeg(words: Sequence[str], data: bytes, name: str) -> bytes:
    start = (FFMPEG, "-hide_banner", "-loglevel", "error", "-threads", "1", "-bitexact")
    try:
        result = subprocess.run([*start, *words], input=data, capture_output=True, check=False)
    except FileNotFoundError:
        raise ConfigError(
            f"variety.telephone_codecs: {name}: needs the program {FFMPEG}, which is not there: "
            "apt-get install ffmpeg"
        ) from None
    if result.returncode == 0 and result.stdout:
        return result.stdout
    reason = (result.stderr.decode(errors="replace").splitlines() or ["no output"])[-1]
    if "nknown encoder" in reason:
        extra = "; Debian's libavcodec-extra has it" if name.startswith("amr") else ""
        raise ConfigError(f"variety.telephone_codecs: {name}: {FFMPEG} here: {reason}{extra}")
    raise WorkError(f"{FFMPEG}: {name}: {reason}")
