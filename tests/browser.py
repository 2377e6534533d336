"""A headless Chromium for tests of pages. They are skipped, with the reason, where none is installed."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


def chromium() -> str:
    """The path of an installed Chromium; skips the test if there is none, or nothing to drive it with."""
    pytest.importorskip("playwright", reason="playwright is not installed; pip install '.[dev]'")
    found = os.environ.get("PHALANX_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip(f"no Chromium on this machine ({', '.join(NAMES)}); install one, or name it in PHALANX_CHROMIUM")
    return found


@contextmanager
def opened() -> Iterator[Any]:
    """A browser of playwright's, closed at the end."""
    path = chromium()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


class Watched:
    """A page of the browser, with all that it asked for and complained about.

    Attributes:
        requests: addresses, but for data URIs, which are in the page itself.
        errors: messages of the console, and exceptions.
    """

    def __init__(self, browser: Any, *, width: int = 1280, dark: bool = False, height: int = 900):
        self.context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light"
        )
        self.page = self.context.new_page()
        self.page.set_default_timeout(20_000)
        self.requests: list[str] = []
        self.errors: list[str] = []
        self.page.on("request", lambda request: self._requested(request.url))
        self.page.on(
            "console", lambda message: message.type in ("error", "warning") and self.errors.append(message.text)
        )
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))

    def _requested(self, address: str) -> None:
        if not address.startswith(("data:", "blob:")):
            self.requests.append(address)

    @property
    def overflow(self) -> int:
        """Pixels by which the page is wider than its window."""
        root = "document.documentElement"
        return int(self.page.evaluate(f"{root}.scrollWidth - {root}.clientWidth"))

    def close(self) -> None:
        """Closes the page and what it stored."""
        self.context.close()
