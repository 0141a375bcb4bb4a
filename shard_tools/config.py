"""Everything about making shards, as a config."""

from dataclasses import field, fields
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field
from pydantic.dataclasses import dataclass

from shard_tools.degrade.degrade import DenoiserConfig
from shard_tools.degrade.shares import check_shares, configs_of
from shard_tools.judge.quality import QualityConfig
from shard_tools.mix.codec import fingerprint
from shard_tools.mix.mixture import MixConfig
from shard_tools.mix.reverb import ReverbConfig
from shard_tools.mix.variety import TargetConfig, VarietyConfig
from timbre import config as configs
from timbre.config import STRICT, Count, Fraction, Name, NonNegative, Positive, Seed
from timbre.denoiser_names import DF3
from timbre.denoiser_names import to_record as to_record_name
from timbre.shards import AudioFormat

SplitRule = Literal["name", "kind", "hint"]


@dataclass(config=STRICT)
class ClipsConfig:
    """Whose voice a clip is, which clips are fit, and how much of one is used."""

    # Where no manifest names the speaker: the folder that does, -1 the one that the file lies in,
    # 0 the top one; null: nobody.
    speaker_level: int | None = -1
    # Instead: a regular expression for the path, whose group (named speaker, or the first) is it.
    speaker_pattern: Name | None = None
    # Speech that ends below this is refused: from it a network learns to cut what lies above.
    min_bandwidth_hz: NonNegative = 11000.0
    # Level of active speech, dBFS.
    min_level_db: Annotated[float, Field(le=0)] = -55.0
    # Silence before the first and after the last word, beyond this, is left out; null: all is kept.
    trim_margin_seconds: NonNegative | None = 0.2
    # Speech whose pauses are louder than this against the speech, by pause_db of the manifest, is
    # left out; null: none is.
    max_pause_db: float | None = None
    # More speech than this of one speaker is left out, so that few voices do not stand for all; null:
    # all is kept. Which of it stays depends on the recordings' contents alone.
    max_speaker_seconds: Positive | None = None

    def __post_init__(self) -> None:
        if self.speaker_pattern is None:
            return
        try:
            configs.check_group(self.speaker_pattern)
        except ValueError as error:
            raise ValueError(f"speaker_pattern {error}") from None


@dataclass(config=STRICT)
class PrepConfig:
    """What ``timbre prep`` reads."""

    # A folder, or a manifest.jsonl: one object a line with file, and speaker where it is known.
    speech: Name
    noise: Name
    output: Name
    rir: Name | None = None
    # Pairs from each stretch of speech, each with its own noise, ratio, level and room.
    variants: Count = 1
    seed: Seed = 0
    workers: Count = 2
    shard_pairs: Count = 64
    # Every stored pair is at least this long, and shorter than twice this.
    save_segment_seconds: Annotated[float, Field(ge=0.5, le=60)] = 4.0
    # The share of speakers (where unknown, recordings) whose pairs are for validation.
    val_ratio: Annotated[float, Field(gt=0, le=0.5)] = 0.08
    # What falls to validation. name: speakers, noise files and room files, by a hash of their names.
    # kind: noises by kind and source of the manifest instead. hint: all by the manifest's split_hint.
    split_by: SplitRule = "name"
    audio_format: AudioFormat = "flac"
    # Whether what the denoiser was given is stored too, for generators with noisy_input.
    store_noisy: bool = False
    # The offset between clean and degraded is searched this far on either side.
    max_offset_seconds: Positive = 0.02
    # More clips than this share that cannot be read end the job.
    max_bad_fraction: Fraction = 0.02
    clips: ClipsConfig = field(default_factory=ClipsConfig)
    mix: MixConfig = field(default_factory=MixConfig)
    variety: VarietyConfig = field(default_factory=VarietyConfig)
    target: TargetConfig = field(default_factory=TargetConfig)
    reverb: ReverbConfig = field(default_factory=ReverbConfig)
    denoiser: DenoiserConfig = field(default_factory=DenoiserConfig)
    # Instead of denoiser.name: several by name, and the share of the pairs that goes through each.
    denoisers: Annotated[dict[str, float], AfterValidator(check_shares)] | None = None
    quality: QualityConfig = field(default_factory=QualityConfig)

    def __post_init__(self) -> None:
        setting = f"save_segment_seconds {self.save_segment_seconds}"
        if self.max_offset_seconds >= self.save_segment_seconds / 2:
            raise ValueError(
                f"max_offset_seconds {self.max_offset_seconds}: expected less than half of {setting}"
            )
        for name in ("min_seconds", "min_active_seconds"):
            if getattr(self.quality, name) > self.save_segment_seconds:
                raise ValueError(
                    f"quality.{name} {getattr(self.quality, name)}: no pair could pass, {setting}"
                )
        if self.denoisers is not None and self.denoiser.name != DF3:
            raise ValueError(
                f"denoiser.name {self.denoiser.name}: contradicts denoisers, which names all of them"
            )

    @property
    def codecs(self) -> tuple[str, ...]:
        """The codecs that pairs may go through."""
        return self.variety.telephone_codecs if self.variety.telephone_share else ()

    @property
    def each_denoiser(self) -> dict[str, DenoiserConfig]:
        """The config of every denoiser by its name in plans and shards."""
        return configs_of(self.denoiser, self.denoisers)


# What no shard depends on: moving the data or the job changes none.
ELSEWHERE = ("speech", "noise", "rir", "output", "workers", "max_bad_fraction")
# The hash of the weights, which the plan has beside these settings, stands for them.
IN_THE_HASH = ("weights", "delay_samples", "device")
# Keys that are newer than the first plans. At their defaults they are not recorded, so that a plan
# from before them is still the same plan.
NEWER = {
    "": ("split_by", "denoisers"),
    "clips": ("max_pause_db", "max_speaker_seconds"),
    "mix": ("near_clean_snr_db_high",),
    "variety": tuple(field.name for field in fields(VarietyConfig)),
    "target": tuple(field.name for field in fields(TargetConfig)),
}


def to_record(config: PrepConfig) -> dict[str, Any]:
    """Return the config as what JSON holds, without newer keys that are at their defaults."""
    tree = configs.to_tree(config)
    defaults = configs.to_tree(PrepConfig("speech", "noise", "output"))
    if config.denoiser.name == DF3:
        tree["denoiser"]["name"] = config.denoiser.recorded_name
    for section, keys in NEWER.items():
        branch, usual = (tree[section], defaults[section]) if section else (tree, defaults)
        for key in keys:
            if branch[key] == usual[key]:
                del branch[key]
        if not branch:
            del tree[section]
    return tree


def settings(config: PrepConfig) -> dict[str, Any]:
    """Return what the shards depend on beside the clips and the denoiser's weights."""
    tree = to_record(config)
    dependencies = {key: value for key, value in tree.items() if key not in ELSEWHERE}
    if not config.store_noisy:  # as in plans from before there was the choice: the same shards
        del dependencies["store_noisy"]
    dependencies["denoiser"] = {
        key: value for key, value in tree["denoiser"].items() if key not in IN_THE_HASH
    } | {"name": config.denoiser.recorded_name}
    if codecs := config.codecs:
        dependencies["codecs_sha256"] = fingerprint(codecs)
    if config.denoisers is not None:
        dependencies["denoisers"] = {
            to_record_name(name): share for name, share in config.denoisers.items()
        }
    return dependencies


def differences(before: dict[str, Any], now: dict[str, Any], prefix: str = "") -> list[str]:
    """Return one line for each setting that is not the same: its key and both values."""
    lines = []
    for key in sorted(before.keys() | now.keys()):
        old, new = before.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            lines += differences(old, new, f"{prefix}{key}.")
        elif old != new:
            was, is_now = (tree.get(key, "not set") for tree in (before, now))
            lines.append(f"{prefix}{key} was {was}, is now {is_now}")
    return lines
