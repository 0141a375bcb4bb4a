import csv
import io
import json
import math
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from tests.help.made_shards import change_manifest, make_shards, rewrite_shard, spoil_pair
from tests.shards.test_foreign import pairs as foreign_pairs
from tests.shards.test_foreign import write as write_foreign
from timbre import audio, shards, storage
from timbre.audio import SAMPLE_RATE, Wave
from timbre.audio.synthetic.noise import noise
from timbre.audio.synthetic.voice import voice
from timbre.errors import WorkError
from timbre.evaluate import command as evaluate
from timbre.evaluate import dnsmos, speaker
from timbre.evaluate import measure as jobs
from timbre.evaluate.cases import noise_kind
from timbre.evaluate.intervals import Estimate
from timbre.evaluate.systems import System
from timbre.models.checkpoint import save_generator
from timbre.models.generator import GeneratorConfig, build_generator
from timbre.models.spectral import SpectralGenerator

PAIRS = 8
GAIN_OF_TWO = math.log(2)
# Quick ones; the others have tests of their own.
QUICK = ("--figures", "si_sdr,lsd_0_8k,lsd_8_24k,mel_distance,over_suppressed_0_4k")


def save_with_gain(url: Path, log_gain: float) -> str:
    """A generator that multiplies every bin; the degraded side of made shards is half the clean."""
    config = GeneratorConfig("spectral", "tiny")
    generator = build_generator(config)
    bins = generator.head.out_features // 4
    generator.head.bias.data[:bins] = log_gain
    save_generator(str(url), generator, config, None)
    return str(url)


def run(systems: str | list[str], data: str, out: Path, *more: str) -> dict[str, Any]:
    words = [systems] if isinstance(systems, str) else systems
    if "--figures" not in more:
        more = (*more, *QUICK)
    if "--harm-pairs" not in more:
        more = (*more, "--harm-pairs", "0")
    assert evaluate.main([*words, "--data", data, "--out", str(out), "--workers", "1", *more]) == 0
    metrics: dict[str, Any] = json.loads((out / "metrics.json").read_text())
    return metrics


def lines_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text())))


def write_stereo(path: Path, wave: Wave, sample_rate: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.stack([wave, 0.5 * wave], axis=1), sample_rate)


def noisy_folder(folder: Path, files: int = 1) -> str:
    """Voices at 44.1 kHz in noise, in stereo."""
    for number in range(files):
        rng = np.random.default_rng(number)
        clean, hiss = voice(1.0, rng), noise("pink", 1.0, rng)
        for side, wave in [("clean", clean), ("noisy", clean + 0.5 * hiss)]:
            at_44_khz = audio.resample(wave, SAMPLE_RATE, 44_100)
            write_stereo(folder / side / "a" / f"{number}.wav", at_44_khz, 44_100)
    return str(folder)


def several_speakers(manifest: str) -> str:
    """Make each pair of the validation shards that of a speaker of its own, at an SNR of its own."""

    def change(pair: Any) -> Any:
        number = int(pair.meta.key.rpartition("-")[2])
        meta = pair.meta
        meta = type(meta)(
            **{
                **meta.__dict__,
                "speaker": f"speaker {pair.meta.key}",
                "snr_reached_db": 4.0 * number,
                "bandwidth_hz": 21_000.0 if number % 2 else 15_000.0,
                "rir": "hall.wav" if number % 2 else None,
                "noises": (shards.Source("noise/rain_01.wav" if number < 2 else "babble-val-1"),),
            }
        )
        return pair._replace(meta=meta)

    for shard in shards.load_manifest(manifest).shards("val"):
        rewrite_shard(manifest, shard.path, change)
    return manifest


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("shards")
    return several_speakers(make_shards(folder, (1,), (PAIRS - 2, 2)))


@pytest.fixture(scope="module")
def improved(manifest: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An evaluation of the checkpoint that undoes the damage of the made shards."""
    folder = tmp_path_factory.mktemp("improved")
    run(
        save_with_gain(folder / "g.safetensors", GAIN_OF_TWO),
        manifest,
        folder / "out",
        "--harm-pairs",
        "2",
    )
    return folder / "out"


def test_an_identity_checkpoint_changes_no_figure_and_is_undecided(
    manifest: str, tmp_path: Path
) -> None:
    main = run(save_with_gain(tmp_path / "g.safetensors", 0.0), manifest, tmp_path / "out")["main"]
    differences = main["minus_df3"]["restored"]
    for name, figure in main["systems"]["restored"].items():
        assert figure["mean"] == pytest.approx(main["systems"]["df3"][name]["mean"], rel=1e-6)
        assert differences[name]["mean"] == pytest.approx(0, abs=1e-4)
    assert {figure["verdict"] for figure in differences.values()} == {"undecided"}


def test_a_checkpoint_that_undoes_the_damage_is_judged_better(improved: Path) -> None:
    main = json.loads((improved / "metrics.json").read_text())["main"]
    differences = main["minus_df3"]["restored"]
    for name in ("lsd_0_8k", "lsd_8_24k", "mel_distance", "over_suppressed_0_4k"):
        assert differences[name]["verdict"] == "better", name
        assert differences[name]["high"] < 0
        assert differences[name]["speakers"] == PAIRS
    assert differences["lsd_0_8k"]["mean"] == pytest.approx(-20 * math.log10(2), abs=0.1)


def test_several_checkpoints_are_measured_beside_each_other_and_judged(
    manifest: str, tmp_path: Path
) -> None:
    worse = save_with_gain(tmp_path / "worse.safetensors", -1.0)
    better = save_with_gain(tmp_path / "better.safetensors", GAIN_OF_TWO)
    metrics = run([f"good={better}", f"bad={worse}"], manifest, tmp_path / "out")
    assert [system["name"] for system in metrics["systems_measured"]] == ["df3", "good", "bad"]
    assert metrics["systems_measured"][2]["sha256"] == storage.sha256(Path(worse).read_bytes())
    for name in ("lsd_0_8k", "lsd_8_24k", "mel_distance"):
        verdicts = {s: found[name]["verdict"] for s, found in metrics["main"]["minus_df3"].items()}
        assert verdicts == {"good": "better", "bad": "worse"}


def test_clean_input_that_is_changed_is_told_under_harm(improved: Path) -> None:
    """A generator that doubles everything makes clean speech 6 dB wrong; DF3 alone does not."""
    metrics = json.loads((improved / "metrics.json").read_text())
    assert metrics["pairs_with_clean_input"] == 2
    alone = metrics["harm_alone"]["systems"]["restored"]["lsd_0_8k"]
    assert alone["mean"] == pytest.approx(20 * math.log10(2), abs=0.1) and alone["pairs"] == 2
    assert set(metrics["harm"]["systems"]) == {"df3", "restored"}
    assert "lsd_0_8k" in metrics["harm"]["minus_df3"]["restored"]


def test_a_generator_that_hears_the_noisy_side_is_given_it_where_it_is_stored(
    manifest: str, tmp_path: Path
) -> None:
    """Half of clean and two thirds of noisy's three quarters: clean."""
    config = GeneratorConfig("spectral", "tiny", noisy_input=True)
    generator = build_generator(config)
    assert isinstance(generator, SpectralGenerator) and generator.noisy_path is not None
    generator.noisy_path.share.bias.data += 2 / 3
    url = str(tmp_path / "g.safetensors")
    save_generator(url, generator, config, None)
    stored = make_shards(tmp_path / "shards", (1,), (2,), noisy=True)
    for data, distance_db in [(stored, 0.0), (manifest, 20 * math.log10(2))]:
        metrics = run(url, data, tmp_path / "out")
        distance = metrics["main"]["systems"]["restored"]["lsd_0_8k"]["mean"]
        assert distance == pytest.approx(distance_db, abs=0.1)
        assert metrics["systems_measured"][-1]["heard_noisy"] == (data == stored)


def test_df3_with_a_share_of_the_noisy_input_is_a_system(tmp_path: Path) -> None:
    """Half of clean, and three quarters of it: a fifth of the way is 0.55."""
    stored = make_shards(tmp_path / "shards", (1,), (2,), noisy=True)
    systems = run("df3+20%", stored, tmp_path / "out")["main"]["systems"]
    assert list(systems) == ["noisy", "df3", "df3+20%"]
    expected = -20 * math.log10(0.55)
    assert systems["df3+20%"]["lsd_0_8k"]["mean"] == pytest.approx(expected, abs=0.1)


def test_json_and_csv_agree(improved: Path) -> None:
    main = json.loads((improved / "metrics.json").read_text())["main"]
    pairs = [line for line in lines_of(improved / "pairs.csv") if line["condition"] == "main"]
    for system, estimates in main["systems"].items():
        for name, told in estimates.items():
            estimate = Estimate(**told)
            values = [pair[name] for pair in pairs if pair["system"] == system]
            found = [float(value) for value in values if value]
            assert len(values) == PAIRS and len(found) == estimate.pairs
            if found:
                assert estimate.mean == pytest.approx(np.mean(found), rel=1e-9)


def test_pairs_are_told_apart_by_what_is_known_of_them(improved: Path) -> None:
    groups = json.loads((improved / "metrics.json").read_text())["groups"]
    assert list(groups["snr"]) == ["0 to 5 dB", "5 to 10 dB", "10 to 15 dB", "15 to 20 dB", "20 to 30 dB"]  # fmt: skip
    assert list(groups["bandwidth"]) == ["of 20 kHz and more", "under 20 kHz"]
    assert set(groups["noise"]) == {"babble", "rain"} and set(groups["room"]) == {
        "dry",
        "reverberant",
    }
    assert len(groups["speaker"]) == PAIRS
    counted = {
        value: found["systems"]["df3"]["si_sdr"]["pairs"] + found["systems"]["df3"]["si_sdr"]["left_out"]
        for value, found in groups["noise"].items()
    }  # fmt: skip
    assert counted == {"rain": 4, "babble": PAIRS - 4}
    lines = lines_of(improved / "groups.csv")
    (line,) = (
        one
        for one in lines
        if one["value"] == "babble" and one["system"] == "restored" and one["figure"] == "lsd_0_8k"
    )
    found = groups["noise"]["babble"]
    assert float(line["mean"]) == found["systems"]["restored"]["lsd_0_8k"]["mean"]
    change = found["minus_df3"]["restored"]["lsd_0_8k"]
    assert float(line["difference"]) == change["mean"] and line["verdict"] == change["verdict"]


def test_noises_are_called_by_their_folder_or_by_their_name_without_a_number() -> None:
    assert noise_kind("babble-val-0003") == "babble"
    assert noise_kind("noise/amb_trade_20.flac") == "amb_trade"
    assert noise_kind("noise/PRESTO/ch01.wav") == "PRESTO"
    assert noise_kind("17.wav") == "17"


def test_a_folder_of_stereo_files_at_44_khz_is_denoised_and_measured(tmp_path: Path) -> None:
    data = noisy_folder(tmp_path / "data", files=2)
    checkpoint = save_with_gain(tmp_path / "g.safetensors", -1.0)
    systems = run(checkpoint, data, tmp_path / "out")["main"]["systems"]
    assert list(systems) == ["noisy", "df3", "restored"]
    assert systems["df3"]["si_sdr"]["mean"] > systems["noisy"]["si_sdr"]["mean"] + 1
    assert systems["restored"]["lsd_0_8k"]["mean"] > systems["df3"]["lsd_0_8k"]["mean"]


def test_speakers_of_a_folder_are_its_folders_or_what_a_pattern_finds(tmp_path: Path) -> None:
    data = noisy_folder(tmp_path / "data", files=2)
    si_sdr = ("--figures", "si_sdr")
    assert run("none", data, tmp_path / "out", *si_sdr)["speakers"] == 1
    metrics = run("none", data, tmp_path / "out", *si_sdr, "--speaker-pattern", r"/(\d)\.wav")
    assert metrics["speakers"] == 2 and metrics["pairs_of_unknown_speakers"] == 0


def test_tars_of_others_are_measured_though_little_is_known_of_them(tmp_path: Path) -> None:
    said = [{}, {"speaker": 7, "snr_db": "loud", "noises": ["rain.wav"]}]
    pairs = [
        {**pair, "pair.json": {"alignment_offset": 3, **more}}
        for pair, more in zip(foreign_pairs(0, 2), said, strict=True)
    ]
    write_foreign(tmp_path / "val" / "a.tar", pairs)
    metrics = run("none", str(tmp_path), tmp_path / "out")
    assert metrics["pairs"] == metrics["pairs_of_unknown_speakers"] == 2
    assert metrics["main"]["systems"]["df3"]["si_sdr"]["speakers"] == 2
    assert set(metrics["groups"]) <= {"bandwidth"}


def test_without_a_checkpoint_the_denoiser_alone_is_measured(manifest: str, tmp_path: Path) -> None:
    metrics = run("none", manifest, tmp_path, "--max-pairs", "1")
    assert list(metrics["main"]["systems"]) == ["df3"] and metrics["main"]["minus_df3"] == {}


def test_a_limited_number_of_pairs_is_spread_over_all(manifest: str, tmp_path: Path) -> None:
    assert run("none", manifest, tmp_path, "--max-pairs", "3")["pairs"] == 3
    assert [line["pair"] for line in lines_of(tmp_path / "pairs.csv")] == [
        "val-000000-0001",
        "val-000000-0004",
        "val-000001-0000",
    ]


def test_rows_are_the_same_whatever_the_number_of_processes_and_their_age(
    manifest: str, improved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two at a time, and another two for the second half of the pairs."""
    monkeypatch.setattr(jobs, "LIFE", PAIRS // 4)
    checkpoint = str(improved.parent / "g.safetensors")
    run(checkpoint, manifest, tmp_path, "--workers", "2", "--harm-pairs", "2")
    for name in ("pairs.csv", "metrics.json"):
        assert (tmp_path / name).read_bytes() == (improved / name).read_bytes()


def test_running_again_continues_where_it_was_cut_short(
    manifest: str, improved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = str(improved.parent / "g.safetensors")
    measured: list[str] = []
    real = jobs.measure_case

    def counting(job: jobs.Job, case: Any, harm: bool) -> jobs.Row:
        if len(measured) == 3:
            raise KeyboardInterrupt
        measured.append(case.key)
        return real(job, case, harm)

    monkeypatch.setattr(jobs, "measure_case", counting)
    words = [checkpoint, "--data", manifest, "--out", str(tmp_path), "--workers", "1", *QUICK]
    assert evaluate.main([*words, "--harm-pairs", "2"]) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["unfinished.json"]
    monkeypatch.setattr(jobs, "measure_case", real)
    again: list[str] = []
    monkeypatch.setattr(
        jobs,
        "measure_case",
        lambda job, case, harm: again.append(case.key) or real(job, case, harm),
    )
    assert evaluate.main([*words, "--harm-pairs", "2"]) == 0
    assert len(measured) == 3 and len(again) == PAIRS - 3 and not set(again) & set(measured)
    assert (tmp_path / "pairs.csv").read_bytes() == (improved / "pairs.csv").read_bytes()
    assert not (tmp_path / "unfinished.json").exists()


class Bomb(jobs.Case):
    """A pair that ends the process it comes to, as C code that fails does."""

    def __reduce__(self) -> Any:
        return os._exit, (1,)


def test_a_process_that_dies_is_told_and_what_was_done_is_kept(
    manifest: str, tmp_path: Path
) -> None:
    data = evaluate.cases.open_data(manifest, "val")
    job = jobs.Job((System("df3"),), False, ("si_sdr",))
    wanted = [data.cases[0], Bomb("the bomb")]
    store = jobs.Store(str(tmp_path), "one")
    jobs.measure_all(job, wanted[:1], frozenset(), 1, store)
    with pytest.raises(WorkError, match=r"^the bomb: a worker process died"):
        jobs.measure_all(job, [*wanted, Bomb("another")], frozenset(), 2, store)
    assert list(jobs.Store(str(tmp_path), "one").rows) == [data.cases[0].key]


def test_rows_of_another_checkpoint_are_not_continued(tmp_path: Path) -> None:
    store = jobs.Store(str(tmp_path), "one")
    labels = jobs.Labels("someone", 3.0, None, "dry", 20_000.0)
    row = jobs.Row(
        "key", 1.0, labels, {"main": {"df3": {"pesq": math.nan, "si_sdr": 3.0}}}, ["bad"]
    )
    store.add("key", row)
    store.add("lost", jobs.Row("lost", 0.0, labels, {}, [], "cannot be read"))
    store.save()
    assert str(jobs.Store(str(tmp_path), "one").rows) == str({"key": row})
    assert jobs.Store(str(tmp_path), "another").rows == {}


def test_a_pair_that_cannot_be_read_is_named_and_counted_and_the_rest_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = make_shards(tmp_path / "shards", (1,), (3,))
    spoil_pair(manifest, 1)
    out = tmp_path / "out"
    words = ["none", "--data", manifest, "--out", str(out), "--workers", "1", *QUICK]
    assert evaluate.main([*words, "--harm-pairs", "0"]) == 1
    error = capsys.readouterr().err
    assert "1 of 3 pairs could not be read" in error and "val/shard-000000.tar" in error
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["pairs"] == 2 and "val-000000-0001" in metrics["unreadable"][0]
    assert {line["pair"] for line in lines_of(out / "pairs.csv")} == {
        "val-000000-0000",
        "val-000000-0002",
    }


def test_a_system_that_fails_on_a_pair_costs_that_pair(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = make_shards(tmp_path / "shards", (1,), (3,))
    real = jobs.Chains.outputs

    def failing(self: jobs.Chains, pair: Any) -> Any:
        if len(pair.clean) == 12_007:  # the second pair
            raise RuntimeError("too odd")
        return real(self, pair)

    monkeypatch.setattr(jobs.Chains, "outputs", failing)
    out = tmp_path / "out"
    words = ["none", "--data", manifest, "--out", str(out), "--workers", "1", *QUICK]
    assert evaluate.main([*words, "--harm-pairs", "0"]) == 1
    assert "val-000000-0001: RuntimeError: too odd" in capsys.readouterr().err
    assert json.loads((out / "metrics.json").read_text())["pairs"] == 2


def test_files_of_different_length_are_refused_by_name_where_none_is_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = noisy_folder(tmp_path / "data")
    write_stereo(tmp_path / "data/clean/a/0.wav", np.zeros(44_099, np.float32), 44_100)
    out = tmp_path / "out"
    assert evaluate.main(["none", "--data", data, "--out", str(out), *QUICK]) == 1
    error = capsys.readouterr().err
    assert "none of 1 pairs could be measured" in error
    assert "noisy/a/0.wav: 48000 samples" in error and "47999" in error
    assert not (out / "metrics.json").exists()


def test_figures_whose_package_is_missing_are_left_out_and_named_once(
    manifest: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for package in ("pesq", "pystoi"):
        monkeypatch.setitem(sys.modules, package, None)
    for module in (dnsmos, speaker):
        monkeypatch.setattr(module, "find_spec", lambda name: None)
    words = ["none", "--data", manifest, "--out", str(tmp_path), "--max-pairs", "1"]
    assert evaluate.main([*words, "--workers", "1", "--harm-pairs", "0"]) == 0
    figures = json.loads((tmp_path / "metrics.json").read_text())["main"]["systems"]["df3"]
    assert "pesq" not in figures and "dnsmos_sig" not in figures and "si_sdr" in figures
    told = capsys.readouterr().out
    assert told.count("pip install 'timbre[eval]'") == told.count("pip install 'timbre[mos]'") == 2
    assert evaluate.main([*words, "--figures", "pesq"]) == 2
    assert "pesq: PESQ needs the package" in capsys.readouterr().err


def test_the_terminal_shows_every_system_and_verdict(
    manifest: str, improved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(str(improved.parent / "g.safetensors"), manifest, tmp_path)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    head = next(line for line in lines if line[:1] == ["figure"])
    assert head[-7:] == ["df3", "restored", "restored", "-", "df3", "restored", "is"]
    rows = [line for line in lines if line[:1] == ["lsd_0_8k"]]
    assert rows and rows[0][-1] == "better"


@pytest.mark.parametrize(
    ("changed", "refusal"),
    [
        ({"systems": "nothing.safetensors"}, (1, "nothing.safetensors")),
        ({"systems": "foreign.safetensors"}, (1, "not a generator of timbre")),
        ({"systems": "noisy"}, (2, "holds no noisy side, which noisy need")),
        ({"--data": "nowhere"}, (2, "nowhere: expected a manifest")),
        ({"--split": "test"}, (1, "no shards in split 'test'")),
        ({"--out": "foreign.safetensors/out"}, (1, "foreign.safetensors")),
        ({"--figures": "si_sdr,loudness"}, (2, "--figures loudness: expected some of pesq")),
        ({"--speaker-pattern": "("}, (2, "--speaker-pattern (")),
        ({"--speaker-pattern": "p"}, (2, "expected a (group)")),
    ],
)
def test_bad_usage_is_refused_with_its_exit_code(
    changed: dict[str, str],
    refusal: tuple[int, str],
    manifest: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("foreign.safetensors").write_bytes(b"no such thing")
    given = {"systems": "none", "--data": manifest, "--out": "out", **changed}
    systems = given.pop("systems")
    argv = [systems, *(word for option in given.items() for word in option)]
    code, told = refusal
    assert evaluate.main(argv) == code
    assert told in capsys.readouterr().err
    assert not Path("out").exists()


def test_a_file_without_a_partner_is_refused_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = noisy_folder(tmp_path / "data")
    (tmp_path / "data/clean/a/0.wav").rename(tmp_path / "data/clean/a/1.wav")
    assert evaluate.main(["none", "--data", data, "--out", str(tmp_path / "out")]) == 2
    assert "only one of noisy and clean: a/0.wav and 1 more" in capsys.readouterr().err


def test_changed_data_is_noticed(tmp_path: Path) -> None:
    """A manifest that is another is another version of the data."""
    manifest = make_shards(tmp_path / "shards", (1,), (2,))
    before = evaluate.cases.open_data(manifest, "val").version
    change_manifest(manifest, version=2)
    assert evaluate.cases.open_data(manifest, "val").version != before
