"""One training run: opened or resumed, logged, validated, saved, closed."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import Tensor

from timbre import storage
from timbre.errors import WorkError
from timbre.models import checkpoint
from timbre.shards import open_corpus
from timbre.stream import PairBatch
from timbre.train.config import TrainConfig
from timbre.train.data import TrainingData
from timbre.train.gan.balance import Balancer
from timbre.train.gan.gan import Gan
from timbre.train.gan.schedule import resolve_start
from timbre.train.interruption import Interruption
from timbre.train.losses.reconstruction import ReconstructionLoss
from timbre.train.parts import WATCHING, part
from timbre.train.ranks import (
    Looks,
    any_rank,
    failing_together,
    ignored_answers,
    open_accelerator,
    refuse_split_start,
)
from timbre.train.run_folder import RunFolder
from timbre.train.saver import Saver
from timbre.train.state import TrainingState
from timbre.train.step import StepParts
from timbre.train.stepping import FixedSteps, Steps, choose, describe
from timbre.train.validation.figures import summary
from timbre.train.validation.validation import Validation
from timbre.train.watch import rank_log
from timbre.train.watch.alarms import Alarms
from timbre.train.watch.rank_log import peak_memory, place, threads
from timbre.train.watch.telemetry import Meter, Telemetry, to_wave
from timbre.train.watch.time_log import SAVES, VALIDATION, TimeLog
from timbre.train.watch.trackers import TrackedRun, refuse_missing


class Run:
    """What outlives a step: networks, stream, validation pairs, meters, the best score so far.

    ``with`` it, it is closed at the end, and after an error too.
    """

    def __init__(
        self, config: TrainConfig, accelerator: Accelerator, writes: bool, before: int | None = None
    ) -> None:
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
        self.state = TrainingState(config, self.gan, self.data, self.alarms, self.balancer)
        last, self._warnings = self.state.start(before)
        self.adversarial_start = resolve_start(
            config.adversarial, self.data.stream.steps_per_epoch, self.state.taught
        )
        refuse_split_start(accelerator, config.run_dir, self.gan.step)
        self._choice = choose(config.step, accelerator, config.balancer.enabled, config.compile)
        self.steps = self._open_steps()
        self._bad_pairs, self._logged_step = 0, self.gan.step
        self.saved_step: int | None = None  # by this process
        self._looks = Looks(accelerator, self.gan.step)
        with ExitStack() as stack:
            stack.callback(self.data.close)
            self.folder = stack.enter_context(RunFolder(config, accelerator, writes, last))
            self.telemetry = self._open_telemetry(writes)
            stack.callback(self.telemetry.close)
            main = writes and accelerator.is_main_process
            times = TimeLog(
                config.run_dir if main else None,
                self.gan.step,
                config.steps,
                accelerator.num_processes,
            )
            self.times = stack.enter_context(times)
            self.saver: Saver | None = None
            if main:
                self.saver = stack.enter_context(Saver(config, self.telemetry.line))
            self._stack = stack.pop_all()

    def __enter__(self) -> "Run":
        """Return the run."""
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        """Close the run; an error is written down in this rank's log first."""
        if error is None:
            self.close()
            return
        self.telemetry.log.record(error)
        self._stack.close()

    def warnings(self) -> list[str]:
        """Return lines for the user: where the run starts from, and what is not as it could be."""
        launcher = ignored_answers(self.accelerator)
        return [line for line in (*self._warnings, self.validation.warning, *launcher) if line]

    def step_parts(self) -> StepParts:
        """Return what a step works with."""
        return StepParts(
            self.gan,
            self.reconstruction,
            self.balancer,
            self.config.loss,
            self.config.adversarial,
            self.adversarial_start,
            self.config.log_gradients_every,
        )

    def _open_steps(self) -> Steps:
        augment, seed = self.config.augment, self.config.seed
        if not self._choice.fixed:
            return Steps(self.step_parts, augment, seed)
        return FixedSteps(
            self.step_parts, augment, seed, say=lambda line: self.telemetry.line(line)
        )

    def batches(self, interruption: Interruption | None = None) -> Iterator[PairBatch]:
        """Yield the batches of the steps that are left; ``interruption`` breaks off a wait for one."""
        if self.gan.step >= self.config.steps:
            return
        for batch in self.data.batches(interruption or Interruption()):
            for bad in batch.replaced:
                self.telemetry.line(f"replaced by the next pair: {bad}")
            yield batch
            if self.gan.step >= self.config.steps:
                return

    def watch(self, metrics: dict[str, Tensor]) -> None:
        """Take in a step's scalars, without waiting for the device."""
        with part(WATCHING):
            self.meter.add(metrics)
            self.alarms.watch(metrics)

    def log(self) -> str:
        """Write the scalars since the last call; return the line that the progress bar shows.

        Raises:
            ShardError, StoreError: the data cannot be read, as ``TrainingData.settle`` says.
            WorkError: too many steps in a row had no finite gradient, or too many saves have failed.
        """
        with failing_together(self.accelerator):
            if self.saver:
                self.saver.check()
        scalars = self.data.settle() | self.meter.read(self.accelerator)
        alarms, lines = self.alarms.check(scalars, self.gan.step)
        for line in lines:
            self.telemetry.line(line)
        descents = {"g": self.gan.generator_descent, "d": self.gan.discriminator_descent}
        for name, descent in descents.items():
            scalars[f"{name}/learning_rate"] = float(descent.learning_rate)
        scalars |= alarms
        step = self.gan.step
        self.telemetry.scalars(scalars, step)
        waited = scalars["data/wait_seconds"] * (step - self._logged_step)
        self.times.log(step, waited, scalars["g/skipped_steps"])
        self._logged_step = step
        self._log_own(scalars)
        return f"loss {scalars['g/loss']:.3f}"

    def validate(self, stop: Callable[[], bool] | None = None) -> None:
        """Measure every validation pair, show some, and keep the averaged generator if it is best.

        Takes and raises what :meth:`timbre.train.validation.validation.Validation.measure` does.
        """
        with self.times.spending(VALIDATION):
            figures = self.validation.measure(self.gan, self.reconstruction, stop)
        step = self.gan.step
        self.telemetry.scalars(figures, step)
        self.telemetry.line(f"step {step}: {summary(figures)}")
        for key, pair, restored in self.validation.show(self.gan):
            sides = {"degraded": pair.degraded, "restored": restored, "clean": pair.clean}
            self.telemetry.pair(key, {name: to_wave(side) for name, side in sides.items()}, step)
        if self.state.is_best(figures["val/score"]) and self.saver:
            notes = {"step": step, "figures": figures}
            generator = self.gan.average, self.config.generator
            packed = checkpoint.pack_generator(*generator, notes, self.data.denoisers)
            self.saver.save_best(packed)

    def save(self) -> bool:
        """Copy the training state, to be written beside the next steps; wait for the save before.

        Returns:
            Whether it will be written: not if the last loss was not finite.

        Raises:
            WorkError: it was not finite at the last step, so that there is no end to save; or too
                many saves have failed.
        """
        step = self.gan.step
        if any_rank(not self.alarms.sound, self.accelerator):
            message = f"step {step}: not saved, for the loss is not finite"
            if step >= self.config.steps:
                raise WorkError(f"{message}; the last checkpoint is whole")
            self.telemetry.line(message)
            return False
        with failing_together(self.accelerator), self.times.spending(SAVES):
            if self.saver:
                self.telemetry.flush()  # a run that is killed keeps its curves up to here
                self.times.flush()
                best = self.state.best_step if self.config.keep_best_state else None
                self.saver.save(step, self.state.state_dict(), best)
        self.saved_step = step
        return True

    def finish_saving(self) -> None:
        """Wait until all is written.

        Raises:
            WorkError: on every rank, if it cannot be written.
        """
        with failing_together(self.accelerator), self.times.spending(SAVES):
            if self.saver:
                self.saver.finish()

    def should_stop(self, wish: bool) -> bool:
        """Return whether any rank wishes to stop, the same on all; several ask every few seconds."""
        self.folder.renew()
        return self._looks.any(wish or self.data.end is not None, self.gan.step)

    def close(self) -> None:
        """Finish saving and leave the process group, when all ranks have come here.

        Raises:
            WorkError: the last checkpoint cannot be written.
        """
        try:
            self.finish_saving()
        finally:
            self._stack.close()
        self.accelerator.wait_for_everyone()  # nobody leaves while another still talks to it
        self.accelerator.end_training()

    def _open_telemetry(self, writes: bool) -> Telemetry:
        config, rank = self.config, self.accelerator.process_index
        run = TrackedRun(
            config.run_dir, self.gan.step, config.tracker_project, config.public_tree()
        )
        with failing_together(self.accelerator):
            telemetry = Telemetry(
                run if writes else None, config.steps, config.trackers, self.accelerator
            )
        telemetry.log.write(
            f"rank {rank} of {self.accelerator.num_processes} on {place()}, "
            f"{self.accelerator.device}, threads: {threads()}"
        )
        telemetry.log.write(describe(self._choice, self.accelerator))
        if writes:
            for line in self.warnings():
                telemetry.line(line)
        return telemetry

    def _log_own(self, scalars: dict[str, float]) -> None:
        """Log what this rank has seen: which of many is it that the others wait for?"""
        self.telemetry.log.write(
            f"step {self.gan.step} of {self.config.steps}: loss {scalars['g/loss']:.4f} (of all ranks), "
            f"waited {self.data.waited_seconds:.4f} s a step for data, {peak_memory()}"
        )
        bad = int(scalars["data/bad_pairs"])
        if bad > self._bad_pairs and self.accelerator.num_processes > 1:
            where = storage.join(self.config.run_dir, rank_log.FOLDER)
            self.telemetry.line(f"{bad} pairs replaced so far on all ranks; {where} names them")
        self._bad_pairs = bad


def open_run(config: TrainConfig, writes: bool = True, before: int | None = None) -> Run:
    """Return the run, at its last checkpoint if it has one; it is to be closed.

    Args:
        config: everything about it.
        writes: False for a look at what would be done; nothing is written or locked.
        before: not at its last checkpoint, but at the last before this step.

    Raises:
        ConfigError: the config contradicts the data or the number of ranks, or another run is in
            ``run_dir``.
        CheckpointError: the run's checkpoint is damaged or of another architecture.
        MissingPackageError: a tracker is not installed.
    """
    refuse_missing(config.trackers)
    accelerator = open_accelerator(config.ranks)
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.allow_tf32 = True
    return Run(config, accelerator, writes, before)
