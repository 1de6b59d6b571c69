"""A headless Chromium, driven over pipes by the DevTools protocol: pages at any width, light or dark, and their errors.

As a program: python tests/browser.py PAGE PICTURE.png WIDTH [dark]
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
_OPTIONS = [
    *("--headless", "--no-sandbox", "--remote-debugging-pipe", "--disable-gpu", "--disable-dev-shm-usage"),
    *("--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--disable-quic",
]


class Browser:
    """One tab. `errors` are console errors, uncaught exceptions and failed requests since the last `open`."""

    def __init__(self) -> None:
        assert CHROMIUM is not None
        self.profile = tempfile.TemporaryDirectory(prefix="chromium.", ignore_cleanup_errors=True)
        there, back = os.pipe(), os.pipe()

        def at_3_and_4() -> None:  # Chromium reads 3 and writes 4
            reading, writing = os.dup(there[0]), os.dup(back[1])
            os.dup2(reading, 3)
            os.dup2(writing, 4)

        self.process = subprocess.Popen(
            [CHROMIUM, *_OPTIONS, f"--user-data-dir={self.profile.name}"],
            preexec_fn=at_3_and_4,
            close_fds=False,
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        os.close(there[0])
        os.close(back[1])
        self.writing, self.reading = there[1], back[0]
        self.buffer, self.number, self.session = b"", 0, ""
        self.events: list[dict[str, Any]] = []
        target = self("Target.createTarget", url="about:blank")["targetId"]
        self.session = self("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self(f"{domain}.enable")

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.process.terminate()
        self.process.wait(timeout=30)
        os.close(self.writing)
        os.close(self.reading)
        self.profile.cleanup()

    def __call__(self, method: str, **parameters: Any) -> dict[str, Any]:
        """A command of the protocol and its result."""
        self.number += 1
        message: dict[str, Any] = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.writing, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self.number:
                assert "error" not in answer, answer["error"]
                return answer["result"]
            self.events.append(answer)

    def _next(self, timeout: float = 60) -> dict[str, Any]:
        while b"\0" not in self.buffer:
            ready, _, _ = select.select([self.reading], [], [], timeout)
            assert ready, "Chromium does not answer"
            self.buffer += os.read(self.reading, 1 << 20)
        message, _, self.buffer = self.buffer.partition(b"\0")
        return json.loads(message)

    def open(self, address: str, width: int = 1280, *, dark: bool = False, height: int = 900) -> None:
        """Loads the page in a window of that width and waits until it is there."""
        self("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self("Emulation.setEmulatedMedia", features=[scheme])
        self.events.clear()
        self("Page.navigate", url=address)
        self.wait("document.readyState == 'complete' && location.href != 'about:blank'")

    def js(self, expression: str) -> Any:
        """The value of an expression, awaited where it is a promise."""
        result = self("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def wait(self, expression: str, seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while not self.js(f"Boolean({expression})"):
            assert time.monotonic() < end, f"still not true: {expression}"
            time.sleep(0.05)

    @property
    def errors(self) -> list[str]:
        self.js("1")  # what was on its way has then arrived
        told = []
        for event in self.events:
            method, parameters = event.get("method"), event.get("params", {})
            if method == "Runtime.exceptionThrown":
                told.append(json.dumps(parameters["exceptionDetails"])[:300])
            elif method == "Log.entryAdded" and parameters["entry"]["level"] == "error":
                told.append(f"{parameters['entry']['text']} {parameters['entry'].get('url', '')[:80]}")
            elif method == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "assert"):
                told.append(json.dumps(parameters["args"])[:300])
        return told

    @property
    def requests(self) -> list[str]:
        """Addresses that the page asked for, pictures that it carries left out."""
        sent = [e["params"]["request"]["url"] for e in self.events if e.get("method") == "Network.requestWillBeSent"]
        return [address for address in sent if not address.startswith("data:")]

    @property
    def overflow(self) -> int:
        """Pixels by which the page is wider than its window."""
        return self.js("document.documentElement.scrollWidth - window.innerWidth")

    def screenshot(self, path: Path, *, whole: bool = True) -> None:
        found = self("Page.captureScreenshot", captureBeyondViewport=whole, format="png")
        path.write_bytes(base64.b64decode(found["data"]))


if __name__ == "__main__":
    with Browser() as browser:
        browser.open(sys.argv[1], int(sys.argv[3]), dark="dark" in sys.argv)
        browser.screenshot(Path(sys.argv[2]))
        print("errors", browser.errors, "overflow", browser.overflow)
