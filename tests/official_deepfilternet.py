"""The official `deepfilternet` package made to run beside a torchaudio of today."""

import importlib.util
import io
import sys
import tarfile
import tempfile
import types
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from timbre.denoise.onnx_archive import read_archive
from timbre.denoise.weights import wheel_archive

INSTALLED = all(importlib.util.find_spec(name) is not None for name in ("df", "libdf"))


class Official:
    """An official `DfNet` with the published weights, and `df.enhance.enhance` to run it."""

    def __init__(self) -> None:
        stub_torchaudio_backend()
        import df.deepfilternet3
        from df.config import config
        from df.enhance import enhance
        from libdf import DF
        from loguru import logger

        logger.disable("df")
        archive = wheel_archive().read_bytes()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "config.ini"
            path.write_bytes(config_ini(archive))
            config.load(str(path), config_must_exist=True, allow_defaults=True, allow_reload=True)
        parameters = df.deepfilternet3.ModelParams()
        self.state = DF(
            sr=parameters.sr,
            fft_size=parameters.fft_size,
            hop_size=parameters.hop_size,
            nb_bands=parameters.nb_erb,
            min_nb_erb_freqs=parameters.min_nb_freqs,
        )
        self.model: Any = df.deepfilternet3.init_model(self.state).eval()
        self.run: Any = enhance
        missing, unexpected = self.model.load_state_dict(read_archive(archive), strict=False)
        not_in_the_result = ("erb_fb", "mask.", "enc.lsnr_fc", "df_dec.df_fc_a")
        left = [name for name in missing if "num_batches_tracked" not in name]
        assert all(name.startswith(not_in_the_result) for name in left), left
        assert not unexpected, unexpected

    def enhance(self, noisy: Tensor) -> Tensor:
        """(samples,) denoised from (samples,), the delay compensated."""
        self.state.reset()
        denoised: Tensor = self.run(self.model, self.state, noisy[None], pad=True)[0]
        return denoised


def config_ini(archive: bytes) -> bytes:
    """The model's configuration in the archive of weights."""
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as tar:
        (name,) = (name for name in tar.getnames() if name.endswith("config.ini"))
        member = tar.extractfile(name)
        assert member is not None
        return member.read()


def randomize(model: torch.nn.Module, seed: int) -> None:
    """Shake all weights a little, and give the batch norms statistics that a training could."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            noise = torch.rand(tensor.shape, generator=generator)
            if name.endswith("running_var"):
                tensor.copy_(0.5 + noise)
            elif name.endswith("running_mean"):
                tensor.copy_(0.2 * noise - 0.1)
            elif tensor.is_floating_point() and "erb" not in name.rpartition(".")[2]:
                tensor.mul_(0.8 + 0.4 * noise)


def stub_torchaudio_backend() -> None:
    """Give `df.io` the one name that it imports from a module gone since torchaudio 2.9."""
    backend = types.ModuleType("torchaudio.backend")
    common = types.ModuleType("torchaudio.backend.common")
    common.AudioMetaData = object  # type: ignore[attr-defined]
    sys.modules.setdefault("torchaudio.backend", backend)
    sys.modules.setdefault("torchaudio.backend.common", common)
