"""One training run: opened or resumed, logged, validated, saved."""

import math
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed

from timbre import checkpoint, storage
from timbre import config as configs
from timbre.batches import PairBatch
from timbre.errors import CheckpointError, ConfigError, WorkError
from timbre.gan import Gan
from timbre.losses import ReconstructionLoss
from timbre.order import open_corpus
from timbre.schedule import resolve_start
from timbre.telemetry import Meter, Telemetry, to_wave
from timbre.train_config import TrainConfig
from timbre.training_data import TrainingData
from timbre.validate import Validation, summary

CONFIG_NAME = "config.yaml"
SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class Run:
    """What outlives a step: networks, stream, validation pairs, meters, the best score so far."""

    def __init__(self, config: TrainConfig, accelerator: Accelerator) -> None:
        self.config, self.accelerator = config, accelerator
        self.data = TrainingData(config, accelerator)
        steps_per_epoch = self.data.stream.steps_per_epoch
        self.adversarial_start = resolve_start(config.adversarial, steps_per_epoch)
        held_out = [open_corpus(source, "val") for source in config.data]
        self.validation = Validation(held_out, config.validation, accelerator)
        set_seed(config.seed)  # the same initial networks on every rank
        self.gan = Gan(
            config.generator,
            config.discriminator,
            config.optimizer,
            config.steps,
            config.precision,
            accelerator,
        )
        self.reconstruction = ReconstructionLoss().to(accelerator.device)
        self.meter = Meter()
        self.best_score = float("inf")
        self._resume()
        self._refuse_split_start()
        main = accelerator.is_main_process
        self.telemetry = Telemetry(config.run_dir, self.gan.step, config.steps, main)
        if self.validation.warning:
            self.telemetry.say(self.validation.warning)

    def batches(self) -> Iterator[PairBatch]:
        """Yield the batches of the steps that are left."""
        if self.gan.step >= self.config.steps:
            return
        for batch in self.data.batches():
            for bad in batch.replaced:
                self.telemetry.warn(f"replaced by the next pair: {bad}")
            yield batch
            if self.gan.step >= self.config.steps:
                return

    def log(self) -> str:
        """Write the scalars since the last call; return the line that the progress bar shows.

        Raises:
            ShardError, StoreError, ToldError: the data cannot be read, as ``TrainingData.settle`` says.
            WorkError: the loss is not finite.
        """
        scalars = self.data.settle() | self.meter.read(self.accelerator)
        if not math.isfinite(scalars["g/loss"]):
            raise WorkError(
                f"the loss is {scalars['g/loss']} by step {self.gan.step}; the last checkpoint is "
                "whole: try a lower optimizer.learning_rate, or precision fp32"
            )
        scalars["g/learning_rate"] = self.gan.generator_optimizer.param_groups[0]["lr"]
        self.telemetry.scalars(scalars, self.gan.step)
        return f"loss {scalars['g/loss']:.3f}"

    def validate(self) -> None:
        """Measure every validation pair, show some, and keep the averaged generator if it is best.

        Raises:
            ShardError: on every rank, if any of them cannot read a pair.
        """
        figures = self.validation.measure(self.gan, self.reconstruction)
        step = self.gan.step
        self.telemetry.scalars(figures, step)
        self.telemetry.say(f"step {step}: {summary(figures)}")
        for key, pair, restored in self.validation.show(self.gan):
            sides = {"degraded": pair.degraded, "restored": restored, "clean": pair.clean}
            self.telemetry.pair(key, {name: to_wave(side) for name, side in sides.items()}, step)
        if figures["val/score"] < self.best_score:  # the same numbers on every rank
            self.best_score = figures["val/score"]
            if self.accelerator.is_main_process:
                url = storage.join(self.config.run_dir, checkpoint.BEST)
                notes = {"step": step, "figures": figures}
                checkpoint.save_generator(url, self.gan.average, self.config.generator, notes)

    def save(self) -> None:
        """Write the training state."""
        if self.accelerator.is_main_process:
            checkpoint.save(
                self.config.run_dir, self.gan.step, self.state_dict(), self.config.keep_checkpoints
            )
        self.accelerator.wait_for_everyone()

    def state_dict(self) -> dict[str, Any]:
        """Return everything that another process, at another number of ranks, goes on from.

        There is no random state in it: crops and augmentation are drawn from (seed, epoch,
        position), and nothing else in a step is random.
        """
        return {
            "gan": self.gan.state_dict(),
            "stream": self.data.loader.state_dict(),
            "best_score": self.best_score,
            "config": configs.to_tree(self.config),
        }

    def should_stop(self, wish: bool, now: bool) -> bool:
        """Return whether any rank wishes to stop, the same on all; asked only ``now`` if several."""
        if self.accelerator.num_processes == 1:
            return wish
        if not now:
            return False
        return self._sum(float(wish)) > 0

    def close(self) -> None:
        """Flush the logs and leave the process group."""
        self.data.close()
        self.telemetry.close()
        self.accelerator.wait_for_everyone()  # nobody leaves while another still talks to it
        self.accelerator.end_training()

    def _sum(self, value: float) -> float:
        """Return the sum over all ranks."""
        mine = torch.tensor(float(value), device=self.accelerator.device)
        return float(self.accelerator.reduce(mine, "sum").item())

    def _refuse_split_start(self) -> None:
        """Raise ConfigError on every rank if some found a checkpoint that others did not."""
        mine = torch.tensor([self.gan.step], device=self.accelerator.device)
        steps = self.accelerator.gather(mine).tolist()
        if len(set(steps)) > 1:
            raise ConfigError(
                f"run_dir: {self.config.run_dir}: the ranks would start from steps {steps}; "
                "all of them must see the same folder"
            )

    def _resume(self) -> None:
        """Load the run's last checkpoint; save the config beside it."""
        url = checkpoint.latest(self.config.run_dir)
        if url is not None:
            state = checkpoint.load(url)
            for name in ("generator", "discriminator"):
                now, then = configs.to_tree(self.config)[name], state["config"].get(name)
                if now != then:
                    raise CheckpointError(
                        f"{url}: a checkpoint of another architecture: {name} was {then}, "
                        f"the config says {now}; choose another run_dir"
                    )
            self.data.loader.load_state_dict(state["stream"])
            self.gan.load_state_dict(state["gan"])
            self.best_score = state["best_score"]
        if self.accelerator.is_main_process:
            text = configs.dump(self.config).encode()
            storage.publish(storage.join(self.config.run_dir, CONFIG_NAME), text)


def open_run(config: TrainConfig) -> Run:
    """Return the run, at its last checkpoint if it has one.

    Raises:
        ConfigError: the config contradicts the data or the number of ranks.
        CheckpointError: the run's checkpoint is damaged or of another architecture.
    """
    # It places the ranks; precision is gan.py's, whatever the launcher's environment says.
    accelerator = Accelerator(mixed_precision="no")
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.allow_tf32 = True
    return Run(config, accelerator)


@contextmanager
def catch_signals() -> Iterator[threading.Event]:
    """Give an event that SIGTERM and SIGUSR1, a scheduler's warnings, set."""
    event = threading.Event()
    former = {s: signal.signal(s, lambda *_: event.set()) for s in SIGNALS}
    try:
        yield event
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
