"""Sound as numbers: files to waveforms and back, levels, rates."""

from timbre.audio.decode import (
    ENDINGS,
    AudioInfo,
    blocks,
    encode,
    encode_int16,
    find_below,
    header,
    info,
    is_audio_name,
    output_format,
    read,
    read_mono,
    read_stretch,
    write,
)
from timbre.audio.levels import (
    ACTIVE_RANGE_DB,
    LEVEL_FRAME,
    SILENCE_DB,
    active_level_db,
    gain,
    level_db,
)
from timbre.audio.resample import check_rates, resample, resample_blocks, resampled_length
from timbre.audio.waveform import HOP, SAMPLE_RATE, Int16Wave, Wave, to_int16
from timbre.audio.working_level import measure

__all__ = [
    "ACTIVE_RANGE_DB",
    "ENDINGS",
    "HOP",
    "LEVEL_FRAME",
    "SAMPLE_RATE",
    "SILENCE_DB",
    "AudioInfo",
    "Int16Wave",
    "Wave",
    "active_level_db",
    "blocks",
    "check_rates",
    "encode",
    "encode_int16",
    "find_below",
    "gain",
    "header",
    "info",
    "is_audio_name",
    "level_db",
    "measure",
    "output_format",
    "read",
    "read_mono",
    "read_stretch",
    "resample",
    "resample_blocks",
    "resampled_length",
    "to_int16",
    "write",
]
