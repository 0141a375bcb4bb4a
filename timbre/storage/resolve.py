"""Which store a path or URL is in: a scheme and ``://`` are a store, all else is this machine."""

import json
import logging
import os
from functools import cache
from pathlib import Path
from typing import Any

import fsspec
from fsspec.core import url_to_fs

from timbre import environment
from timbre.errors import ConfigError
from timbre.storage import redirects

GOOGLE = ("gs", "gcs")
BUCKET_TYPE = "Could not determine bucket type"


def resolve(url: str | Path) -> tuple[Any, str]:
    """Return the file system that a path or URL is of, and what it is called there.

    Raises:
        ConfigError: an unknown scheme, or one whose package is missing; a chain of URLs; a file of
            Google's credentials that cannot be read.
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
    scheme = text.partition("://")[0]
    if scheme in GOOGLE:
        _prepare_google(environment.google_credentials())
    try:
        file_system, path = url_to_fs(text, **_options(scheme))
    except (ValueError, ImportError, TypeError) as error:  # an unknown scheme, no package for it
        raise ConfigError(f"{text}: {error}") from None
    if is_a("s3", file_system):
        # s3fs tries 5 times, and botocore 5 times in each: with ours a dead server would be asked
        # 125 times. Ours is kept, as only it sees short bodies.
        file_system.retries = 1
        one = {"retries": {"total_max_attempts": 1}, **redirects.staying_s3()}
        file_system.config_kwargs = {**one, **file_system.config_kwargs}
    return file_system, path


@cache
def _prepare_google(credentials: Path | None) -> None:
    """Refuse a file of credentials that cannot be read, and drop one message of gcsfs.

    Without the file gcsfs looks elsewhere, for 20 s and more, and then goes on without credentials. The
    message comes at each call for a bucket that others, or an emulator, let anybody read.
    """
    if credentials:
        try:
            json.loads(credentials.read_bytes())
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ConfigError(
                f"{environment.GOOGLE_CREDENTIALS} {credentials}: {reason}; expected a file of credentials as "
                "`gcloud` or Google's console writes it, or the variable unset"
            ) from None
    logging.getLogger("gcsfs").addFilter(lambda record: BUCKET_TYPE not in record.getMessage())


@cache
def _options(scheme: str) -> dict[str, Any]:
    """Return what a file system is to be made with."""
    return {"client_kwargs": _http_client()} if scheme in ("http", "https") else {}


@cache
def _http_client() -> dict[str, Any]:
    return redirects.staying_http()  # the same object each time, as fsspec keeps what it made by it


def is_a(protocol: str, file_system: fsspec.AbstractFileSystem) -> bool:
    """Whether a file system is the one of this scheme."""
    protocols = file_system.protocol
    return protocol in ((protocols,) if isinstance(protocols, str) else protocols)
