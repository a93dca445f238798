"""A headless Chromium, driven over the DevTools protocol: one browser, one page, no package but `websockets`.

A page remembers what went wrong in it: exceptions of its scripts and answers with an error status are in
`Page.troubles`. Nothing here sleeps and hopes: what takes time is polled with a deadline, and the error then quotes
what the page shows.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.waiting import wait_until

NAMES = ("chromium", "chromium-browser", "google-chrome")
WIDTH, HEIGHT = 1600, 1000
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
    "--remote-debugging-port=0",
)
_START_S = 30.0
_ANSWER_S = 30.0
_END_S = 5.0


def find_chromium() -> str | None:
    """Path of the first browser of NAMES that is installed."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Page:
    """The page under test; every call waits for its answer.

    Attributes:
        troubles: what went wrong since the last `open`, one line each.
    """

    def __init__(self, socket: ClientConnection) -> None:
        self.troubles: list[str] = []
        self._socket = socket
        self._number = 0
        self._session: str | None = None
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network"):
            self._call(f"{domain}.enable")
        self.resize(WIDTH, HEIGHT)

    def resize(self, width: int, height: int) -> None:
        """Size of the window, in pixels."""
        self._call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def open(self, url: str) -> None:
        """Go to the address; what its scripts load later has to be waited for."""
        failed = self._call("Page.navigate", url=url).get("errorText")
        assert not failed, f"{url}: {failed}"
        self.troubles.clear()

    def run(self, script: str) -> Any:
        """Value of a JavaScript expression in the page; a promise is waited for."""
        answer = self._call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, f"{script!r} in the page: {answer['exceptionDetails']}"
        return answer["result"].get("value")

    def text(self) -> str:
        """What a person can read on the page."""
        return str(self.run("document.body ? document.body.innerText : ''"))

    def wait_for(self, *words: str, timeout_s: float = 30.0) -> str:
        """The page's text, once it holds all the words."""
        try:
            return wait_until(
                lambda: text if all(word in (text := self.text()) for word in words) else "", timeout_s, ""
            )
        except AssertionError:
            text = self.text()
        missing = [word for word in words if word not in text]
        raise AssertionError(f"{self.run('location.href')} does not show {missing}; it shows:\n{text}")

    def click(self, label: str, *, role: str = "button, [role=button], a", timeout_s: float = 20.0) -> None:
        """Click, with the mouse, what reads exactly `label`, the first such thing on the page."""
        place = wait_until(lambda: self._place(label, role), timeout_s, f"something to click that reads {label!r}")
        for kind in ("mousePressed", "mouseReleased"):
            self._call("Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], button="left", clickCount=1)

    def fill(self, placeholder: str, text: str) -> None:
        """Type the text into the input field that shows `placeholder`, instead of what it contains."""
        field = f"document.querySelector({json.dumps(f'input[placeholder={json.dumps(placeholder)}]')})"
        wait_until(lambda: self.run(f"!!{field}"), 20, f"an input field with the placeholder {placeholder!r}")
        self.run(f"{field}.focus(), {field}.select()")
        self._call("Input.insertText", text=text)

    def press(self, key: str, code: str, *, alt: bool = False) -> None:
        """A key, as shortcuts hear it."""
        for kind in ("keyDown", "keyUp"):
            self._call("Input.dispatchKeyEvent", type=kind, key=key, code=code, modifiers=1 if alt else 0)

    def picture(self, path: Path) -> bytes:
        """A PNG of the window, also written to `path`."""
        png = base64.b64decode(self._call("Page.captureScreenshot", format="png")["data"])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png)
        return png

    def _place(self, label: str, role: str) -> list[float]:
        """The middle of an element that can be clicked, where it no longer moves; empty when there is none."""
        found = self.run(
            f"""(() => {{
                const reads = e => e.innerText.trim() === {json.dumps(label)};
                const usable = e => e.getClientRects().length && !e.disabled;
                const all = [...document.querySelectorAll({json.dumps(role)})];
                const element = all.filter(e => reads(e) && usable(e)).shift();
                if (!element) return [];
                element.scrollIntoView({{block: "nearest"}});
                const middle = () => {{
                    const box = element.getBoundingClientRect();
                    return [box.x + box.width / 2, box.y + box.height / 2];
                }};
                const before = middle();
                return new Promise(done => setTimeout(() => {{
                    const [x, y] = middle();
                    const top = document.elementFromPoint(x, y);
                    const clear = x === before[0] && y === before[1] && element.contains(top);
                    done(clear ? [x, y] : []);
                }}, 100));
            }})()"""
        )
        return [float(number) for number in found]

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        request: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            request["sessionId"] = self._session
        self._socket.send(json.dumps(request))
        deadline = time.monotonic() + _ANSWER_S
        while True:
            message = json.loads(self._socket.recv(timeout=max(0.0, deadline - time.monotonic())))
            if message.get("id") == self._number:
                assert "error" not in message, f"{method}: {message['error']}"
                return dict(message["result"])
            self._note(message)

    def _note(self, message: dict[str, Any]) -> None:
        """Keep the events that tell of trouble."""
        parameters = message.get("params", {})
        if message.get("method") == "Runtime.exceptionThrown":
            details = parameters["exceptionDetails"]
            self.troubles.append(str(details.get("exception", {}).get("description", details.get("text"))))
        elif message.get("method") == "Network.responseReceived" and parameters["response"]["status"] >= 400:
            self.troubles.append(f"{parameters['response']['status']} {parameters['response']['url']}")


@contextmanager
def chromium(path: str) -> Iterator[Page]:
    """A fresh browser with one page, ended with the block."""
    with tempfile.TemporaryDirectory(prefix="binlogsync-chromium-", ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [path, *_FLAGS, f"--user-data-dir={profile}", "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            # It has many processes; they are ended as one group.
            start_new_session=True,
        )
        try:
            address = wait_until(
                lambda: _address(Path(profile, "DevToolsActivePort"), process), _START_S, f"{path} to open its port"
            )
            # No pings: while a test waits for something else nobody reads, and the page's events hold the answers up.
            with connect(
                address, max_size=None, compression=None, proxy=None, open_timeout=_START_S, ping_interval=None
            ) as socket:
                yield Page(socket)
                with suppress(ConnectionClosed):
                    socket.send(json.dumps({"id": 0, "method": "Browser.close"}))
            with suppress(subprocess.TimeoutExpired):
                process.wait(_END_S)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(_END_S)


def _address(file: Path, process: subprocess.Popen[bytes]) -> str:
    """Of the browser's endpoint, once it has written it; empty until then."""
    assert process.poll() is None, f"the browser ended with code {process.returncode} before it opened its port"
    lines = file.read_text().split("\n") if file.exists() else []
    return f"ws://127.0.0.1:{lines[0]}{lines[1]}" if len(lines) > 1 and lines[1] else ""


def ink(png: bytes) -> float:
    """Share of the picture's bytes that differ from what stands beside or above them: 0 for a blank page."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n"), "not a PNG"
    at, width, channels, packed = 8, 0, 0, b""
    while at < len(png):
        length, kind = int.from_bytes(png[at : at + 4], "big"), png[at + 4 : at + 8]
        body = png[at + 8 : at + 8 + length]
        if kind == b"IHDR":
            width, channels = int.from_bytes(body[:4], "big"), {2: 3, 6: 4}[body[9]]
            assert body[8] == 8, f"{body[8]} bits"
        elif kind == b"IDAT":
            packed += body
        at += length + 12
    lines = np.frombuffer(zlib.decompress(packed), np.uint8).reshape(-1, 1 + width * channels)
    filtered, plain = lines[lines[:, 0] != 0, 1:], lines[lines[:, 0] == 0, 1:]
    # Every filter but 0 stores differences already.
    different = np.count_nonzero(filtered) + np.count_nonzero(plain[:, channels:] != plain[:, :-channels])
    return float(different) / lines[:, 1:].size
