"""A headless Chromium of its own for one test, driven over the DevTools protocol."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import websocket

PROGRAM = "chromium"
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
    "--remote-allow-origins=*",
)
PATIENCE = 60.0  # seconds; a busy machine is slow, not broken
KEY_CODES = {"ArrowLeft": 37, "ArrowRight": 39, "Escape": 27}


class Chromium:
    """One page: `with Chromium(1400, 900) as browser: browser.open(path)`.

    `trouble` collects console errors, exceptions and refused content; `requests` the addresses
    of everything the page asked for.
    """

    def __init__(self, width: int = 1400, height: int = 900, *, scale: float = 1) -> None:
        self.size = (width, height, scale)
        self.trouble: list[str] = []
        self.requests: list[str] = []
        self._number = 0

    def __enter__(self) -> Self:
        self._folder = Path(tempfile.mkdtemp(prefix="chromium-"))
        program = shutil.which(PROGRAM)
        assert program, f"{PROGRAM} is not installed"
        self._process = subprocess.Popen(
            [program, *FLAGS, f"--user-data-dir={self._folder}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            self._socket = websocket.create_connection(self._page_address(), timeout=PATIENCE)
        except BaseException:
            self._end()
            raise
        width, height, scale = self.size
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        self.resize(width, height, scale=scale)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._socket.close()
        self._end()

    def _end(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _page_address(self) -> str:
        port_file = self._folder / "DevToolsActivePort"
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            assert self._process.poll() is None, "Chromium ended while starting"
            lines = port_file.read_text().splitlines() if port_file.exists() else []
            if len(lines) > 1:
                with urllib.request.urlopen(f"http://127.0.0.1:{lines[0]}/json") as answer:
                    pages = [one for one in json.load(answer) if one["type"] == "page"]
                if pages:
                    return str(pages[0]["webSocketDebuggerUrl"])
            time.sleep(0.05)
        raise TimeoutError("Chromium did not open its debugging port")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """One command of the protocol; an AssertionError with its message if it is refused."""
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": params}))
        while True:
            message = json.loads(self._socket.recv())
            if message.get("id") == self._number:
                assert "error" not in message, f"{method}: {message['error']}"
                result: dict[str, Any] = message["result"]
                return result
            self._note(message.get("method", ""), message.get("params", {}))

    def _note(self, method: str, params: dict[str, Any]) -> None:
        if method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.trouble.append(details.get("exception", {}).get("description", details["text"]))
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning"):
            self.trouble.append(json.dumps(params["args"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.trouble.append(params["entry"]["text"])

    def evaluate(self, expression: str) -> Any:
        """The JSON value of a JavaScript expression; a promise is awaited."""
        answer = self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, condition: str) -> Any:
        """The value of a JavaScript expression as soon as it is true."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            if value := self.evaluate(condition):
                return value
            time.sleep(0.03)
        raise TimeoutError(f"never true: {condition}; {self.trouble}")

    def open(self, path: Path, fragment: str = "") -> None:
        """Open a report and wait until everything near the screen is drawn."""
        self.call("Page.navigate", url=path.resolve().as_uri() + fragment)
        self.wait("window.imdiffusion?.state.drawn")
        self.settle()

    def settle(self) -> None:
        """Wait until a change is on the screen: two frames, and no chart still loading."""
        frames = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
        self.evaluate(frames)
        self.wait("!window.imdiffusion || imdiffusion.state.figures.every(f => !f.drawing)")
        self.evaluate(frames)

    def resize(self, width: int, height: int, *, scale: float = 1) -> None:
        """Give the page a screen of `width` x `height` CSS pixels."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=width < 600,
        )

    def scheme(self, name: str) -> None:
        """Make the system "light" or "dark"."""
        feature = {"name": "prefers-color-scheme", "value": name}
        self.call("Emulation.setEmulatedMedia", features=[feature])

    def screenshot(self, path: Path) -> None:
        """What is on the screen, as a PNG."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))

    def mouse(self, kind: str, x: float, y: float, *, clicks: int = 0, held: bool = False) -> None:
        """One mouse event: kind is "mouseMoved", "mousePressed" or "mouseReleased"."""
        button = "left" if clicks or held else "none"
        self.call(
            "Input.dispatchMouseEvent",
            type=kind,
            x=x,
            y=y,
            button=button,
            buttons=int(held),
            clickCount=clicks,
        )

    def click(self, x: float, y: float, *, times: int = 1) -> None:
        """A click, or with `times=2` a double click."""
        self.mouse("mouseMoved", x, y)
        for k in range(1, times + 1):
            self.mouse("mousePressed", x, y, clicks=k, held=True)
            self.mouse("mouseReleased", x, y, clicks=k)
        self.settle()

    def drag(self, x0: float, x1: float, y: float) -> None:
        """Press at x0, move in steps to x1, release."""
        self.mouse("mouseMoved", x0, y)
        self.mouse("mousePressed", x0, y, clicks=1, held=True)
        for k in range(1, 6):
            self.mouse("mouseMoved", x0 + (x1 - x0) * k / 5, y, held=True)
        self.mouse("mouseReleased", x1, y, clicks=1)
        self.settle()

    def press(self, key: str) -> None:
        """A key pressed and released."""
        text = {"text": key} if len(key) == 1 else {}
        code = KEY_CODES.get(key, ord(key) if len(key) == 1 else 0)
        self.call(
            "Input.dispatchKeyEvent", type="keyDown", key=key, windowsVirtualKeyCode=code, **text
        )
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)
        self.settle()

    def box(self, selector: str) -> dict[str, float]:
        """Where an element is on the screen: x, y, width, height."""
        found: dict[str, float] = self.evaluate(
            f"document.querySelector({json.dumps(selector)}).getBoundingClientRect().toJSON()"
        )
        return found
