"""The shard contract: records, manifests, tars and pairs."""

from timbre.shards.corpus import Corpus, DataSource, open_corpus
from timbre.shards.pairs import NOISY_SIDES, PairBytes, PairPlace, SIDES, cut_segment, holds_noisy, side_names
from timbre.shards.records import AudioFormat, MANIFEST_NAME, META_MEMBER, Manifest, Member, OPEN, PairEntry, PairMeta, Rejection, SCHEMA, ShardEntry, ShardIndex, Source, Split, folder_of, from_json, index_path, load_index, load_manifest, manifest_url, parse_index, sha256, shard_path, to_json
from timbre.shards.tar import audio_member
from timbre.shards.whole_pairs import AlignedPair, PairList, load_pair, spread

__all__ = [
    "AlignedPair",
    "AudioFormat",
    "Corpus",
    "DataSource",
    "MANIFEST_NAME",
    "META_MEMBER",
    "Manifest",
    "Member",
    "NOISY_SIDES",
    "OPEN",
    "PairBytes",
    "PairEntry",
    "PairList",
    "PairMeta",
    "PairPlace",
    "Rejection",
    "SCHEMA",
    "SIDES",
    "ShardEntry",
    "ShardIndex",
    "Source",
    "Split",
    "audio_member",
    "cut_segment",
    "folder_of",
    "from_json",
    "holds_noisy",
    "index_path",
    "load_index",
    "load_manifest",
    "load_pair",
    "manifest_url",
    "open_corpus",
    "parse_index",
    "sha256",
    "shard_path",
    "side_names",
    "spread",
    "to_json",
]
