"""The outer loop of training: steps, and what is logged, validated and saved between them."""

from timbre.errors import WorkError
from timbre.stream import PairBatch
from timbre.train.config import TrainConfig
from timbre.train.interruption import Interruption
from timbre.train.ranks import failing_together
from timbre.train.run import Run, open_run
from timbre.train.step import Metrics
from timbre.train.validation.validation import ValidationStoppedError


def train(config: TrainConfig) -> bool:
    """Train from the run's last checkpoint, or from the start, to ``config.steps``.

    Returns:
        Whether it got there; False: a signal has ended it before.

    Raises:
        ConfigError: the config contradicts the data, the number of ranks, or the run so far; or
            another run is in ``run_dir``.
        ShardError, OSError: the data cannot be read.
        CheckpointError: what the run goes on or starts from is damaged or of another architecture.
        WorkError: the gradients are not finite for too long; or a reading process was killed, and
            the last step is saved.
    """
    with open_run(config) as run, Interruption() as interruption:
        if run.gan.step >= config.steps:
            run.telemetry.line(
                f"{config.run_dir}: finished at step {run.gan.step}; raise steps, or choose another "
                "run_dir"
            )
        if run.state.owes_validation and validate_if_due(run, interruption):
            run.save()  # the best score so far is part of the state
        for batch in run.batches(interruption):
            run.watch(train_step(run, batch))
            if end_step(run, interruption):
                break
        leave(run)
        return run.gan.step >= config.steps and not run.state.owes_validation


def train_step(run: Run, batch: PairBatch) -> Metrics:
    """Take one step of each network whose turn it is; return the scalars to be logged."""
    return run.steps.take(batch)


def end_step(run: Run, interruption: Interruption) -> bool:
    """Log, validate and save what is due after a step; return whether the run is to stop."""
    config, step = run.config, run.gan.step
    last = step == config.steps
    saves = step % config.save_every == 0 or last
    logs = step % config.log_every == 0 or saves
    stops = run.should_stop(interruption.is_asked)

    # Where the host waits for the device. Nothing is saved that has not been looked at.
    message = run.log() if logs or stops else None
    if step % config.validate_every == 0 or last:
        run.state.owes_validation = True
        stops = stops or not validate_if_due(run, interruption)
    if saves or stops:
        run.save()
    run.telemetry.advance(message)
    return stops


def validate_if_due(run: Run, interruption: Interruption) -> bool:
    """Validate; return False if a signal ended that, so that the next start owes it."""

    def stop() -> bool:
        run.folder.renew()
        return interruption.is_asked

    try:
        with run.gan.eager():
            run.validate(stop)
    except ValidationStoppedError:
        return False
    run.state.owes_validation = False
    run.steps.renew()  # validation has run other sizes in between
    return True


def leave(run: Run) -> None:
    """Save what is not saved, and say why the run ends before its last step, if it does.

    Raises:
        WorkError: the last step cannot be saved; or a reading process was killed, and it is saved.
    """
    step, reason = run.gan.step, run.data.end
    finished = step >= run.config.steps and not run.state.owes_validation
    if not finished and run.saved_step != step:
        run.save()
    run.finish_saving()
    if finished:
        run.telemetry.line(f"timbre report {run.config.run_dir} shows where the time went")
        return
    is_saved = run.saved_step == step
    end = f"saved at step {step}" if is_saved else f"step {step} could not be saved"
    with failing_together(run.accelerator):
        if isinstance(reason, WorkError):
            raise WorkError(f"{reason} ({end}; the same command continues)") from reason
    wait_text = f" while waiting for {reason}" if reason is not None else ""
    run.telemetry.line(f"interrupted{wait_text}: {end}; the same command continues")
