"""The answers of the page: who is refused, which bytes leave, and that decisions last."""

import asyncio
import contextlib
import http.client
import json
import os
import random
import shutil
import signal
import socket
import threading
import time
import urllib.request
import zlib

import cv2
import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian
from tests.view.asking import HOST, OWN, PORT, ask, asked
from tests.view.served import started

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


def test_the_page_never_reads_text_as_html(page):
    for name, content in page.statics.items():
        if name.endswith(".js"):
            for way in (b"innerHTML", b"outerHTML", b"insertAdjacentHTML", b"document.write", b"eval(", b"Function("):
                assert way not in content, name


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
                path = drawn.choice(STARTS) + path.lstrip("/")
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


def chunk(kind, content):
    """A part of a PNG."""
    return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")


def test_what_cannot_be_tried_is_refused(app, page, tmp_path):
    source = next(iter(page.library.sources))
    damaged = cv2.imencode(".png", np.zeros((64, 64), np.uint8))[1].tobytes()[:-30]
    header = (60_000).to_bytes(4, "big") * 2 + b"\x08\0\0\0\0"
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(b"\0")), chunk(b"IEND", b"")]
    enormous = b"\x89PNG\r\n\x1a\n" + b"".join(parts)
    for content, message in (
        (b"", "is empty"),
        (b"no image", "a DICOM file without an image, or none at all"),
        (b"\x89PNG\r\n\x1a\n" + b"x" * 50, "PNG"),
        (b"\xff\xd8\xff\xe0", "its header is cut off"),
        (damaged, "image.png"),
        (enormous, "60000 x 60000"),
    ):
        answer = ask(app, f"/api/try/{source}", "POST", body=content)
        assert (answer.status, answer.body.count(b"\n")) == (422, 1), answer
        assert message in answer.body.decode()
        assert "restore" not in answer.body.decode()
        assert "temporary" not in answer.body.decode()  # a folder of ours says nothing to the user
    too_long = [("content-length", str(MAX_UPLOAD + 1))]
    assert ask(app, f"/api/try/{source}", "POST", too_long, b"x").status == 413
    assert ask(app, "/api/try/nothing", "POST", body=b"x").status == 404
    assert not list((tmp_path / "temporary").iterdir())


def posted(url, path, body, **headers):
    """The answer to a POST of the page's own."""
    asked_for = urllib.request.Request(f"{url}{path}", body, {"Origin": url.rstrip("/"), **headers})
    with urllib.request.urlopen(asked_for) as answer:
        return json.loads(answer.read())


@pytest.mark.parametrize("busy", [False, True])
def test_ctrl_c_ends_it_at_once(busy, runs, hands, tmp_path):
    image = sorted((hands / "test" / "DCM").rglob("*.png"))[0]
    with started(tmp_path, runs / "fpn") as (url, process):
        session = json.loads(urllib.request.urlopen(f"{url}api/session").read())
        if busy:  # connections that wait, one in the middle of a request, and a prediction
            places = [socket.create_connection(("127.0.0.1", int(url.split(":")[2].strip("/")))) for _ in range(4)]
            places[0].sendall(b"POST /api/decide HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\n{")

            def predict():
                with contextlib.suppress(OSError):
                    posted(url, f"api/try/{session['sources'][0]['id']}", image.read_bytes())

            threading.Thread(target=predict, daemon=True).start()
            time.sleep(1)
        began = time.monotonic()
        os.kill(process.pid, signal.SIGINT)
        out, errors = process.communicate(timeout=60)
        seconds = time.monotonic() - began
    assert (process.returncode, out, errors) == (0, "ended\n", "")
    assert seconds < 3  # about one; the rest is for other processes of a busy machine
    if busy:
        for place in places:
            place.close()


@pytest.mark.slow
def test_no_saved_decision_is_lost_by_a_kill(runs, tmp_path):
    saved, drawn = {}, random.Random(1)
    for turn in range(2):
        with started(tmp_path, runs / "fpn") as (url, process):
            while not (doubts := json.loads(urllib.request.urlopen(f"{url}api/review").read())["doubts"]):
                time.sleep(0.1)
            killer = threading.Timer(0.05 + 0.3 * drawn.random(), process.kill)
            with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
                for k in range(10_000):
                    one, verdict = doubts[k % len(doubts)]["id"], drawn.choice(["accept", "reject"])
                    sending = (one, verdict)
                    posted(url, "api/decide", json.dumps({"suspect": one, "verdict": verdict}).encode())
                    saved[one] = verdict
                    if not k:
                        killer.start()
            killer.join()
            assert process.wait() == -signal.SIGKILL
        found = {
            one: values["verdict"] for one, values in Decisions(tmp_path / "view.decisions.jsonl").verdicts.items()
        }
        assert found in (saved, saved | dict([sending])), turn  # the last one may be saved, and not yet confirmed
        saved = found
        assert found


def test_networks_are_opened_once_until_the_run_is_trained_again(runs, hands, tmp_path):
    shutil.copytree(runs / "fpn", tmp_path / "fpn")
    page, app = (made := page_of([tmp_path / "fpn"], tmp_path)), make_app(made, PORT)
    source, scenes = next(iter(page.library.sources)), page.attempts._scenes
    opened = []
    page.attempts._scenes = scenes._replace(opened=lambda *given: opened.append(given) or scenes.opened(*given))
    image = sorted((hands / "test" / "DCM").rglob("*.png"))[0].read_bytes()
    tables = set()
    for _ in range(3):
        found = json.loads(ask(app, f"/api/try/{source}", "POST", [("x-file-name", "a.png")], image).body)
        tables.add(ask(app, f"/try/{found['id']}/csv").body)
    assert (len(opened), len(tables)) == (1, 1)
    os.utime(tmp_path / "fpn" / "fold0" / "final", (1, 1))
    assert ask(app, f"/api/try/{source}", "POST", body=image).status == 200
    assert len(opened) == 2


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
