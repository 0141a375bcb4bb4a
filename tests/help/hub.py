"""A Hugging Face Hub on this machine: repositories by its HTTP interface, with commits and LFS.

The fixture ``hub``, to be imported by the test file that wants it, is the server; the package
``huggingface_hub`` goes there, and has an empty cache.
"""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import pytest

TOKEN = "hf_test"
# What the Hub keeps apart from Git.
LARGE = (".safetensors", ".pt")
# A retry of a connection that is refused would wait for seconds.
Answer = tuple[int, dict[str, str], bytes]
NO_REPOSITORY = (404, {"X-Error-Code": "RepoNotFound"}, b"{}")
NO_REVISION = (404, {"X-Error-Code": "RevisionNotFound"}, b"{}")


class Commit(NamedTuple):
    """A commit's hash, and every file of the repository after it."""

    oid: str
    files: dict[str, bytes]


class Hub(ThreadingHTTPServer):
    """The server.

    Attributes:
        repositories: name -> branch, tag or hash -> commit.
        writers: tokens that may write.
        cuts: whether bodies end in their middle.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, dict[str, Commit]] = {}
        self.objects: dict[str, bytes] = {}
        self.writers = {TOKEN}
        self.private: set[str] = set()
        self.cuts = False
        self.requests: list[str] = []

    @property
    def url(self) -> str:
        """Return its address."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def commit(self, repository: str, files: dict[str, bytes], branch: str = "main") -> str:
        """Make a repository hold just these files; return the commit's hash."""
        branches = self.repositories.setdefault(repository, {})
        text = repr((repository, len(branches), sorted(files))).encode()
        commit = Commit(hashlib.sha1(text).hexdigest(), files)
        branches[branch] = branches[commit.oid] = commit
        return commit.oid


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+|refs/pr/\d+)/(.+)", path):
            self._answer(*self._file(*match.groups()))
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/([^/]+)", path):
            self._answer(*self._tree(*match.groups()))
        else:
            self._answer(404, {}, b"{}")

    do_HEAD = do_GET  # noqa: N815

    def do_PUT(self) -> None:
        self.server.objects[self.path.rpartition("/")[2]] = self._body()
        self._answer(200, {}, b"")

    def do_POST(self) -> None:
        body, path = self._body(), unquote(urlsplit(self.path).path)
        if path == "/api/validate-yaml":
            self._answer(200, {}, b'{"errors": [], "warnings": []}')
        elif (
            self.headers.get("Authorization", "").removeprefix("Bearer ") not in self.server.writers
        ):
            self._answer(401, {}, b'{"error": "Invalid username or password."}')
        elif path == "/api/repos/create":
            self._answer(*self._create(json.loads(body)))
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/(\w+)/([^/]+)", path):
            self._answer(*self._write(body, *match.groups()))
        elif path.endswith(".git/info/lfs/objects/batch"):
            self._answer(*self._batch(json.loads(body)))
        else:
            self._answer(404, {}, b"{}")

    def _file(self, repository: str, revision: str, name: str) -> Answer:
        branches = self.server.repositories.get(repository)
        if branches is None:
            return NO_REPOSITORY
        if revision not in branches:
            return NO_REVISION
        commit = branches[revision]
        head = {"X-Repo-Commit": commit.oid}
        if name not in commit.files:
            return 404, {**head, "X-Error-Code": "EntryNotFound"}, b""
        data = commit.files[name]
        return 200, {**head, "ETag": f'"{hashlib.sha256(data).hexdigest()}"'}, data

    def _tree(self, repository: str, revision: str) -> Answer:
        commit = self.server.repositories.get(repository, {}).get(revision)
        if commit is None:
            return NO_REVISION
        return _json(
            {"type": "file", "path": name, "size": len(data), "oid": "0" * 40}
            for name, data in commit.files.items()
        )

    def _create(self, wish: dict[str, Any]) -> Answer:
        name = f"{wish.get('organization') or 'me'}/{wish['name']}"
        if name in self.server.repositories:
            return 409, {}, json.dumps({"url": f"{self.server.url}/{name}"}).encode()
        if wish.get("private") or wish.get("visibility") == "private":
            self.server.private.add(name)
        self.server.commit(name, {".gitattributes": b""})
        return _json({"url": f"{self.server.url}/{name}", "id": name, "name": name})

    def _write(self, body: bytes, repository: str, action: str, revision: str) -> Answer:
        branches = self.server.repositories.get(repository)
        if branches is None:
            return NO_REPOSITORY
        if action == "branch":
            branches.setdefault(revision, branches["main"])
            return _json({})
        if revision not in branches:
            return NO_REVISION
        if action == "preupload":
            return _json({"files": [_mode(file["path"]) for file in json.loads(body)["files"]]})
        files = dict(branches[revision].files)
        for line in body.splitlines():
            self._apply(files, **json.loads(line))
        oid = self.server.commit(repository, files, revision)
        url = f"{self.server.url}/{repository}/commit/{oid}"
        return _json({"commitUrl": url, "commitOid": oid, "success": True})

    def _apply(self, files: dict[str, bytes], key: str, value: dict[str, Any]) -> None:
        if key == "file":
            files[value["path"]] = base64.b64decode(value["content"])
        elif key == "lfsFile":
            files[value["path"]] = self.server.objects[value["oid"]]
        elif key == "deletedFile":
            del files[value["path"]]

    def _batch(self, wish: dict[str, Any]) -> Answer:
        return _json(
            {
                "transfer": "basic",
                "objects": [
                    {**it, "actions": {"upload": {"href": f"{self.server.url}/lfs/{it['oid']}"}}}
                    for it in wish["objects"]
                ],
            }
        )

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _answer(self, code: int, headers: dict[str, str], data: bytes) -> None:
        self.server.requests.append(f"{self.command} {self.path}")
        self.send_response(code)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.server.cuts and "/resolve/" in self.path:
            data = data[: len(data) // 2]
            self.close_connection = True
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def _json(tree: Any) -> Answer:
    plain = tree if isinstance(tree, dict) else list(tree)
    return 200, {"Content-Type": "application/json"}, json.dumps(plain).encode()


def _mode(path: str) -> dict[str, Any]:
    mode = "lfs" if path.endswith(LARGE) else "regular"
    return {"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": None}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A Hub without repositories; the package goes there, for it reads its variables only once."""
    constants = pytest.importorskip("huggingface_hub.constants")
    server = Hub()
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    template = f"{server.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub_cache"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    yield server
    server.shutdown()
    server.server_close()
