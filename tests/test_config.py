"""Configs: all mistakes are named at once, and nothing is guessed."""

from dataclasses import field
from pathlib import Path

import pytest
from pydantic.dataclasses import dataclass

from shard_tools.config import PrepConfig
from timbre import config as configs
from timbre.config import STRICT
from timbre.errors import ConfigError
from timbre.train.config import TrainConfig

ROOT = Path(__file__).parents[1]


@dataclass(config=STRICT)
class Inner:
    low: int = 1
    high: float = 2.0

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError(f"low {self.low} exceeds high {self.high}")


@dataclass(config=STRICT)
class Outer:
    items: tuple[Inner, ...]
    inner: Inner = field(default_factory=Inner)
    name: str = "x"
    rate: float = 1.0


def load(tmp_path: Path, text: str, *overrides: str) -> Outer:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    return configs.load(Outer, path, overrides)


def complaint(tmp_path: Path, text: str, *overrides: str) -> str:
    with pytest.raises(ConfigError) as failure:
        load(tmp_path, text, *overrides)
    return str(failure.value)


def test_every_mistake_of_a_file_is_told_at_once(tmp_path: Path) -> None:
    message = complaint(
        tmp_path, "itms: []\nitems: [{lwo: 1}]\nname: 3\ninner: {low: 5}\nrate: fast\n"
    )
    assert "config.yaml" in message
    assert "itms: unknown key; did you mean 'items'?" in message
    assert "items.0.lwo: unknown key; did you mean 'low'?" in message
    assert "name: expected a valid string, got 3" in message
    assert "rate: expected a valid number, got 'fast'" in message
    assert "inner: low 5 exceeds high 2.0" in message
    assert len(message.splitlines()) == 6


def test_checks_between_fields_run_beside_wrong_fields_of_the_same_section(tmp_path: Path) -> None:
    message = complaint(tmp_path, "items: []\ninner: {low: 5, hgih: 3}\n")
    assert "did you mean 'high'" in message
    assert "low 5 exceeds high 2.0" in message


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    assert "items: missing" in complaint(tmp_path, "name: y\n")


@pytest.mark.parametrize(
    ("text", "value"), [("3e-4", 3e-4), ("1e3", 1000.0), ("5", 5.0), (".5", 0.5), ("-2.", -2.0)]
)
def test_numbers_are_read_as_yaml_1_2_has_them(tmp_path: Path, text: str, value: float) -> None:
    assert load(tmp_path, f"items: []\nrate: {text}\n").rate == value


def test_no_and_off_are_words_not_booleans(tmp_path: Path) -> None:
    assert load(tmp_path, "items: []\nname: no\n").name == "no"


def test_a_key_given_twice_is_refused(tmp_path: Path) -> None:
    assert "'name' is given twice" in complaint(tmp_path, "items: []\nname: a\nname: b\n")


def test_infinity_is_not_a_number_to_configure_with(tmp_path: Path) -> None:
    assert "rate" in complaint(tmp_path, "items: []\nrate: 1e999\n")


def test_overrides_replace_what_the_file_says(tmp_path: Path) -> None:
    text = "items: [{low: 0}]\n"
    config = load(tmp_path, text, "inner.low=-3", "items.0.high=7", "rate=2e-1", "name=a=b")
    assert (config.inner.low, config.items[0].high, config.rate, config.name) == (
        -3,
        7.0,
        0.2,
        "a=b",
    )
    assert load(tmp_path, text, "items=[{low: 1}, {low: 2}]").items[1].low == 2


def test_null_is_a_value_that_an_override_can_give(tmp_path: Path) -> None:
    config = configs.load(PrepConfig, ROOT / "configs/prep.yaml", ["rir=null"])
    assert config.rir is None
    with pytest.raises(ConfigError, match="mix"):
        configs.load(PrepConfig, ROOT / "configs/prep.yaml", ["mix=null"])


@pytest.mark.parametrize("item", ["rate", "=3", "rate.x=3", "items.4.low=1", "inner..low=1"])
def test_an_override_that_fits_nowhere_is_refused_by_name(tmp_path: Path, item: str) -> None:
    assert item in complaint(tmp_path, "items: [{low: 0}]\nrate: 1\n", item)


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [1\n", "\x00"])
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    assert "config.yaml" in complaint(tmp_path, text)


def test_what_is_dumped_loads_as_an_equal_config(tmp_path: Path) -> None:
    config = load(tmp_path, "items: [{low: 0}]\nrate: 3e-4\nname: no\n")
    assert load(tmp_path, configs.dump(config)) == config


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda p: p.name)
def test_every_shipped_config_loads(path: Path) -> None:
    schema = PrepConfig if path.name.startswith("prep") else TrainConfig
    assert configs.load(schema, path)


@pytest.mark.parametrize(
    ("schema", "name"), [(PrepConfig, "prep.yaml"), (TrainConfig, "train.yaml")]
)
def test_the_reference_configs_show_every_key_at_its_default(schema: type, name: str) -> None:
    tree = configs.to_tree(configs.load(schema, ROOT / "configs" / name))
    entries = {
        PrepConfig: {
            "speech": "data/speech",
            "noise": "data/noise",
            "output": "shards",
            "rir": "data/rir",
        },
        TrainConfig: {
            "data": [{"manifest": "shards/manifest.json"}],
            "run_dir": "runs/spectral",
            "steps": 200000,
            "global_batch": 64,
            "discriminator": {"preset": "full"},
        },
    }[schema]
    assert tree == configs.to_tree(configs.from_tree(schema, entries, "defaults"))
    text = (ROOT / "configs" / name).read_text()
    for key in _keys(tree):
        assert f"{key}:" in text, f"{name} does not show {key}"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("segment_seconds=0", "segment_seconds: expected greater than or equal to 0.1, got 0"),
        ("optimizer.warmup_steps=200000", "optimizer.warmup_steps 200000 must be less than steps"),
        ("augment.gain_low=1.2", "gain_low 1.2"),
        ("data=[]", "data []"),
        ("data.0.weight=0", "data.0.weight: expected greater than 0, got 0"),
        ("generator.name=spectrl", "generator.name: expected 'spectral' or 'wave', got 'spectrl'"),
        ("loss.mel=-1", "loss.mel: expected greater than or equal to 0"),
        ("seed=99999999999", "seed: expected less than 4294967296"),
        ("run_dir=", "run_dir: expected a valid string, got None"),
        (
            "adversarial.ramp_steps=-1",
            "adversarial.ramp_steps: expected greater than or equal to 0, got -1",
        ),
    ],
)
def test_contradictions_of_a_training_config_are_refused(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=r"train\.yaml") as failure:
        configs.load(TrainConfig, ROOT / "configs/train.yaml", [override])
    assert message in str(failure.value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("val_ratio=0.9", "val_ratio: expected less than or equal to 0.5, got 0.9"),
        ("mix.snr_db_low=30", "snr_db_low 30.0 exceeds snr_db_high 20.0"),
        ("quality.min_seconds=9", "quality.min_seconds 9.0: no pair could pass"),
        ("output=''", "output: String should have at least 1 character"),
        ("max_offset_seconds=3", "max_offset_seconds 3.0"),
        ("audio_format=mp3", "audio_format: expected 'flac' or 'wav'"),
        ("variants=0", "variants: expected greater than or equal to 1, got 0"),
        ("clips.speaker_pattern='a('", "speaker_pattern 'a(': missing )"),
        ("clips.speaker_pattern='p[0-9]+'", "expected a (group) in it"),
        ("denoiser.name=dpdfnet", "expected df3, official, rnnoise, gate, none or onnx:PATH"),
    ],
)
def test_contradictions_of_a_prep_config_are_refused(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as failure:
        configs.load(PrepConfig, ROOT / "configs/prep.yaml", [override])
    assert message in str(failure.value)


def _keys(tree: object) -> set[str]:
    if isinstance(tree, dict):
        return set(tree) | {key for value in tree.values() for key in _keys(value)}
    return {key for value in tree for key in _keys(value)} if isinstance(tree, list) else set()
