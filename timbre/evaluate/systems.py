"""What is compared: the noisy input, DeepFilterNet3, a mix of both, and any checkpoints."""

import re
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

from torch import Tensor

from timbre import storage
from timbre.errors import ConfigError
from timbre.evaluate.cases import Data, Loaded
from timbre.models import shipped
from timbre.restore.restorer import Restorer

NOISY, BASELINE, CLEAN, RESTORED = "noisy", "df3", "clean", "restored"
# As the design has it: DeepFilterNet3 alone.
NO_CHECKPOINT = "none"
MIX = re.compile(r"df3\+(\d+(?:\.\d+)?)%")
NAMED = re.compile(r"([\w.+-]+)=(.+)")


class System(NamedTuple):
    """A system under its name: a checkpoint's URL, or how much of the noisy input is mixed in."""

    name: str
    url: str | None = None
    noisy_share: float = 0.0

    @property
    def needs_noisy(self) -> bool:
        """Whether it is nothing without the denoiser's input."""
        return self.noisy_share > 0


def parse_systems(words: Sequence[str]) -> list[System]:
    """Return the systems that words of the command line name, DeepFilterNet3 always among them.

    Args:
        words: ``noisy``, ``df3`` (or ``none``), ``df3+3%`` for that much of the noisy input mixed
            into it, ``URL`` or ``NAME=URL`` of a checkpoint.

    Raises:
        ConfigError: two have one name, or a share is not between 0 and 100 %.
    """
    fixed, urls = [], []
    for word in words:
        if word == NOISY:
            fixed.append(System(NOISY, noisy_share=1.0))
        elif mix := MIX.fullmatch(word):
            fixed.append(System(word, noisy_share=_share(word, mix[1])))
        elif word not in (BASELINE, NO_CHECKPOINT):
            urls.append(word)
    systems = [*fixed, System(BASELINE), *_checkpoints(urls)]
    # Noisy, DeepFilterNet3, mixes, checkpoints.
    systems.sort(key=lambda s: (s.url is not None, s.name != NOISY, s.noisy_share))
    names = [system.name for system in systems]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ConfigError(f"systems: {twice[0]} is named twice; give them names: NAME=CHECKPOINT")
    return systems


def with_noisy(systems: Sequence[System], data: Data) -> list[System]:
    """Return the systems, and the noisy input where it is at hand.

    Raises:
        ConfigError: a system needs the noisy input, and the data does not hold it.
    """
    wanting = [system.name for system in systems if system.needs_noisy]
    if wanting and not data.noisy:
        raise ConfigError(
            f"{data.facts['data']}: holds no noisy side, which {' and '.join(wanting)} need; leave "
            "them out, or make the shards with store_noisy: true"
        )
    if not data.noisy or NOISY in wanting:
        return list(systems)
    return [System(NOISY, noisy_share=1.0), *systems]


class Chains:
    """Every system, loaded and ready to run.

    Args:
        systems: all of them.
        denoise: whether pairs come without the denoiser's output.
    """

    def __init__(self, systems: Sequence[System], denoise: bool) -> None:
        self.systems, self.denoise = list(systems), denoise
        self.whole = {s.name: Restorer.load(s.url, device="cpu") for s in systems if _runs(s)}
        self.repairs = {
            s.name: Restorer.load(s.url, denoise=False, device="cpu") for s in systems if s.url
        }

    def outputs(self, pair: Loaded) -> dict[str, Tensor]:
        """Return what each system makes of a pair, ``(samples,)``; none where its noisy side lacks."""
        if self.denoise:
            assert pair.noisy is not None
            return self._run(pair.noisy)
        assert pair.degraded is not None
        return self._repair(pair.degraded, pair.noisy)

    def on_clean(self, clean: Tensor) -> dict[str, Tensor]:
        """Return what each whole chain, denoiser included, makes of clean speech ``(samples,)``."""
        made = self._run(clean)
        made.pop(NOISY, None)  # nothing is done to it
        return made

    def alone_on_clean(self, clean: Tensor) -> dict[str, Tensor]:
        """Return what each checkpoint makes of clean speech ``(samples,)`` without the denoiser."""
        return {
            name: restorer.process(
                clean[None], clean[None] if restorer.noisy_input else None
            ).restored[0]
            for name, restorer in self.repairs.items()
        }

    def _run(self, noisy: Tensor) -> dict[str, Tensor]:
        made = {}
        for system in self.systems:
            if _runs(system):
                both = self.whole[system.name].process(noisy[None])
                made[system.name] = (both.restored if system.url else both.denoised)[0]
        return self._with_mixes(made, noisy)

    def _repair(self, degraded: Tensor, noisy: Tensor | None) -> dict[str, Tensor]:
        made = {}
        for system in self.systems:
            if system.url:
                restorer = self.repairs[system.name]
                heard = noisy[None] if noisy is not None and restorer.noisy_input else None
                made[system.name] = restorer.process(degraded[None], heard).restored[0]
            elif _runs(system):
                made[system.name] = degraded
        return self._with_mixes(made, noisy)

    def _with_mixes(self, made: dict[str, Tensor], noisy: Tensor | None) -> dict[str, Tensor]:
        """Return all outputs in the systems' order."""
        if noisy is not None:
            for system in self.systems:
                if system.needs_noisy:
                    share = system.noisy_share
                    made[system.name] = (1 - share) * made[BASELINE] + share * noisy
        return {s.name: made[s.name] for s in self.systems if s.name in made}


def describe(systems: Sequence[System], chains: Chains, data: Data) -> Iterator[dict[str, object]]:
    """Yield what is to be told of each system."""
    for system in systems:
        told: dict[str, object] = {"name": system.name}
        if system.url:
            told |= {"checkpoint": system.url, "sha256": storage.sha256(storage.read(system.url))}
            # With it and without it a generator is two systems.
            if chains.whole[system.name].noisy_input:
                told["heard_noisy"] = data.noisy
        elif system.needs_noisy:
            told["noisy_share"] = system.noisy_share
        yield told


def _runs(system: System) -> bool:
    return system.url is not None or system.name == BASELINE


def _share(word: str, percent: str) -> float:
    share = float(percent) / 100
    if not 0 < share < 1:
        raise ConfigError(f"{word}: expected a share between 0 and 100 %")
    return share


def _checkpoints(words: Sequence[str]) -> list[System]:
    """Return checkpoints under the names they were given, or else those of their runs' folders.

    Those that come with timbre go by their own.
    """
    systems = []
    for word in words:
        named = NAMED.fullmatch(word)
        name, url = (named[1], named[2]) if named else ("", word)
        if not name and len(words) == 1:
            name = RESTORED
        elif not name:
            name = url if url in shipped.NAMES else PurePosixPath(url).parent.name or url
        if name in (NOISY, BASELINE, CLEAN, NO_CHECKPOINT):
            raise ConfigError(f"{word}: {name} names another system; choose a name of its own")
        systems.append(System(name, shipped.resolve(url)))
    return systems
