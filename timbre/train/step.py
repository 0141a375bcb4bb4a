"""Train the restorer:  accelerate launch -m timbre.train CONFIG [section.key=value ...]"""

import sys
from collections.abc import Sequence
from contextlib import closing

import torch
from torch import Tensor

from timbre import config as configs
from timbre.command import at_least, config_parser, restartable_command, say
from timbre.errors import ToldError
from timbre.stream import PairBatch, augment
from timbre.stream.augment import Sides
from timbre.train.config import TrainConfig
from timbre.train.dry_run.describe import write_plan
from timbre.train.gan import balance
from timbre.train.gan.gan import discriminator_view, frozen, halves
from timbre.train.gan.schedule import adversarial_share
from timbre.train.losses import reconstruction as losses
from timbre.train.ranks import naming_lost_ranks
from timbre.train.run import Run, catch_signals, open_run
from timbre.train.told_once import told_once
from timbre.train.watch.alarms import discriminator_accuracy

Metrics = dict[str, Tensor]
# The terms whose weights the schedule ramps.
ADVERSARIAL = ("adversarial", "feature_matching")


def train(config: TrainConfig) -> bool:
    """Train from the run's last checkpoint, or from the start, to ``config.steps``.

    Returns:
        Whether it got there; False: a signal has ended it before.

    Raises:
        ConfigError: the config contradicts the data, the number of ranks, or the run so far.
        ShardError, OSError: the data cannot be read.
        CheckpointError: what the run goes on or starts from is damaged or of another architecture.
        WorkError: the gradients are not finite for too long.
    """
    run = open_run(config)
    if run.gan.step >= config.steps:
        run.telemetry.say(
            f"{config.run_dir}: finished at step {run.gan.step}; raise steps, or choose another run_dir"
        )
    with run.telemetry.log.recording(), closing(run.data), catch_signals() as interrupted:
        for batch in run.batches():
            run.watch(train_step(run, batch))
            step = run.gan.step
            last = step == config.steps
            saving = step % config.save_every == 0 or last
            logging = step % config.log_every == 0 or saving
            stopped = run.should_stop(interrupted.is_set(), now=logging)

            # Where the host waits for the device. Nothing is saved that has not been looked at.
            message = run.log() if logging or stopped else None
            if step % config.validate_every == 0 or last:
                with run.gan.eager():
                    run.validate()
            saved = (saving or stopped) and run.save()
            run.telemetry.advance(message)
            if stopped:
                how = f"saved at step {step}" if saved else f"step {step} could not be saved"
                run.telemetry.say(f"interrupted: {how}; the same command continues")
                break
    run.close()
    return run.gan.step >= config.steps


def train_step(run: Run, batch: PairBatch) -> Metrics:
    """Take one step of each network whose turn it is; return the scalars to be logged."""
    return descend(run, augmented(batch, run.config))


def descend(run: Run, sides: Sides) -> Metrics:
    """The same, on waveforms that are augmented."""
    gan = run.gan
    gan.set_learning_rates(run.adversarial_start)
    clean, bandwidth_hz = run.reconstruction.target(sides.clean, sides.degraded, sides.bandwidth_hz)
    with gan.autocast(clean.device):
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
    return {
        "d/loss": loss,
        "d/accuracy": discriminator_accuracy(real, fake),
        "d/grad_norm": run.gan.descend_discriminator(loss),
    }


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
        terms["adversarial"] = losses.adversarial_loss(fake)
        terms["feature_matching"] = losses.feature_matching_loss(real, fake)
    weights = {
        name: getattr(run.config.loss, name) * (share if name in ADVERSARIAL else 1.0)
        for name in terms
    }
    return descend_generator(run, restored, terms, weights)


def descend_generator(
    run: Run, restored: Tensor, terms: Metrics, weights: dict[str, float]
) -> Metrics:
    """Take the generator's step down the weighted, or balanced, terms; tell their shares in it."""
    loss, told = losses.weighted_sum(terms, weights)
    metrics = {f"g/{name}": value for name, value in told.items()} | {"g/loss": loss}
    looking = run.gan.step % run.config.log_gradients_every == 0
    if looking or run.balancer is not None:
        gradients = run.gan.generator_descent.gradients(terms, restored)
        norms = balance.item_norms(gradients)
        factors: dict[str, Tensor | float] = {**weights}
        if run.balancer is not None:
            factors |= run.balancer.factors(norms, weights)
        if looking:
            found = balance.shares(norms, factors)
            metrics |= {f"g/gradient_share/{name}": part for name, part in found.items()}
    if run.balancer is None:
        metrics["g/grad_norm"] = run.gan.descend_generator(loss)
    else:
        balanced = torch.stack([factors[name] * g for name, g in gradients.items()]).sum(0)
        metrics["g/grad_norm"] = run.gan.descend_generator(restored, balanced)
    return metrics


@restartable_command
def main(argv: Sequence[str] | None = None) -> None:
    """Train by ``CONFIG [section.key=value ...]``."""
    parser = config_parser("train", "Train the restorer.", "configs/train.yaml")
    parser.add_argument(
        "--fail-if-interrupted",
        action="store_true",
        help="exit with 1 where a signal ended the run before its last step, for a scheduler that "
        "takes 0 for finished",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="check config, data and checkpoint, and show what the run would do and need; nothing is "
        "written",
    )
    parser.add_argument(
        "--ranks",
        metavar="N",
        type=at_least(1),
        help="for so many ranks (with --dry-run; by default those that there are, one without a launcher)",
    )
    given = parser.parse_intermixed_args(argv)
    with told_once():
        config = configs.load(TrainConfig, given.config, given.overrides)
        with naming_lost_ranks(config.ranks):
            if given.dry_run:
                run = open_run(config, begin=False)
                plan = write_plan(run, descend, given.ranks or run.accelerator.num_processes)
                if run.accelerator.is_main_process:
                    say(plan)
                return
            finished = train(config)
    if given.fail_if_interrupted and not finished:
        raise ToldError("interrupted")


if __name__ == "__main__":
    sys.exit(main())
