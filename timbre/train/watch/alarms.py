"""What a run is watched for: gradients that are not finite, and a discriminator that has won."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from timbre.errors import WorkError

NETWORKS = {"g": "generator", "d": "discriminator"}


class Alarms:
    """Counts on the device during steps; tells, and stops the run, where the host looks anyway.

    A step whose gradient is not finite is skipped, on all ranks alike: they share the gradient.

    Args:
        max_skipped_steps: more skipped steps of one network in a row end the run.
        accuracy: from this share of right judgements on the discriminator has won.
        device: where the metrics are.
    """

    def __init__(self, max_skipped_steps: int, accuracy: float, device: torch.device) -> None:
        self.max_skipped_steps, self.accuracy = max_skipped_steps, accuracy
        # Of each network: skipped steps in all, in a row until now, and in a row at most.
        self.skip_counts = {n: torch.zeros(3, dtype=torch.int64, device=device) for n in NETWORKS}
        self.sound = torch.ones((), dtype=torch.bool, device=device)
        self.reported_counts = dict.fromkeys(NETWORKS, 0)
        self.has_won = False

    def watch(self, metrics: Mapping[str, Tensor]) -> None:
        """Count a step's scalars, without waiting for the device."""
        for network, (total, streak, longest) in self.skip_counts.items():
            if f"{network}/grad_norm" in metrics:
                is_skipped = metrics[f"{network}/grad_norm"].isfinite().logical_not_()
                streak = (streak + 1) * is_skipped
                counts = [total + is_skipped, streak, torch.maximum(longest, streak)]
                self.skip_counts[network] = torch.stack(counts)
        self.sound = metrics["g/loss"].detach().isfinite()

    def check(self, means: Mapping[str, float], step: int) -> tuple[dict[str, float], list[str]]:
        """Return scalars and lines for the user, from the means since the last call (a sync point).

        Raises:
            WorkError: too many steps in a row were skipped; on all ranks.
        """
        scalars: dict[str, float] = {}
        lines = []
        for network, name in NETWORKS.items():
            total, _, longest = self.skip_counts[network].tolist()
            scalars[f"{network}/skipped_steps"] = total
            if longest > self.max_skipped_steps:
                raise WorkError(
                    f"step {step}: the gradient of the {name} was not finite for {longest} steps "
                    f"in a row, max_skipped_steps is {self.max_skipped_steps}; the last checkpoint "
                    "is whole: try a lower optimizer.learning_rate, or precision fp32"
                )
            if total > self.reported_counts[network]:
                lines.append(
                    f"alarm: step {step}: {total - self.reported_counts[network]} steps of the {name} skipped, "
                    f"their gradients were not finite; {total} in all"
                )
                self.reported_counts[network] = total
        # While it learns alone it is meant to be right.
        plays = "g/adversarial" in means
        has_won = plays and means.get("d/accuracy", 0.0) >= self.accuracy
        if has_won and not self.has_won:
            lines.append(
                f"alarm: step {step}: the discriminator has won, {means['d/accuracy']:.1%} of its "
                "judgements are right: try a lower optimizer.discriminator_learning_rate"
            )
        self.has_won = has_won
        if plays:
            scalars["d/won"] = float(has_won)
        return scalars, lines

    def state_dict(self) -> dict[str, Any]:
        """Return what counting goes on from."""
        return {"skipped": self.skip_counts, "won": self.has_won}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from ``state``."""
        for network, counts in state["skipped"].items():
            self.skip_counts[network] = counts.to(self.sound.device)
            self.reported_counts[network] = int(counts[0])
        self.has_won = state["won"]
