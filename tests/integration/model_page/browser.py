"""A browser without a window, spoken to over two pipes in the DevTools protocol.

    with Browser(program, folder) as browser:
        browser.open(path)
        browser.value("document.title")

Nothing but the browser is needed; whatever it fetches, and whatever it complains of, is kept.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
SECONDS = 60


def find_browser() -> str | None:
    """ZEROSKEW_BROWSER, or the first of the usual names on the path."""
    named = os.environ.get("ZEROSKEW_BROWSER")
    return named or next(filter(None, map(shutil.which, PROGRAMS)), None)


class Browser:
    """One page at a time."""

    def __init__(self, program: str, folder: Path) -> None:
        down, self._down = os.pipe()
        self._up, up = os.pipe()
        # Above what a shell uses itself, so that 3 and 4 can be made of them.
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 60) for end in (down, up)]
        os.close(down)
        os.close(up)
        (folder / "browser").mkdir(parents=True)
        with (folder / "browser.log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    "bash", "-c", f'exec "$@" 3<&{ends[0]} 4>&{ends[1]}', "browser", program,
                    "--headless", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu",
                    "--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking",
                    f"--user-data-dir={folder / 'browser'}", "about:blank",
                ],
                pass_fds=ends, stdout=log, stderr=log, start_new_session=True,
                env=os.environ | {"HOME": str(folder)},
            )  # fmt: skip
        for end in ends:
            os.close(end)
        self._next, self._rest, self._session = 0, b"", ""
        self.events: list[dict[str, Any]] = []
        """Of the page that is open."""
        targets = self.call("Target.getTargets")["targetInfos"]
        page = next(each for each in targets if each["type"] == "page")
        attached = self.call(
            "Target.attachToTarget", targetId=page["targetId"], flatten=True
        )  # fmt: skip
        self._session = attached["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.call(f"{domain}.enable")

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._down)
        os.close(self._up)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(30)

    def open(self, path: Path) -> None:
        """Show a file, once it has been loaded."""
        self.events.clear()
        self.call("Page.navigate", url=path.absolute().as_uri())
        until = time.monotonic() + SECONDS
        while not any(each["method"] == "Page.loadEventFired" for each in self.events):
            self._receive(until)

    def value(self, expression: str) -> Any:
        """What an expression is in the page."""
        said = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in said, said["exceptionDetails"]
        return said["result"].get("value")

    def size(self, width: int, height: int, *, mobile: bool = False) -> None:
        """Of the window, CSS pixels."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height,
            deviceScaleFactor=1, mobile=mobile,
        )  # fmt: skip

    def scheme(self, name: str) -> None:
        """`light` or `dark`."""
        feature = {"name": "prefers-color-scheme", "value": name}
        self.call("Emulation.setEmulatedMedia", features=[feature])

    def media(self, name: str) -> None:
        """`print`, `screen`, or empty for what it is."""
        self.call("Emulation.setEmulatedMedia", media=name)

    def picture(self) -> bytes:
        """The whole page, PNG."""
        said = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        return base64.b64decode(said["data"])

    def print(self) -> bytes:
        """The page on paper, PDF."""
        return base64.b64decode(self.call("Page.printToPDF", printBackground=False)["data"])

    def fetched(self) -> list[str]:
        """Addresses that the page has asked for, itself the first."""
        return [
            each["params"]["request"]["url"]
            for each in self.events
            if each["method"] == "Network.requestWillBeSent"
        ]

    def complaints(self) -> list[str]:
        """What the browser has logged, thrown or asked in a dialog."""
        kinds = ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown",
                 "Page.javascriptDialogOpening")  # fmt: skip
        return [json.dumps(each["params"]) for each in self.events if each["method"] in kinds]

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        self._next += 1
        said: dict[str, Any] = {"id": self._next, "method": method, "params": params}
        if self._session:
            said["sessionId"] = self._session
        content = json.dumps(said).encode() + b"\0"
        while content:
            content = content[os.write(self._down, content) :]
        until = time.monotonic() + SECONDS
        while (answer := self._receive(until)).get("id") != said["id"]:
            pass
        assert "error" not in answer, (method, answer["error"])
        result: dict[str, Any] = answer["result"]
        return result

    def _receive(self, until: float) -> dict[str, Any]:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._up], [], [], max(0.0, until - time.monotonic()))
            assert ready, "the browser does not answer"
            content = os.read(self._up, 1 << 20)
            assert content, f"the browser has ended: {self._process.poll()}"
            self._rest += content
        content, _, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(content)
        if "method" in message:
            self.events.append(message)
        return message
