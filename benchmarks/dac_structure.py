"""A GAN step as the Descript Audio Codec's trainer takes it, of
plain blocks: each layer normalises its own weight, each loss goes through layers one by one.

After its `scripts/train.py` and `dac/nn/loss.py` (Kumar et al. 2023): real and fake go through the
discriminators in passes of their own, twice a step, and the discriminators stay unfrozen in the
generator's step, so that it computes gradients of their weights that nobody uses.
"""

import torch
from torch import Tensor, nn

from tests.help import plain_gan as plain
from timbre.models.discriminators import Preset
from timbre.train.gan.gan import DTYPES, Precision
from timbre.train.losses.reconstruction import LossConfig, ReconstructionLoss

# The codec's own discriminators: full-width multi-period, and multi-band at three resolutions.
DAC_PRESET = Preset((2, 3, 5, 7, 11), (32, 128, 512, 1024, 1024), (2048, 1024, 512), 32, 4)


class DacTrainer:
    """Both networks and their optimizers, on one device."""

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        device: torch.device,
        precision: Precision,
    ) -> None:
        self.generator, self.discriminator = generator.to(device), discriminator.to(device)
        self.device, self.precision = device, precision
        self.optimizers = {
            network: torch.optim.AdamW(network.parameters(), 1e-4, betas=(0.8, 0.99))
            for network in (self.generator, self.discriminator)
        }
        self.reconstruction = ReconstructionLoss().to(device)
        self.weights = LossConfig()

    def step(self, degraded: Tensor, clean: Tensor, bandwidth_hz: Tensor) -> Tensor:
        """Take one step of each network on ``(batch, 1, samples)``; return the generator's loss."""
        with self._autocast():
            restored = self.generator(degraded)
        with self._autocast():
            fake = self.discriminator(restored.detach())
            real = self.discriminator(clean)
        self._descend(self.discriminator, plain.discriminator_loss(real, fake), 10.0)
        terms = self.reconstruction(restored.float(), clean, bandwidth_hz)
        with self._autocast():
            fake = self.discriminator(restored)
            real = self.discriminator(clean)
        terms["adversarial"] = plain.adversarial_loss(fake)
        terms["feature_matching"] = plain.feature_matching_loss(real, fake)
        weighted_losses = [getattr(self.weights, name) * term for name, term in terms.items()]
        loss = torch.stack(weighted_losses).sum()
        self._descend(self.generator, loss, 1e3)
        return loss.detach()

    def _autocast(self) -> torch.autocast:
        dtype = DTYPES.get(self.precision)
        return torch.autocast(self.device.type, dtype, enabled=dtype is not None)

    def _descend(self, network: nn.Module, loss: Tensor, max_grad_norm: float) -> None:
        self.optimizers[network].zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(network.parameters(), max_grad_norm)
        self.optimizers[network].step()
