"""``README.md`` of a release: metadata that the Hub reads, then what a user must know."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import yaml

from timbre.audio import SAMPLE_RATE
from timbre.models import GeneratorConfig
from timbre.plain_text import printable
from timbre.publish.data import HOUR, TrainingData
from timbre.publish.figures import Evaluation

TASK = "audio-to-audio"
TAGS = ("timbre", "speech-enhancement", "speech", "audio", "48khz")


class Facts(NamedTuple):
    """All that a card says.

    Attributes:
        name: of the release.
        licence: of the weights, an identifier that the Hub knows; None if the publisher names none.
        generator: its architecture.
        denoisers: names of those behind which it has learned.
        parameters: how many numbers its weights are.
        latency_samples: how far it looks ahead.
        sha256: of the weights' file.
        step: of the training that they are from; None if the file does not say.
        base: what training started from, ``USER/REPOSITORY`` or a name; None for nothing.
        data: what it was trained on, where that is at hand.
        missing_data: manifests that are not.
        evaluation: its figures, if there are some.
        repository: ``hf://...`` where it goes to the Hub.
        training_step: of the training state beside the weights; None without one.
    """

    name: str
    licence: str | None
    generator: GeneratorConfig
    denoisers: Sequence[str]
    parameters: int
    latency_samples: int
    sha256: str
    step: int | None
    base: str | None
    data: Sequence[TrainingData]
    missing_data: Sequence[str]
    evaluation: Evaluation | None
    repository: str | None
    training_step: int | None


def to_text(facts: Facts) -> str:
    """Return the card: YAML between dashes, then Markdown."""
    head = yaml.safe_dump(metadata(facts), sort_keys=False, allow_unicode=True, width=1000)
    sections = (_title, _use, _figures, _data, _files)
    return f"---\n{head}---\n\n" + "\n".join(
        line for section in sections for line in (*section(facts), "")
    )


def metadata(facts: Facts) -> dict[str, Any]:
    """Return what the Hub's search and its table of results read."""
    tree: dict[str, Any] = {
        "license": facts.licence or "unknown",
        "library_name": "timbre",
        "pipeline_tag": TASK,
        "tags": list(TAGS),
    }
    if facts.base and "/" in facts.base:
        tree["base_model"] = facts.base
    if (evaluation := facts.evaluation) is not None:
        data = {"type": evaluation.data, "name": evaluation.data, "split": evaluation.split}
        if evaluation.data_sha256:
            data["revision"] = evaluation.data_sha256
        metrics = [
            {"type": figure.name, "value": round(figure.mean, 4), "name": _label(figure)}
            for figure in evaluation.figures
        ]
        task = {"type": TASK, "name": "Repair of denoised speech"}
        tree["model-index"] = [
            {"name": facts.name, "results": [{"task": task, "dataset": data, "metrics": metrics}]}
        ]
    return tree


def _title(facts: Facts) -> Iterator[str]:
    generator = facts.generator
    denoisers = _plain(", ".join(facts.denoisers)) or "denoisers that nobody has named"
    kind = "causal, for live signals too" if generator.causal else "for files"
    yield f"# {_plain(facts.name)}"
    yield ""
    yield (
        "A generator of timbre: it repairs what a denoiser does to the timbre of 48 kHz speech. It has "
        f"learned behind {denoisers}."
    )
    yield ""
    yield (
        f"- `{generator.name}`, `{generator.size}`, {kind}: {facts.parameters:,} parameters, "
        f"{facts.latency_samples} samples ({1000 * facts.latency_samples / SAMPLE_RATE:.0f} ms) of look-ahead"
    )
    if facts.step is not None:
        yield f"- weights of training step {facts.step}"
    if facts.base:
        yield f"- training started from {_plain(facts.base)}"
    if facts.licence is None:
        yield "- the publisher names no licence for the weights"


def _use(facts: Facts) -> Iterator[str]:
    name = facts.repository or "model.safetensors"
    yield "## Use"
    yield ""
    yield "```"
    yield f"timbre restore noisy.wav restored.wav --checkpoint {name}"
    if facts.repository and facts.training_step is not None:
        yield f"timbre train configs/fine_tune.yaml init_from={name}"
    yield "```"
    yield ""
    yield f"SHA-256 of `model.safetensors`: `{facts.sha256}`"


def _figures(facts: Facts) -> Iterator[str]:
    yield "## Figures"
    yield ""
    if (evaluation := facts.evaluation) is None:
        yield "None were published with it; `timbre evaluate` measures."
        return
    yield (
        f"`timbre evaluate` on {_plain(evaluation.data)}, {evaluation.pairs} pairs of "
        f"{evaluation.speakers} named speakers; change from DeepFilterNet3 alone with its 95 % interval:"
    )
    yield ""
    yield "| figure | DeepFilterNet3 | this | change | is |"
    yield "|---|---|---|---|---|"
    for row in evaluation.figures:
        baseline = "" if row.baseline is None else f"{row.baseline:.3f}"
        yield f"| {_label(row)} | {baseline} | {row.mean:.3f} | {row.change} | {row.verdict} |"


def _data(facts: Facts) -> Iterator[str]:
    yield "## Training data"
    yield ""
    if not facts.data and not facts.missing_data:
        yield "Not known."
    for name in facts.missing_data:
        yield f"Of {_plain(name)} nothing is known: its manifest was not at hand."
    for data in facts.data:
        named = f", {data.speakers} named speakers" if data.speakers else ""
        yield (
            f"{_plain(data.name)}: {data.pairs} pairs, {data.seconds / HOUR:.1f} h{named} "
            f"(manifest {data.sha256[:12]})."
        )
        yield ""
        yield from _licences(data.licences)


def _licences(licences: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    if not licences:
        yield "The licences of its recordings are not known."
        yield ""
        return
    yield "| recordings | licence | files | hours |"
    yield "|---|---|---|---|"
    for role, some in licences.items():
        for licence, sum_of in some.items():
            hours = sum_of.seconds / HOUR
            yield f"| {_plain(role)} | {_plain(licence)} | {sum_of.files} | {hours:.2f} |"
    yield ""


def _files(facts: Facts) -> Iterator[str]:
    yield "## Files"
    yield ""
    yield "- `model.safetensors`: the weights, and the architecture in its header; no code"
    yield "- `config.json`: architecture and training, to read"
    if facts.training_step is not None:
        yield (
            f"- `training_state.pt`: both networks, their optimizers' moments and the average, of step "
            f"{facts.training_step}; `torch.load(weights_only=True)` reads it, no code runs"
        )
    yield "- `SHA256SUMS`: `sha256sum --check SHA256SUMS`"


def _label(figure: Any) -> str:
    return f"{figure.name}, {figure.unit}" if figure.unit else str(figure.name)


def _plain(text: str) -> str:
    """Return a name of others as Markdown shows it, on one line."""
    text = printable(text).replace("&", "&amp;").replace("<", "&lt;")
    return "".join(f"\\{c}" if c in "\\`*_[]|#" else c for c in text)
