"""The names of denoisers: each means the same in every command, config, shard and checkpoint."""

DF3, OFFICIAL, RNNOISE, GATE, NONE = "df3", "official", "rnnoise", "gate", "none"
NAMES = (DF3, OFFICIAL, RNNOISE, GATE, NONE)
ONNX = "onnx"
# Those that take live signals; the others look ahead, or take whole signals only.
BY_HOP = (DF3, RNNOISE, NONE)
# Another name of DeepFilterNet3: the one that plans and shards have, so that old ones are still valid.
LONG_NAME = "deepfilternet3"


def check_name(name: str) -> str:
    """Return the name of a denoiser as it stands in ``NAMES``, or ``onnx:PATH`` as it is.

    Raises:
        ValueError: there is no such denoiser.
    """
    if name == LONG_NAME:
        return DF3
    if name in NAMES or (kind_of(name) == ONNX and len(name) > len(f"{ONNX}:")):
        return name
    raise ValueError(f"expected {', '.join(NAMES)} or {ONNX}:PATH, got {name!r}")


def kind_of(name: str) -> str:
    """Return what kind of denoiser it is, wherever its file lies: ``onnx`` of ``onnx:PATH``."""
    return ONNX if name.startswith(f"{ONNX}:") else name


def to_record(name: str) -> str:
    """Return what plans and shards call a denoiser."""
    return LONG_NAME if name == DF3 else kind_of(name)


def from_record(name: str) -> str:
    """Return a denoiser's name from what a plan or shard calls it."""
    return DF3 if name == LONG_NAME else name
