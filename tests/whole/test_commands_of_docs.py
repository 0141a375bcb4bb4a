"""What README.md and docs/ tell a user to type is taken by timbre.

Commands go through the real parsers, keys through the real configs, and end there. Programs in
Python run.
"""

import argparse
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np
import pytest
import yaml
from accelerate.commands.launch import launch_command_parser

from shard_tools.config import PrepConfig
from tests.conftest import ROOT
from tests.help.moved_generators import build
from timbre import config as configs
from timbre.cli import COMMANDS
from timbre.errors import ConfigError
from timbre.models import GeneratorConfig, save_generator
from timbre.train.config import TrainConfig

PAGES = ("README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")))
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`timbre ([a-z][^`…|]*)`")
CONFIGS: dict[str, type[Any]] = {"train": TrainConfig, "prep": PrepConfig}
# Python that cannot run here, and why.
NOT_RUN = {
    "hf://": "of a user's own on the Hugging Face Hub",
    "pipecat": "a part of an agent that runs until it is ended",
}
STARTS = ("timbre ", "accelerate launch ", "sbatch ")
# Programs that stand in for a user's own code are run by tests of what they show.
RUN_ELSEWHERE = {
    "import onnxruntime": "tests/export/test_command.py",
    "accelerator = Accelerator()": "tests/stream/test_device_loader.py",
}


class Line(NamedTuple):
    """A command of a page, as words."""

    page: str
    words: list[str]

    def __str__(self) -> str:
        """Return it for the name of a test."""
        return f"{self.page}: {' '.join(self.words)}"


class ParsedArguments(BaseException):
    """Ends a command where its arguments have been parsed."""

    def __init__(self, options: argparse.Namespace) -> None:
        super().__init__()
        self.options = options


def blocks(page: str) -> Iterator[tuple[str, str]]:
    for match in FENCE.finditer((ROOT / page).read_text(encoding="utf-8")):
        yield match[1], match[2]


def lines_of(page: str, text: str) -> Iterator[Line]:
    """Yield the commands of a block; pipes are cut, and ``"$@"`` is what ``set --`` said."""
    arguments: list[str] = []
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words[:2] == ["set", "--"]:
            arguments = words[2:]
            continue
        command: list[str] = []
        for word in [*words, "|"]:
            if word != "|":
                command += arguments if word == "$@" else [word]
            elif command:
                yield Line(page, command)
                command = []


def all_lines() -> list[Line]:
    lines: list[Line] = []
    for page in PAGES:
        for language, text in blocks(page):
            if language == "sh" or any(line.startswith(STARTS) for line in text.splitlines()):
                lines += lines_of(page, text)
    speedrun = ["make", "--dry-run", "--no-print-directory", "speedrun"]
    output = subprocess.run(speedrun, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for line in lines_of("Makefile", output):
        if any(word.endswith("/timbre") for word in line.words):
            start = next(n for n, word in enumerate(line.words) if word.endswith("/timbre"))
            lines.append(Line("Makefile", ["timbre", *line.words[start + 1 :]]))
    return lines


def mentions() -> list[Line]:
    """Return the commands within text, which may leave out words."""
    lines = []
    for page in PAGES:
        prose = FENCE.sub("", (ROOT / page).read_text(encoding="utf-8"))
        lines += [Line(page, shlex.split(match[1])) for match in INLINE.finditer(prose)]
    return lines


LINES = all_lines()


@contextmanager
def stopping_after_parsing() -> Iterator[None]:
    def parse_and_stop(parse: Callable[..., argparse.Namespace]) -> Callable[..., NoReturn]:
        def stop(self: argparse.ArgumentParser, *args: Any) -> NoReturn:
            raise ParsedArguments(parse(self, *args))

        return stop

    with pytest.MonkeyPatch.context() as patch:
        for name in ("parse_args", "parse_intermixed_args"):
            parse = getattr(argparse.ArgumentParser, name)
            patch.setattr(argparse.ArgumentParser, name, parse_and_stop(parse))
        yield


@pytest.fixture
def options_of(monkeypatch: pytest.MonkeyPatch) -> Callable[[Sequence[str]], set[str]]:
    """Returns the options that the parser of a command has."""

    class ParserError(BaseException):
        """Carries the parser out of the command."""

    def stop(self: argparse.ArgumentParser, *_: Any) -> NoReturn:
        raise ParserError(self)

    for name in ("parse_args", "parse_intermixed_args"):
        monkeypatch.setattr(argparse.ArgumentParser, name, stop)

    def options(words: Sequence[str]) -> set[str]:
        with pytest.raises(ParserError) as reached:
            import_module(COMMANDS[words[0]].module).main(words[1:])
        (parser,) = reached.value.args
        return {*parser._option_string_actions}

    return options


def check_program(module: str, arguments: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a module's ``main`` parse the arguments; of a config and its overrides the keys are checked."""
    monkeypatch.setattr(sys, "argv", [module, *arguments])
    with pytest.raises(ParsedArguments) as parsed, stopping_after_parsing():
        import_module(module).main()
    options = parsed.value.options
    kind = CONFIGS.get(module.split(".")[1]) if hasattr(options, "overrides") else None
    if kind and (ROOT / options.config).is_file():
        configs.load(kind, ROOT / options.config, options.overrides)


def check_line(words: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Check a command of timbre's; programs of others are theirs."""
    program, *arguments = words
    if program == "timbre":
        check_program(COMMANDS[arguments[0]].module, arguments[1:], monkeypatch)
    elif program == "accelerate":
        assert arguments[0] == "launch"
        options = launch_command_parser().parse_known_args(arguments[1:])[0]
        assert options.module and options.training_script == "timbre.train"
        assert options.config_file is None or (ROOT / options.config_file).is_file()
        check_program("timbre.train.command", options.training_script_args, monkeypatch)
    elif program == "sbatch":
        script = next(word for word in arguments if word.endswith(".sbatch"))
        text = (ROOT / script).read_text()
        module = "timbre.train.command" if "timbre.train" in text else "shard_tools.prep.command"
        check_program(module, arguments[arguments.index(script) + 1 :], monkeypatch)
    elif program == "make":
        targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert arguments[0] in targets


@pytest.mark.parametrize("line", LINES, ids=str)
def test_every_command_is_one_that_its_program_takes(
    line: Line,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    try:
        check_line(line.words, monkeypatch)
    except SystemExit:
        pytest.fail(capsys.readouterr().err)


def test_every_command_in_the_text_is_there_with_its_options(
    options_of: Callable[[Sequence[str]], set[str]],
) -> None:
    assert len(mentions()) > 20
    for line in mentions():
        assert line.words[0] in COMMANDS, line
        named = {word.partition("=")[0] for word in line.words if word.startswith("--")}
        assert named <= options_of(line.words), line


def test_commands_are_found_where_they_stand() -> None:
    assert {line.page for line in LINES} >= {"README.md", "docs/training.md", "Makefile"}
    assert sum(line.words[0] == "timbre" for line in LINES) > 25


def test_a_wrong_option_or_key_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit):
        check_line(shlex.split("timbre restore a b --strenght 1"), monkeypatch)
    with pytest.raises(ConfigError, match="stepps"):
        check_line(shlex.split("timbre train configs/train.yaml stepps=3"), monkeypatch)


YAML = [(page, text) for page in PAGES for language, text in blocks(page) if language == "yaml"]


@pytest.mark.parametrize(
    ("page", "text"), YAML, ids=[f"{page}-{n}" for n, (page, _) in enumerate(YAML)]
)
def test_every_piece_of_a_config_has_keys_that_exist(page: str, text: str) -> None:
    tree = yaml.safe_load(text)
    base = {
        name: yaml.safe_load((ROOT / f"configs/{name}_tiny.yaml").read_text()) for name in CONFIGS
    }
    kinds = [name for name in CONFIGS if tree.keys() <= CONFIGS[name].__dataclass_fields__.keys()]
    assert kinds, f"{page}: {[*tree]}"
    for name in kinds:
        configs.from_tree(CONFIGS[name], base[name] | tree, page)


PROGRAMS = [
    pytest.param(text, id=f"{page}-{number}")
    for page in PAGES
    for number, (language, text) in enumerate(blocks(page))
    if language == "python" and not any(word in text for word in (*RUN_ELSEWHERE, *NOT_RUN))
]


@pytest.mark.parametrize("text", PROGRAMS)
def test_every_program_runs(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in re.findall(r"^(?:from|import) (\w+)", text, re.MULTILINE):
        pytest.importorskip(module)
    monkeypatch.chdir(tmp_path)
    config = GeneratorConfig("spectral", "tiny")
    save_generator("runs/spectral/best.safetensors", build("spectral"), config, None)
    wave = np.random.default_rng(0).standard_normal((1, 4800)).astype(np.float32) / 9
    names: dict[str, Any] = {"waveform": wave[0], "sample_rate": 48_000, "piece": wave}
    exec(text, names)
    output = names["rest"] if "rest" in names else names["restored"]
    assert np.isfinite(np.asarray(output)).all()


def test_programs_that_others_run_are_run() -> None:
    for sign, path in RUN_ELSEWHERE.items():
        pages = [page for page in PAGES if any(sign in text for _, text in blocks(page))]
        (page,) = pages
        assert page in (ROOT / path).read_text()
