"""The training stream: the sample order, its batches, and their way to the device."""

from timbre.shards.corpus import DataSource, open_corpus
from timbre.stream.batches import PairBatch
from timbre.stream.counters import Counters
from timbre.stream.device_loader import DeviceLoader
from timbre.stream.mixes import DataChange, DataMix, MixedOrder, open_mixes
from timbre.stream.order import Order, SampleOrder
from timbre.stream.pair_stream import PairStream
from timbre.stream.pipeline import Place, StreamConfig
from timbre.stream.reader import ReadingConfig
from timbre.stream.reading_processes import Wait

__all__ = [
    "Counters",
    "DataChange",
    "DataMix",
    "DataSource",
    "DeviceLoader",
    "MixedOrder",
    "Order",
    "PairBatch",
    "PairStream",
    "Place",
    "ReadingConfig",
    "SampleOrder",
    "StreamConfig",
    "Wait",
    "open_corpus",
    "open_mixes",
]
