"""What is compared: the noisy input, DeepFilterNet3, a mix of both, and any checkpoints."""

import re
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

from torch import Tensor

from timbre import storage
from timbre.denoise import load_denoiser
from timbre.denoiser_names import DF3, NAMES
from timbre.errors import ConfigError
from timbre.evaluate.cases import LoadedPair
from timbre.models import NAMES_OF_OURS, load_checkpoint, resolve, strangeness
from timbre.restore.restorer import Restorer
from timbre.storage import hub

# BASELINE is the denoiser alone, whichever it is: its name is that of the usual one.
NOISY, BASELINE, CLEAN, RESTORED = "noisy", DF3, "clean", "restored"
# The user's other word for DeepFilterNet3 alone.
NO_CHECKPOINT = "none"
# What mixing noise back in gives: a checkpoint must beat it, too.
TENTH = "df3+10%"
MIX = re.compile(r"df3\+(\d+(?:\.\d+)?)%")
NAME_AND_URL = re.compile(r"([\w.+-]+)=(.+)")


class System(NamedTuple):
    """A system under its name: a checkpoint's path or URL, or how much of the noisy input is mixed in.

    With ``max_lift_db`` the checkpoint runs with that limit in place of its own. ``word`` is what the
    user calls it, where that is not its path or URL.
    """

    name: str
    url: str | None = None
    noisy_share: float = 0.0
    max_lift_db: float | None = None
    word: str = ""

    @property
    def needs_noisy(self) -> bool:
        """Whether it is nothing without the denoiser's input."""
        return self.noisy_share > 0


def parse_systems(words: Sequence[str], max_lift_db: float | None = None) -> list[System]:
    """Return the systems that words of the command line name, DeepFilterNet3 always among them.

    Args:
        words: ``noisy``, ``df3`` (or ``none``), ``df3+3%`` for that much of the noisy input mixed
            into it, ``URL`` or ``NAME=URL`` of a checkpoint.
        max_lift_db: a limit for every checkpoint in place of its own.

    Raises:
        ConfigError: two have one name, or a share is not between 0 and 100 %.
    """
    references, urls = [], []
    for word in words:
        if word == NOISY:
            references.append(System(NOISY, noisy_share=1.0))
        elif mix := MIX.fullmatch(word):
            references.append(System(word, noisy_share=_share(word, mix[1])))
        elif word not in (BASELINE, NO_CHECKPOINT):
            urls.append(word)
    checkpoints = [system._replace(max_lift_db=max_lift_db) for system in _checkpoints(urls)]
    systems = _in_order([*references, System(BASELINE), *checkpoints])
    names = [system.name for system in systems]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ConfigError(f"systems: {twice[0]} is named twice; give them names: NAME=CHECKPOINT")
    return systems


def with_references(systems: Sequence[System], noisy: bool, data: str) -> list[System]:
    """Return the systems, and what they must beat: the noisy input, and DF3 with a tenth of it.

    Args:
        systems: as the user names them.
        noisy: whether the noisy input is at hand.
        data: what the message calls the data.

    Raises:
        ConfigError: a system needs the noisy input, and the data does not hold it.
    """
    needy = [system.name for system in systems if system.needs_noisy]
    if not noisy:
        if needy:
            raise ConfigError(
                f"{data}: holds no noisy side, which {' and '.join(needy)} need; leave them out, "
                "or make the shards with store_noisy: true"
            )
        return list(systems)
    references = [System(NOISY, noisy_share=1.0), System(TENTH, noisy_share=0.1)]
    return _in_order([*(system for system in references if system.name not in needy), *systems])


class Chains:
    """Every system, loaded and ready to run.

    Args:
        systems: all of them.
        denoise: whether pairs come without the denoiser's output.
        denoiser: what runs there, and where nobody knows what ran.
    """

    def __init__(self, systems: Sequence[System], denoise: bool, denoiser: str = DF3) -> None:
        self.systems, self.denoise, self.denoiser = list(systems), denoise, denoiser
        self.repairs: dict[str, Restorer] = {}
        self._learned: dict[str, tuple[str, ...]] = {}
        self._wholes: dict[str, dict[str, Restorer]] = {}
        for system in systems:
            if system.url:
                generator, config, denoisers = load_checkpoint(system.url, system.max_lift_db)
                noisy = config.noisy_input
                self.repairs[system.name] = Restorer(generator, None, noisy_input=noisy)
                self._learned[system.name] = denoisers

    def load(self, denoisers: Sequence[str]) -> list[str]:
        """Load the chains behind some denoisers now; return a line for each strange checkpoint.

        Raises:
            ConfigError, MissingPackageError: a denoiser cannot be used.
        """
        lines = []
        for denoiser in denoisers:
            self._chains_behind(denoiser)
            lines += [
                line
                for name, learned in self._learned.items()
                if (line := strangeness(name, learned, denoiser)) is not None
            ]
        return lines

    def outputs(self, pair: LoadedPair) -> dict[str, Tensor]:
        """Return what each system makes of a pair, ``(samples,)``; none where its noisy side lacks."""
        if self.denoise:
            assert pair.noisy is not None
            return self._run(pair.noisy, self.denoiser)
        assert pair.degraded is not None
        return self._repair(pair.degraded, pair.noisy)

    def on_clean(self, clean: Tensor, denoiser: str | None = None) -> dict[str, Tensor]:
        """Return what each whole chain makes of clean speech ``(samples,)``.

        Args:
            clean: the speech.
            denoiser: what comes first: of a pair the one that it went through, where it is known.
        """
        name = denoiser if denoiser in NAMES and not self.denoise else self.denoiser
        outputs = self._run(clean, name)
        outputs.pop(NOISY, None)  # nothing is done to it
        return outputs

    def alone_on_clean(self, clean: Tensor) -> dict[str, Tensor]:
        """Return what each checkpoint makes of clean speech ``(samples,)`` without the denoiser."""
        return {
            name: restorer.process(
                clean[None], clean[None] if restorer.noisy_input else None
            ).restored[0]
            for name, restorer in self.repairs.items()
        }

    def _chains_behind(self, denoiser: str) -> dict[str, Restorer]:
        """Return every checkpoint behind a denoiser, and the denoiser alone."""
        if denoiser not in self._wholes:
            first = load_denoiser(denoiser)
            chains = {BASELINE: Restorer(None, first)}
            for name, repair in self.repairs.items():
                noisy = repair.noisy_input
                chains[name] = Restorer(repair.generator, first, noisy_input=noisy)
            self._wholes[denoiser] = chains
        return self._wholes[denoiser]

    def _run(self, noisy: Tensor, denoiser: str) -> dict[str, Tensor]:
        outputs: dict[str, Tensor] = {}
        whole = self._chains_behind(denoiser)
        # Every chain gives the denoiser's output too, the same to the bit.
        chains = [name for name in whole if name != BASELINE] or [BASELINE]
        for name in chains:
            both = whole[name].process(noisy[None])
            outputs[BASELINE] = both.denoised[0]
            if name != BASELINE:
                outputs[name] = both.restored[0]
        return self._with_mixes(outputs, noisy)

    def _repair(self, degraded: Tensor, noisy: Tensor | None) -> dict[str, Tensor]:
        outputs = {}
        for system in self.systems:
            if system.url:
                restorer = self.repairs[system.name]
                other = noisy[None] if noisy is not None and restorer.noisy_input else None
                outputs[system.name] = restorer.process(degraded[None], other).restored[0]
            elif system.name == BASELINE:
                outputs[system.name] = degraded
        return self._with_mixes(outputs, noisy)

    def _with_mixes(self, outputs: dict[str, Tensor], noisy: Tensor | None) -> dict[str, Tensor]:
        """Return all outputs in the systems' order."""
        if noisy is not None:
            for system in self.systems:
                if system.needs_noisy:
                    share = system.noisy_share
                    outputs[system.name] = (1 - share) * outputs[BASELINE] + share * noisy
        return {s.name: outputs[s.name] for s in self.systems if s.name in outputs}


def describe(systems: Sequence[System], chains: Chains, noisy: bool) -> Iterator[dict[str, object]]:
    """Yield what identifies each system; ``noisy`` is whether the noisy input is at hand."""
    for system in systems:
        facts: dict[str, object] = {"name": system.name}
        if system.url:
            facts |= {
                "checkpoint": system.word or system.url,
                "sha256": storage.sha256(storage.read(system.url)),
            }
            if system.max_lift_db is not None:
                facts["max_lift_db"] = system.max_lift_db
            # With it and without it a generator is two systems.
            if chains.repairs[system.name].noisy_input:
                facts["heard_noisy"] = noisy
        elif system.needs_noisy:
            facts["noisy_share"] = system.noisy_share
        yield facts


def _in_order(systems: Sequence[System]) -> list[System]:
    """Return noisy, DeepFilterNet3, mixes, checkpoints."""
    return sorted(systems, key=lambda s: (s.url is not None, s.name != NOISY, s.noisy_share))


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
        match = NAME_AND_URL.fullmatch(word)
        name, url = (match[1], match[2]) if match else ("", word)
        if not name and len(words) == 1:
            name = RESTORED
        elif not name:
            name = _name_of(url)
        if name in (NOISY, BASELINE, CLEAN, NO_CHECKPOINT):
            raise ConfigError(f"{word}: {name} names another system; choose a name of its own")
        path = resolve(url)
        systems.append(System(name, path, word=url if url != path else ""))
    return systems


def _name_of(url: str) -> str:
    if hub.is_hub(url):
        return hub.parse(url).repository.rpartition("/")[2]
    return url if url in NAMES_OF_OURS else PurePosixPath(url).parent.name or url
