"""The answers of the page: who is refused, which bytes leave, and that decisions last."""

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import urllib.request

import cv2
import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian
from tests.view.asking import HOST, OWN, PORT, ask, asked

from phalanx.commands.tasks import TASKS
from phalanx.data.quarantine import read_quarantine
from phalanx.errors import DataError, OutputError
from phalanx.runs.reader import FoldRun
from phalanx.view.app import MAX_UPLOAD, make_app
from phalanx.view.decisions import Decisions
from phalanx.view.options import ViewOptions
from phalanx.view.server import make_page
from phalanx.view.suspects import read_suspects


def page_of(names, tmp_path, **options):
    """The page of runs, evaluated."""
    config = FoldRun(names[0] / "fold0").config
    commands = TASKS[config.task]
    given = {"decisions": tmp_path / "decided.jsonl", "quarantine": tmp_path / "quarantine.txt", "device": "cpu"}
    folder = tmp_path / "temporary"
    folder.mkdir()
    made = make_page(
        [str(name) for name in names], config, commands.scenes(config), commands.evaluate,
        ViewOptions(**given | options), folder,
    )  # fmt: skip
    made.library.load()
    return made


@pytest.fixture
def page(runs, tmp_path):
    return page_of([runs / "fpn", runs / "unet"], tmp_path)


@pytest.fixture
def app(page):
    return make_app(page, PORT)


def read(app, path):
    answer = ask(app, path)
    assert answer.status == 200, answer
    return json.loads(answer.body)


def unpacked(body):
    length = int.from_bytes(body[:4], "little")
    return json.loads(body[4 : 4 + length]), body[4 + length :]


def decoded(body):
    """Header, and runs of both sides, by the rule of wire.js."""
    header, content = unpacked(body)
    place, found = 0, {}
    for side in ("truth", "predicted"):
        found[side] = []
        for count in header[side] or []:
            at, runs = 0, []
            for _ in range(2 * count):
                value = shift = 0
                while True:
                    byte = content[place]
                    place += 1
                    value |= (byte & 127) << shift
                    shift += 7
                    if byte < 128:
                        break
                at += value
                runs.append(at)
            found[side].append(np.array(runs, np.int64).reshape(-1, 2))
    assert place == len(content)
    return header, found


def test_numbers_and_masks_are_those_of_the_run(app, page, runs):
    session = read(app, "/api/session")
    assert [one["state"] for one in session["sources"]] == ["ready", "ready"]
    source = session["sources"][0]["id"]
    numbers = read(app, f"/api/numbers/{source}")
    names = {one["id"]: one["name"] for one in session["images"]}
    expected = FoldRun(runs / "fpn" / "fold0").per_image | FoldRun(runs / "fpn" / "fold1").per_image
    found = {names[own]: value for own, value in zip(numbers["images"], numbers["per_image"], strict=True)}
    assert found == pytest.approx(expected, abs=1e-6)
    evaluated = page.library.sources[source].evaluated
    for own in numbers["images"][:4]:
        header, sides = decoded(ask(app, f"/scene/{own}/{source}").body)
        scene = evaluated.scene(names[own])
        assert header["size"] == list(scene.size)
        for side, stack in (("truth", scene.truth), ("predicted", scene.predicted)):
            assert np.array_equal(np.concatenate(sides[side]), stack.runs)
            assert header[f"{side}_areas"] == stack.areas.tolist()
        assert decoded(ask(app, f"/truth/{own}").body)[1]["truth"][3].tolist() == sides["truth"][3].tolist()


def test_colours_of_all_classes_differ(app):
    classes = read(app, "/api/session")["classes"]
    assert len({one["colour"] for one in classes}) == len(classes) == 29


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8765", "127.0.0.1", "127.0.0.1:1", "", None, "[::1]:8765"]
)
def test_another_host_is_refused(app, host):
    answer = ask(app, "/api/session", host=host)
    assert answer.status == 421
    assert b"classes" not in answer.body


def test_a_second_host_is_refused(app):
    assert ask(app, "/api/session", headers=[("host", "evil.example")]).status == 421


@pytest.mark.parametrize("origin", ["http://evil.example", "null", f"https://{HOST}", "http://127.0.0.1:1", ""])
def test_another_origin_changes_nothing(app, page, origin):
    doubt = read(app, "/api/review")["doubts"][0]["id"]
    body = json.dumps({"suspect": doubt, "verdict": "accept"}).encode()
    for path in ("/api/decide", "/api/quarantine"):
        assert ask(app, path, "POST", [("origin", origin)], body).status == 403
    assert ask(app, "/api/session", headers=[("origin", origin)]).status == 403
    assert not page.decisions.path.exists()
    assert not page.quarantine.exists()


def test_a_change_without_origin_is_refused(app, page):
    answer = asyncio.run(asked(app, "POST", "/api/quarantine", [("host", HOST)], b""))
    assert (answer.status, page.quarantine.exists()) == (403, False)


def test_another_site_gets_no_image(app):
    own = read(app, "/api/session")["images"][0]["id"]
    fetch = [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "no-cors")]
    assert ask(app, f"/image/{own}/small", headers=fetch).status == 403


def test_every_answer_has_the_headers_of_security(app):
    for path, host in (("/", HOST), ("/static/main.js", HOST), ("/nothing", HOST), ("/", "evil.example")):
        headers = ask(app, path, host=host).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cross-origin-resource-policy"] == "same-origin"


PLACES = ["..", "%2e%2e", "..%2f", "etc", "passwd", "%00", "static", "image", "scene", "truth", "api", "session",
          "full", "config.yaml", "oof.csv", "//", "\\", "~", "proc", "self", "environ", "0", "é", "try"]  # fmt: skip

STARTS = ["/static/", "/image/", "/scene/", "/try/", "/truth/", "/api/numbers/"]


def test_ten_thousand_random_requests_get_nothing_else(app, page):
    """Whatever is asked, what leaves is a file of the page, or what this session shows."""
    drawn = random.Random(0)
    images, sources = list(page.library.pictures), list(page.library.sources)
    secret = [b"root:", b"phalanx.view", b"format: 2", b"image_name,class,rle", b"Traceback"]
    pieces = [*PLACES, *images[:3], *sources, *page.statics, page.decisions.path.name, str(page.quarantine)]

    async def every():
        kinds = {}
        for _ in range(10_000):
            path = "/" + "/".join(drawn.choice(pieces) for _ in range(drawn.randint(0, 5)))
            if drawn.random() < 0.3:
                path = drawn.choice(
                    ["/static/", "/image/", "/scene/", "/try/", "/truth/", "/api/numbers/"]
                ) + path.lstrip("/")
            method = drawn.choice(["GET", "GET", "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE"])
            headers = [("host", HOST)] + ([("origin", OWN)] if drawn.random() < 0.5 else [])
            answer = await asked(app, method, path, headers, drawn.randbytes(drawn.randint(0, 40)))
            kinds[answer.status] = kinds.get(answer.status, 0) + 1
            if answer.status == 200 and answer.body and not answer.headers["content-type"].startswith("text/"):
                assert answer.headers["content-type"] in (
                    "image/jpeg",
                    "application/octet-stream",
                    "application/json",
                    "image/svg+xml",
                )
            elif answer.status == 200 and answer.body:
                assert answer.body in page.statics.values()
            if answer.body not in page.statics.values():
                assert not [mark for mark in secret if mark in answer.body], path
        return kinds

    kinds = asyncio.run(every())
    assert set(kinds) <= {200, 400, 403, 404, 405, 413, 422}
    assert kinds[404] > 1000
    assert kinds[200] > 10


def test_decisions_are_on_the_disk_before_the_answer(app, page, runs, tmp_path):
    doubts = read(app, "/api/review")["doubts"]
    for doubt, verdict in zip(doubts, ("accept", "reject", "accept", "accept"), strict=False):
        body = json.dumps({"suspect": doubt["id"], "verdict": verdict}).encode()
        assert ask(app, "/api/decide", "POST", body=body).status == 200
        assert json.loads(page.decisions.path.read_text().splitlines()[-1])["suspect"] == doubt["id"]
    undone = json.dumps({"suspect": doubts[3]["id"], "verdict": "undo"}).encode()
    assert ask(app, "/api/decide", "POST", body=undone).status == 200
    again = Decisions(page.decisions.path)
    assert {key: one["verdict"] for key, one in again.verdicts.items()} == {
        doubts[0]["id"]: "accept", doubts[1]["id"]: "reject", doubts[2]["id"]: "accept",
    }  # fmt: skip
    page.quarantine.write_text(f"{min(page.library.trained)} # by hand\n")
    assert json.loads(ask(app, "/api/quarantine", "POST").body)["count"] == 2
    names = {one.id: one.record.name for one in page.library.pictures.values()}
    listed = read_quarantine(page.quarantine, page.library.of_name)
    assert {names[doubts[0]["image"]], names[doubts[2]["image"]]} <= set(listed)
    assert listed[min(page.library.trained)] == "by hand"
    config = FoldRun(runs / "fpn" / "fold0").config
    from phalanx.data.quarantine import quarantined

    assert quarantined(config.data.model_copy(update={"quarantine": page.quarantine})) == listed


def test_a_decision_that_a_kill_cut_off_is_dropped_and_the_others_stay(tmp_path):
    path = tmp_path / "decided.jsonl"
    one = Decisions(path)
    one.decide("s1", "a.png", "accept", "why")
    with path.open("a") as file:
        file.write('{"suspect": "s2", "verd')
    again = Decisions(path)
    assert set(again.verdicts) == {"s1"}
    again.decide("s3", "b.png", "reject", "why")
    assert set(Decisions(path).verdicts) == {"s1", "s3"}
    path.write_text(path.read_text().replace('"accept"', '"perhaps"'))
    with pytest.raises(DataError, match="line 2 is not a decision"):
        Decisions(path)
    path.write_text("mine\n")
    with pytest.raises(OutputError, match="something else"):
        Decisions(path)


def test_what_is_not_a_decision_is_refused(app, page):
    for body in (b"", b"[]", b'{"suspect": 1}', b'{"suspect": "x", "verdict": "accept"}', b"\xff", b"1" * 100_000):
        assert ask(app, "/api/decide", "POST", body=body).status in (400, 413)
    assert not page.decisions.path.exists()


def test_suspects_of_any_csv_with_names(tmp_path):
    path = tmp_path / "suspects.csv"
    path.write_text("image_name,rank,class,score,reason\na.png,1,up,0.1,<b>low</b>\na.png,2,flat,0.2,swap\n")
    found = read_suspects(path, ["up", "flat"])
    assert [(one.image, one.reason, one.classes) for one in found] == [
        ("a.png", "up: <b>low</b>", (0,)),
        ("a.png", "flat: swap", (1,)),
    ]
    assert found[0].id != found[1].id
    path.write_text("rank,score\n1,2\n")
    with pytest.raises(DataError, match="no column image_name"):
        read_suspects(path, ["up"])
    path.write_text("image_name,score\na.png\n")
    with pytest.raises(DataError, match="line 2 has 1 cells"):
        read_suspects(path, ["up"])


def dicom(image, path, spacing):
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1", "1.2.3"
    made = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    made.Rows, made.Columns = image.shape
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.BitsAllocated = made.BitsStored = 8
    made.HighBit, made.PixelRepresentation = 7, 0
    made.PixelData = image.tobytes()
    if spacing:
        made.ImagerPixelSpacing = list(spacing)
    pydicom.dcmwrite(path, made, enforce_file_format=True)
    return path.read_bytes()


def test_a_dropped_image_is_predicted_as_infer_does(app, page, runs, tmp_path, hands):
    from phalanx.cli import main

    source = next(iter(page.library.sources))
    image = sorted((hands / "test" / "DCM").rglob("*.png"))[0]
    place = tmp_path / "one"
    place.mkdir()
    (place / image.name).write_bytes(image.read_bytes())
    assert (
        main(["infer", f"experiment={runs / 'fpn'}", f"images={place}", f"out={tmp_path / 'o.csv'}", "device=cpu"]) == 0
    )
    name = [("x-file-name", f"..%2F..%2F{image.name}")]
    answer = ask(app, f"/api/try/{source}", "POST", name, image.read_bytes())
    assert answer.status == 200, answer
    found = json.loads(answer.body)
    assert (found["name"], found["spacing"]) == (image.name, None)
    assert ask(app, f"/try/{found['id']}/csv").body == (tmp_path / "o.csv").read_bytes()
    grey = cv2.imread(str(image), cv2.IMREAD_GRAYSCALE)
    content = dicom(grey, tmp_path / "x.dcm", (0.5, 0.2))
    second = json.loads(ask(app, f"/api/try/{source}", "POST", [("x-file-name", "x.dcm")], content).body)
    assert second["spacing"] == {"rows": 0.5, "columns": 0.2, "tag": "ImagerPixelSpacing"}
    assert all(one["mm2"] == pytest.approx(0.1 * one["pixels"], abs=0.01) for one in second["areas"])
    header, _ = decoded(ask(app, f"/try/{second['id']}/scene").body)
    assert [one["pixels"] for one in second["areas"]] == header["predicted_areas"]
    assert header["truth"] is None
    assert not list((tmp_path / "temporary").iterdir())


def test_what_cannot_be_tried_is_refused(app, page, tmp_path):
    source = next(iter(page.library.sources))
    for content in (b"", b"no image", b"\x89PNG\r\n\x1a\n" + b"x" * 50, b"\xff\xd8\xff\xe0"):
        assert ask(app, f"/api/try/{source}", "POST", body=content).status == 422
    too_long = [("content-length", str(MAX_UPLOAD + 1))]
    assert ask(app, f"/api/try/{source}", "POST", too_long, b"x").status == 413
    assert ask(app, "/api/try/nothing", "POST", body=b"x").status == 404
    assert not list((tmp_path / "temporary").iterdir())


def test_the_command_serves_and_ends_on_ctrl_c(runs, tmp_path):
    words = [sys.executable, "-m", "phalanx", "view", str(runs / "fpn"), "port=0", "open=false"]
    with subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as served:
        line = served.stdout.readline()
        assert line.startswith("http://127.0.0.1:")
        urllib.request.urlopen(line.split()[0]).read()
        os.kill(served.pid, signal.SIGINT)
        out, errors = served.communicate(timeout=60)
    assert (served.returncode, out, errors) == (0, "ended\n", "")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nothing"], "no trained run of that name"),
        (["{run}", "prot=1"], "did you mean"),
        (["{run}", "port=99999"], "port"),
        (["{run}", "data=hand_bones"], "leave it out"),
        (["{run}", "suspects=none.csv"], "no such file"),
        (["runs=empty"], "has no run"),
        (["{run}", "data.root=gone"], "no such folder"),
    ],
)
def test_bad_input_is_one_line(words, message, runs, tmp_path, capsys, monkeypatch):
    from phalanx.cli import main

    monkeypatch.chdir(tmp_path)
    assert main(["view", "open=false", *(word.format(run=runs / "fpn") for word in words)]) == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert errors.count("\n") == 1
