"""The page in a headless Chromium: rooms, filters, keys, zoom, swipe, a dropped file; its numbers are the run's."""

import base64
import json
from contextlib import closing

import cv2
import pytest
from tests.browser import Watched
from tests.browser import opened as opened_browser
from tests.labelled import CLASSES, make_folders
from tests.view.served import current, pixels, room, served

from phalanx.runs.reader import FoldRun


@pytest.fixture(scope="module")
def browser():
    with opened_browser() as found:
        yield found


def test_browsing(browser, runs, tmp_path):
    expected = FoldRun(runs / "fpn" / "fold0").per_image | FoldRun(runs / "fpn" / "fold1").per_image
    with served(tmp_path, runs / "fpn", runs / "unet") as url, room(browser, url, height=800) as page:
        rows = page.locator("#list button")
        page.wait_for_selector(f"#list li:nth-child({len(expected)}) .score")
        shown = {row.locator(".what").inner_text(): row.locator(".score").inner_text() for row in rows.all()}
        for name, value in expected.items():
            assert float(shown[name]) == pytest.approx(value, abs=6e-5)
        page.select_option("#order", "worst")
        worst = min(expected, key=lambda name: (expected[name], name))
        assert expected[rows.first.locator(".what").inner_text()] == pytest.approx(expected[worst])
        page.fill("#filter-high", str(sorted(expected.values())[3] + 1e-5))
        assert rows.count() == 4
        page.click("#filter-clear")
        page.select_option("#filter-fold", "fold 1")
        assert rows.count() == len(FoldRun(runs / "fpn" / "fold1").per_image)
        page.click("#filter-clear")
        page.fill("#filter-name", worst)
        assert rows.count() == 1
        page.click("#filter-clear")
        rows.first.click()
        first = current(page)
        page.keyboard.press("j")
        assert current(page) != first
        page.keyboard.press("k")
        assert current(page) == first
        before = pixels(page)
        page.locator("#canvas").hover()
        page.mouse.wheel(0, -400)
        assert pixels(page, unlike=before) != before
        page.keyboard.press("0")
        assert pixels(page, like=before) == before
        page.select_option("#source-b", index=2)
        page.wait_for_selector("#swipe-label:not([hidden])")
        divided = pixels(page)
        box = page.locator("#canvas").bounding_box()
        middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        page.mouse.move(*middle)
        page.mouse.down()
        page.mouse.move(middle[0] + 150, middle[1], steps=4)
        page.mouse.up()
        assert pixels(page, unlike=divided) != divided
        assert int(page.input_value("#swipe")) > 600
        page.keyboard.press("m")
        assert page.input_value("#mode") == "truth"
        page.keyboard.press("?")
        assert page.locator("#help").is_visible()
        page.keyboard.press("Escape")


def write_doubts(runs, path, reason):
    """Three images of a run in doubt; their names."""
    images = sorted(FoldRun(runs / "fpn" / "fold0").per_image)[:3]
    lines = [f"{image},{rank},{reason} {rank}" for rank, image in enumerate(images, 1)]
    path.write_text("\n".join(["image_name,rank,reason", *lines]) + "\n")
    return images


def test_reviewing_by_keyboard_outlasts_a_reload(browser, runs, tmp_path):
    images = write_doubts(runs, tmp_path / "doubts.csv", "<img src=x onerror=alert(1)>")
    with served(tmp_path, runs / "fpn", "suspects=doubts.csv") as url, room(browser, f"{url}#review") as page:
        assert "0 of 3 reviewed" in page.locator("#count").inner_text()
        assert "<img src=x onerror=alert(1)> 1" in page.locator("#doubt").inner_text()
        for key, count in (("a", 1), ("r", 2), ("u", 1), ("a", 2)):
            page.keyboard.press(key)
            page.wait_for_selector(f"#count:has-text('{count} of 3 reviewed')")
        lines = [json.loads(line) for line in (tmp_path / "doubts.decisions.jsonl").read_text().splitlines()]
        assert [line["verdict"] for line in lines[1:]] == ["accept", "reject", "undo", "accept"]
        page.reload()
        page.wait_for_selector("#count:has-text('2 of 3 reviewed')")
        page.click("#quarantine")
        page.wait_for_selector("#decided:has-text('2 image(s) in quarantine.txt')")
        listed = (tmp_path / "quarantine.txt").read_text()
        assert all(image in listed for image in images[:2])
        assert images[2] not in listed


def test_an_answer_from_before_a_decision_takes_nothing_back(browser, runs, tmp_path):
    write_doubts(runs, tmp_path / "doubts.csv", "doubt")
    with served(tmp_path, runs / "fpn", "suspects=doubts.csv") as url, room(browser, f"{url}#review") as page:
        held = []

        def answer(route):
            if held:
                route.continue_()
            else:
                held.append((route, route.fetch()))

        page.route("**/api/review", answer)
        page.keyboard.press("1")
        page.wait_for_selector("#count:has-text('images')")
        page.keyboard.press("2")
        while not held:
            page.wait_for_timeout(20)
        page.keyboard.press("a")
        page.wait_for_selector("#decided:has-text('accept')")
        route, old = held[0]
        assert old.json()["verdicts"] == {}
        with page.expect_response("**/api/review"):
            route.fulfill(response=old)
        with page.expect_response("**/api/review"):  # asked once more, since a decision was made meanwhile
            pass
        page.wait_for_timeout(200)
        assert page.locator("#count").inner_text() == "1 of 3 reviewed"
        page.keyboard.press("u")
        page.wait_for_selector("#count:has-text('0 of 3 reviewed')")
        lines = [json.loads(line) for line in (tmp_path / "doubts.decisions.jsonl").read_text().splitlines()]
        assert [line["verdict"] for line in lines[1:]] == ["accept", "undo"]


def test_an_answer_that_comes_after_the_room_was_left_shows_nothing(browser, runs, tmp_path):
    with served(tmp_path, runs / "fpn") as url, room(browser, url) as page:
        held, shown = [], current(page)
        page.route("**/api/review", lambda route: held.append((route, route.fetch())))
        page.keyboard.press("2")
        while not held:
            page.wait_for_timeout(20)
        page.keyboard.press("1")
        page.wait_for_selector(f"#name:has-text('{shown}')")
        held[0][0].fulfill(response=held[0][1])
        page.wait_for_timeout(400)
        assert "images" in page.locator("#count").inner_text()
        assert page.locator("#name").inner_text() == shown == current(page)


def test_a_run_that_becomes_ready_leaves_the_place_in_the_list(browser, runs, tmp_path):
    write_doubts(runs, tmp_path / "doubts.csv", "doubt")
    with served(tmp_path, runs / "fpn", "suspects=doubts.csv") as url, closing(Watched(browser)) as tab:
        ready = []

        def answer(route):
            states = route.fetch().json()
            if not ready:
                states = [{**one, "state": "working"} for one in states]
            route.fulfill(json=states)

        tab.page.route("**/api/state", answer)
        tab.page.goto(f"{url}#review")
        tab.page.wait_for_selector("body[data-ready]")
        tab.page.keyboard.press("j")
        tab.page.wait_for_selector("#doubt:has-text('2 of 3')")
        ready.append(True)
        tab.page.wait_for_selector("#progress:empty", state="attached", timeout=60_000)
        tab.page.wait_for_timeout(200)
        assert tab.page.locator("#doubt").inner_text().startswith("2 of 3")
        assert not tab.errors, tab.errors


def test_names_with_html_are_shown_as_text(browser, tmp_path):
    name = "<img src=x onerror=alert(1)>.png"
    make_folders(tmp_path / "set", train=6)
    first = sorted((tmp_path / "set" / "train").rglob("*.png"))[0]
    first.rename(first.with_name(name))
    words = ["data=brain", f"data.root={tmp_path / 'set'}", f"data.classes=[{','.join(CLASSES)}]"]
    with served(tmp_path, *words, "data.folders.group_pattern=null") as url, room(browser, url) as page:
        page.locator("#list button", has_text=name).click()
        page.wait_for_selector("#name:has-text('onerror')")
        assert page.locator("#name").inner_text() == name
        assert page.locator("img").count() == 0
        assert set(page.locator("#legend th .named").all_inner_texts()) == set(CLASSES)


def drop(page, file):
    """Drops a file on the page."""
    page.evaluate(
        """([content, name]) => {
            const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
            const carried = new DataTransfer();
            carried.items.add(new File([bytes], name));
            document.getElementById("drop-zone").dispatchEvent(
                new DragEvent("drop", { dataTransfer: carried, bubbles: true, cancelable: true }));
        }""",
        [base64.b64encode(file.read_bytes()).decode(), file.name],
    )


def test_trying_shows_what_was_dropped_last_and_nothing_before(browser, runs, hands, tmp_path):
    first, other = sorted((hands / "test" / "DCM").rglob("*.png"))[:2]
    second = tmp_path / "a photo.jpg"
    assert cv2.imwrite(str(second), cv2.imread(str(other), cv2.IMREAD_UNCHANGED))
    with served(tmp_path, runs / "fpn") as url, room(browser, url) as page:
        page.wait_for_selector("#canvas[data-drawn]")
        page.keyboard.press("3")
        page.wait_for_selector("#canvas:not([data-drawn])")  # no longer the image of the other room
        assert page.locator("#name").inner_text() == ""
        assert page.locator("#legend tbody tr").count() == 0
        held = []
        page.route("**/api/try/*", lambda route: route.continue_() if held else held.append((route, route.fetch())))
        drop(page, first)
        while not held:
            page.wait_for_timeout(20)
        drop(page, second)
        page.wait_for_selector(f"#try-state:has-text('Predicted {second.name}')", timeout=60_000)
        held[0][0].fulfill(response=held[0][1])
        page.wait_for_timeout(300)
        assert page.locator("#try-state").inner_text() == f"Predicted {second.name}."
        assert page.locator("#name").inner_text() == second.name
        page.keyboard.press("1")
        page.wait_for_selector("#canvas[data-drawn]:not([data-drawn=''])")
        assert page.locator("#name").inner_text() not in ("", second.name)


def test_a_dropped_file_is_predicted(browser, runs, hands, tmp_path):
    image = sorted((hands / "test" / "DCM").rglob("*.png"))[0]
    with served(tmp_path, runs / "fpn") as url, room(browser, f"{url}#try", width=400, height=800) as page:
        drop(page, image)
        page.wait_for_selector("#try-csv:not([hidden])", timeout=60_000)
        with page.expect_download() as loaded:
            page.click("#try-csv")
        rows = loaded.value.path().read_text().splitlines()[1:]
        areas = {}
        for row in rows:
            _, label, runs_of = row.split(",")
            areas[label] = sum(map(int, runs_of.split()[1::2]))
        shown = {
            row.locator("th").inner_text().strip(): int(row.locator("td").first.inner_text())
            for row in page.locator("#legend tbody tr").all()
        }
        assert shown == areas
