"""Several denoisers in one set of shards: each pair goes through one, and how many through which."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from shard_tools.degrade.degrade import DenoiserConfig, degrade, weights_hash
from timbre import denoiser_names
from timbre.audio import Wave
from timbre.denoiser_names import DF3, OFFICIAL, check_name

Shares = Mapping[str, float]


def check_shares(shares: dict[str, float]) -> dict[str, float]:
    """Return the shares by the denoisers' names.

    Raises:
        ValueError: a name is unknown or twice, or the shares are not all of the pairs.
    """
    names = [check_name(name) for name in shares]
    recorded_names = [denoiser_names.to_record(name) for name in names]
    if len(set(recorded_names)) < len(names) or not names:
        raise ValueError(f"expected each kind of denoiser once, got {', '.join(shares) or 'none'}")
    if bad := [name for name, share in shares.items() if share <= 0]:
        raise ValueError(f"{bad[0]}: expected a share above 0, got {shares[bad[0]]}")
    if not math.isclose(total := math.fsum(shares.values()), 1, abs_tol=1e-6):
        raise ValueError(f"expected shares that add up to 1, got {total:g}")
    return dict(zip(names, shares.values(), strict=True))


def configs_of(denoiser: DenoiserConfig, shares: Shares | None) -> dict[str, DenoiserConfig]:
    """Return the config of every denoiser by its name in plans and shards.

    Args:
        denoiser: the only one where there are no shares; else how all of them run.
        shares: how many pairs go through each.
    """
    if shares is None:
        return {denoiser.recorded_name: denoiser}
    configs = [
        replace(denoiser, name=name, weights=denoiser.weights if name in (DF3, OFFICIAL) else None)
        for name in sorted(shares)
    ]
    return {config.recorded_name: config for config in configs}


def pick(shares: Shares, chance: float) -> str:
    """Return the denoiser that a number in [0, 1) falls to, by its name in plans and shards."""
    end = 0.0
    names = sorted(shares)
    for name in names:
        end += shares[name]
        if chance < end:
            return denoiser_names.to_record(name)
    return denoiser_names.to_record(names[-1])


def hashes_of(configs: Mapping[str, DenoiserConfig]) -> dict[str, str]:
    """Return the hash of each denoiser's weights; raises like :func:`weights_hash`."""
    return {name: weights_hash(config) for name, config in configs.items()}


def joint_hash(hashes: Mapping[str, str]) -> str:
    """Return one hash of all: of a single denoiser its own."""
    if len(hashes) == 1:
        return next(iter(hashes.values()))
    return hashlib.sha256(json.dumps(dict(hashes), sort_keys=True).encode()).hexdigest()


def degrade_by(
    noisy: Sequence[Wave], names: Sequence[str], configs: Mapping[str, DenoiserConfig]
) -> list[Wave]:
    """Return each ``(samples,)`` waveform through the denoiser of its name; raises like :func:`degrade`."""
    results: dict[int, Wave] = {}
    for name, config in configs.items():
        rows = [row for row, other in enumerate(names) if other == name]
        if rows:
            clips = degrade([noisy[row] for row in rows], config)
            results |= dict(zip(rows, clips, strict=True))
    return [results[row] for row in range(len(noisy))]
