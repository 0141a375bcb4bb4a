"""Which store a path or URL is in: a scheme and ``://`` are a store, all else is this machine."""

import logging
import os
from functools import cache
from pathlib import Path
from typing import Any

import fsspec
from fsspec.core import url_to_fs

from timbre.errors import ConfigError
from timbre.storage import redirects

BUCKET_TYPE = "Could not determine bucket type"


def resolve(url: str | Path) -> tuple[Any, str]:
    """Return the file system that a path or URL is of, and what it is called there.

    Raises:
        ConfigError: an unknown scheme, or one whose package is missing; a chain of URLs.
    """
    text = str(url)
    if "://" not in text:  # a file of this machine, whatever is in its name
        if "\0" in text:
            raise ConfigError(f"{text}: no file can have a name with NUL in it")
        # Not Path.expanduser: it takes "~a.wav" for somebody's home.
        path = os.path.expanduser(text) if text.startswith("~") else text  # noqa: PTH111
        return fsspec.filesystem("file"), str(Path(path).absolute())
    if "::" in text:
        raise ConfigError(f"{text}: `::` in a URL: chained URLs are not followed")
    try:
        file_system, path = url_to_fs(text, **_options(text))
    except (ValueError, ImportError, TypeError) as error:  # an unknown scheme, no package for it
        raise ConfigError(f"{text}: {error}") from None
    if is_a("s3", file_system):
        # s3fs tries 5 times, and botocore 5 times in each: with ours a dead server would be asked
        # 125 times. Ours is kept, as only it sees short bodies.
        file_system.retries = 1
        one = {"retries": {"total_max_attempts": 1}, **redirects.staying_s3()}
        file_system.config_kwargs = {**one, **file_system.config_kwargs}
    if is_a("gs", file_system):
        _hush_google()
    return file_system, path


@cache
def _hush_google() -> None:
    """Drop what gcsfs says at each call for a bucket that others, or an emulator, let anybody read."""
    logging.getLogger("gcsfs").addFilter(lambda record: BUCKET_TYPE not in record.getMessage())


@cache
def _options(url: str) -> dict[str, Any]:
    """Return what a URL's file system is to be made with."""
    is_http = url.startswith(("http://", "https://"))
    return {"client_kwargs": _http_client()} if is_http else {}


@cache
def _http_client() -> dict[str, Any]:
    return redirects.staying_http()  # the same object each time, as fsspec keeps what it made by it


def is_a(protocol: str, file_system: fsspec.AbstractFileSystem) -> bool:
    """Whether a file system is the one of this scheme."""
    protocols = file_system.protocol
    return protocol in ((protocols,) if isinstance(protocols, str) else protocols)
