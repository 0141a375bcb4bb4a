"""Everything that a training run can be told, and what contradicts itself."""

from dataclasses import field
from typing import Annotated, Any

from pydantic import Field
from pydantic.dataclasses import dataclass

from timbre import config as configs
from timbre.config import STRICT, Count, Fraction, Name, Natural, Seed
from timbre.models import GeneratorConfig
from timbre.models.discriminators import DiscriminatorConfig
from timbre.plain_text import redacted_tree
from timbre.shards import DataSource
from timbre.stream import DataChange, ReadingConfig
from timbre.stream.augment import AugmentConfig
from timbre.train.gan.balance import BalancerConfig
from timbre.train.gan.gan import OptimizerConfig, Precision
from timbre.train.gan.schedule import AdversarialConfig
from timbre.train.losses.reconstruction import LossConfig
from timbre.train.ranks import RanksConfig
from timbre.train.stepping import StepMode
from timbre.train.validation.validation import ValidationConfig
from timbre.train.watch.trackers import TrackerName


@dataclass(config=STRICT)
class TrainConfig:
    """Everything about a training run."""

    data: tuple[DataSource, ...]
    run_dir: Name
    steps: Count
    # Other mixes of data from stated steps on, also of a run that is under way.
    data_changes: tuple[DataChange, ...] = ()
    # A training state (.pt), a generator (.safetensors, offline, causal) or a release (hf://...)
    # that a new run starts from.
    init_from: Name | None = None
    # Pairs a step over all ranks; the number of ranks must divide it.
    global_batch: Count = 16
    # At least the longest window of a loss.
    segment_seconds: Annotated[float, Field(ge=0.1)] = 2.0
    precision: Precision = "bf16"
    # torch.compile of both networks; needs a C++ compiler.
    compile: bool = False
    # graph: the whole step as a CUDA graph; auto: where that can be.
    step: StepMode = "auto"
    seed: Seed = 0
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    balancer: BalancerConfig = field(default_factory=BalancerConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    adversarial: AdversarialConfig = field(default_factory=AdversarialConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    # Processes a rank that read and decode, and shards whose pairs are shuffled together.
    workers: Natural = 2
    shuffle_window: Count = 8
    reading: ReadingConfig = field(default_factory=ReadingConfig)
    ranks: RanksConfig = field(default_factory=RanksConfig)
    # More pairs than this share that cannot be read end the run.
    max_bad_fraction: Fraction = 0.02
    # More steps in a row of one network whose gradient is not finite end the run.
    max_skipped_steps: Natural = 100
    # From this share of right judgements on the discriminator has won, and the user is told.
    alarm_accuracy: Fraction = 0.95
    # Instead of training, measure so many steps and write a trace of them.
    profile: Natural = 0
    # Where the run is logged; all but TensorBoard need the extra "trackers".
    trackers: tuple[TrackerName, ...] = ("tensorboard",)
    # What its runs are listed under there.
    tracker_project: Name = "timbre"
    log_every: Count = 50
    # How often each term's share in the generator's gradient is measured.
    log_gradients_every: Count = 500
    validate_every: Count = 1000
    # The state is copied, and written beside the next steps.
    save_every: Count = 1000
    # So many saves that fail in a row end the run; a failed one is tried again at the next.
    max_failed_saves: Count = 3
    keep_checkpoints: Count = 3
    # Also the one of the best validation, if one was saved at its step.
    keep_best_state: bool = True

    def public_tree(self) -> dict[str, Any]:
        """Return it as plain lists, dicts and scalars, without users, passwords and queries of URLs."""
        tree: dict[str, Any] = redacted_tree(configs.to_tree(self))
        return tree

    def __post_init__(self) -> None:
        if not self.data:
            raise ValueError("data []: expected at least one {manifest, weight}")
        steps = [change.from_step for change in self.data_changes]
        if steps != sorted(set(steps)):
            raise ValueError(
                f"data_changes: from_step {steps}: expected each later than the one before"
            )
        if not all(change.data for change in self.data_changes):
            raise ValueError("data_changes: data []: expected at least one {manifest, weight}")
        if len(set(self.trackers)) < len(self.trackers):
            raise ValueError(f"trackers {list(self.trackers)}: expected each once")
        if self.ranks.timeout_seconds <= self.reading.deadline_seconds:
            raise ValueError(
                f"ranks.timeout_seconds {self.ranks.timeout_seconds:g} must be more than "
                f"reading.deadline_seconds {self.reading.deadline_seconds:g}: a rank may wait for the "
                "store that long, and the others for it"
            )
        if self.optimizer.warmup_steps >= self.steps:
            raise ValueError(
                f"optimizer.warmup_steps {self.optimizer.warmup_steps} must be less than "
                f"steps {self.steps}"
            )
