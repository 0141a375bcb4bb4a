"""For each kind of file: make one, damage it, and use it as timbre does."""

import io
import json
import random
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile
import torch

from tests.fuzz.mutations import changed_bytes, changed_tree, changed_yaml
from tests.help.made_shards import make_shards
from timbre import audio, storage
from timbre import config as configs
from timbre.errors import ShardError, TimbreError
from timbre.models import GeneratorConfig, build_generator, load_generator, save_generator
from timbre.shards import DataSource, PairList, load_pair, open_corpus
from timbre.stream.order import SampleOrder
from timbre.train.config import TrainConfig

ROOT = Path(__file__).parents[2]
SOUNDS = [("WAV", "PCM_16"), ("WAV", "FLOAT"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("AIFF", "PCM_24"),
          ("MP3", "MPEG_LAYER_III"), ("OGG", "OPUS"), ("WAV", "IMA_ADPCM")]  # fmt: skip


class Target(NamedTuple):
    """A kind of file: ``write(folder, rng)`` puts a damaged one there, ``use(folder)`` uses it."""

    write: Callable[[Path, random.Random], None]
    use: Callable[[Path], object]


@cache
def _good(folder: Path) -> dict[str, bytes]:
    """Return the files of a small set of shards, by path."""
    make_shards(folder, [2], val=(), seconds=0.05)
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def _put(folder: Path, files: dict[str, bytes]) -> None:
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)


def _write_tar(folder: Path, rng: random.Random) -> None:
    data = _good(GOOD)["train/shard-000000.tar"]
    _put(folder, {"train/a.tar": changed_bytes(data, rng)})


def _write_index(folder: Path, rng: random.Random) -> None:
    files = dict(_good(GOOD))
    path = "train/shard-000000.index"
    data = files[path]
    raw = rng.random() < 0.3
    files[path] = changed_bytes(data, rng) if raw else changed_tree(json.loads(data), rng)
    manifest = json.loads(files["manifest.json"])
    manifest["splits"]["train"][0]["index_sha256"] = storage.sha256(files[path])
    files["manifest.json"] = json.dumps(manifest).encode()
    _put(folder, files)


def _write_manifest(folder: Path, rng: random.Random) -> None:
    files = dict(_good(GOOD))
    data = files["manifest.json"]
    raw = rng.random() < 0.3
    files["manifest.json"] = (
        changed_bytes(data, rng) if raw else changed_tree(json.loads(data), rng)
    )
    _put(folder, files)


def _read_pairs(folder: Path) -> None:
    """Read every pair as validation does. A bad pair is named, and the next one is read."""
    corpus = open_corpus(DataSource(str(folder)), "train")
    SampleOrder([corpus], 0, 8).rows(0, 0, 10)
    places, bad = PairList([corpus]), list[str]()
    for row in range(min(len(places), 50)):
        try:
            load_pair(places[row], torch.device("cpu"))
        except TimbreError as error:
            bad.append(str(error))
    if bad:
        raise ShardError(bad[0])


def _write_checkpoint(folder: Path, rng: random.Random) -> None:
    raw = _checkpoint(rng.choice(("safetensors", "pt")))
    name = "a.pt" if raw[:2] == b"PK" else "a.safetensors"
    _put(folder, {name: changed_bytes(raw, rng)})


@cache
def _checkpoint(ending: str) -> bytes:
    config = GeneratorConfig(size="tiny")
    generator = build_generator(config)
    if ending == "safetensors":
        path = GOOD.with_name("good.safetensors")
        save_generator(str(path), generator, config, {})
        return path.read_bytes()
    buffer = io.BytesIO()
    tree = {
        "config": {"generator": configs.to_tree(config)},
        "ema": generator.state_dict(),
        "step": 1,
    }
    torch.save(tree, buffer)
    return buffer.getvalue()


def _load_checkpoint(folder: Path) -> None:
    (path,) = folder.iterdir()
    load_generator(str(path))


def _write_sound(folder: Path, rng: random.Random) -> None:
    _put(folder, {"a.wav": changed_bytes(_sound(*rng.choice(SOUNDS)), rng)})


@cache
def _sound(format: str, subtype: str) -> bytes:
    buffer = io.BytesIO()
    wave = np.random.default_rng(1).normal(0, 0.1, (9600, 2))
    soundfile.write(buffer, wave, 48_000, format=format, subtype=subtype)
    return buffer.getvalue()


def _read_sound(folder: Path) -> None:
    wave, rate = audio.read(folder / "a.wav")
    assert np.isfinite(wave).all() and rate > 0


def _write_yaml(folder: Path, rng: random.Random) -> None:
    text = (ROOT / "configs/train.yaml").read_text()
    _put(folder, {"train.yaml": changed_yaml(text, rng)})


def _load_yaml(folder: Path) -> Any:
    return configs.load(TrainConfig, folder / "train.yaml")


# Where the good files lie; the program that fuzzes says so.
GOOD = Path("good")
TARGETS = {
    "tar": Target(_write_tar, _read_pairs),
    "index": Target(_write_index, _read_pairs),
    "manifest": Target(_write_manifest, _read_pairs),
    "checkpoint": Target(_write_checkpoint, _load_checkpoint),
    "audio": Target(_write_sound, _read_sound),
    "yaml": Target(_write_yaml, _load_yaml),
}
