"""Pairs as stored bytes, from local shards, by ranged GETs, or from shards that are kept on the node.

What is handed out has been checked against its CRC-32.
"""

import os
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import zip_longest
from pathlib import Path
from typing import BinaryIO, NamedTuple

from pydantic.dataclasses import dataclass

from timbre import shards, storage
from timbre.config import STRICT, Count, Name, Positive
from timbre.errors import ShardError
from timbre.shards import PairBytes, PairPlace, ShardEntry, ShardIndex, side_names
from timbre.storage import EndOfFileError, FileCache, RemoteReader, Span, StoreError
from timbre.stream.bad_pair import BadPair
from timbre.stream.counters import Counters
from timbre.stream.straight import Aim, StraightRead, read_straight


@dataclass(config=STRICT)
class ReadingConfig:
    """How shards in a store are read; of shards on a disk only what is needed is read anyway."""

    # GETs at once, for each reading process.
    in_flight: Count = 8
    # A read that keeps failing for so long ends the run.
    deadline_seconds: Positive = 120.0
    # A folder on this machine's disk: shards are fetched whole, once for all ranks on it, and kept.
    cache_dir: Name | None = None
    cache_bytes: Count = 100_000_000_000


class PairRequest(NamedTuple):
    """A pair by its number in a shard, whose paths are relative to a folder of tars and one of indexes."""

    folder: str
    index_folder: str
    shard: ShardEntry
    number: int


class PairSpan(NamedTuple):
    """Members of a pair, and the stretch of the tar that holds them."""

    place: PairPlace
    names: tuple[str, ...]
    span: Span

    def check(self, data: bytes) -> PairBytes:
        """Return the pair; ShardError if these are not the bytes that were indexed."""
        place = self.place
        members = shards.split_span(data, self.span.offset, place.entry, self.names, place.url)
        return PairBytes(place, self.names, tuple(members))

    def bad(self, error: Exception) -> BadPair:
        """Return the pair as one that cannot be read."""
        return BadPair.of(self.place.url, self.place.entry.key, error)


class PairReader:
    """Reads pairs of one process; use it from any thread of it.

    Args:
        config: how to read what is not local.
        sides: which sides of a pair are wanted, in this order.
        open_shards: of so many shards the index is kept, and the file is open.
    """

    def __init__(self, config: ReadingConfig, sides: Sequence[str], open_shards: int) -> None:
        self.sides = tuple(sides)
        self._remote = RemoteReader(config.in_flight, config.deadline_seconds)
        self._cache: FileCache | None = None
        if config.cache_dir is not None:
            folder = Path(config.cache_dir)
            self._cache = FileCache(folder, config.cache_bytes, self._remote.read_many)
        # Shards that do not come whole with the right hash: of these, pairs are read one by one.
        self._broken_shards: set[str] = set()
        # Shards with a pair that could not be read straight into a batch.
        self._indirect: set[str] = set()
        self._local_bytes = 0
        self._is_local = lru_cache(maxsize=None)(storage.is_local)
        self._index_of = lru_cache(open_shards)(self._load_index)
        # A file closes when the last one who reads from it lets go.
        self._file_at = lru_cache(open_shards)(_open_local)

    def read(
        self, requests: Sequence[PairRequest], aims: Sequence[Aim] = ()
    ) -> Iterator[PairBytes | StraightRead | BadPair]:
        """Yield each pair's bytes, or why it cannot be had; what lies here is read at its turn.

        ``aims`` are places for the segments of all requests, or none. A pair that can be read
        straight into its place is a StraightRead.

        Raises:
            StoreError: the store is the trouble, and would be for any other pair.
        """
        spans = [self._find(request) for request in requests]
        absent = [one for one in spans if isinstance(one, PairSpan) and not self._is_here(one)]
        remote_pairs = self._fetch(absent)
        for one, aim in zip_longest(spans, aims):
            if isinstance(one, BadPair):
                yield one
            else:
                yield self._read_here(one, aim) if self._is_here(one) else next(remote_pairs)

    def counters(self) -> Counters:
        """Return what reading took so far."""
        remote, cache = self._remote, self._cache
        return Counters(
            self._local_bytes + remote.bytes,
            remote.requests,
            remote.retries,
            cache.hits if cache else 0,
            cache.fetches if cache else 0,
            cache.bypasses if cache else 0,
        )

    def close(self) -> None:
        """Let go of what is still on its way, and of open files."""
        self._remote.close()
        self._file_at.cache_clear()
        self._index_of.cache_clear()

    def _find(self, request: PairRequest) -> PairSpan | BadPair:
        key = f"pair {request.number}"
        try:
            entry = self._index_of(*request[:3]).pairs[request.number]
            key = entry.key
            place = PairPlace(request.folder, request.shard, entry)
            names = side_names(place, self.sides)
        except StoreError:
            raise
        except (ShardError, OSError) as error:
            return BadPair.of(storage.join(request.folder, request.shard.path), key, error)
        return PairSpan(place, names, shards.span_of(place.url, entry, names))

    def _load_index(self, folder: str, index_folder: str, shard: ShardEntry) -> ShardIndex:
        """Return a shard's index; a tar that is not as long as the manifest says is refused.

        Its pairs are as many as the manifest says, too, or no number of a pair would be sure.
        """
        url = storage.join(index_folder, shards.index_path(shard.path))
        patience = self._remote.patience
        copy = None
        if self._cache is not None and not self._is_local(index_folder):
            copy = self._open_copy(url, storage.size(url, patience), shard.index_sha256)
        data = copy.read() if copy else storage.read(url, patience)
        if copy and storage.sha256(data) != shard.index_sha256:  # damaged since it was compared
            self._discard_copy(shard.index_sha256)
            data = storage.read(url, patience)
        index = shards.parse_index(data, shard, url)
        if (pairs := len(index.pairs)) != shard.pairs:
            raise ShardError(f"{url}: {pairs} pairs, but the manifest says {shard.pairs}")
        if self._cache is None or self._is_local(folder):  # the hash of a copy says more
            tar_url = storage.join(folder, shard.path)
            if (length := storage.size(tar_url, patience)) != shard.bytes:
                raise ShardError(f"{tar_url}: {length} bytes, but the manifest says {shard.bytes}")
        return index

    def _is_here(self, pair_span: PairSpan) -> bool:
        return self._cache is not None or self._is_local(pair_span.place.folder)

    def _read_here(
        self, pair_span: PairSpan, aim: Aim | None
    ) -> PairBytes | StraightRead | BadPair:
        """Return a pair that lies on this machine, or shall."""
        url, shard = pair_span.place.url, pair_span.place.shard
        try:
            if self._is_local(pair_span.place.folder):
                self._local_bytes += pair_span.span.length
                file = self._file_at(url)
                if aim and self._land(file, pair_span, aim):
                    return StraightRead(pair_span.place)
                return self._read_file(file, pair_span)
            copy = self._copy_of(url, shard)
        except StoreError:
            raise
        except (ShardError, OSError) as error:
            return pair_span.bad(error)
        if copy is not None:
            with copy:
                try:
                    return self._read_file(copy, pair_span)
                except (ShardError, OSError):  # damaged since it was fetched
                    self._discard_copy(shard.sha256)
        return next(self._fetch([pair_span]))

    def _land(self, file: BinaryIO, pair_span: PairSpan, aim: Aim) -> bool:
        """Read a pair straight into the batch, if that can be; where it cannot, a shard's others
        are not tried, which would be to read them twice."""
        place = pair_span.place
        if place.shard.sha256 in self._indirect:
            return False
        result = read_straight(file, place, pair_span.names, aim)
        if not result:
            self._indirect.add(place.shard.sha256)
        return result

    def _copy_of(self, url: str, shard: ShardEntry) -> BinaryIO | None:
        """Return a cached shard; None if there is no room, or it is not what the manifest says."""
        if shard.sha256 in self._broken_shards:
            return None
        try:
            return self._open_copy(url, shard.bytes, shard.sha256)
        except (ShardError, EndOfFileError):  # one flipped bit costs one pair, not its shard
            self._broken_shards.add(shard.sha256)
            return None

    def _read_file(self, file: BinaryIO, pair_span: PairSpan) -> PairBytes:
        url, offset, length = pair_span.span
        data = os.pread(file.fileno(), length, offset)
        if len(data) != length:
            raise EndOfFileError(f"{url}: ends before {offset + length}")
        return pair_span.check(data)

    def _open_copy(self, url: str, length: int, sha256: str) -> BinaryIO | None:
        assert self._cache is not None
        try:
            return self._cache.open(url, length, sha256)
        except (StoreError, FileNotFoundError, EndOfFileError):
            raise
        except OSError as error:  # the cache's own folder or disk
            raise StoreError(str(error)) from None

    def _discard_copy(self, sha256: str) -> None:
        assert self._cache is not None
        try:
            self._cache.discard(sha256)
        except OSError as error:
            raise StoreError(f"cache_dir: a damaged copy cannot be deleted: {error}") from None

    def _fetch(self, spans: Sequence[PairSpan]) -> Iterator[PairBytes | BadPair]:
        """Yield pairs out of the store."""
        answers = self._remote.read_each([one.span for one in spans])
        for one, data in zip(spans, answers, strict=True):
            try:
                yield one.check(data) if isinstance(data, bytes) else one.bad(data)
            except ShardError:  # on the way, or in the store? Asked once more, it is told.
                yield self._fetch_again(one)

    def _fetch_again(self, pair_span: PairSpan) -> PairBytes | BadPair:
        (data,) = self._remote.read_each([pair_span.span])
        try:
            return pair_span.check(data) if isinstance(data, bytes) else pair_span.bad(data)
        except ShardError as error:
            return pair_span.bad(error)


def _open_local(url: str) -> BinaryIO:
    return storage.local_path(url).open("rb", buffering=0)
