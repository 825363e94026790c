"""Headless Chromium by the DevTools protocol over its pipe: no port, no driver, one page."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.system import need

WAIT_S = 90.0
PROGRAM = "chromium"
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
    "--disable-extensions", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-features=Translate,OptimizationHints,MediaRouter", "--no-default-browser-check",
    "--force-color-profile=srgb", "--hide-scrollbars", "--remote-debugging-pipe", "about:blank",
)  # fmt: skip


# The page itself waits: for the condition to be true, or for the time to be over.
_ONCE = """new Promise(done => {
  const holds = () => { try { return Boolean(%s) } catch { return false } };
  const look = () => holds() ? done(true) : setTimeout(look, 10);
  setTimeout(() => done(false), %d);
  look();
})"""


class BrowserError(Exception):
    """The browser refused a command, or a script in the page threw."""


class Browser:
    """One browser with one page. Everything waits for its answer."""

    def __init__(self, folder: Path) -> None:
        there, ours = os.pipe(), os.pipe()  # commands, answers
        self._to, self._from = there[1], ours[0]

        def place() -> None:
            """Its pipe is on the descriptors 3 and 4, whatever ours are."""
            pair = [fcntl.fcntl(each, fcntl.F_DUPFD, 10) for each in (there[0], ours[1])]
            for number, each in zip((3, 4), pair, strict=True):
                os.dup2(each, number)

        self._process = subprocess.Popen(
            [shutil.which(PROGRAM) or PROGRAM, f"--user-data-dir={folder}", *FLAGS],
            pass_fds=(3, 4), preexec_fn=place, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(there[0])
        os.close(ours[1])
        self._number = 0
        self._session: str | None = None
        self._buffer = b""
        self.events: list[dict[str, Any]] = []

    def start(self) -> None:
        """Make the page. Raises BrowserError."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command; its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + WAIT_S
        while True:
            answer = self._receive(deadline)
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise BrowserError(f"{method}: {answer['error']}")
                result: dict[str, Any] = answer["result"]
                return result
            self.events.append(answer)

    def run(self, script: str) -> Any:
        """The value of an expression in the page; a promise is awaited."""
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            raise BrowserError(f"{script}: {result['exceptionDetails']}")
        return result["result"].get("value")

    def wait(self, condition: str, within_s: float = WAIT_S) -> None:
        """Wait until an expression is true in the page, also across a page that leads to another."""
        deadline = time.monotonic() + within_s
        while (left_s := deadline - time.monotonic()) > 0:
            with contextlib.suppress(BrowserError):  # the page that was asked is gone: ask the next one
                if self.run(_ONCE % (condition, 1000 * left_s)):
                    return
        raise AssertionError(f"never: {condition}; the page says: {self.text()}")

    def text(self) -> str:
        """What the page says, as shown."""
        return str(self.run("document.body.innerText"))

    def open(self, url: str, *, width: int = 1280, height: int = 800) -> None:
        self.resize(width, height)
        self.call("Page.navigate", url=url)

    def resize(self, width: int, height: int) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=True
        )
        self.call("Emulation.setTouchEmulationEnabled", enabled=True)

    def touch(self, selector: str) -> tuple[float, float]:
        """Touch the middle of an element, as a finger does: what lies above gets it. Where it was."""
        spot = self.run(
            f"(() => {{ const r = document.querySelector({json.dumps(selector)}).getBoundingClientRect();"
            " return [r.x + r.width / 2, r.y + r.height / 2, r.width, r.height]; })()"
        )
        assert spot[2] > 0, f"{selector} is not shown"
        points = [{"x": spot[0], "y": spot[1]}]
        self.call("Input.dispatchTouchEvent", type="touchStart", touchPoints=points)
        self.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
        return spot[0], spot[1]

    def screenshot(self, path: Path) -> None:
        data = self.call("Page.captureScreenshot", format="png")["data"]
        path.write_bytes(base64.b64decode(data))

    def close(self) -> None:
        os.close(self._to)
        self._process.kill()
        self._process.wait()
        os.close(self._from)

    def _receive(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._from], [], [], max(0.0, deadline - time.monotonic()))
            data = os.read(self._from, 1 << 20) if ready else b""
            if not data:
                raise BrowserError("the browser ended, or does not answer")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        return message


@contextlib.contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    need(PROGRAM)
    made = Browser(folder)
    try:
        made.start()
        yield made
    finally:
        made.close()
