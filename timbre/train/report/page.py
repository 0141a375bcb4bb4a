"""``RUN/report.html``: one page that holds all it shows; no script runs in it."""

from collections.abc import Iterator
from importlib.resources import files

from markupsafe import Markup

from timbre import pages
from timbre.train.report import goodput as goodputs
from timbre.train.report import plots
from timbre.train.report.events import Curve, Events
from timbre.train.report.goodput import Goodput
from timbre.train.report.plots import Plot

PACKAGE = "timbre.train.report"
# Title of a plot -> the tags in it, by label.
PLOTS = {
    "Loss of the generator": {"loss": "g/loss"},
    "Validation score, lower is better": {"score": "val/score"},
    "Validation: mel distance, dB": {"restored": "val/mel_distance", "degraded": "val/degraded/mel_distance"},
    "Validation: PESQ": {"restored": "val/pesq", "degraded": "val/degraded/pesq"},
    "Discriminator: share of right judgements": {"accuracy": "d/accuracy"},
    "Loss of the discriminator": {"loss": "d/loss"},
    "Wait for data, seconds a step": {"slowest rank": "data/wait_seconds"},
    "Gradient norm before clipping": {"generator": "g/grad_norm", "discriminator": "d/grad_norm"},
}  # fmt: skip
SHARES = "g/gradient_share/"


def to_html(name: str, goodput: Goodput | None, events: Events) -> str:
    """Return the page of a run.

    Args:
        name: of the run, as its title says it.
        goodput: None where no times were logged.
        events: its curves and shown pairs.
    """
    style = files(PACKAGE).joinpath("page.css").read_text(encoding="utf-8")
    rows = goodputs.table(goodput) if goodput is not None else []
    values = {
        "name": name,
        "style": Markup(style),  # our own file
        "sentences": goodputs.sentences(goodput) if goodput is not None else [],
        "head": rows[0] if rows else [],
        "rows": [
            (row, goodputs.MEANINGS.get(row[0], ""), _width(goodput, row[0])) for row in rows[1:]
        ],
        "plots": list(_plots(events.curves)),
        "pictures": events.pictures,
        "width": plots.WIDTH,
        "height": plots.HEIGHT,
        "left": plots.LEFT,
        "right": plots.WIDTH - plots.RIGHT,
        "floor": plots.HEIGHT - plots.BOTTOM,
    }
    return pages.render(PACKAGE, "page.html.j2", values)


def _plots(curves: dict[str, Curve]) -> Iterator[Plot]:
    groups = {
        title: {label: curves.get(tag, []) for label, tag in tags.items()}
        for title, tags in PLOTS.items()
    }
    groups["Shares in the generator's gradient"] = {
        tag.removeprefix(SHARES): curve for tag, curve in curves.items() if tag.startswith(SHARES)
    }
    for title, group in groups.items():
        if (picture := plots.plot(title, group)) is not None:
            yield picture


def _width(goodput: Goodput | None, kind: str) -> float:
    """Return the length of a kind's bar in percent; the sum has none."""
    return 100 * goodput.share(kind) if goodput is not None and kind in goodput.seconds else 0.0
