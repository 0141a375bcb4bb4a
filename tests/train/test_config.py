"""Contradictions of a training config, each refused before any work."""

from pathlib import Path

import pytest

from tests.train.runs import config_of
from timbre.errors import ConfigError
from timbre.train.loop import train


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("segment_seconds=0.5", ("segment_seconds 0.5", "save_segment_seconds 0.25")),
        ("adversarial.start_step=19", ("start_step 19", "at least 20, 5 epochs of 4 steps")),
        ("optimizer.warmup_steps=8", ("warmup_steps 8", "less than steps 8")),
        ("data_changes=[{from_step: 4, data: []}]", ("data_changes", "{manifest, weight}")),
        (
            "data_changes=[{from_step: 4, data: [{manifest: a}]}, {from_step: 4, data: [{manifest: b}]}]",
            ("data_changes: from_step [4, 4]", "each later than the one before"),
        ),
        ("global_batch=30", ("global_batch 30", "an epoch of 8 pairs")),
        ("augment={gain_low: 0.9, gain_high: 0.8}", ("gain_low 0.9", "gain_high 0.8")),
    ],
)
def test_a_contradiction_is_refused_before_any_work_naming_both_values(
    urls: list[str], tmp_path: Path, override: str, parts: tuple[str, str]
) -> None:
    with pytest.raises(ConfigError) as failure:
        train(config_of(urls, tmp_path / "run", override))
    assert all(part in str(failure.value) for part in parts), failure.value
    assert not (tmp_path / "run").exists()
