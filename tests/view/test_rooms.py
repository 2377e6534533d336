"""Runs that classify and detect in the browser, and suspects of masks and boxes, decided by keyboard."""

import csv
import json
import re

import numpy as np
import pytest
from tests import boxed, labelled
from tests.browser import opened
from tests.view.served import current, pixels, room, served, shown_classes, started

from phalanx.cli import main
from phalanx.commands.tasks import TASKS
from phalanx.review.evaluate_options import EvaluateOptions
from phalanx.submission.boxes import BoxSubmission


@pytest.fixture(scope="module")
def browser():
    with opened() as found:
        yield found


def trained(words):
    assert main(["train", "fold=0,1", "panels=0", *(f"{key}={value}" for key, value in words.items())]) == 0


@pytest.fixture(scope="module")
def labels(tmp_path_factory):
    """Two runs of three classes."""
    place = tmp_path_factory.mktemp("labels")
    root = labelled.make_folders(place / "set")
    for name, seed in (("one", 1), ("two", 2)):
        trained(labelled.words(root, "folders", runs=place / "runs", name=name, seed=seed, data__size=64))
    return place / "runs"


@pytest.fixture(scope="module")
def boxes(tmp_path_factory):
    """A run of two classes, and a CSV of its boxes of one fold, moved by some pixels."""
    place = tmp_path_factory.mktemp("boxes")
    root = boxed.make_polygons(place / "set")
    trained(boxed.words(root, "polygons", runs=place / "runs", name="one", epochs=3))
    made = BoxSubmission.read(place / "runs" / "one" / "fold0" / "oof.csv", boxed.CLASSES)
    lines = ["image_name,class,score,x_min,y_min,x_max,y_max"]
    for image, found in zip(made.images, made.boxes, strict=True):
        for corners, score, label in list(zip(found.corners, found.scores, found.classes, strict=True))[:2]:
            moved = np.clip(corners + 3, 0, 64)
            lines.append(f"{image},{boxed.CLASSES[label]},{score:.6f},{','.join(f'{x:.3f}' for x in moved)}")
    (place / "moved.csv").write_text("\n".join(lines) + "\n")
    return place


def evaluated(task, run):
    return TASKS[task].evaluate(str(run), EvaluateOptions(runs=run.parent))


def probabilities(run):
    """Of each image, as the run's files have them."""
    found = {}
    for fold in (0, 1):
        with (run / f"fold{fold}" / "oof.csv").open(newline="") as file:
            for row in csv.DictReader(file):
                image = row.pop("image_name")
                found[image] = {name: float(value) for name, value in row.items()}
    return found


def listed(page):
    """Score of each image in the list, as text."""
    return {row.locator(".what").inner_text(): row.locator(".score").inner_text()
            for row in page.locator("#list button").all()}  # fmt: skip


def legend(page):
    """Cells of each class."""
    return {row.locator("th").inner_text().strip(): [cell.inner_text() for cell in row.locator("td").all()]
            for row in page.locator("#legend tbody tr").all()}  # fmt: skip


def test_probabilities_of_two_runs(browser, labels, tmp_path):
    known = {run: probabilities(labels / run) for run in ("one", "two")}
    one = evaluated("classify", labels / "one")
    with served(tmp_path, labels / "one", labels / "two") as url, room(browser, url) as page:
        page.wait_for_selector("#list .score:not(:empty)", timeout=60_000)  # the evaluation comes after the list
        found = listed(page)
        for image, value in zip(one.names, one.per_image, strict=True):
            assert float(found[image]) == pytest.approx(value, abs=6e-5)
        page.select_option("#source-b", index=2)
        page.wait_for_selector("#swipe-label:not([hidden])")
        for key in ("j", "j", "k"):
            page.keyboard.press(key)
            page.wait_for_selector(f"#name:has-text('{current(page)}')")
            image = current(page)
            for name, (truth, *cells) in legend(page).items():
                assert [float(re.match(r"\s*([\d.]+)", cell)[1]) for cell in cells] == pytest.approx(
                    [known[run][image][name] for run in ("one", "two")], abs=6e-4
                )
                assert ("yes" in truth) == bool(one.present[one.number[image], one.classes.index(name)])
                called = max(known["one"][image], key=known["one"][image].get) == name
                assert ("called" in cells[0], "wrong" in cells[0]) == (called, called != ("yes" in truth))
        plain = pixels(page)
        with page.expect_response(lambda answer: "/heat/" in answer.url, timeout=60_000):
            page.select_option("#heat", index=1)
        warm = pixels(page, unlike=plain)
        assert warm != plain
        for _ in range(6):
            page.keyboard.press("]")
        assert int(page.input_value("#swipe")) == 800
        assert pixels(page, unlike=warm) != warm
        page.select_option("#filter-class", label="flat")
        assert page.locator("#list button").count() == int(one.present[:, one.classes.index("flat")].sum())
        page.select_option("#filter-class-how", "wrong")
        wrong = (one.counts.fp + one.counts.fn)[:, one.classes.index("flat")] > 0
        assert set(listed(page)) == {name for name, is_wrong in zip(one.names, wrong, strict=True) if is_wrong}
        page.click("#filter-clear")
        page.fill("#filter-low", "0.4")
        assert len(listed(page)) == int((one.per_image >= 0.4).sum())
        page.click("#whole summary")
        assert f"{one.value:.4f}" in page.locator("#metric").inner_text()


def test_boxes_matched_missed_and_false(browser, boxes, tmp_path):
    run = boxes / "runs" / "one"
    one = evaluated("detect", run)
    moved = next(image.name for image in one.images if image.fold == 0)
    with served(tmp_path, run, boxes / "moved.csv") as url, room(browser, url, height=800) as page:
        page.wait_for_selector("#list .score:not(:empty)", timeout=60_000)  # the evaluation comes after the list
        found = listed(page)
        for image, value in zip(one.names, one.per_image, strict=True):
            assert float(found[image]) == pytest.approx(value, abs=6e-5)
        page.select_option("#filter-fold", "fold 0")
        assert len(listed(page)) == sum(image.fold == 0 for image in one.images)
        page.select_option("#order", "worst")
        for _ in range(3):
            page.keyboard.press("j")
            page.wait_for_selector(f"#name:has-text('{current(page)}')")
            k = one.number[current(page)]
            for c, name in enumerate(one.classes):
                tp, fp, fn = (int(side[k, c]) for side in (one.counts.tp, one.counts.fp, one.counts.fn))
                assert legend(page)[name] == [str(tp + fn), f"{tp} matched, {fp} false, {fn} missed"]
        page.click("#filter-clear")
        full = np.minimum(one.counts.tp.sum(axis=1), 1) * (one.counts.tp + one.counts.fp + one.counts.fn).sum(axis=1)
        page.fill("#filter-name", one.names[int(full.argmax())])
        page.locator("#list button").first.click()
        page.wait_for_selector(f"#name:has-text('{one.names[int(full.argmax())]}')")
        pictures, last = {}, None
        for mode in ("both", "truth", "prediction", "errors", "image"):
            page.select_option("#mode", mode)
            pictures[mode] = last = pixels(page, unlike=last)
        assert len(set(pictures.values())) == 5
        page.select_option("#mode", "both")
        page.click("#filter-clear")
        page.locator(f"#list button:has-text('{moved}')").click()
        page.select_option("#source-b", label="moved.csv")
        page.wait_for_selector("#swipe-label:not([hidden])")
        divided = pixels(page)
        page.keyboard.press("[")
        assert pixels(page, unlike=divided) != divided
        before = shown_classes(page)
        page.locator("#legend input").first.focus()
        page.keyboard.press("Space")  # switches a class, and is not a key of the page
        assert shown_classes(page) == before[1:]
        page.click("#classes-all")
        assert shown_classes(page) == before


@pytest.mark.parametrize("kind", ["masks", "boxes"])
def test_suspects_are_zoomed_to_and_decided_by_keyboard(kind, browser, runs, boxes, tmp_path):
    run = runs / "fpn" if kind == "masks" else boxes / "runs" / "one"
    assert main(["suspects", str(run), f"out={tmp_path / 's.csv'}"]) == 0
    with (tmp_path / "s.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    words = [run, "suspects=s.csv", "decisions=d.jsonl", "quarantine=q.txt"]
    with started(tmp_path, *words) as (url, process), room(browser, f"{url}#review") as page:
        count = page.locator("#count")
        assert count.inner_text() == f"0 of {len(rows)} reviewed"
        for row in rows[:2]:
            assert set(shown_classes(page)) == {row["class"], row["likelier"], row["instead"]} - {""}
            assert row["image_name"] == page.locator("#name").inner_text()
            assert page.locator("#doubt").inner_text().endswith(f"{row['class']}: {row['reasons']}"[:300])
            near = pixels(page)
            page.keyboard.press("0")
            assert pixels(page, unlike=near) != near  # it was zoomed to
            page.keyboard.press("j")
            page.wait_for_selector(f"#name:has-text('{rows[rows.index(row) + 1]['image_name']}')")
        page.keyboard.press("k")
        page.keyboard.press("k")
        for key, done in (("a", 1), ("r", 2), ("u", 1), ("r", 2), ("a", 3)):
            page.keyboard.press(key)
            page.wait_for_selector(f"#count:has-text('{done} of {len(rows)} reviewed')")
            page.wait_for_timeout(50)
        page.keyboard.press("k")
        page.keyboard.press(" ")
        page.wait_for_selector("#doubt:has-text('4 of')")
        assert not (tmp_path / "q.txt").exists()
        page.click("#quarantine")
        page.wait_for_selector("#decided:has-text('q.txt')")
        listed = (tmp_path / "q.txt").read_text()
        accepted = {rows[k]["image_name"] for k in (0, 2)}
        assert {line.partition(" #")[0] for line in listed.splitlines() if not line.startswith("#")} == accepted
        page.keyboard.press("1")
        page.wait_for_selector("body[data-room=browse]")
        assert len(shown_classes(page)) == len(evaluated({"masks": "segment", "boxes": "detect"}[kind], run).classes)
        page.goto("about:blank")
        process.kill()
        process.wait()
    verdicts = [json.loads(line)["verdict"] for line in (tmp_path / "d.jsonl").read_text().splitlines()[1:]]
    assert verdicts == ["accept", "reject", "undo", "reject", "accept"]
    with served(tmp_path, *words) as url, room(browser, f"{url}#review", width=400) as page:
        assert page.locator("#count").inner_text() == f"3 of {len(rows)} reviewed"
        assert "4 of" in page.locator("#doubt").inner_text()  # the first that is not reviewed
