"""Model repositories of the Hugging Face Hub: ``hf://USER/REPOSITORY[@REVISION][/FILE][#sha256=HASH]``.

The package ``huggingface_hub`` owns login, cache and transfer; its variables (``HF_ENDPOINT``,
``HF_HOME``, ``HF_TOKEN``, ``HF_HUB_OFFLINE``) work here too. What is fetched is read, never run.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from timbre.errors import ConfigError
from timbre.packages import require
from timbre.storage.errors import RefusedError, StoreError
from timbre.storage.files import sha256

SCHEME = "hf://"
SYNTAX = "hf://USER/REPOSITORY[@REVISION][/FILE][#sha256=HASH]"
NAME = r"[A-Za-z0-9](?:[\w.-]*[A-Za-z0-9])?"
# A revision with a slash in it is written with %2F, or is a pull request's.
PLACE = re.compile(
    rf"hf://(?:models/)?(?!(?:datasets|spaces|kernels|buckets)/)(?P<repository>{NAME}/{NAME})"
    r"(?:@(?P<revision>refs/pr/\d+|[^\s/@#?]+))?"
    r"(?:/(?P<file>[^\s#?]+))?"
    r"(?:\#sha256=(?P<sha256>[0-9a-f]{64}))?"
)
PACKAGE = "huggingface_hub"


class Place(NamedTuple):
    """A repository, and what of it is meant; ``None`` is its main branch, any file, any content."""

    repository: str
    revision: str | None
    file: str | None
    sha256: str | None


def is_hub(url: str) -> bool:
    """Return whether a URL is one of the Hub's."""
    return url.startswith(SCHEME)


def parse(url: str) -> Place:
    """Return what a URL of the Hub names.

    Raises:
        ConfigError: it is written otherwise.
    """
    match = PLACE.fullmatch(url)
    path = match["file"] if match else None
    if match is None or (path and not {"", ".", ".."}.isdisjoint(path.split("/"))):
        raise ConfigError(f"{url}: expected {SYNTAX}, HASH of 64 digits 0-9a-f")
    revision = match["revision"]
    return Place(
        match["repository"],
        revision.replace("%2F", "/") if revision else None,
        path,
        match["sha256"],
    )


def fetch(url: str, names: Sequence[str]) -> Path:
    """Return a file of a repository as it lies in the Hub's cache on this machine.

    Without a network a file that has been fetched before is taken from there.

    Args:
        url: of the Hub. If it names a file, that is meant.
        names: else the first of these that the repository holds.

    Raises:
        ConfigError: the URL is written wrongly.
        MissingPackageError: ``huggingface_hub`` is not installed.
        FileNotFoundError: there is no such repository, revision or file.
        StoreError: the Hub cannot be reached, refuses, or the file is not the one with this hash.
    """
    place = parse(url)
    require(PACKAGE, url)
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    names = [place.file] if place.file else names
    for name in names:
        try:
            with _named_errors(url):
                path = hf_hub_download(place.repository, name, revision=place.revision)
        except LocalEntryNotFoundError as error:
            raise StoreError(
                f"{url}: the Hub cannot be reached, and {name} has not been fetched before: "
                f"{_reason(error.__cause__ or error)}"
            ) from None
        except EntryNotFoundError:
            continue
        return _checked(url, place, name, Path(path))
    at = f" at revision {place.revision}" if place.revision else ""
    raise FileNotFoundError(
        f"{url}: {place.repository} holds no {' or '.join(names)}{at}: not a release of timbre publish"
        if not place.file
        else f"{url}: {place.repository} holds no {place.file}{at}"
    )


def push(url: str, files: Mapping[str, bytes], absent: Sequence[str], private: bool) -> str:
    """Put files into a repository in one commit, all or none; return the URL of that commit.

    A repository, or a branch, that does not exist is made. What else the repository holds stays.

    Args:
        url: of the Hub, without a file and a hash.
        files: the content of each by its name.
        absent: files that are deleted, if they are there.
        private: whether only its owner sees a repository that is made.

    Raises:
        ConfigError: the URL is written wrongly, or names more than a repository and a branch.
        MissingPackageError: ``huggingface_hub`` is not installed.
        FileNotFoundError: there is no such user.
        StoreError: the Hub cannot be reached, or refuses.
    """
    place = parse(url)
    if place.file or place.sha256:
        raise ConfigError(f"{url}: expected {SCHEME}USER/REPOSITORY[@BRANCH]")
    require(PACKAGE, url)
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    api = HfApi()
    with _named_errors(url):
        api.create_repo(place.repository, private=private, exist_ok=True)
        if place.revision:
            api.create_branch(place.repository, branch=place.revision, exist_ok=True)
        there = api.list_repo_files(place.repository, revision=place.revision)
        commit = api.create_commit(
            place.repository,
            [
                *(CommitOperationAdd(name, data) for name, data in files.items()),
                *(CommitOperationDelete(name) for name in absent if name in there),
            ],
            commit_message="Release by timbre publish",
            revision=place.revision,
        )
    return f"{SCHEME}{place.repository}@{commit.oid}"


def _checked(url: str, place: Place, name: str, path: Path) -> Path:
    """Return the path, if its content is the one that the URL pins.

    Raises:
        StoreError: it is another.
    """
    if place.sha256 and (now := sha256(path.read_bytes())) != place.sha256:
        raise StoreError(f"{url}: the SHA-256 of {name} is {now}: not the file that is pinned")
    return path


@contextmanager
def _named_errors(url: str) -> Iterator[None]:
    """Raise what the package raises as this module's errors; that a file is not there, as it is.

    The package has used three HTTP libraries, and passes their errors on.
    """
    from huggingface_hub import errors

    place = parse(url)
    try:
        yield
    except errors.EntryNotFoundError:
        raise
    except errors.GatedRepoError as error:
        raise RefusedError(f"{url}: its owner gives access on request: {_reason(error)}") from None
    except errors.RepositoryNotFoundError:
        raise FileNotFoundError(
            f"{url}: there is no repository {place.repository}, or it is private; "
            "`hf auth login` lets you in"
        ) from None
    except errors.RevisionNotFoundError:
        raise FileNotFoundError(
            f"{url}: {place.repository} has no revision {place.revision}"
        ) from None
    except errors.HfHubHTTPError as error:
        refused = error.response is not None and error.response.status_code in (401, 403)
        kind = RefusedError if refused else StoreError
        hint = "; `hf auth login` with a token that may write" if refused else ""
        raise kind(f"{url}: {_reason(error)}{hint}") from None
    except Exception as error:
        raise StoreError(f"{url}: the Hub cannot be used: {_reason(error)}") from None


def _reason(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
