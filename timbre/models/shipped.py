"""The checkpoints that come with timbre, by name."""

from importlib.resources import files

from timbre.errors import CheckpointError

OFFLINE, CAUSAL = "offline", "causal"
NAMES = (OFFLINE, CAUSAL)


def resolve(checkpoint: str) -> str:
    """Return the path of a shipped checkpoint's name; anything else is a path or URL as it is.

    Raises:
        CheckpointError: this installation lacks the checkpoint of that name.
    """
    if checkpoint not in NAMES:
        return checkpoint
    path = files("timbre") / "checkpoints" / f"{checkpoint}.safetensors"
    if not path.is_file():
        raise CheckpointError(
            f"{path}: this installation of timbre lacks its {checkpoint} checkpoint; name one of "
            "your own, such as best.safetensors of a training run"
        )
    return str(path)
