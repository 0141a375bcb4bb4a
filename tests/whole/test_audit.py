"""Each row of the audit of the earlier trainer, as a test that fails if the fault comes back.

A row has its essence here; the depth is in test_validate, distributed/ (R1, 4, 14), test_config,
test_stream (R2, 6), test_train, test_descent, test_generators (R3), test_plan, test_editions (1),
test_schedule (2, 12), test_wave_layers (3), test_align (5), test_bank, test_prep (7), test_augment (9),
test_quality, test_verify (10), test_denoise, test_denoise_official, test_degrade (11), and what
training costs in test_train_step_benchmark and benchmarks/.
"""

import ast
import gc
import json
import math
import multiprocessing
import pickle
import shutil
import subprocess
import sys
import tarfile
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState, PartialState
from torch.nn.utils.parametrize import is_parametrized
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from shard_tools.config import PrepConfig
from shard_tools.executors.local import run_local
from shard_tools.judge.align import MIN_CONFIDENCE, estimate_offset
from shard_tools.judge.quality import QualityConfig, measure_pair, reason_to_refuse
from shard_tools.make.job import Job, open_job, shard_task
from shard_tools.make.shard import make_shard
from shard_tools.make.tar import build_tar
from shard_tools.mix.bank import fill_bank
from shard_tools.plan.editions import Edition, begin_edition
from shard_tools.plan.plan import SPLITS, split_names
from shard_tools.prep.prep import ALL
from shard_tools.verify.manifest import verify
from tests.conftest import ROOT
from tests.help.denoise_inputs import noisy_voice, si_sdr_db
from tests.help.made_shards import content, make_shards, publish_tar, rewrite_shard, stored_pairs
from tests.help.official_deepfilternet import INSTALLED, Official
from tests.train.distributed.launch import torchrun
from tests.train.distributed.report_audit import GAINS, STEPS, figures, rates
from timbre import config as configs
from timbre import shards
from timbre.audio import SAMPLE_RATE, Wave, metrics
from timbre.audio.synthetic.noise import noise
from timbre.audio.synthetic.voice import voice
from timbre.denoise import DeepFilterNet3
from timbre.errors import ConfigError
from timbre.models import checkpoint
from timbre.models.wave import TransposedConvolution, WaveGenerator
from timbre.shards.corpus import DataSource, open_corpus
from timbre.shards.whole_pairs import load_pair
from timbre.stream.augment import AugmentConfig, Sides, apply, draw
from timbre.stream.pair_stream import PairStream, StreamConfig
from timbre.train.config import TrainConfig
from timbre.train.gan.gan import DTYPES, Precision
from timbre.train.gan.schedule import AdversarialConfig, adversarial_share, resolve_start
from timbre.train.run import Run, open_run
from timbre.train.step import train, train_step

CPU = torch.device("cpu")
QUICK = (
    "segment_seconds=0.2",
    "steps=8",
    "global_batch=2",
    "optimizer.warmup_steps=1",
    "workers=0",
    "validation={perceptual_pairs: 0, harm_pairs: 2, shown_pairs: 0}",
)
RESTARTS = "optimizer={schedule: warm_restarts, warmup_steps: 1, restart_steps: 2}"


def train_config(urls: Sequence[str], run_dir: Path, *overrides: str) -> TrainConfig:
    data = ", ".join(f"{{manifest: {url}}}" for url in urls)
    given = [f"data=[{data}]", f"run_dir={run_dir}", *QUICK, *overrides]
    return configs.load(TrainConfig, ROOT / "configs/train_tiny.yaml", given)


@contextmanager
def placed_on(device: str) -> Iterator[None]:
    """Have runs placed on a device; what Accelerate had settled before is settled again after."""
    states = (AcceleratorState, PartialState)
    before = [dict(state._shared_state) for state in states]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ACCELERATE_USE_CPU", str(device == "cpu"))
        for state in states:
            state._shared_state.clear()
        yield
    for state, was in zip(states, before, strict=True):
        state._shared_state.clear()
        state._shared_state.update(was)


@pytest.fixture(autouse=True, scope="module")
def _on_the_cpu() -> Iterator[None]:
    """Figures are compared to the last bit with those of ranks on the CPU."""
    with placed_on("cpu"):
        yield


# Real ranks: rows R1, 12, 14, and "metrics equal on several GPUs", "best-model choice right".


class Ranks(NamedTuple):
    """What every rank of a run of two wrote, and the config that the run goes on with."""

    told: list[dict[str, Any]]
    config: TrainConfig


@pytest.fixture(scope="module")
def urls(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Seven validation pairs: neither even over two ranks, nor of one length, nor alike."""
    folder = tmp_path_factory.mktemp("shards")
    found = [
        make_shards(folder / "1", [4], [3, 2]),
        make_shards(folder / "2", [4], [2], "wav", 0.4),
    ]
    rewrite_shard(
        found[1],
        "val/shard-000000.tar",
        lambda pair: pair._replace(degraded=pair.degraded // 4),
    )
    return found


@pytest.fixture(scope="module")
def two_ranks(urls: list[str], tmp_path_factory: pytest.TempPathFactory) -> Ranks:
    folder = tmp_path_factory.mktemp("ranks")
    config = train_config(urls, folder / "run", RESTARTS)
    (folder / "config.yaml").write_text(configs.dump(config))
    words = ("-m", "tests.train.distributed.report_audit", f"{folder}/config.yaml", str(folder))
    torchrun(2, *words)
    return Ranks([json.loads((folder / f"rank{n}.json").read_text()) for n in (0, 1)], config)


@pytest.fixture(scope="module")
def alone(urls: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """One rank on the same pairs."""
    run = open_run(train_config(urls, tmp_path_factory.mktemp("alone")))
    yield run
    run.close()


def test_row_r1_validation_is_one_number_on_every_rank_and_at_every_world_size(
    two_ranks: Ranks, alone: Run
) -> None:
    first, second = two_ranks.told
    assert first["figures"] == second["figures"] == figures(alone, GAINS[1])
    assert {"val/score", "val/si_sdr", "val/harm/si_sdr", "val/loss/adversarial"} <= first[
        "figures"
    ].keys()
    assert all(math.isfinite(float.fromhex(value)) for value in first["figures"].values())


def test_row_r1_the_best_checkpoint_is_that_of_the_best_validation_on_every_rank(
    two_ranks: Ranks,
) -> None:
    first, second = two_ranks.told
    assert first["best"] == second["best"]
    (unchanged, step), *later = first["best"]
    assert float.fromhex(unchanged) == pytest.approx(1.0) and step == 0
    assert later == [[first["figures"]["val/score"], 1]] * 2  # the third is no better
    assert float.fromhex(later[0][0]) < 0.9
    _, tensors = checkpoint.read_generator(f"{two_ranks.config.run_dir}/{checkpoint.BEST}")
    assert tensors["gain"] == GAINS[1]


def test_row_12_the_rate_moves_once_a_step_on_two_ranks_and_goes_on_exactly_on_one(
    two_ranks: Ranks,
) -> None:
    first, second = two_ranks.told
    assert first["rates"] == second["rates"] and len(first["rates"]) == STEPS
    resumed = open_run(two_ranks.config)
    assert resumed.gan.step == STEPS
    found = first["rates"] + rates(resumed, 3)
    resumed.close()
    assert {int(s["step"]) for s in resumed.gan.generator_descent.optimizer.state.values()} == {7}
    # A warm-up of one step at the peak, then PyTorch's own, stepped once a step.
    c = two_ranks.config.optimizer
    reference = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], c.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(
        reference, c.restart_steps, c.restart_factor, c.final_share * c.learning_rate
    )
    expected = [c.learning_rate]
    for _ in range(6):
        expected.append(reference.param_groups[0]["lr"])
        reference.step()
        schedule.step()
    assert found == pytest.approx(expected)
    assert found[2] < found[3]  # it did restart


def test_row_14_a_ragged_share_neither_drops_nor_repeats_a_pair_and_figures_are_weighted(
    two_ranks: Ranks, alone: Run
) -> None:
    pairs = list(alone.validation.pairs)
    assert len(pairs) == 7
    values, weights = [], []
    for place in pairs:
        pair = load_pair(place, CPU)
        sides = pair.degraded[:, 0], pair.clean[:, 0]
        values.append(float(metrics.log_spectral_distance(*sides, 0, 8000, pair.bandwidth_hz)))
        weights.append(place.entry.samples)
    found = float.fromhex(two_ranks.told[0]["figures"]["val/degraded/lsd_0_8k"])
    assert found == pytest.approx(np.average(values, weights=weights), rel=1e-9)
    assert found != pytest.approx(np.mean(values), rel=0.1)


def test_row_4_validation_reports_gan_losses_and_teaches_the_discriminator_nothing(
    alone: Run,
) -> None:
    before = [parameter.clone() for parameter in alone.gan.discriminator.parameters()]
    measured = alone.validation.measure(alone.gan, alone.reconstruction)
    for name in ("mel", "spectrum", "waveform", "adversarial", "feature_matching"):
        assert 0 < measured[f"val/loss/{name}"] < math.inf, name
    assert {"val/si_sdr", "val/lsd_0_8k", "val/lsd_8_24k", "val/mel_distance"} <= measured.keys()
    for parameter, was in zip(alone.gan.discriminator.parameters(), before, strict=True):
        assert parameter.equal(was) and parameter.grad is None


# R2


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("segment_seconds=0.5", ("segment_seconds 0.5", "save_segment_seconds 0.25")),
        ("adversarial.start_step=19", ("start_step 19", "at least 20, 5 epochs of 4 steps")),
        ("optimizer.warmup_steps=8", ("warmup_steps 8", "less than steps 8")),
        ("global_batch=30", ("global_batch 30", "an epoch of 8 pairs")),
        ("augment={gain_low: 0.9, gain_high: 0.8}", ("gain_low 0.9", "gain_high 0.8")),
    ],
)
def test_row_r2_a_contradiction_is_refused_before_any_work_naming_both_values(
    urls: list[str], tmp_path: Path, override: str, told: tuple[str, str]
) -> None:
    with pytest.raises(ConfigError) as refused:
        train(train_config(urls, tmp_path / "run", override))
    assert all(part in str(refused.value) for part in told), refused.value
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("max_offset_seconds=1", ("max_offset_seconds 1", "save_segment_seconds 2")),
        ("quality.min_seconds=3", ("min_seconds 3", "save_segment_seconds 2")),
        ("quality.min_active_seconds=3", ("min_active_seconds 3", "save_segment_seconds 2")),
        ("mix={snr_db_low: 9, snr_db_high: 5}", ("snr_db_low 9", "snr_db_high 5")),
        ("mix={level_db_low: -20, level_db_high: -30}", ("level_db_low -20", "level_db_high -30")),
    ],
)
def test_row_r2_a_contradiction_of_a_prep_config_is_refused_naming_both_values(
    override: str, told: tuple[str, str]
) -> None:
    with pytest.raises(ConfigError) as refused:
        configs.load(PrepConfig, ROOT / "configs/prep_tiny.yaml", [override])
    assert all(part in str(refused.value) for part in told), refused.value


# R3


@pytest.fixture
def device(request: pytest.FixtureRequest) -> Iterator[str]:
    """The device that runs are placed on in a test."""
    with placed_on(request.param):
        yield request.param


no_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")


@pytest.mark.parametrize(
    "device", ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, no_cuda])], indirect=True
)
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_row_r3_mixed_precision_trains_both_networks_without_an_outdated_call(
    urls: list[str], tmp_path: Path, device: str, precision: Precision
) -> None:
    seen = set()
    with warnings.catch_warnings():
        warnings.filterwarnings("error", category=FutureWarning)
        warnings.filterwarnings("error", category=DeprecationWarning, module="timbre")
        given = ["segment_seconds=0.1", f"precision={precision}"]
        run = open_run(train_config(urls, tmp_path, *given))
        run.adversarial_start = -run.config.adversarial.discriminator_steps
        modules = run.gan.generator.modules()
        inner = next(part for part in modules if isinstance(part, torch.nn.Conv1d))
        inner.register_forward_hook(lambda *given: seen.add((given[2].dtype, given[2].device.type)))
        before = {name: part.detach().clone() for name, part in parameters(run)}
        for batch in islice(run.batches(), 2):
            logged = train_step(run, batch)
    run.close()
    assert seen == {(DTYPES[precision], device)}
    assert {"d/loss", "g/adversarial"} <= logged.keys()
    assert all(value.isfinite() for value in logged.values())
    for name, part in parameters(run):
        assert part.dtype == torch.float32 and part.isfinite().all(), name
    moved = [name for name, part in parameters(run) if not part.equal(before[name])]
    assert {name.partition(".")[0] for name in moved} == {"generator", "discriminator"}
    scalers = run.gan.generator_descent.scaler, run.gan.discriminator_descent.scaler
    assert all(type(scaler) is torch.amp.GradScaler for scaler in scalers)
    assert scalers[0] is not scalers[1]


def parameters(run: Run) -> Iterator[tuple[str, torch.nn.Parameter]]:
    for name in ("generator", "discriminator"):
        yield from getattr(run.gan, name).named_parameters(name)


def test_row_r3_removing_weight_norm_leaves_the_output_equal() -> None:
    torch.manual_seed(0)
    generator = WaveGenerator("tiny", causal=False)
    assert any(is_parametrized(module, "weight") for module in generator.modules())
    with torch.no_grad():
        for parameter in generator.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
        wave = 0.1 * torch.randn(2, 1, 4801)
        before = generator(wave)
        generator.remove_weight_norm()
        after = generator(wave)
    assert not any(is_parametrized(module) for module in generator.modules())
    assert after.equal(before) and not before.equal(wave)


# Prep: rows 1, 7, 10, on recordings of which no speaker is known.


class Prepared(NamedTuple):
    config: PrepConfig
    edition: Edition
    job: Job
    sources: Path


@pytest.fixture(scope="module")
def prepared(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """A job whose noises and rooms are gone from the disk before its first shard is made."""
    sources = tmp_path_factory.mktemp("audit")
    shutil.copytree(corpus, sources, dirs_exist_ok=True)
    (sources / "manifest.jsonl").unlink()  # it names the speakers
    given = [f"{role}={sources}/{role}" for role in ("speech", "noise", "rir")]
    given += [f"output={sources}/out", "denoiser.name=none", "reverb.share=1", "workers=1"]
    given += ["clips.speaker_level=null", "mix.babble_share=0"]
    config = configs.load(PrepConfig, ROOT / "configs/prep_tiny.yaml", given)
    edition = begin_edition(config, [], "", run_local, ALL)
    assert edition is not None
    job = open_job(config, edition)
    for role in ("noise", "rir"):
        shutil.rmtree(sources / role)
    return Prepared(config, edition, job, sources)


def test_row_1_eight_per_cent_are_for_validation_unless_asked_otherwise() -> None:
    assert PrepConfig("speech", "noise", "output").val_ratio == 0.08
    split_of = split_names([f"speaker {number}" for number in range(3000)], 0.08)
    assert Counter(split_of.values())["val"] / 3000 == pytest.approx(0.08, abs=0.015)


def test_row_1_no_speaker_is_on_both_sides(manifest_url: str) -> None:
    manifest = shards.load_manifest(manifest_url)
    speakers = {
        split: {p.meta.speaker for s in entries for p in stored_pairs(manifest_url, s.path)}
        for split, entries in manifest.splits.items()
    }
    assert all(speakers[split] and "" not in speakers[split] for split in SPLITS)
    assert not speakers["train"] & speakers["val"]


def test_row_1_where_nobody_is_named_no_recording_is_on_both_sides(prepared: Prepared) -> None:
    plan = prepared.job.plan
    recordings: dict[str, set[str]] = {split: set() for split in SPLITS}
    for split, number in plan.shards():
        recordings[split] |= {piece.clip.path for piece in plan.shard(split, number)}
    assert all(recordings.values()) and not recordings["train"] & recordings["val"]
    assert all(clip.owner == clip.path for clip in prepared.edition.used("speech"))


def test_row_7_a_worker_makes_shards_without_reading_a_noise_or_a_room_again(
    prepared: Prepared,
) -> None:
    config, job = prepared.config, prepared.job
    as_sent = pickle.loads(pickle.dumps(job.settings))
    for shard in job.plan.shards():
        make_shard(as_sent, shard_task(config, job, shard))
    rooms = [
        json.loads(data)["rir"]
        for path in (prepared.sources / "out").rglob("*.tar")
        for name, data in members(path)
        if name.endswith(".json")
    ]
    assert len(rooms) > 8 and all(rooms)


def members(tar: Path) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(tar) as opened:
        for member in opened:
            file = opened.extractfile(member)
            assert file is not None
            yield member.name, file.read()


def mark(sent: bytes) -> None:
    pickle.loads(sent).samples[-1] = -16384


def test_row_7_a_recording_is_decoded_once_into_memory_that_processes_share() -> None:
    decoded: Counter[int] = Counter()

    def produce(number: int) -> Wave:
        decoded[number] += 1
        return np.full(50_000, 0.5, np.float32)

    bank = fill_bank(["a", "b"], [50_000, 50_000], produce, "rir")
    sent = pickle.dumps(bank)  # as a worker gets it
    assert len(sent) < 1000
    assert pickle.loads(sent).wave(1).min() == 1.0
    worker = multiprocessing.get_context("fork").Process(target=mark, args=(sent,))
    worker.start()
    worker.join()
    assert bank.wave(1)[-1] == pytest.approx(-0.5, abs=1e-4)  # one block: what it wrote we read
    assert decoded == {0: 1, 1: 1}


Pair = tuple[Wave, Wave, Wave]


def fair_pair() -> Pair:
    """Clean speech, the same at 10 dB in noise, and what a fair denoiser leaves of that."""
    clean = voice(2.0, np.random.default_rng(3))
    disturbance = noise("pink", 2.0, np.random.default_rng(4))
    disturbance *= np.float32(clean.std() / disturbance.std())
    return clean, clean + np.float32(10**-0.5) * disturbance, 0.9 * clean + 0.1 * disturbance


def replaced(pair: Pair, side: int, wave: Wave) -> Pair:
    clean, noisy, degraded = (wave if number == side else old for number, old in enumerate(pair))
    return clean, noisy, degraded


def clipped(pair: Pair) -> Pair:
    limit = 0.2 * np.abs(pair[0]).max()
    clean = np.clip(pair[0], -limit, limit)
    return clean, clean + pair[1] - pair[0], clean


FAULTS = {
    "too_short": lambda p: tuple(side[20_000:40_000] for side in p),
    "silent_clean": lambda p: (1e-3 * p[0], p[1], p[2]),
    "snr_missed": lambda p: replaced(p, 1, p[0] + 2 * (p[1] - p[0])),
    "clipped_clean": clipped,
    "denoiser_lost_speech": lambda p: replaced(p, 2, 0.05 * p[2]),
    "unaligned": lambda p: replaced(p, 2, voice(2.0, np.random.default_rng(99))),
    "non_finite": lambda p: replaced(p, 1, np.where(np.arange(96_000) == 9, np.nan, p[1])),
    None: lambda p: p,
}


@pytest.mark.parametrize("reason", FAULTS)
def test_row_10_a_pair_with_a_fault_is_refused_by_its_name_and_a_fair_one_passes(
    reason: str | None,
) -> None:
    clean, noisy, degraded = FAULTS[reason](fair_pair())
    figures = measure_pair(clean, noisy, degraded, estimate_offset(clean, degraded, 960))
    assert reason_to_refuse(figures, 10.0, QualityConfig()) == reason


def test_row_10_prep_writes_no_refused_pair_and_counts_each_in_its_index(
    prepared: Prepared, tmp_path: Path
) -> None:
    strict = QualityConfig(min_active_seconds=1.9)
    job = prepared.job.settings._replace(folder=str(tmp_path), quality=strict)
    shard = prepared.job.plan.shards()[0]
    task = shard_task(prepared.config, prepared.job, shard)
    make_shard(job, task)
    path = shards.shard_path(*shard)
    index = json.loads((tmp_path / shards.index_path(path)).read_text())
    refused = {reason: len(pairs) for reason, pairs in index["rejected"].items()}
    assert refused["silent_clean"] > 0 and len(index["pairs"]) > 0
    assert sum(refused.values()) + len(index["pairs"]) == len(task.pieces)


def test_row_10_verify_passes_whole_shards_and_names_what_is_damaged(
    manifest_url: str, tmp_path: Path
) -> None:
    assert verify(manifest_url) == []
    shutil.copytree(Path(manifest_url).parent, tmp_path, dirs_exist_ok=True)
    shard = shards.load_manifest(manifest_url).shards("train")[0]
    data = bytearray((tmp_path / shard.path).read_bytes())
    data[len(data) // 2] ^= 4
    (tmp_path / shard.path).write_bytes(data)
    faults = verify(f"{tmp_path}/manifest.json")
    stem = shard.path.removesuffix(".tar")
    assert any("sha256" in fault for fault in faults)
    assert all(fault.startswith(stem) for fault in faults)


# 2


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, float]]:
    """What nine steps at one step an epoch logged, moved and cost."""
    folder = tmp_path_factory.mktemp("schedule")
    url = make_shards(folder / "shards", [2], [1])
    given = [
        "segment_seconds=0.1",
        "steps=10",
        "adversarial={discriminator_steps: 1, ramp_steps: 2}",
    ]
    run = open_run(train_config([url], folder / "run", *given, "log_gradients_every=1000"))
    network = next(run.gan.discriminator.parameters())
    taken = []
    for batch in islice(run.batches(), 9):
        was = network.detach().clone()
        with Multiplications() as cost:
            metrics_of_step = train_step(run, batch)
        run.watch(metrics_of_step)
        record = {name: value.item() for name, value in metrics_of_step.items()}
        record |= {"moved": float(not network.equal(was)), "cost": float(cost.count)}
        taken.append(record | {"bytes": float(live_bytes())})
    with torch.no_grad(), Multiplications() as cost:
        run.gan.discriminator(torch.zeros(2, 1, 4800))
    taken[0]["discriminator_cost"] = float(cost.count)
    run.close()
    return taken


class Multiplications(TorchDispatchMode):
    """Counts the floating-point operations of matrix products and convolutions, as PyTorch does."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, given: Any = (), named: Any = None
    ) -> Any:
        result = function(*given, **(named or {}))
        if function._overloadpacket in flop_registry:
            cost = flop_registry[function._overloadpacket]
            self.count += cost(*given, **(named or {}), out_val=result)
        return result


def live_bytes() -> int:
    gc.collect()
    kinds = (torch.Tensor, torch.nn.Parameter)
    return sum(thing.nbytes for thing in gc.get_objects() if type(thing) in kinds)


def test_row_2_reconstruction_alone_for_five_epochs_then_the_discriminator_then_a_ramp(
    steps: list[dict[str, float]],
) -> None:
    assert [int("d/loss" in step) for step in steps] == [0] * 5 + [1] * 4
    assert [int(step["moved"]) for step in steps] == [0] * 5 + [1] * 4
    weights = [step.get("g/adversarial_weight", 0.0) for step in steps]
    assert weights == [0.0] * 6 + [0.5, 1.0, 1.0]


def test_row_2_the_start_counts_optimizer_steps_and_none_before_five_epochs_is_accepted() -> None:
    assert resolve_start(AdversarialConfig(), 40) == 200
    assert resolve_start(AdversarialConfig(start_step=201), 40) == 201
    with pytest.raises(ConfigError, match="start_step 199: expected at least 200"):
        resolve_start(AdversarialConfig(start_step=199), 40)
    shares = [adversarial_share(step, 200, AdversarialConfig(ramp_steps=4)) for step in range(1210)]
    assert shares[1199:1205] == [0.0, 0.25, 0.5, 0.75, 1.0, 1.0] and not any(shares[:1200])


# 3


@pytest.mark.parametrize("stride", [1, 2, 3, 4, 5, 6])
@pytest.mark.parametrize("excess", [0, 1, 2, 3, 6, 7])
@pytest.mark.parametrize("causal", [False, True])
def test_row_3_length_is_input_times_stride(stride: int, excess: int, causal: bool) -> None:
    layer = TransposedConvolution((2, 3), stride + excess, stride, causal)
    for length in (1, 2, 9):
        assert layer(torch.zeros(2, 2, length)).shape == (2, 3, length * stride)


@pytest.mark.parametrize(("kernel", "stride"), [(1, 2), (3, 4), (5, 6)])
def test_row_3_a_kernel_shorter_than_its_stride_is_refused(kernel: int, stride: int) -> None:
    with pytest.raises(ValueError, match=f"kernel {kernel} is shorter than stride {stride}"):
        TransposedConvolution((1, 1), kernel, stride, causal=False)


# 5


def smeared(clean: Wave, delay: float) -> Wave:
    """The clip later by ``delay``, its lows late, in hum: what pulls a dot product's peak aside."""
    hz = np.fft.rfftfreq(len(clean), 1 / SAMPLE_RATE)
    lows_late = np.exp(-4j * np.pi * hz / 300 * np.exp(-(((hz - 200) / 300) ** 2)))
    turned = np.fft.rfft(clean) * lows_late * np.exp(-2j * np.pi * hz * delay / SAMPLE_RATE)
    wave: Wave = np.fft.irfft(turned, len(clean)).astype(np.float32)
    hum = noise("hum", len(clean) / SAMPLE_RATE, np.random.default_rng(9))
    return wave + np.float32(0.3 * clean.std() / hum.std()) * hum


def dot_product_offset(clean: Wave, degraded: Wave, reach: int) -> int:
    turned = np.fft.rfft(degraded, 2 * len(clean)) * np.conj(np.fft.rfft(clean, 2 * len(clean)))
    lags = np.fft.irfft(turned)
    return int(np.argmax([*lags[-reach:], *lags[: reach + 1]])) - reach


@pytest.mark.parametrize("offset", [-703, -1, 0, 37, 480, 1003])
def test_row_5_each_pairs_offset_and_its_sign_are_found_where_a_dot_product_errs(
    offset: int,
) -> None:
    for seed in (0, 1):  # pair by pair
        clean = voice(2.0, np.random.default_rng(seed))
        degraded = smeared(clean, offset)  # degraded[n + offset] is clean[n]
        found = estimate_offset(clean, degraded, 1440)
        assert found.offset == offset and found.confidence > MIN_CONFIDENCE
        assert abs(dot_product_offset(clean, degraded, 1440) - offset) > 20


def test_row_5_a_part_of_a_sample_is_told_and_an_unrelated_pair_has_no_confidence() -> None:
    clean = voice(2.0, np.random.default_rng(0))
    found = estimate_offset(clean, smeared(clean, 100.3), 1440)
    assert found.offset == 100 and 0.2 < found.fraction < 0.4
    for seed in range(50, 56):
        other = voice(2.0, np.random.default_rng(seed))
        assert estimate_offset(clean, other, 1440).confidence < MIN_CONFIDENCE


# 6


def test_row_6_the_crop_is_drawn_in_clean_time_and_shifted_by_the_pairs_offset(
    tmp_path: Path,
) -> None:
    """Both sides agree at every sample wherever the cut falls, and it falls up to both ends."""
    url = make_shards(tmp_path, [4], [1])  # offsets -90, 0, 35 and 300
    samples = SAMPLE_RATE // 4
    stream = PairStream(
        [open_corpus(DataSource(url), "train")], StreamConfig(samples - 280, 4, 0, 1, 0)
    )
    starts: dict[int, set[int]] = {number: set() for number in range(4)}
    for batch in islice(stream, 60):
        assert not batch.replaced
        for key, degraded, clean in zip(
            batch.keys, batch.degraded.numpy(), batch.clean.numpy(), strict=True
        ):
            number = int(key[-1])
            whole = content(key, samples + 7 * number)
            windows = np.lib.stride_tricks.sliding_window_view(whole, 16)
            (start,) = np.flatnonzero((windows == clean[:16]).all(axis=1)).tolist()
            starts[number].add(start)
            kept = min(len(clean), len(whole) - abs((-90, 0, 35, 300)[number]))
            np.testing.assert_array_equal(clean[:kept], whole[start : start + kept])
            np.testing.assert_array_equal(degraded[:kept], clean[:kept] // 2)
    for number, offset in enumerate((-90, 0, 35, 300)):
        low = max(0, -offset)
        high = low + max(samples + 7 * number - abs(offset) - (samples - 280), 0)
        assert min(starts[number]) <= low + 30 and max(starts[number]) >= high - 30
        assert low <= min(starts[number]) and max(starts[number]) <= high


# 8

# Two forms of one thing: a place, a device, bytes, the result of a try, one bandwidth or one each.
ONE_THING = [
    {"str", "Path"},
    {"str", "torch.device"},
    {"bytes", "mmap.mmap"},
    {"bytes", "memoryview"},
    {"PairBytes", "BadPair"},
    {"R", "Failure"},
    {"int", "slice"},
    {"float", "Tensor"},
]


def types_of(annotation: ast.expr) -> set[str]:
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        annotation = ast.parse(annotation.value, mode="eval").body
    if isinstance(annotation, ast.BinOp):
        return types_of(annotation.left) | types_of(annotation.right)
    return {ast.unparse(annotation)} - {"None"}


def loosely_typed(source: str) -> list[str]:
    """Return the parameters that have no type, or take a list as well as an array, say."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            for argument in given:
                if argument.arg in ("self", "cls") and argument is given[0]:
                    continue
                types = types_of(argument.annotation) if argument.annotation else set()
                words = {word for name in types for word in ("Union", "ArrayLike") if word in name}
                if words or (len(types) != 1 and types not in ONE_THING):
                    found.append(f"{node.name}({argument.arg})")
    return found


def sources() -> list[Path]:
    return sorted(
        path for tree in ("timbre", "shard_tools") for path in (ROOT / tree).rglob("*.py")
    )


def test_row_8_every_parameter_has_one_explicit_type() -> None:
    fault = "def add_noise(noise: list[float] | np.ndarray, snr_db: float, level=0): ..."
    assert loosely_typed(fault) == ["add_noise(noise)", "add_noise(level)"]
    found = {str(path): loose for path in sources() if (loose := loosely_typed(path.read_text()))}
    assert found == {}


# 9


def test_row_9_gain_is_a_little_and_in_common_and_polarity_stays_unless_asked() -> None:
    only_gain = {f"{name}_share": 0.0 for name in ("low_pass", "tilt", "residual", "hole")}
    positions = torch.arange(400)
    drawn = draw(AugmentConfig(**only_gain), 0, 0, positions)
    assert 0.8 <= float(drawn.gain.min()) < 0.81 and 0.99 < float(drawn.gain.max()) <= 1.0
    flipped = draw(AugmentConfig(**only_gain, flip_polarity=True), 0, 0, positions)
    assert 0.4 < float((flipped.gain < 0).float().mean()) < 0.6
    torch.manual_seed(0)
    wave = 0.1 * torch.randn(400, 1, 1200)
    for parameters_drawn in (drawn, flipped):
        bandwidth_hz = torch.full((400,), 24000.0)
        sides = apply(parameters_drawn, Sides(wave / 3, wave, None, bandwidth_hz))
        gain = parameters_drawn.gain[:, None, None]
        torch.testing.assert_close(sides.clean, wave * gain)
        torch.testing.assert_close(sides.degraded, wave / 3 * gain)


# 11


@pytest.fixture(scope="module")
def noisy() -> list[torch.Tensor]:
    return [noisy_voice(samples, samples) for samples in (48_000, 30_123, 9_601)]


@pytest.fixture(scope="module")
def batched(noisy: list[torch.Tensor]) -> list[torch.Tensor]:
    batch = torch.nn.utils.rnn.pad_sequence(noisy, batch_first=True)
    lengths = torch.tensor([len(clip) for clip in noisy])
    denoised = DeepFilterNet3.load()(batch, lengths)
    return [row[:length] for row, length in zip(denoised, lengths, strict=True)]


def test_row_11_a_batch_of_denoised_clips_equals_one_by_one(
    noisy: list[torch.Tensor], batched: list[torch.Tensor]
) -> None:
    model = DeepFilterNet3.load()
    for clip, denoised in zip(noisy, batched, strict=True):
        assert si_sdr_db(denoised, model(clip[None])[0]) > 100
        assert si_sdr_db(denoised, clip) < 30  # it did something


@pytest.mark.official
@pytest.mark.skipif(not INSTALLED, reason="needs the extra 'official'")
def test_row_11_a_batch_of_denoised_clips_equals_the_official_result(
    noisy: list[torch.Tensor], batched: list[torch.Tensor]
) -> None:
    official = Official()
    for clip, denoised in zip(noisy, batched, strict=True):
        assert si_sdr_db(denoised, official.enhance(clip)) > 90


# 13


def lint(*words: str, given: str = "") -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "ruff", "check", "--no-cache", "--output-format=concise"]
    return subprocess.run(
        [*command, *words], input=given, cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_row_13_lint_finds_no_unused_code_here() -> None:
    found = lint("--select=F,ARG", ".")
    assert found.returncode == 0, found.stdout


@pytest.mark.parametrize(
    ("made_up", "rule"),
    [
        ("def load(x: int) -> int:\n    val_sampler = x + 1\n    return x\n", "F841"),
        ("import torch\n", "F401"),
        ("def load(x: int, val_sampler: int) -> int:\n    return x\n", "ARG001"),
    ],
)
def test_row_13_the_projects_own_lint_refuses_an_unused_name(made_up: str, rule: str) -> None:
    refused = lint("--stdin-filename=timbre/made_up.py", "-", given=made_up)
    assert refused.returncode == 1 and rule in refused.stdout, refused.stdout


def unused(definitions: Sequence[str], users: Sequence[str]) -> list[str]:
    """Return the top-level names of ``definitions`` that no source of ``users`` mentions."""
    used: set[str] = set()
    for source in users:
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                used.add(node.id)
            elif isinstance(node, ast.Attribute):
                used.add(node.attr)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                used |= set(node.value.replace(".", " ").split())
    names = []
    for source in definitions:
        for node in ast.parse(source).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                names.append(node.name)
            elif isinstance(node, ast.Assign):
                names += [target.id for target in node.targets if isinstance(target, ast.Name)]
    return [name for name in names if name not in used and not name.startswith("__")]


def test_row_13_no_definition_is_left_that_nothing_uses() -> None:
    assert unused(["val_sampler = 1\ndef load(): ..."], ["load()"]) == ["val_sampler"]
    users = [*sources(), *sorted((ROOT / "benchmarks").rglob("*.py"))]
    assert unused(*([path.read_text() for path in paths] for paths in (sources(), users))) == []


# What the audit also asked for; several GPUs, best model, segment error: R1, R2; CUDA, weight norm: R3.


def test_also_asked_prepared_speech_trains_and_the_result_loads(
    manifest_url: str, tmp_path: Path
) -> None:
    shutil.copytree(Path(manifest_url).parent, tmp_path / "shards")
    url = f"{tmp_path}/shards/manifest.json"
    held_out = stored_pairs(url, "val/shard-000000.tar")[:2]  # measuring each takes its time
    publish_tar(url, "val/shard-000000.tar", build_tar(held_out, "flac"))
    given = ["segment_seconds=0.4", "validation={perceptual_pairs: 1, harm_pairs: 0}"]
    run = open_run(train_config([url], tmp_path / "run", *given))
    batch = next(run.batches())
    logged = [train_step(run, batch) for _ in range(8)]
    assert logged[-1]["g/loss"].item() < 0.95 * logged[0]["g/loss"].item()
    run.watch(logged[-1])
    run.validate()
    assert run.save() and run.best_step == 8 and math.isfinite(run.best_score)
    run.close()
    generator, config = checkpoint.load_generator(f"{run.config.run_dir}/{checkpoint.BEST}")
    assert config == run.config.generator
    pair = load_pair(run.validation.pairs[0], CPU)
    with torch.inference_mode():
        assert generator(pair.degraded).equal(run.gan.average(pair.degraded))


def test_also_asked_a_step_computes_what_it_must_and_memory_stays_flat(
    steps: list[dict[str, float]],
) -> None:
    """The discriminator's share in passes: 2 batches there and back, 1 real, 1 fake and its way back.

    Back is two passes, or one where the weights need no gradient.
    """
    passes = (steps[8]["cost"] - steps[4]["cost"]) / steps[0]["discriminator_cost"]
    assert passes < 2 * 3 + 1 + 2
    assert steps[4]["bytes"] == steps[2]["bytes"] > 0
    assert steps[8]["bytes"] == steps[7]["bytes"]
