"""A headless Chromium for tests of pages; they are skipped where there is none."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser of playwright. Skips the test if playwright or a browser is not installed."""
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright (pip install playwright)")
    place = next((found for name in NAMES if (found := shutil.which(name))), None)
    if place is None:
        pytest.skip(f"needs an installed browser: {', '.join(NAMES)}")
    with api.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=place, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


class Watched:
    """A tab, with what its console says and what it asks for beyond some addresses."""

    def __init__(self, browser: Any, allowed: tuple[str, ...], **options: Any):
        self.page = browser.new_page(**options)
        self.faults: list[str] = []
        self.page.on("console", lambda said: said.type in ("error", "warning") and self.faults.append(said.text))
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on(
            "request", lambda asked: asked.url.startswith((*allowed, "data:", "blob:")) or self.faults.append(asked.url)
        )
