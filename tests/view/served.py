"""The page as a process, in a browser."""

import subprocess
import sys
from contextlib import contextmanager

from tests.browser import Watched


@contextmanager
def served(folder, *words):
    """Starts ``phalanx view``; yields its address."""
    with started(folder, *words) as (url, _):
        yield url


@contextmanager
def started(folder, *words):
    """The same, with the process."""
    command = [sys.executable, "-m", "phalanx", "view", *map(str, words), "port=0", "open=false", "device=cpu"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process.stdout.readline().split()[0], process
        finally:
            if process.poll() is None:
                process.terminate()


@contextmanager
def room(browser, url, **options):
    """A page that is ready. At the end it has asked 127.0.0.1 alone, and complained about nothing."""
    tab = Watched(browser, **options)
    tab.page.goto(url)
    tab.page.wait_for_selector("body[data-ready]")
    tab.page.wait_for_selector("#progress:empty", state="attached", timeout=60_000)
    yield tab.page
    assert tab.overflow <= 0
    assert not tab.errors, tab.errors
    assert [address for address in tab.requests if not address.startswith(url.partition("#")[0])] == []
    tab.close()


def pixels(page, *, unlike=None, like=None):
    """What the canvas shows, once it is drawn and stands still. Another picture than ``unlike`` is waited for, and so
    is the picture ``like``; if it does not come, what is there is returned."""
    page.wait_for_selector("#canvas[data-drawn]:not([data-drawn=''])")
    last = None
    for _ in range(150):
        shown = page.locator("#canvas").evaluate("canvas => canvas.toDataURL()")
        if shown == last and shown != unlike and like in (None, shown):
            break
        last = shown
        page.wait_for_timeout(100)
    return shown


def current(page):
    """The name of the image in the list that is shown."""
    return page.locator("#list [aria-current] .what").inner_text()


def shown_classes(page):
    """Names of the classes that are switched on."""
    return [row.inner_text().strip() for row in page.locator("#legend th:has(input:checked)").all()]
