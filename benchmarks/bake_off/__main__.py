"""Which generator repairs more for a CPU-minute: `spectral` or `wave`. Linux only.

Run as `nice -n 19 python -m benchmarks.bake_off MANIFEST FOLDER [--minutes 25]`. A short trial
measures what a step of each costs; both are then trained by `timbre train`, side by side, one thread
each, in so many steps that they use the same CPU time: that of the process and its reader, validation
and start included. `FOLDER/PIDS` names the two processes; while they are stopped nothing is counted.
Where `FOLDER/costs.json` is there already, from a trial of the same sizes, there is no other trial.
`FOLDER/curves.png` holds the curves; `--report` makes it and the figures of ended runs again.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from benchmarks.bake_off.plan import (
    BENCH,
    GENERATORS,
    Cost,
    Setting,
    cpu_seconds,
    phases,
    steps_for,
    steps_per_epoch,
    train_config,
    trial,
)
from benchmarks.bake_off.plot import PANELS, Curve, draw, read_curves
from benchmarks.report import print_figure, print_line, print_machine, print_ratios
from benchmarks.stream.meters import cpu_seconds as tree_seconds
from timbre import config as configs

COSTS = "costs.json"
POLL_SECONDS = 1.0
# The distances whose share that is left, against DeepFilterNet3's, is the result.
DISTANCES = ("mel_distance", "lsd_0_8k", "lsd_8_24k")
LAST_TAGS = ("d/accuracy", "g/skipped_steps", "g/gradient_share/adversarial")


class Racer(NamedTuple):
    """A training process and the file that its CPU time is written to."""

    name: str
    process: subprocess.Popen[bytes]
    clock: Path


def main() -> None:
    """Run trial and race, or only report; print figures and ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("manifest", help="of shards, as `timbre prep` writes them")
    parser.add_argument("folder", type=Path, help="for runs, curves.png and PIDS")
    parser.add_argument("--minutes", type=float, help="CPU minutes of each; the least by default")
    parser.add_argument("--size", default="small", choices=("tiny", "small", "base"))
    parser.add_argument("--batch", type=int, default=6, help="segments a step")
    parser.add_argument("--seconds", type=float, default=1.0, help="length of a segment")
    parser.add_argument("--learning-rate", type=float, default=8e-4)
    parser.add_argument("--validations", type=int, default=6)
    parser.add_argument("--perceptual-pairs", type=int, default=6)
    parser.add_argument("--report", action="store_true", help="only report on ended runs")
    parser.add_argument("--quick", action="store_true", help="sizes that only show that it runs")
    options = parser.parse_args()
    fields = {name: getattr(options, name) for name in Setting._fields if name != "rounds"}
    fields["folder"] = str(options.folder)
    setting = Setting(**fields, rounds=3)
    if options.quick:
        setting = setting._replace(
            size="tiny", batch=2, seconds=0.2, validations=2, perceptual_pairs=0, rounds=1
        )
    if not options.report:
        plan_runs(setting)
        race(options.folder)
    report(options.folder)


def plan_runs(setting: Setting) -> None:
    """Measure costs and plan both runs; costs that lie in the folder already are taken as they are."""
    folder = Path(setting.folder)
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / COSTS).exists():
        with tempfile.TemporaryDirectory() as scratch:
            costs = trial(setting, scratch)
        entries = {name: costs[name]._asdict() for name in costs}
        (folder / COSTS).write_text(json.dumps(entries, indent=2))
    epoch = steps_per_epoch(setting)
    try:
        steps = steps_for(setting.minutes, read_costs(folder), epoch, setting.validations)
    except ValueError as error:
        sys.exit(str(error))
    for name in GENERATORS:
        text = configs.dump(train_config(setting, name, steps[name]))
        (folder / f"{name}.yaml").write_text(text)
    plan = {"setting": setting._asdict(), "steps_per_epoch": epoch, "steps": steps}
    (folder / "plan.json").write_text(json.dumps(plan, indent=2))


def read_costs(folder: Path) -> dict[str, Cost]:
    """Return what the trial measured, or an earlier one of the same sizes."""
    return {name: Cost(**cost) for name, cost in json.loads((folder / COSTS).read_text()).items()}


def race(folder: Path) -> None:
    """Train both side by side and write their CPU clocks; end the program if one fails."""
    racers = [_start(folder, name) for name in GENERATORS]
    (folder / "PIDS").write_text("".join(f"{r.process.pid} {r.name}\n" for r in racers))
    running = racers
    while running:
        running = [racer for racer in running if not _has_ended(racer)]
        time.sleep(POLL_SECONDS)
    failures = [racer.name for racer in racers if racer.process.returncode]
    if failures:
        sys.exit(f"{BENCH}: training of {', '.join(failures)} failed; see {folder}/NAME.log")


def _start(folder: Path, name: str) -> Racer:
    command = [sys.executable, "-m", "timbre", "train", str(folder / f"{name}.yaml")]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    (clock := folder / f"{name}.clock").write_text(json.dumps([time.time(), 0.0]) + "\n")
    return Racer(name, process, clock)


def _has_ended(racer: Racer) -> bool:
    """Write down the CPU time so far; if the process has ended, all that it and its children used."""
    so_far = tree_seconds(racer.process.pid)
    process_id, status, usage = os.wait4(racer.process.pid, os.WNOHANG)
    if process_id:
        racer.process.returncode = os.waitstatus_to_exitcode(status)
        so_far = usage.ru_utime + usage.ru_stime
    with racer.clock.open("a") as file:
        file.write(json.dumps([time.time(), so_far]) + "\n")
    return bool(process_id)


def report(folder: Path) -> None:
    """Print the figures of two ended runs, the ratios, and draw the curves."""
    plan = json.loads((folder / "plan.json").read_text())
    setting, costs = Setting(**plan["setting"]), read_costs(folder)
    runs = {name: read_curves(folder / name, folder / f"{name}.clock") for name in GENERATORS}
    print_machine(BENCH)
    print_line(bench=BENCH, setting=setting._asdict(), steps_per_epoch=plan["steps_per_epoch"])
    ramps: dict[str, int] = {}
    rest: dict[str, float] = {}
    for name, curves in runs.items():
        steps, cost = plan["steps"][name], costs[name]
        _, reconstruction, discriminator, _ = phases(steps)
        ramps[name] = reconstruction + discriminator
        for part, seconds in cost._asdict().items():
            print_figure(BENCH, name, f"cost/{part}", seconds, "CPU s")
        print_figure(BENCH, name, "steps", steps, "steps")
        minutes = cpu_seconds(steps, cost, setting.validations) / 60
        print_figure(BENCH, name, "planned", minutes, "CPU min")
        clock = (folder / f"{name}.clock").read_text().splitlines()
        print_figure(BENCH, name, "spent", json.loads(clock[-1])[1] / 60, "CPU min")
        rest |= print_results(name, curves, ramps[name])
    shares = {
        f"{phase}_step/wave_to_spectral": getattr(costs["wave"], phase)
        / getattr(costs["spectral"], phase)
        for phase in ("reconstruction", "discriminator", "adversarial")
    }
    print_ratios(BENCH, **shares, **rest)
    title = f"{setting.size}, {setting.batch} x {setting.seconds} s a step; dotted: the ramp begins"
    draw(runs, ramps, title, folder / "curves.png")


def print_results(name: str, curves: dict[str, Curve], ramp: int) -> dict[str, float]:
    """Print the last validation, the last before the ramp and DeepFilterNet3's; return what is left.

    That is the share of each of DeepFilterNet3's distances that is left at the end.
    """
    rest = {}
    for figure in PANELS:
        if (curve := curves.get(f"val/{figure}")) is None:
            continue
        print_figure(BENCH, name, f"val/{figure}", curve.values[-1], "at the end")
        before = [v for v, s in zip(curve.values, curve.steps, strict=True) if s <= ramp]
        print_figure(BENCH, name, f"val/{figure}", before[-1], "last before the ramp")
        if degraded := curves.get(f"val/degraded/{figure}"):
            level = degraded.values[-1]
            print_figure(BENCH, "deepfilternet3", f"val/{figure}", level, "always")
            if figure in DISTANCES:
                rest[f"{name}/{figure}_left"] = curve.values[-1] / level
    score = curves["val/score"]
    best = min(range(len(score.values)), key=score.values.__getitem__)
    print_figure(BENCH, name, "best step", score.steps[best], "steps")
    for tag in LAST_TAGS:
        if tag in curves:
            print_figure(BENCH, name, tag, curves[tag].values[-1], "last logged")
    return rest


if __name__ == "__main__":
    main()
