"""Optional packages: which are installed, and what to install for one that is missing.

The import itself stays in the one file that uses a package.
"""

from importlib.util import find_spec

from timbre.errors import MissingPackageError

# Name to import -> what pip installs it with.
NEEDS = {
    "pesq": "timbre[eval]",
    "pystoi": "timbre[eval]",
    "zimtohrli": "timbre[eval]",
    "visqol": "timbre[eval]",
    "speechmos": "timbre[mos]",
    "resemblyzer": "timbre[mos]",
    "distillmos": "timbre[mos]",
    "pocketsphinx": "timbre[words]",
    "onnxruntime": "timbre[onnx]",
    "onnxscript": "timbre[export]",
    "gradio": "timbre[ui]",
    "pyloudnorm": "timbre[listen]",
    "pyroomacoustics": "timbre[prep]",
    "matplotlib": "timbre[prep]",
    "ray": "timbre[ray]",
    "s3fs": "timbre[s3]",
    "wandb": "timbre[trackers]",
    "mlflow": "timbre[trackers]",
    "trackio": "timbre[trackers]",
    "huggingface_hub": "timbre[hub]",
    "df": "timbre[official]",
    "pyrnnoise": "timbre[rnnoise]",
    "sounddevice": "timbre[live]",
    "pipecat": "timbre[agents]",
    "noisereduce": "timbre[gate]",
}


# Where the name in an index is another.
INDEX_NAMES = {
    "mlflow": "mlflow-skinny",
    "pipecat": "pipecat-ai",
    "resemblyzer": "Resemblyzer",
    "visqol": "visqol-python",
    "df": "deepfilternet",
}


def missing(name: str, purpose: str = "this") -> str | None:
    """Return which package ``purpose`` needs and how to install it, or None if it is there.

    Args:
        name: of the package, as it is imported; a key of ``NEEDS``.
        purpose: what the message says needs the package.
    """
    if find_spec(name) is not None:
        return None
    index_name = INDEX_NAMES.get(name, name)
    return f"{purpose} needs the package {index_name}: pip install '{NEEDS[name]}'"


def require(name: str, purpose: str = "this") -> None:
    """Do nothing if a package is installed.

    Raises:
        MissingPackageError: it is not; the message says how to install it.
    """
    if message := missing(name, purpose):
        raise MissingPackageError(message)
