"""Systems as the command line names them, and their outputs for a pair."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.help.moved_generators import build, noise
from timbre.errors import ConfigError
from timbre.evaluate.cases import Labels, LoadedPair
from timbre.evaluate.systems import Chains, System, parse_systems, with_references
from timbre.models.checkpoint import save_generator
from timbre.models.generator import GeneratorConfig
from timbre.restore.restorer import Restorer

LABELS = Labels(None, None, None, None, None)
SAMPLES = 9600


def save_moved_generator(path: Path, noisy_input: bool = False) -> str:
    """A generator that changes what it is given."""
    generator = build("spectral", moved=True, noisy_input=noisy_input)
    config = GeneratorConfig("spectral", "tiny", noisy_input=noisy_input)
    save_generator(str(path), generator, config, None)
    return str(path)


def wave(seed: int) -> Tensor:
    return 0.1 * noise(SAMPLES, seed=seed)


def stored_pair(noisy: bool = True) -> LoadedPair:
    return LoadedPair(wave(0), wave(1), wave(2) if noisy else None, 24_000.0, LABELS)


def test_systems_come_in_one_order_and_df3_is_always_there() -> None:
    assert parse_systems(["none"]) == [System("df3")] == parse_systems(["df3"])
    systems = parse_systems(["run/best.safetensors", "df3+12.5%", "df3+3%", "noisy"])
    assert [system.name for system in systems] == [
        "noisy",
        "df3",
        "df3+3%",
        "df3+12.5%",
        "restored",
    ]
    assert [system.noisy_share for system in systems] == [1.0, 0.0, 0.03, 0.125, 0.0]


def test_several_checkpoints_are_called_by_their_runs_or_as_the_user_says() -> None:
    systems = parse_systems(["runs/a/best.safetensors", "b=runs/lr=3/best.safetensors"])
    assert systems[1:] == [
        System("a", "runs/a/best.safetensors"),
        System("b", "runs/lr=3/best.safetensors"),
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a/best.safetensors", "x/a/best.safetensors"], "a is named twice"),
        (["noisy", "noisy"], "noisy is named twice"),
        (["df3+0%"], r"df3\+0%: expected a share"),
        (["df3+100%"], "expected a share"),
        (["df3=best.safetensors"], "df3 names another system"),
        (["clean=best.safetensors"], "clean names another system"),
    ],
)
def test_systems_that_cannot_be_told_apart_are_refused(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_systems(words)


def test_the_noisy_input_is_measured_where_it_is_stored_and_missed_where_it_is_asked_for() -> None:
    systems = with_references(parse_systems(["none", "df3+3%"]), True, "shards")
    assert [s.name for s in systems] == ["noisy", "df3", "df3+3%", "df3+10%"]
    assert [s.name for s in with_references(parse_systems(["none"]), False, "shards")] == ["df3"]
    with pytest.raises(ConfigError, match=r"shards: holds no noisy side, which noisy and df3\+3%"):
        with_references(parse_systems(["noisy", "df3+3%"]), False, "shards")


def test_stored_pairs_are_mixed_and_restored_as_restore_would(tmp_path: Path) -> None:
    url = save_moved_generator(tmp_path / "g.safetensors")
    chains = Chains(parse_systems(["noisy", "df3+3%", url]), denoise=False)
    pair = stored_pair()
    assert pair.degraded is not None and pair.noisy is not None
    outputs = chains.outputs(pair)
    assert list(outputs) == ["noisy", "df3", "df3+3%", "restored"]
    torch.testing.assert_close(outputs["noisy"], pair.noisy)
    torch.testing.assert_close(outputs["df3"], pair.degraded)
    torch.testing.assert_close(outputs["df3+3%"], 0.97 * pair.degraded + 0.03 * pair.noisy)
    alone = Restorer.load(url, denoise=False, device="cpu")
    torch.testing.assert_close(outputs["restored"], alone.process(pair.degraded[None]).restored[0])
    assert list(chains.outputs(stored_pair(noisy=False))) == ["df3", "restored"]


def test_clean_speech_goes_through_the_whole_chain_and_through_the_generator_alone(
    tmp_path: Path,
) -> None:
    url = save_moved_generator(tmp_path / "g.safetensors", noisy_input=True)
    chains = Chains(parse_systems(["noisy", url]), denoise=False)
    clean = wave(1)
    both = Restorer.load(url, device="cpu").process(clean[None])
    outputs = chains.on_clean(clean)
    assert list(outputs) == ["df3", "restored"]
    torch.testing.assert_close(outputs["df3"], both.denoised[0])
    torch.testing.assert_close(outputs["restored"], both.restored[0])
    alone = Restorer.load(url, denoise=False, device="cpu")
    expected = alone.process(clean[None], clean[None]).restored[0]
    torch.testing.assert_close(chains.alone_on_clean(clean)["restored"], expected)


def test_pairs_of_a_folder_are_denoised_first(tmp_path: Path) -> None:
    url = save_moved_generator(tmp_path / "g.safetensors")
    chains = Chains(parse_systems(["noisy", url]), denoise=True)
    pair = stored_pair()._replace(degraded=None)
    assert pair.noisy is not None
    outputs = chains.outputs(pair)
    both = Restorer.load(url, device="cpu").process(pair.noisy[None])
    torch.testing.assert_close(outputs["df3"], both.denoised[0])
    torch.testing.assert_close(outputs["restored"], both.restored[0])


def test_checkpoints_that_come_with_timbre_go_by_their_names() -> None:
    systems = {s.name: s.url for s in parse_systems(["offline", "causal", "mine=offline"]) if s.url}
    assert list(systems) == ["offline", "causal", "mine"]
    assert all(Path(url).is_file() for url in systems.values())
    assert systems["mine"] == systems["offline"] != systems["causal"]
