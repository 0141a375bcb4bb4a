"""Everything that a training run can be told, and what contradicts itself."""

from dataclasses import field

from pydantic.dataclasses import dataclass

from timbre.augment import AugmentConfig
from timbre.config import STRICT
from timbre.gan import OptimizerConfig, Precision
from timbre.losses import LossWeights
from timbre.models import GeneratorConfig
from timbre.models.discriminators import DiscriminatorConfig
from timbre.order import DataSource
from timbre.schedule import AdversarialConfig

# The longest window of a loss; a segment must hold it.
MIN_SEGMENT_SECONDS = 0.1


@dataclass(config=STRICT)
class TrainConfig:
    """Everything about a training run."""

    data: tuple[DataSource, ...]
    run_dir: str
    steps: int
    # Pairs a step over all ranks; the number of ranks must divide it.
    global_batch: int = 16
    segment_seconds: float = 2.0
    precision: Precision = "bf16"
    seed: int = 0
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    loss: LossWeights = field(default_factory=LossWeights)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    adversarial: AdversarialConfig = field(default_factory=AdversarialConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    # Processes a rank that read and decode, and shards whose pairs are shuffled together.
    workers: int = 2
    shuffle_window: int = 8
    # More pairs than this share that cannot be read end the run.
    max_bad_fraction: float = 0.02
    log_every: int = 50
    validate_every: int = 1000
    save_every: int = 1000
    keep_checkpoints: int = 3

    def __post_init__(self) -> None:
        at_least = {
            "steps": 1,
            "global_batch": 1,
            "segment_seconds": MIN_SEGMENT_SECONDS,
            "seed": 0,
            "workers": 0,
            "shuffle_window": 1,
            "log_every": 1,
            "validate_every": 1,
            "save_every": 1,
            "keep_checkpoints": 1,
        }
        wrong = [
            f"{name} {getattr(self, name)}: expected at least {least}"
            for name, least in at_least.items()
            if getattr(self, name) < least
        ]
        if not self.data:
            wrong.append("data []: expected at least one {manifest, weight}")
        if not 0 <= self.max_bad_fraction <= 1:
            wrong.append(f"max_bad_fraction {self.max_bad_fraction}: expected 0 to 1")
        if self.optimizer.warmup_steps >= self.steps:
            wrong.append(
                f"optimizer.warmup_steps {self.optimizer.warmup_steps} must be less than "
                f"steps {self.steps}"
            )
        if wrong:
            raise ValueError("; ".join(wrong))
