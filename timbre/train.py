"""Train the restorer:  accelerate launch -m timbre.train CONFIG [section.key=value ...]"""

import sys
from collections.abc import Sequence
from contextlib import closing

import torch
from torch import Tensor

from timbre import augment, losses
from timbre import config as configs
from timbre.augment import Sides
from timbre.batches import PairBatch
from timbre.command import command, config_parser
from timbre.gan import discriminator_view, frozen, halves
from timbre.run import Run, catch_signals, open_run
from timbre.schedule import adversarial_share
from timbre.train_config import TrainConfig

Metrics = dict[str, Tensor]


def train(config: TrainConfig) -> None:
    """Train from the run's last checkpoint, or from the start, to ``config.steps``.

    Raises:
        ConfigError: the config contradicts the data, the number of ranks, or the run so far.
        ShardError, OSError: the data cannot be read.
    """
    run = open_run(config)
    with closing(run.data), catch_signals() as interrupted:
        for batch in run.batches():
            run.meter.add(train_step(run, batch))
            step = run.gan.step
            last = step == config.steps
            saving = step % config.save_every == 0 or last
            logging = step % config.log_every == 0 or saving
            stopped = run.should_stop(interrupted.is_set(), now=logging)

            # Where the host waits for the device. Nothing is saved that has not been looked at.
            message = run.log() if logging or stopped else None
            if step % config.validate_every == 0 or last:
                run.validate()
            if saving or stopped:
                run.save()
            run.telemetry.advance(message)
            if stopped:
                run.telemetry.say(f"interrupted: saved at step {step}; the same command continues")
                break
    run.close()


def train_step(run: Run, batch: PairBatch) -> Metrics:
    """Take one step of each network whose turn it is; return the scalars to be logged."""
    config, gan, device = run.config, run.gan, run.accelerator.device
    gan.set_learning_rates()
    sides = augmented(batch, config)
    clean, bandwidth_hz = sides.clean, sides.bandwidth_hz
    with gan.autocast(device):
        restored = gan.generator(sides.degraded, sides.noisy).float()
    metrics: Metrics = {}
    if gan.step >= run.adversarial_start:
        metrics |= discriminator_step(run, restored.detach(), clean, bandwidth_hz)
    metrics |= generator_step(run, restored, clean, bandwidth_hz)
    gan.step += 1
    return metrics


def augmented(batch: PairBatch, config: TrainConfig) -> Sides:
    """Return the batch's waveforms as float32, augmented on the device that they are on."""
    degraded, clean, noisy = (
        None if wave is None else wave.float()[:, None] / 32768
        for wave in (batch.degraded, batch.clean, batch.noisy)
    )
    assert degraded is not None and clean is not None
    drawn = augment.draw(config.augment, config.seed, batch.epoch, batch.positions)
    sides = Sides(degraded, clean, noisy, batch.bandwidth_hz)
    return augment.apply(drawn.to(degraded.device), sides)


def discriminator_step(run: Run, restored: Tensor, clean: Tensor, bandwidth_hz: Tensor) -> Metrics:
    """Teach the discriminator to tell clean from restored."""
    views = discriminator_view(clean, restored, bandwidth_hz)
    with run.gan.autocast(clean.device):
        # One pass over both: DDP allows one forward a step, and it is half the kernels.
        judgements = run.gan.discriminator(torch.cat(views))
    real, fake = halves(judgements)
    loss = losses.discriminator_loss(real, fake)
    return {"d/loss": loss, "d/grad_norm": run.gan.descend_discriminator(loss)}


def generator_step(run: Run, restored: Tensor, clean: Tensor, bandwidth_hz: Tensor) -> Metrics:
    """Bring restored nearer to clean and, once it is time, past the discriminator."""
    terms = run.reconstruction(restored, clean, bandwidth_hz)
    share = adversarial_share(run.gan.step, run.adversarial_start, run.config.adversarial)
    if share > 0:
        real_view, fake_view = discriminator_view(clean, restored, bandwidth_hz)
        with frozen(run.gan.discriminator) as critic, run.gan.autocast(clean.device):
            with torch.no_grad():
                real = critic(real_view)
            fake = critic(fake_view)
        terms["adversarial"] = share * losses.adversarial_loss(fake)
        terms["feature_matching"] = share * losses.feature_matching_loss(real, fake)
    weighted = {name: getattr(run.config.loss, name) * term for name, term in terms.items()}
    loss = torch.stack(list(weighted.values())).sum()
    norm = run.gan.descend_generator(loss)
    return {f"g/{name}": term for name, term in weighted.items()} | {
        "g/loss": loss,
        "g/grad_norm": norm,
    }


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Train by ``CONFIG [section.key=value ...]``."""
    given = config_parser("train", "Train the restorer.", "configs/train.yaml").parse_args(argv)
    train(configs.load(TrainConfig, given.config, given.overrides))


if __name__ == "__main__":
    sys.exit(main())
