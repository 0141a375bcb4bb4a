"""Sound as numbers: files to waveforms and back, levels, rates."""

from timbre.audio.decode import (
    AudioInfo,
    decode_bytes,
    header,
    info,
    mono_blocks,
    read,
    read_mono,
    read_stretch,
)
from timbre.audio.encode import encode_int16, encode_wave, output_format, write
from timbre.audio.folder import ENDINGS, AudioFolder, find_audio, find_below, is_audio_name
from timbre.audio.levels import (
    LEVEL_FRAME,
    SILENCE_DB,
    SPEECH_RANGE_DB,
    WORKING_LEVEL_DB,
    active_level_db,
    gain,
    level_db,
    working_level,
)
from timbre.audio.resample import check_rates, resample, resample_blocks, resampled_length
from timbre.audio.sound import Sound, open_sound
from timbre.audio.waveform import (
    HOP,
    SAMPLE_RATE,
    Int16Wave,
    Wave,
    first_samples,
    from_int16,
    side_by_side,
    split,
    to_int16,
)
from timbre.audio.writer import create, length_at

__all__ = [
    "ENDINGS",
    "HOP",
    "LEVEL_FRAME",
    "SAMPLE_RATE",
    "SILENCE_DB",
    "SPEECH_RANGE_DB",
    "WORKING_LEVEL_DB",
    "AudioFolder",
    "AudioInfo",
    "Int16Wave",
    "Sound",
    "Wave",
    "active_level_db",
    "check_rates",
    "create",
    "decode_bytes",
    "encode_int16",
    "encode_wave",
    "find_audio",
    "find_below",
    "first_samples",
    "from_int16",
    "gain",
    "header",
    "info",
    "is_audio_name",
    "length_at",
    "level_db",
    "mono_blocks",
    "open_sound",
    "output_format",
    "read",
    "read_mono",
    "read_stretch",
    "resample",
    "resample_blocks",
    "resampled_length",
    "side_by_side",
    "split",
    "to_int16",
    "working_level",
    "write",
]
