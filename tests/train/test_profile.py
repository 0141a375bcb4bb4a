"""A profile says where the time goes, leaves a trace, and leaves the run as it is."""

import json
from pathlib import Path

import pytest

from tests.train.runs import config
from timbre import config as configs
from timbre.train.command import main
from timbre.train.profile import REST, SHARES, TimeSpan, shares_of


def test_time_is_of_the_part_that_began_last() -> None:
    spans = [
        TimeSpan("data", 0, 10),
        TimeSpan("generator", 10, 60),
        TimeSpan("reconstruction", 20, 30),  # within the generator's way back
        TimeSpan("adversarial", 30, 50),
        TimeSpan("optimizers", 70, 90),
        TimeSpan("watching", 90, 100),
    ]
    expected = {"data": 10, "generator": 20, "losses": 10, "discriminators": 20, "optimizers": 20}
    assert shares_of(spans, []) == pytest.approx(
        {n: v / 100 for n, v in expected.items()} | {REST: 0.2}
    )
    # A GPU works later than it is told; its time is of the part that told it.
    kernels = [TimeSpan("a", 25, 125), TimeSpan("b", 75, 375), TimeSpan("c", 65, 165)]
    shares = shares_of(spans, kernels)
    assert (shares["losses"], shares["optimizers"], shares[REST]) == pytest.approx((0.2, 0.6, 0.2))


def test_a_profile_is_printed_and_traced_and_the_run_stays_as_it_is(
    whole_run: Path, pair_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in whole_run.rglob("*") if path.is_file()}
    path = tmp_path / "train.yaml"
    path.write_text(configs.dump(config(pair_url, whole_run)))
    words = ["steps=100", "adversarial={discriminator_steps: 2, ramp_steps: 2}", "profile=2"]
    main([str(path), *words])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("2 steps on cpu in fp32: ")
    shares = dict(word.rsplit(" ", 1) for word in lines[1].removeprefix("shares: ").split(", "))
    assert (*shares,) == (*SHARES, REST, "saving")
    parts = {name: float(share.rstrip("%")) for name, share in shares.items()}
    assert sum(parts.values()) == pytest.approx(100, abs=0.5)
    assert all(parts[name] > 0 for name in ("generator", "losses", "discriminators", "optimizers"))
    assert lines[2].startswith("with a perfect loader it would be ")
    trace = whole_run / "profile/rank-00000.pt.trace.json"
    assert str(trace) in lines[3]
    names = [event.get("name") for event in json.loads(trace.read_text())["traceEvents"]]
    assert names.count("timbre/adversarial") >= 2 and "aten::convolution" in names
    after = {path: path.read_bytes() for path in whole_run.rglob("*") if path.is_file()}
    assert after.keys() - before.keys() == {trace}
    assert all(after[path] == data for path, data in before.items())
