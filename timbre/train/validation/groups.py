"""Groups of validation pairs whose figures are told apart: by denoiser, and telephones."""

import json
from collections.abc import Sequence

import torch
from torch import Tensor

from timbre.denoiser_names import from_record
from timbre.shards import META_MEMBER, Corpus, PairPlace, read_members
from timbre.train.validation.figures import PERCEPTUAL, QUALITY, Columns

# What each pair has: the place of its denoiser among all names, and how far up its clean side goes.
BEHIND, BANDWIDTH = "behind", "bandwidth_hz"
GROUPS = (BEHIND, BANDWIDTH)
# What is told of each group.
GROUPED = tuple(side + name for side in ("", "degraded/") for name in (*QUALITY, *PERCEPTUAL))
TELEPHONE, TELEPHONE_HZ = "telephone", 8_000.0
UNKNOWN = -1.0


class Groups:
    """The groups of some corpora's pairs; pairs behind one denoiser only are no group."""

    def __init__(self, corpora: Sequence[Corpus]) -> None:
        self._names = sorted({name for corpus in corpora for name in corpus.denoisers})

    def columns(self, place: PairPlace) -> Columns:
        """Return what of ``GROUPS`` a pair has; its meta is read only where there are several denoisers.

        Raises:
            ShardError, OSError: the meta cannot be read.
        """
        behind = UNKNOWN
        if len(self._names) > 1 and META_MEMBER in place.entry.members:
            (data,) = read_members(place.url, place.entry, [META_MEMBER])
            meta = json.loads(bytes(data))
            name = from_record(str(meta.get("denoiser"))) if isinstance(meta, dict) else ""
            behind = float(self._names.index(name)) if name in self._names else UNKNOWN
        return {
            BEHIND: torch.tensor(behind),
            BANDWIDTH: torch.tensor(float(place.entry.bandwidth_hz)),
        }

    def rows(self, columns: Columns) -> dict[str, Tensor]:
        """Return by name which pairs are in a group, bool ``(pairs,)``; none that holds all or nothing."""
        groups = {
            f"behind_{name}": columns[BEHIND] == number for number, name in enumerate(self._names)
        }
        groups[TELEPHONE] = columns[BANDWIDTH] <= TELEPHONE_HZ
        return {name: rows for name, rows in groups.items() if rows.any() and not rows.all()}
