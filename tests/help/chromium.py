"""A real browser for tests: Chromium without a window, driven through a pipe."""

import fcntl
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser")
# Without a browser the tests are skipped, but not where CI says that it has made the machine ready.
needs_chromium = pytest.mark.skipif(
    PROGRAM is None and os.environ.get("CI") != "true", reason="chromium is not installed"
)

KEY_CODES = {"Tab": 9, "Enter": 13, "End": 35, "Home": 36, "ArrowUp": 38, "ArrowDown": 40}


class Browser:
    """One page of a running browser; ``complaints`` are its errors and warnings, as they came."""

    def __init__(self, commands: int, answers: int) -> None:
        self._commands, self._answers = os.fdopen(commands, "wb"), os.fdopen(answers, "rb")
        self._number = 0
        self.complaints: list[str] = []
        # The name of the file that is saved, and an empty one when it is whole.
        self._saved: list[str] = []
        target = self._ask("Target.createTarget", url="about:blank")["targetId"]
        answer = self._ask("Target.attachToTarget", targetId=target, flatten=True)
        self._session = answer["sessionId"]
        for domain in ("Runtime", "Log", "Page"):
            self.ask(f"{domain}.enable")

    def open(self, page: Path | str, width: int = 1280, height: int = 900) -> None:
        """Load a file or a URL and wait until it is there."""
        self.resize(width, height)
        self.ask("Page.navigate", url=page.as_uri() if isinstance(page, Path) else page)
        self._read_until(lambda message: message.get("method") == "Page.loadEventFired")

    def resize(self, width: int, height: int = 900) -> None:
        """Give the window another size, in pixels."""
        self.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=False,
        )  # fmt: skip

    def use_scheme(self, scheme: str) -> None:
        """Prefer ``dark`` or ``light`` pages."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.ask("Emulation.setEmulatedMedia", features=features)

    def wait_for(self, condition: str) -> None:
        """Return when a JavaScript expression is true; a test's own limit ends the wait."""
        self.run(
            f"new Promise((done) => {{ const wait = () => ({condition}) ? done() :"
            " setTimeout(wait, 10); wait(); })"
        )

    def download(self, selector: str, folder: Path) -> Path:
        """Click on what saves a file, and return where the file is."""
        self._ask(
            "Browser.setDownloadBehavior",
            behavior="allow", downloadPath=str(folder), eventsEnabled=True,
        )  # fmt: skip
        self._saved.clear()
        self.run(f"document.querySelector({selector!r}).click()")
        if "" not in self._saved:
            self._read_until(lambda _: "" in self._saved)
        return folder / next(name for name in self._saved if name)

    def run(self, code: str) -> Any:
        """Return what JavaScript gives, its promise awaited, as if the user had clicked."""
        answer = self.ask(
            "Runtime.evaluate",
            expression=code, awaitPromise=True, returnByValue=True, userGesture=True,
        )  # fmt: skip
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def click(self, selector: str) -> None:
        """Click with the mouse into the middle of the first element that fits."""
        x, y = self.run(
            f"(() => {{ const e = document.querySelector({selector!r}); e.scrollIntoView("
            "{block: 'center'}); const b = e.getBoundingClientRect(); "
            "return [b.x + b.width / 2, b.y + b.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.ask(
                "Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1
            )  # fmt: skip

    def press(self, key: str) -> None:
        """Press and release a key, ``a`` or ``Enter``."""
        code = KEY_CODES.get(key, 0)
        text = key if len(key) == 1 else "\r" if key == "Enter" else ""
        for kind in ("keyDown", "keyUp"):
            self.ask(
                "Input.dispatchKeyEvent",
                type=kind, key=key, text=text if kind == "keyDown" else "", code=key if code else "",
                windowsVirtualKeyCode=code,
            )  # fmt: skip

    def type(self, text: str) -> None:
        """Write into what has the focus."""
        self.ask("Input.insertText", text=text)

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command to the page and return its answer."""
        return self._ask(method, session=self._session, **parameters)

    def close(self) -> None:
        """Close both pipes."""
        self._commands.close()
        self._answers.close()

    def _ask(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        number = self._number
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        self._commands.write(json.dumps(message).encode() + b"\0")
        self._commands.flush()
        answer = self._read_until(lambda message: message.get("id") == number)
        assert "error" not in answer, f"{method}: {answer['error']}"
        result: dict[str, Any] = answer["result"]
        return result

    def _read_until(self, is_last: Any) -> dict[str, Any]:
        while True:
            message = self._read_message()
            method, fields = message.get("method"), message.get("params", {})
            if method == "Runtime.exceptionThrown":
                self.complaints.append(json.dumps(fields["exceptionDetails"]))
            elif method == "Log.entryAdded" and fields["entry"]["level"] in ("error", "warning"):
                self.complaints.append(fields["entry"]["text"])
            elif method == "Runtime.consoleAPICalled" and fields["type"] in ("error", "warning"):
                self.complaints.append(json.dumps(fields["args"]))
            elif method == "Browser.downloadWillBegin":
                self._saved.append(fields["suggestedFilename"])
            elif method == "Browser.downloadProgress" and fields["state"] == "completed":
                self._saved.append("")
            if is_last(message):
                return message

    def _read_message(self) -> dict[str, Any]:
        data = bytearray()
        while (byte := self._answers.read(1)) != b"\0":
            assert byte, "the browser ended"
            data += byte
        message: dict[str, Any] = json.loads(data)
        return message


@contextmanager
def chromium(profile: Path) -> Iterator[Browser]:
    """Run a browser with a profile folder of its own; it ends with the block."""
    assert PROGRAM, "CI=true, but chromium is not installed; .ci/run does it"
    for_it, to_it = os.pipe()
    from_it, of_it = os.pipe()

    def place() -> None:
        # It reads commands from 3 and writes answers to 4; first out of the way of both.
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (for_it, of_it)]
        os.dup2(ends[0], 3)
        os.dup2(ends[1], 4)

    process = subprocess.Popen(
        [
            PROGRAM,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--remote-debugging-pipe",
            f"--user-data-dir={profile}",
            "about:blank",
        ],
        preexec_fn=place,
        close_fds=False,  # Python's own are not inherited; 3 and 4 are to be
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(for_it)
    os.close(of_it)
    browser = Browser(to_it, from_it)
    try:
        yield browser
    finally:
        browser.close()
        process.terminate()
        process.wait()
