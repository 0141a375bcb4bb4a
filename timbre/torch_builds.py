"""Which torchaudio loads beside which torch, and what to install where they do not."""

from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple

from timbre.errors import ConfigError

PACKAGES = ("torch", "torchaudio")
# Builds for one kind of device lie in an index of their own and belong together.
INDEX = "https://download.pytorch.org/whl"


class BuildRange(NamedTuple):
    """A release of torchaudio, and the releases of torch that it loads beside."""

    torchaudio: str
    lowest: str
    highest: str


# Measured by .ci/builds.py; a test holds docs/install.md to it.
SPANS = (BuildRange("2.11.0", "2.11.0", "2.14.1"), BuildRange("2.11.1", "2.13.0", "2.15.0"))


def check_torch() -> None:
    """Import torchaudio, and torch with it.

    Raises:
        ConfigError: one is missing, or they do not load; the message has the command that mends it.
    """
    try:
        import_module("torchaudio")
    except (ImportError, OSError, RuntimeError) as error:
        raise ConfigError(_message(error)) from error


def _message(error: Exception) -> str:
    versions = [_version(package) for package in PACKAGES]
    names = [
        f"{name} {version or '(missing)'}" for name, version in zip(PACKAGES, versions, strict=True)
    ]
    return (
        f"{' and '.join(names)} do not load together: {_reason(error)}. "
        f"Install versions that do: {remedy(*versions)}"
    )


def remedy(torch: str | None, torchaudio: str | None) -> str:
    """Return the ``pip install`` that leads from these versions to a pair that loads.

    It leaves torch as it is wherever a torchaudio loads beside it.
    """
    release, _, build = (torch or "").partition("+")
    releases = [span.torchaudio for span in SPANS if _is_within(release, span)]
    if not releases:
        newest = SPANS[-1]
        return f"pip install torch=={newest.highest} torchaudio=={newest.torchaudio}"
    # torch 2.13.0+cpu does not load the torchaudio of PyPI, which wants CUDA's libraries.
    index = f" --index-url {INDEX}/{build}" if build else ""
    # pip would leave the release that is there, of whatever build.
    again = "--force-reinstall --no-deps " * (releases[-1] == (torchaudio or "").partition("+")[0])
    return f"pip install {again}torchaudio=={releases[-1]}{index}"


def _is_within(torch: str, span: BuildRange) -> bool:
    return bool(torch) and _numbers(span.lowest) <= _numbers(torch) <= _numbers(span.highest)


def _numbers(release: str) -> tuple[int, ...]:
    return tuple(int(part) for part in release.split(".") if part.isdigit())


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _reason(error: BaseException) -> str:
    """Return the first line of what the loader said first."""
    return list(_causes(error))[-1].splitlines()[0]


def _causes(error: BaseException | None) -> Iterator[str]:
    while error is not None:
        yield str(error) or type(error).__name__
        error = error.__cause__
