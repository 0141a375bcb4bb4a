"""One training run: opened or resumed, logged, validated, saved."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import Tensor

from timbre import config as configs
from timbre import storage
from timbre.errors import ConfigError, WorkError
from timbre.models import checkpoint
from timbre.shards import open_corpus
from timbre.stream import PairBatch
from timbre.train.checkpoints import refuse_other, start_from
from timbre.train.config import TrainConfig
from timbre.train.data import TrainingData
from timbre.train.gan.balance import Balancer
from timbre.train.gan.gan import Gan
from timbre.train.gan.schedule import resolve_start
from timbre.train.losses.reconstruction import ReconstructionLoss
from timbre.train.ranks import open_accelerator
from timbre.train.validation.validation import Validation, summary
from timbre.train.watch import rank_log
from timbre.train.watch.alarms import Alarms
from timbre.train.watch.rank_log import peak_memory, place, threads
from timbre.train.watch.telemetry import Meter, Telemetry, to_wave

CONFIG_NAME = "config.yaml"
SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class Run:
    """What outlives a step: networks, stream, validation pairs, meters, the best score so far."""

    def __init__(self, config: TrainConfig, accelerator: Accelerator) -> None:
        self.config, self.accelerator = config, accelerator
        self.data = TrainingData(config, accelerator)
        held_out = [open_corpus(source, "val") for source in config.data]
        self.validation = Validation(
            held_out, config.validation, accelerator, config.generator.noisy_input
        )
        set_seed(config.seed)  # the same initial networks on every rank
        self.gan = Gan(
            config.generator,
            config.discriminator,
            config.optimizer,
            config.steps,
            config.precision,
            accelerator,
        )
        if config.compile:
            self.gan.compile()
        self.reconstruction = ReconstructionLoss(config.loss).to(accelerator.device)
        self.meter = Meter()
        self.alarms = Alarms(config.max_skipped_steps, config.alarm_accuracy, accelerator.device)
        self.balancer = (
            Balancer(config.balancer.ema_decay, accelerator) if config.balancer.enabled else None
        )
        self.best_score = float("inf")
        self.best_step: int | None = None
        self.bad_told = 0
        self.taught = False  # whether the discriminator had learned before this run
        self._warnings = self._start()
        self.adversarial_start = resolve_start(
            config.adversarial, self.data.stream.steps_per_epoch, self.taught
        )
        self._refuse_split_start()

    def begin(self) -> None:
        """Write the resolved config, and start to log; nothing has been written before."""
        config, accelerator = self.config, self.accelerator
        if accelerator.is_main_process:
            text = configs.dump(config).encode()
            storage.publish(storage.join(config.run_dir, CONFIG_NAME), text)
        rank = accelerator.process_index
        self.telemetry = Telemetry(config.run_dir, self.gan.step, config.steps, rank)
        self.telemetry.log.write(
            f"rank {rank} of {accelerator.num_processes} on {place()}, {accelerator.device}, "
            f"threads: {threads()}"
        )
        for line in self.warnings():
            self.telemetry.say(line)

    def warnings(self) -> list[str]:
        """Return lines for the user: where the run starts from, and what is not as it could be."""
        return [line for line in (*self._warnings, self.validation.warning) if line]

    def batches(self) -> Iterator[PairBatch]:
        """Yield the batches of the steps that are left."""
        if self.gan.step >= self.config.steps:
            return
        for batch in self.data.batches():
            for bad in batch.replaced:
                self.telemetry.say(f"replaced by the next pair: {bad}")
            yield batch
            if self.gan.step >= self.config.steps:
                return

    def watch(self, metrics: dict[str, Tensor]) -> None:
        """Take in a step's scalars, without waiting for the device."""
        self.meter.add(metrics)
        self.alarms.watch(metrics)

    def log(self) -> str:
        """Write the scalars since the last call; return the line that the progress bar shows.

        Raises:
            ShardError, StoreError, ToldError: the data cannot be read, as ``TrainingData.settle`` says.
            WorkError: too many steps in a row had no finite gradient.
        """
        scalars = self.data.settle() | self.meter.read(self.accelerator)
        told, lines = self.alarms.check(scalars, self.gan.step)
        for line in lines:
            self.telemetry.say(line)
        gan = self.gan
        for name, descent in [("g", gan.generator_descent), ("d", gan.discriminator_descent)]:
            scalars[f"{name}/learning_rate"] = descent.optimizer.param_groups[0]["lr"]
        scalars |= told
        self.telemetry.scalars(scalars, self.gan.step)
        self._log_own(scalars)
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
            self.best_score, self.best_step = figures["val/score"], step
            if self.accelerator.is_main_process:
                url = storage.join(self.config.run_dir, checkpoint.BEST)
                notes = {"step": step, "figures": figures}
                checkpoint.save_generator(url, self.gan.average, self.config.generator, notes)

    def save(self) -> bool:
        """Write the training state, unless the last loss was not finite; return whether it was.

        Raises:
            WorkError: it was not finite at the last step, so that there is no end to save.
        """
        step = self.gan.step
        if self._sum(float(~self.alarms.sound)) > 0:
            said = f"step {step}: not saved, for the loss is not finite"
            if step >= self.config.steps:
                raise WorkError(f"{said}; the last checkpoint is whole")
            self.telemetry.say(said)
            return False
        if self.accelerator.is_main_process:
            self.telemetry.flush()  # a run that is killed keeps its curves up to here
            best = self.best_step if self.config.keep_best_state else None
            checkpoint.save(
                self.config.run_dir, step, self.state_dict(), self.config.keep_checkpoints, best
            )
        self.accelerator.wait_for_everyone()
        return True

    def state_dict(self) -> dict[str, Any]:
        """Return everything that another process, at another number of ranks, goes on from.

        There is no random state in it: crops and augmentation are drawn from (seed, epoch,
        position), and nothing else in a step is random.
        """
        return {
            "gan": self.gan.state_dict(),
            "stream": self.data.loader.state_dict(),
            "alarms": self.alarms.state_dict(),
            "balancer": self.balancer.state_dict() if self.balancer else {},
            "best_score": self.best_score,
            "best_step": self.best_step,
            "taught": self.taught,
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

    def _log_own(self, scalars: dict[str, float]) -> None:
        """Log what this rank has seen: which of many is it that the others wait for?"""
        steps = f"step {self.gan.step} of {self.config.steps}"
        waited = f"waited {self.data.waited_seconds:.4f} s a step for data"
        loss = f"loss {scalars['g/loss']:.4f} (of all ranks)"
        self.telemetry.log.write(f"{steps}: {loss}, {waited}, {peak_memory()}")
        bad = int(scalars["data/bad_pairs"])
        if bad > self.bad_told and self.accelerator.num_processes > 1:
            where = storage.join(self.config.run_dir, rank_log.FOLDER)
            self.telemetry.say(f"{bad} pairs replaced so far on all ranks; {where} names them")
        self.bad_told = bad

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

    def _start(self) -> list[str]:
        """Load the run's last checkpoint, else what it starts from; return lines for the user."""
        config = self.config
        found = checkpoint.load_latest(config.run_dir)
        if found is None:
            if config.init_from is None:
                return []
            self.taught = start_from(
                config.init_from, self.gan, config.generator, config.discriminator
            )
            return [f"starting from {config.init_from}"]
        url, state, warnings = found
        refuse_other(url, state["config"], config.generator, config.discriminator)
        self.data.loader.load_state_dict(state["stream"])
        self.gan.load_state_dict(state["gan"])
        self.alarms.load_state_dict(state["alarms"])
        if self.balancer:
            self.balancer.load_state_dict(state["balancer"])
        self.best_score, self.best_step = state["best_score"], state["best_step"]
        self.taught = state["taught"]
        return [*warnings, f"resuming at step {self.gan.step} of {config.steps}: {url}"]


def open_run(config: TrainConfig, begin: bool = True) -> Run:
    """Return the run, at its last checkpoint if it has one.

    Args:
        begin: False for a look at what would be done; nothing is written.

    Raises:
        ConfigError: the config contradicts the data or the number of ranks.
        CheckpointError: the run's checkpoint is damaged or of another architecture.
    """
    accelerator = open_accelerator(config.ranks)
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.allow_tf32 = True
    run = Run(config, accelerator)
    if begin:
        run.begin()
    return run


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
