"""How quick the local page is: its start, the next image, and frames while its picture moves. Baseline: the bar.

Nothing is trained. 800 images of 2048 x 2048 pixels with 29 classes are links to a few synthetic hands; two runs have
predictions that are the ground truth, shifted by some pixels and with some bones missing (``report_page.py`` makes
them). A headless Chromium without a GPU presses the keys. A picture counts as drawn at the frame after the one in which
the canvas got the image and all classes of truth and prediction. Frames are the times between calls of
requestAnimationFrame, each of which moves the picture; the bar of smoothness is 30 per second. All are wall times on a
machine that may do other things, so CPU seconds of the server and of the browser's processes are beside them.

    python bench/view.py [--quick] [--home DIR] [--json FILE]
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import report_page
from common import flags, keep, machine

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.browser import opened  # noqa: E402

STARTS, NEXT, FAR, FRAMES = 5, 30, 15, 120
LOOK = 1.0  # seconds at an image before the next one
BARS = {"start": 2.0, "next": 150.0, "frame": 1000 / 30}
SCREEN = {"width": 1280, "height": 900}

# what is drawn against what is to be: the image marked in the list
WATCH = """() => {
  const canvas = document.getElementById("canvas");
  const wanted = () => document.querySelector("#list [aria-current]").dataset.id;
  window.drawn = (start) => new Promise((done) => {
    const before = wanted();
    let began = null;
    const look = () => {
      if (began !== null && wanted() !== before && canvas.dataset.drawn === wanted()) {
        requestAnimationFrame(() => done(performance.now() - began));
      } else requestAnimationFrame(look);
    };
    start((at) => { began = at; });
    requestAnimationFrame(look);
  });
  window.pressed = () => { window.took = drawn((begin) => addEventListener("keydown",
    (event) => begin(event.timeStamp), { once: true, capture: true })); };
  window.clicked = (k) => drawn((begin) => {
    begin(performance.now());
    document.getElementById("list").children[k].firstChild.click();
  });
}"""
MOVES = {
    "zooming": """(k, canvas, box) => canvas.dispatchEvent(new WheelEvent("wheel", {
        deltaY: k % 60 < 30 ? -60 : 60, clientX: box.left + 0.4 * box.width, clientY: box.top + 0.4 * box.height,
        cancelable: true }))""",
    "panning": """(k, canvas, box) => {
        const at = { pointerId: 1, clientX: box.left + box.width / 2 + 80 * Math.sin(k / 8),
                     clientY: box.top + box.height / 4 + 80 * Math.cos(k / 8), bubbles: true };
        if (!k) { canvas.setPointerCapture = () => {}; canvas.dispatchEvent(new PointerEvent("pointerdown", at)); }
        canvas.dispatchEvent(new PointerEvent("pointermove", at)); }""",
    "swiping": """(k) => { const range = document.getElementById("swipe");
        range.value = 500 + Math.round(400 * Math.sin(k / 10)); range.dispatchEvent(new Event("input")); }""",
    "switching classes": """(k) => document.querySelectorAll("#legend input")[k % 29].click()""",
}
RUN_FRAMES = """([move, count]) => new Promise((done) => {
  const call = eval(move), canvas = document.getElementById("canvas"), box = canvas.getBoundingClientRect(), times = [];
  let last = 0, k = 0;
  const frame = (now) => {
    if (last) times.push(now - last);
    last = now;
    if (k >= count) {
      canvas.dispatchEvent(new PointerEvent("pointerup", { pointerId: 1 }));
      return done(times);
    }
    call(k++, canvas, box);
    requestAnimationFrame(frame);
  };
  requestAnimationFrame(frame);
})"""


class Served(NamedTuple):
    """A page that is served."""

    url: str
    pid: int
    seconds: float  # from its start until it had answered


@contextmanager
def served(home: Path, names: Sequence[str]) -> Iterator[Served]:
    """Starts ``phalanx view`` and waits until it has answered with its page and its list of images."""
    began = time.perf_counter()
    words = [*names, "port=0", "open=false", "device=cpu"]
    with subprocess.Popen(
        [sys.executable, "-m", "phalanx", "view", *words], cwd=home, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            url = process.stdout.readline().split()[0]  # type: ignore[union-attr]
            for path in ("", "static/main.js", "api/session"):
                urllib.request.urlopen(url + path).read()
            yield Served(url, process.pid, time.perf_counter() - began)
        finally:
            process.terminate()


def cpu_of(pid: int) -> float:
    """CPU seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


class Room:
    """The page in the browser, ready, and the CPU time that it and its server take."""

    def __init__(self, browser: Any, found: Served):
        self.page = browser.new_page(viewport=SCREEN)
        self._processes, self._pid = browser.new_browser_cdp_session(), found.pid
        self.page.goto(found.url)
        self.page.wait_for_selector("body[data-ready]")
        self.page.wait_for_selector("#progress:empty", state="attached", timeout=300_000)
        self.page.wait_for_timeout(3000)
        self.page.evaluate(WATCH)

    def cpu(self) -> tuple[float, float]:
        """CPU seconds of the server and of the browser so far."""
        processes = self._processes.send("SystemInfo.getProcessInfo")["processInfo"]
        return cpu_of(self._pid), sum(each["cpuTime"] for each in processes)

    def press(self, key: str) -> float:
        """Milliseconds from a key to the picture of the image that it leads to."""
        self.page.evaluate("pressed()")
        self.page.keyboard.press(key)
        return float(self.page.evaluate("took"))

    def click(self, number: int) -> float:
        """The same of a click on an image of the list."""
        return float(self.page.evaluate("clicked", number))

    def frames(self, move: str, count: int) -> list[float]:
        """Milliseconds between frames, each of which moves the picture."""
        return [float(each) for each in self.page.evaluate(RUN_FRAMES, [MOVES[move], count])]


def measure(home: Path, names: Sequence[str], images: int, *, quick: bool) -> list[dict[str, Any]]:
    """The rows of all claims."""
    starts, steps, far, count = (1, 4, 3, 20) if quick else (STARTS, NEXT, FAR, FRAMES)
    rows: list[dict[str, Any]] = []

    def row(claim: str, value: float, unit: str, bar: str = "") -> None:
        rows.append({"claim": claim, "ours": round(value, 3), "baseline": BARS.get(bar), "unit": unit})

    def times(claim: str, found: Sequence[float], bar: str) -> None:
        row(f"{claim}: median", statistics.median(found), "ms", bar)
        row(f"{claim}: 95th percentile", float(np.percentile(found, 95)), "ms", bar)

    began = []
    for _ in range(starts):
        with served(home, names) as found:
            began.append(found.seconds)
            spent = cpu_of(found.pid)
    row(f"start until the page has answered, {images} images: median", statistics.median(began), "s", "start")
    row(f"start until the page has answered, {images} images: longest", max(began), "s", "start")
    row("its CPU time until then", spent, "s")
    with opened() as browser, served(home, names) as found:
        room = Room(browser, found)
        before = room.cpu()
        looked = []
        for _ in range(steps):
            room.page.wait_for_timeout(1000 * LOOK)
            looked.append(room.press("j"))
        after = room.cpu()
        times(f"next image by key, after {LOOK:g} s at the one before", looked, "next")
        for place, what in enumerate(("server", "browser")):
            row(f"CPU time per image, {what}", 1000 * (after[place] - before[place]) / steps, "ms")
        times("next image by key, without a pause", [room.press("j") for _ in range(steps)], "next")
        places = np.random.default_rng(0).choice(np.arange(images // 4, images), far, replace=False)
        times("an image far away by a click, nothing of it prepared", [room.click(int(k)) for k in places], "next")
        for move in MOVES:
            if move == "swiping":
                room.page.select_option("#source-b", index=2)
                room.page.wait_for_timeout(2000)
            times(f"frames while {move}", room.frames(move, count), "frame")
        row("processes that wanted to run meanwhile (load average)", os.getloadavg()[0], "")
    return rows


def main() -> None:
    parser = flags(__doc__, quick="40 images at 512; its numbers mean nothing")
    parser.add_argument("--home", type=Path, help="save the set and the runs there for later calls")
    args = parser.parse_args()
    images, side = (40, 512) if args.quick else (800, 2048)
    with tempfile.TemporaryDirectory() as folder:
        home = args.home or Path(folder)
        names = report_page.make(home, images, side, 6, 2, copy=os.link)
        rows = measure(home, names, images, quick=args.quick)
    for row in rows:
        print(f"{row['claim']:76} {row['ours']:9.4g} {row['unit']}")
    print(machine())
    keep(rows, args.json)


if __name__ == "__main__":
    main()
