"""The page of a run in a browser: numbers as in the run's files, filters, sorting, zoom and keys, no request."""

import json
import re

import numpy as np
import pytest
from tests import boxed, labelled
from tests.browser import Watched, opened

from phalanx.cli import main
from phalanx.commands.tasks import TASKS
from phalanx.report.options import ReportOptions
from phalanx.report.run import make_page
from phalanx.report.write import render
from phalanx.runs.reader import FoldRun


@pytest.fixture(scope="module")
def browser():
    with opened() as found:
        yield found


@pytest.fixture(scope="module")
def hand_page(runs, tmp_path_factory):
    """Two runs of hands beside each other."""
    out = tmp_path_factory.mktemp("page") / "two.html"
    words = ["report", "unet", "fpn", f"runs={runs}", f"out={out}", "worst=3", "best=2", "workers=1", "progress=false"]
    assert main(words) == 0
    return out


@pytest.fixture(scope="module")
def label_page(tmp_path_factory):
    place = tmp_path_factory.mktemp("labels")
    root = labelled.make_folders(place / "set")
    words = labelled.words(root, "folders", runs=place / "runs", name="r", fold="0,1", report="true")
    assert main(["train", *(f"{key}={value}" for key, value in words.items())]) == 0
    return place / "runs" / "r" / "report.html"  # made by the training


@pytest.fixture(scope="module")
def box_page(tmp_path_factory):
    place = tmp_path_factory.mktemp("boxes")
    root = boxed.make_polygons(place / "set")
    words = boxed.words(root, "polygons", runs=place / "runs", name="r", fold="0,1", report="true")
    assert main(["train", *(f"{key}={value}" for key, value in words.items())]) == 0
    return place / "runs" / "r" / "report.html"


@pytest.fixture
def watched(browser):
    """Opens a page; at the end it must have asked for nothing else, and complained about nothing."""
    pages = []

    def show(path, **options):
        found = Watched(browser, **options)
        pages.append((found, path))
        found.page.goto(path.as_uri())
        return found

    yield show
    for found, path in pages:
        assert (found.errors, found.requests) == ([], [path.as_uri()])
        found.close()


def column(page, table, number):
    cells = page.locator(f"#table-{table} tbody tr:not([hidden])")
    return [row.locator("th, td").nth(number).inner_text() for row in cells.all()]


def test_the_numbers_are_those_of_the_run(hand_page, watched, runs):
    page = watched(hand_page).page
    folds = [FoldRun(runs / "unet" / f"fold{k}") for k in (0, 1)]
    each = {image: value for fold in folds for image, value in fold.per_image.items()}
    assert column(page, "summary", 0) == ["unet", "fpn"]
    assert column(page, "summary", 1)[0] == f"{np.mean(list(each.values())):.4f}"
    assert column(page, "folds", 2)[:2] == [f"{fold.result.value:.4f}" for fold in folds]
    shown = {
        tile.locator(".tile-name").inner_text(): tile.locator(".tile-value").inner_text()
        for tile in page.locator("#gallery-all .tile").all()
    }
    assert shown == {image: f"Dice {value:.4f}" for image, value in each.items()}
    stored = [json.loads((fold.folder / "oof_score.json").read_text())["classes"] for fold in folds]
    expected = [np.mean([each[label]["dice"] for each in stored]) for label in stored[0]]  # folds of equal size
    assert column(page, "classes-0", 0) == list(stored[0])
    assert np.allclose([float(text) for text in column(page, "classes-0", 1)], expected, atol=6e-5)


def test_the_difference_is_paired_as_compare_has_it(hand_page, watched, runs, tmp_path):
    """The same number as the difference of the means, and the interval of the same draws of patients."""
    report = tmp_path / "compared.json"
    assert main(["compare", str(runs / "unet"), str(runs / "fpn"), f"json={report}"]) == 0
    compared = json.loads(report.read_text())
    page = watched(hand_page).page
    value, difference = (column(page, "differences", k) for k in (1, 2))
    assert float(difference[1]) == pytest.approx(float(value[1]) - float(value[0]), abs=1.1e-4)
    low, high = (float(text) for text in column(page, "differences", 3)[1].split(" to "))
    assert low <= float(difference[1]) <= high
    assert float(difference[1]) == pytest.approx(compared["difference"], abs=6e-5)
    assert (low, high) == pytest.approx(compared["interval"], abs=6e-5)


def test_headings_sort_and_filters_choose(hand_page, watched):
    page = watched(hand_page).page
    heading = page.locator("#table-classes-0 th", has_text="false negatives")
    heading.locator("button").click()
    assert heading.get_attribute("aria-sort") == "descending"
    numbers = [int(text.replace(" ", "")) for text in column(page, "classes-0", 5)]
    assert numbers == sorted(numbers, reverse=True)
    assert len(set(numbers)) > 2
    heading.locator("button").press("Enter")
    assert heading.get_attribute("aria-sort") == "ascending"
    page.locator("input[data-table=classes-0]").fill("ulna")
    assert column(page, "classes-0", 0) == ["Ulna"]
    assert page.locator("[data-count=classes-0]").inner_text() == "1 of 29 rows"


def test_images_are_filtered_by_fold_patient_class_and_name(hand_page, watched, runs):
    page = watched(hand_page).page
    folds = FoldRun(runs / "unet" / "fold0").folds
    form, tiles = page.locator("#gallery-all form"), page.locator("#gallery-all li:not([hidden])")
    assert tiles.count() == len(folds)
    form.locator("[name=fold]").select_option("1")
    assert set(tiles.locator(".tile-name").all_inner_texts()) == {name for name, fold in folds.items() if fold == 1}
    form.locator("[name=fold]").select_option("")
    patient = FoldRun(runs / "unet" / "fold0").patients
    form.locator("[name=patient]").select_option(min(patient.values()))
    wanted = {name for name, own in patient.items() if own == min(patient.values())}
    assert set(tiles.locator(".tile-name").all_inner_texts()) == wanted
    form.locator("[name=patient]").select_option("")
    form.locator("[name=text]").fill(min(folds))
    assert tiles.count() == 1
    form.locator("[name=text]").fill("")
    form.locator("[name=class]").select_option("Radius")
    form.locator("[name=wrong]").check()
    assert 0 < tiles.count() <= len(folds)
    form.locator("[name=order]").select_option("best")
    values = [float(text.split()[-1]) for text in tiles.locator(".tile-value").all_inner_texts()]
    assert values == sorted(values, reverse=True)


def test_a_picture_is_in_the_page_once_and_opens_from_every_gallery(hand_page, watched):
    page = watched(hand_page).page
    sources = page.eval_on_selector_all(".tile[data-full]", "tiles => tiles.map(one => one.dataset.name)")
    assert len(sources) == len(set(sources)) == page.locator("#gallery-all .tile").count()
    worst, again = page.locator("#gallery-worst .tile").first, page.locator("#gallery-all .tile").first
    assert worst.get_attribute("data-name") == again.get_attribute("data-name")
    assert again.get_attribute("data-full") is None
    again.click()
    assert page.locator("#viewer-image").get_attribute("src") == worst.get_attribute("data-full")


def test_an_image_opens_zooms_and_goes_on_by_keys(hand_page, watched):
    page = watched(hand_page).page
    tiles = page.locator("#gallery-worst .tile")
    names = tiles.locator(".tile-name").all_inner_texts()
    assert len(names) == 3
    tiles.first.focus()
    page.keyboard.press("Enter")
    viewer, title, zoom = (page.locator(place) for place in ("#viewer", "#viewer-title", "#viewer-zoom"))
    assert viewer.is_visible()
    assert title.inner_text() == names[0]
    assert page.locator("#viewer-image").evaluate("image => image.decode().then(() => image.naturalWidth)") > 500
    page.keyboard.press("+")
    assert zoom.inner_text() == "150%"
    page.locator("[data-act=in]").click()
    assert zoom.inner_text() == "225%"
    before = page.locator("#viewer-image").get_attribute("style")
    page.locator("#viewer-stage").focus()
    page.keyboard.press("ArrowRight")  # zoomed: it moves
    assert page.locator("#viewer-image").get_attribute("style") != before
    page.keyboard.press("0")
    assert zoom.inner_text() == "100%"
    page.keyboard.press("ArrowRight")
    assert title.inner_text() == names[1]
    page.keyboard.press("ArrowLeft")
    page.mouse.move(600, 450)
    page.mouse.wheel(0, -200)
    page.wait_for_function("document.getElementById('viewer-zoom').textContent === '120%'")
    page.keyboard.press("Escape")
    assert not viewer.is_visible()
    assert page.evaluate("document.activeElement.dataset.name") == names[0]


@pytest.mark.parametrize("kind", ["hand_page", "label_page", "box_page"])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_pages_fit_narrow_windows_and_are_legible(kind, dark, watched, request):
    """No sideways scrolling at 400 pixels, and a contrast of text of 4.5 or more."""
    for width in (400, 1280):
        found = watched(request.getfixturevalue(kind), width=width, dark=dark)
        assert found.overflow <= 0
        pairs = found.page.evaluate("""() => {
            const seen = new Map(), white = [255, 255, 255];
            const parse = (text) => text.match(/[0-9.]+/g).map(Number);
            for (const one of document.querySelectorAll("main *, header *, footer *")) {
                if (![...one.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim())) continue;
                if (one.closest("svg, option")) continue;
                let back = one, colour = [0, 0, 0, 0];
                while (back && colour.length === 4 && colour[3] === 0) {
                    const text = getComputedStyle(back).backgroundColor;
                    if (text.startsWith("rgb")) colour = parse(text);
                    back = back.parentElement;
                }
                const own = parse(getComputedStyle(one).color);
                seen.set(`${own.slice(0, 3)}|${colour.slice(0, 3)}`, one.className || one.tagName);
            }
            return [...seen.entries()];
        }""")
        assert len(pairs) > 2
        for pair, place in pairs:
            one, other = (luminance([float(v) for v in side.split(",")]) for side in pair.split("|"))
            assert (max(one, other) + 0.05) / (min(one, other) + 0.05) >= 4.5, (pair, place)


def luminance(colour):
    parts = [v / 255 / 12.92 if v / 255 <= 0.04045 else ((v / 255 + 0.055) / 1.055) ** 2.4 for v in colour]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def test_pages_of_labels_and_boxes_have_their_charts_and_pictures(label_page, box_page, watched):
    for path, titles in (
        (label_page, ("ROC", "Precision and recall", "Accuracy over confidence", "Calibration")),
        (box_page, ("Precision and recall", "F1 over the threshold")),
    ):
        page = watched(path).page
        shown = page.locator("#thresholds figcaption").all_inner_texts()
        assert set(titles) <= set(shown)
        assert {"Loss", "Learning rate"} <= set(page.locator("#training figcaption").all_inner_texts())
        page.locator("#gallery-worst .tile").first.click()
        assert page.locator("#viewer-image").evaluate("image => image.decode().then(() => image.naturalWidth)") > 250


def test_names_with_html_show_as_text(runs, watched, tmp_path):
    """Of a run, whose name the user chooses, of a class and of an image."""
    bad = "<img src=x onerror=alert(1)>"
    options = ReportOptions(runs=runs, worst=1, best=0, images=2, workers=1, progress=False)
    page = make_page([TASKS["segment"].evaluate("unet", options)], options)
    sections = []
    for section in page.sections:
        blocks = [
            block._replace(rows=tuple((cell._replace(text=bad), *row) for cell, *row in block.rows))
            if block.kind == "table" else block._replace(items=tuple(item._replace(name=bad) for item in block.items))
            if block.kind == "gallery" else block for block in section.blocks
        ]  # fmt: skip
        sections.append(section._replace(blocks=tuple(blocks), title=bad))
    path = tmp_path / "bad.html"
    path.write_text(render(page._replace(title=bad, sections=tuple(sections))), encoding="utf-8")
    found = watched(path).page
    assert found.locator("h1").inner_text() == bad
    assert found.locator("img[src=x]").count() == 0
    assert found.locator("#table-summary tbody th").first.inner_text() == bad
    assert found.locator("#gallery-all .tile-name").first.inner_text() == bad


def test_pages_of_an_exploration_and_a_check(hands, tmp_path, watched):
    common = ["data=hand", f"data.root={hands}", "workers=1", "progress=false"]
    assert main(["eda", *common, f"out={tmp_path / 'eda'}"]) == 0
    found = watched(tmp_path / "eda" / "index.html")
    titles = set(found.page.locator("section h2").all_inner_texts())
    assert {"Summary", "Rotation", "Sex", "Size and metadata", "Brightness", "Shift", "Overlap"} <= titles
    assert found.overflow <= 0
    facts = json.loads((tmp_path / "eda" / "eda.json").read_text())
    text = found.page.locator("#plot-brightness").inner_text()
    assert all(name in text for name in facts["bright_outliers"])
    assert facts["figures"]["sex"] in found.page.locator("#plot-sex").inner_text()
    assert [line for line in facts["left_out"] if line not in found.page.locator("#summary").inner_text()] == []
    found.page.locator(".enlarge").first.click()
    assert found.page.locator("#viewer").is_visible()
    report, page = tmp_path / "check.json", tmp_path / "check.html"
    assert main(["check", *common, f"json={report}", f"page={page}"]) in (0, 1)
    findings = json.loads(report.read_text())["findings"]
    shown = watched(page, width=400)
    assert shown.overflow <= 0
    assert len(column(shown.page, "findings", 0)) == len(findings) > 0
    first = findings[0]["kind"]
    shown.page.locator("#table-kinds").wait_for()
    assert first in column(shown.page, "kinds", 1)


def test_a_page_is_one_file_that_may_load_nothing(hand_page):
    """But what is in it: the policy says so, and there is no address in it."""
    text = hand_page.read_text(encoding="utf-8")
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)[1]
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'sha256-")
    assert "unsafe" not in policy
    assert re.findall(r'(?:src|href)="(?!data:|#)[^"]*"', text) == []
    assert "http://" not in text
    assert "https://" not in text
