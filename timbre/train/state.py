"""A run's training state: what its checkpoints hold, and where it starts."""

from typing import Any

from timbre.models.checkpoint import DENOISERS
from timbre.train import checkpoints
from timbre.train.checkpoints import refuse_other, start_from
from timbre.train.config import TrainConfig
from timbre.train.data import TrainingData
from timbre.train.gan.balance import Balancer
from timbre.train.gan.gan import Gan
from timbre.train.watch.alarms import Alarms


class TrainingState:
    """Everything that another process, at another number of ranks, goes on from.

    Attributes:
        denoisers: whose output the pairs hold.
        best_score: of the best validation so far, at ``best_step``.
        owes_validation: whether a signal ended the validation of the last step.
        taught: whether the discriminator had learned before this run.
    """

    def __init__(
        self,
        config: TrainConfig,
        gan: Gan,
        data: TrainingData,
        alarms: Alarms,
        balancer: Balancer | None,
    ) -> None:
        self.config, self.gan, self.loader = config, gan, data.loader
        self.denoisers = data.denoisers
        self.alarms, self.balancer = alarms, balancer
        self.best_score = float("inf")
        self.best_step: int | None = None
        self.owes_validation = False
        self.taught = False

    def state_dict(self) -> dict[str, Any]:
        """Return it as plain values and tensors.

        All that is random in a step is drawn from (seed, epoch, position), so no random state is in
        it. Nor are users, passwords and queries of URLs.
        """
        return {
            "gan": self.gan.state_dict(),
            "stream": self.loader.state_dict(),
            "alarms": self.alarms.state_dict(),
            "balancer": self.balancer.state_dict() if self.balancer else {},
            "best_score": self.best_score,
            "best_step": self.best_step,
            "owes_validation": self.owes_validation,
            "taught": self.taught,
            DENOISERS: self.denoisers,
            "config": self.config.public_tree(),
        }

    def is_best(self, score: float) -> bool:
        """Return whether a validation's score is below all before; then it is the best from here on.

        The score is the same number on every rank, and so is the answer.
        """
        if not score < self.best_score:
            return False
        self.best_score, self.best_step = score, self.gan.step
        return True

    def start(self, before: int | None = None) -> tuple[str | None, list[str]]:
        """Load the last checkpoint, else what the run starts from.

        Args:
            before: not the last one, but the last before this step.

        Returns:
            The last checkpoint's URL, and lines for the user.

        Raises:
            ConfigError: the data has changed since the checkpoint.
            CheckpointError: a checkpoint is damaged or of another architecture.
        """
        config = self.config
        last = checkpoints.latest(config.run_dir)
        latest_state = checkpoints.load_latest(config.run_dir, before)
        if latest_state is None:
            if config.init_from is None:
                return None, []
            self.taught = start_from(
                config.init_from, self.gan, config.generator, config.discriminator
            )
            return None, [f"starting from {config.init_from}"]
        url, state, warnings = latest_state
        refuse_other(url, state["config"], config.generator, config.discriminator)
        self.loader.load_state_dict(state["stream"])
        self.gan.load_state_dict(state["gan"])
        self.alarms.load_state_dict(state["alarms"])
        if self.balancer:
            self.balancer.load_state_dict(state["balancer"])
        self.best_score, self.best_step = state["best_score"], state["best_step"]
        self.owes_validation = state.get("owes_validation", False)  # older files owe none
        self.taught = state["taught"]
        return last, [*warnings, f"resuming at step {self.gan.step} of {config.steps}: {url}"]
