"""Prep configs that contradict themselves."""

import pytest

from shard_tools.config import PrepConfig
from tests.conftest import ROOT
from timbre import config as configs
from timbre.errors import ConfigError


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("max_offset_seconds=1", ("max_offset_seconds 1", "save_segment_seconds 2")),
        ("quality.min_seconds=3", ("min_seconds 3", "save_segment_seconds 2")),
        ("quality.min_active_seconds=3", ("min_active_seconds 3", "save_segment_seconds 2")),
        ("mix={snr_db_low: 9, snr_db_high: 5}", ("snr_db_low 9", "snr_db_high 5")),
        ("mix={level_db_low: -20, level_db_high: -30}", ("level_db_low -20", "level_db_high -30")),
    ],
)
def test_a_contradiction_of_a_prep_config_is_refused_naming_both_values(
    override: str, parts: tuple[str, str]
) -> None:
    with pytest.raises(ConfigError) as failure:
        configs.load(PrepConfig, ROOT / "configs/prep_tiny.yaml", [override])
    assert all(part in str(failure.value) for part in parts), failure.value
