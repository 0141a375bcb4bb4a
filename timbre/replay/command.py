"""``timbre replay RUN --step N``."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace

from timbre import config as configs
from timbre import storage
from timbre.command import at_least, command, print_result, table
from timbre.errors import ConfigError
from timbre.peek.page import publish_page, segments
from timbre.replay.replay import Replay, replay_step
from timbre.train.config import TrainConfig
from timbre.train.run_folder import CONFIG_NAME


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Repeat a step of a run."""
    options = _parse(argv)
    config = _load(options.run, options.overrides)
    replay = replay_step(config, options.step, options.pairs)
    if options.json:
        print_result(json.dumps(_to_tree(replay, options.step)))
    else:
        print_result(table(_rows(replay), text_columns=2))
        print_result(_sentence(replay, options.step))
    if options.pairs:
        url = options.to or storage.join(options.run, f"replay-{options.step:08d}.html")
        _write_page(url, replay, config, options.step)
        if not options.json:
            print_result(f"wrote {url}")


def _load(run: str, overrides: Sequence[str]) -> TrainConfig:
    if not storage.is_local(run):
        raise ConfigError(f"{run}: expected the folder of a run on a disk")
    url = storage.join(run, CONFIG_NAME)
    if not storage.exists(url):
        raise ConfigError(
            f"{run}: no run of timbre train: it has no {CONFIG_NAME}; expected its run_dir"
        )
    config = configs.load(TrainConfig, storage.local_path(url), overrides)
    return replace(config, run_dir=run, trackers=())  # the folder may have moved


def _rows(replay: Replay) -> list[tuple[str, ...]]:
    """Return a table of the pairs, those with the largest share first."""
    batch = replay.batch
    names = list(zip(batch.keys, replay.shards, strict=True))
    if not replay.weights:
        return [("pair", "shard"), *names]
    rows = sorted(zip(names, replay.weights, strict=True), key=lambda row: -abs(row[1].share))
    return [
        ("pair", "shard", "loss", "share", "gradient"),
        *(
            (*name, f"{pair.loss:.4f}", f"{100 * pair.share:.1f} %", f"{pair.grad_norm:.4g}")
            for name, pair in rows
        ),
    ]


def _sentence(replay: Replay, step: int) -> str:
    metrics = replay.metrics
    start = f"the checkpoint of step {replay.start}" if replay.start else "the start"
    saved = {
        True: "; as the run's checkpoint of this step, to the last bit",
        False: "; NOT as the run's checkpoint of this step: other data, config, ranks or device?",
        None: "",
    }[replay.same]
    return (
        f"step {step}, repeated from {start}: loss {metrics['g/loss']:.6g}, gradient "
        f"{metrics['g/grad_norm']:.4g}{saved}"
    )


def _to_tree(replay: Replay, step: int) -> dict[str, object]:
    pairs: list[dict[str, object]] = [
        {"key": key, "shard": shard}
        for key, shard in zip(replay.batch.keys, replay.shards, strict=True)
    ]
    for pair, weight in zip(pairs, replay.weights, strict=False):  # there may be none
        pair |= weight._asdict()
    return {
        "step": step,
        "start": replay.start,
        "same": replay.same,
        "metrics": replay.metrics,
        "pairs": pairs,
    }


def _write_page(url: str, replay: Replay, config: TrainConfig, step: int) -> None:
    shown = segments(replay.batch, replay.shards, config.augment, config.seed)
    rows = [
        segment._replace(
            labels=f"loss {pair.loss:.4f}, share in the gradient {100 * pair.share:.1f} %; "
            f"{segment.labels}"
        )
        for segment, pair in zip(shown, replay.weights, strict=True)
    ]
    order = sorted(range(len(rows)), key=lambda row: -abs(replay.weights[row].share))
    title = f"Step {step} of the run, the largest share in the gradient first"
    publish_page(url, [(title, [rows[row] for row in order])])


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "timbre replay",
        description="Repeat a step of a run from the checkpoint before it, and name its pairs. "
        "On a CPU it is repeated to the last bit. The run stays as it is.",
    )
    parser.add_argument("run", metavar="RUN", help="the run's folder, run_dir of its config")
    parser.add_argument(
        "overrides",
        metavar="section.key=value",
        nargs="*",
        default=[],
        help="replaces what RUN/config.yaml says, say a URL whose password it does not hold",
    )
    parser.add_argument(
        "--step", metavar="N", type=at_least(1), required=True, help="which, from 1 on"
    )
    parser.add_argument(
        "--pairs",
        action="store_true",
        help="each pair's loss and share in the generator's gradient, and a page that shows and "
        "plays them",
    )
    parser.add_argument(
        "--to", metavar="FILE", help="the page; by default RUN/replay-NNNNNNNN.html"
    )
    parser.add_argument("--json", action="store_true", help="all figures as one object")
    return parser.parse_intermixed_args(argv)
