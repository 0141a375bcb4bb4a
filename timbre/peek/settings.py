"""What of a run's config decides which segments it is served."""

from collections.abc import Sequence
from dataclasses import field, replace
from typing import Any

from pydantic.dataclasses import dataclass

from timbre import config as configs
from timbre.config import Count, Positive, Seed
from timbre.shards import OPEN, DataSource
from timbre.stream import DataChange, DataMix
from timbre.stream.augment import AugmentConfig

CONFIG_ENDINGS = (".yaml", ".yml")


@dataclass(config=OPEN)
class Hearing:
    """Of ``generator``: whether it may hear the noisy side."""

    noisy_input: bool = False


@dataclass(config=OPEN)
class PeekConfig:
    """The keys of a training config that the stream depends on; all others are passed over."""

    data: tuple[DataSource, ...]
    data_changes: tuple[DataChange, ...] = ()
    global_batch: Count = 16
    segment_seconds: Positive = 2.0
    seed: Seed = 0
    shuffle_window: Count = 8
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    generator: Hearing = field(default_factory=Hearing)


def is_config(source: str) -> bool:
    """Whether this names a config, and not a manifest or a folder."""
    return source.endswith(CONFIG_ENDINGS)


def shortened(settings: PeekConfig, mixes: Sequence[DataMix]) -> PeekConfig:
    """Return the settings with a segment that is as long as the stored pairs, where it was longer."""
    longest = min(corpus.save_segment_seconds for mix in mixes for corpus in mix.corpora)
    return replace(settings, segment_seconds=min(settings.segment_seconds, longest))


def load_settings(
    source: str, global_batch: int | None, seed: int | None, window: int | None
) -> PeekConfig:
    """Return the settings of a config file, or those of a run on one manifest that says nothing else.

    What is not None stands in place of what the file says.

    Raises:
        ConfigError: the file is no config.
    """
    if is_config(source):
        settings = configs.load(PeekConfig, source)
    else:
        settings = PeekConfig((DataSource(source),))
    values: dict[str, Any] = {"global_batch": global_batch, "seed": seed, "shuffle_window": window}
    return replace(settings, **{key: value for key, value in values.items() if value is not None})
