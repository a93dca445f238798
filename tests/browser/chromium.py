"""A headless Chromium with one page, driven by Playwright: its bundled driver, and the browser that is installed."""

from __future__ import annotations

import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import numpy as np
from playwright.sync_api import Error, Page, Response, expect, sync_playwright

from tests.waiting import wait_until

NAMES = ("chromium", "chromium-browser", "google-chrome")
WIDTH, HEIGHT = 1600, 1000
_TIMEOUT_S = 120.0


def find_chromium() -> str | None:
    """Path of the first browser of NAMES that is installed."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@contextmanager
def chromium(path: str) -> Iterator[Page]:
    """Start a browser with an empty profile and one page; it ends with the block."""
    expect.set_options(timeout=1000 * _TIMEOUT_S)
    with sync_playwright() as playwright, playwright.chromium.launch(executable_path=path) as browser:
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.set_default_timeout(1000 * _TIMEOUT_S)
        yield page


def read_page(page: Page, *words: str) -> str:
    """Wait until the page shows all the words; returns its visible text."""

    def read() -> str:
        text = page.locator("body").inner_text()
        return text if all(word in text for word in words) else ""

    with suppress(AssertionError):
        return wait_until(read, _TIMEOUT_S, "")
    text = page.locator("body").inner_text()
    raise AssertionError(f"{page.url} does not show {[word for word in words if word not in text]}; it shows:\n{text}")


@contextmanager
def page_errors(page: Page) -> Iterator[list[str]]:
    """Collect what fails in the page during the block: exceptions of its scripts, responses with an error status."""
    errors: list[str] = []

    def add_exception(error: Error) -> None:
        errors.append(str(error))

    def add_response(response: Response) -> None:
        if response.status >= 400:
            errors.append(f"{response.status} {response.url}")

    page.on("pageerror", add_exception)
    page.on("response", add_response)
    yield errors
    page.remove_listener("pageerror", add_exception)
    page.remove_listener("response", add_response)


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
