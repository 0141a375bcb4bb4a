"""A prep job of half seconds without a denoiser: for tests of bookkeeping."""

from shard_tools.config import PrepConfig
from shard_tools.prep.prep import prep
from timbre import config as configs
from timbre.shards import Manifest


def plain_config(root: str, **keys: object) -> PrepConfig:
    """Return the job over ``speech`` and ``noise`` below the root; ``keys`` are added to it."""
    tree = {
        **{role: f"{root}/{role}" for role in ("speech", "noise")},
        "output": f"{root}/out",
        "workers": 1,
        "save_segment_seconds": 0.5,
        "denoiser": {"name": "none"},
        "clips": {"trim_margin_seconds": None, "min_bandwidth_hz": 0.0},
        "quality": {"min_seconds": 0.4, "max_flat_share": 1.0},
    }
    return configs.from_tree(PrepConfig, tree | keys, "test")


def make_manifest(config: PrepConfig) -> Manifest:
    """Run the job; it must make an edition."""
    manifest = prep(config)
    assert manifest is not None
    return manifest


def with_changes(config: PrepConfig, **changes: object) -> PrepConfig:
    """Return the config with other values at its first level."""
    return configs.from_tree(PrepConfig, {**configs.to_tree(config), **changes}, "test")
