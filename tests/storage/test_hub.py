"""Releases by ``hf://``: the file that is meant, or one error; a Hub on this machine answers."""

import hashlib
from pathlib import Path

import pytest

from tests.help.hub import Hub, hub  # noqa: F401
from timbre.errors import ConfigError
from timbre.storage import StoreError
from timbre.storage import hub as hubs

NAMES = ("state.pt", "model.safetensors")
WEIGHTS = b"weights" * 1000
SHA256 = hashlib.sha256(WEIGHTS).hexdigest()


@pytest.fixture
def release(hub: Hub) -> Hub:  # noqa: F811
    """A Hub with one release."""
    hub.commit("me/voice", {"model.safetensors": WEIGHTS, "more/x.txt": b"x"})
    return hub


def test_the_first_of_the_names_that_is_there_is_fetched(release: Hub) -> None:
    assert hubs.fetch("hf://me/voice", NAMES).read_bytes() == WEIGHTS
    release.commit("me/voice", {"state.pt": b"state", "model.safetensors": WEIGHTS})
    assert hubs.fetch("hf://me/voice", NAMES).read_bytes() == b"state"


def test_a_file_a_revision_and_a_hash_can_be_named(release: Hub) -> None:
    first = release.repositories["me/voice"]["main"].oid
    release.commit("me/voice", {"model.safetensors": b"newer"})
    release.commit("me/voice", {"model.safetensors": b"a branch"}, branch="a/b")
    assert hubs.fetch("hf://me/voice", NAMES).read_bytes() == b"newer"
    assert hubs.fetch(f"hf://me/voice@{first}", NAMES).read_bytes() == WEIGHTS
    assert hubs.fetch(f"hf://me/voice@{first}/more/x.txt", NAMES).read_bytes() == b"x"
    pinned = f"hf://me/voice@{first}#sha256={SHA256}"
    assert hubs.fetch(pinned, NAMES).read_bytes() == WEIGHTS
    assert hubs.parse("hf://models/me/voice@a%2Fb") == ("me/voice", "a/b", None, None)


def test_a_file_with_another_hash_is_an_error_that_names_both(release: Hub) -> None:
    with pytest.raises(
        StoreError, match=rf"{'0' * 64}: the SHA-256 of model.safetensors is {SHA256}"
    ):
        hubs.fetch(f"hf://me/voice#sha256={'0' * 64}", NAMES)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("hf://me/nobody", "there is no repository me/nobody, or it is private"),
        ("hf://me/voice@never", "me/voice has no revision never"),
        ("hf://me/voice/other.bin", "me/voice holds no other.bin"),
    ],
)
def test_what_does_not_exist_is_one_error(release: Hub, url: str, message: str) -> None:
    with pytest.raises(FileNotFoundError, match=message):
        hubs.fetch(url, NAMES)


def test_a_repository_without_weights_is_one_error(release: Hub) -> None:
    release.commit("me/data", {"README.md": b"data"})
    with pytest.raises(FileNotFoundError, match=r"me/data holds no state.pt or model.safetensors"):
        hubs.fetch("hf://me/data", NAMES)


@pytest.mark.parametrize(
    "url",
    [
        "hf://voice",
        "hf://me/voice@",
        "hf://me/voice#sha256=12",
        "hf://me/voice/../other",
        "hf://datasets/me/voice/x",
        "hf://me/voice?token=1",
    ],
)
def test_another_syntax_is_one_error_before_the_hub_is_asked(release: Hub, url: str) -> None:
    asked = len(release.requests)
    with pytest.raises(ConfigError, match=r"expected hf://USER/REPOSITORY\[@REVISION\]"):
        hubs.fetch(url, NAMES)
    assert len(release.requests) == asked


def test_without_a_network_only_what_was_fetched_before_is_there(
    release: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = hubs.fetch("hf://me/voice", NAMES[1:])
    release.commit("me/other", {"model.safetensors": b"other"})
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert hubs.fetch("hf://me/voice", NAMES[1:]) == path
    with pytest.raises(StoreError, match=r"cannot be reached, and model.safetensors has not been"):
        hubs.fetch("hf://me/other", NAMES[1:])


def test_a_body_that_breaks_off_is_an_error_and_leaves_no_file(
    release: Hub, tmp_path: Path
) -> None:
    release.cuts = True
    with pytest.raises(StoreError, match=r"hf://me/voice"):
        hubs.fetch("hf://me/voice", NAMES)
    assert not list((tmp_path / "hub_cache").rglob("model.safetensors"))
    release.cuts = False
    assert hubs.fetch("hf://me/voice", NAMES).read_bytes() == WEIGHTS


def test_files_go_up_in_one_commit_and_come_back(hub: Hub) -> None:  # noqa: F811
    files = {"README.md": b"# x", "model.safetensors": WEIGHTS}
    url = hubs.push("hf://me/new", files, ["state.pt"], private=True)
    commits = hub.repositories["me/new"]
    assert url == f"hf://me/new@{commits['main'].oid}"
    assert hub.private == {"me/new"}
    assert {**commits["main"].files, ".gitattributes": b""} == {**files, ".gitattributes": b""}
    assert hubs.fetch(url, NAMES).read_bytes() == WEIGHTS


def test_what_a_new_release_lacks_is_deleted_and_a_branch_is_made(hub: Hub) -> None:  # noqa: F811
    hubs.push("hf://me/new", {"state.pt": b"1", "model.safetensors": WEIGHTS}, [], False)
    hubs.push("hf://me/new@next", {"model.safetensors": b"2"}, ["state.pt"], False)
    commits = hub.repositories["me/new"]
    assert "state.pt" in commits["main"].files
    assert "state.pt" not in commits["next"].files
    assert commits["next"].files["model.safetensors"] == b"2"


def test_a_login_that_may_not_write_is_one_error_and_nothing_is_written(hub: Hub) -> None:  # noqa: F811
    hub.writers.clear()
    with pytest.raises(StoreError, match=r"hf auth login"):
        hubs.push("hf://me/new", {"model.safetensors": WEIGHTS}, [], False)
    assert not hub.repositories


def test_without_the_package_the_message_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("timbre.packages.find_spec", lambda _: None)
    with pytest.raises(Exception, match=r"hf://me/voice needs .*pip install 'timbre\[hub\]'"):
        hubs.fetch("hf://me/voice", NAMES)
