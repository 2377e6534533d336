"""A killed prediction goes on where it was; several processes give the bytes of one."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest

from phalanx.cli import main
from phalanx.config.compose import split_words
from phalanx.config.words import typed
from phalanx.data import records as layout
from phalanx.data.images import read_grey
from phalanx.ensemble.options import EnsembleOptions, InferOptions
from phalanx.ensemble.run import part_job
from phalanx.errors import ConfigError, DataError, PhalanxError
from phalanx.jobs.job import Job
from phalanx.predict.journal import Journal, PredictedRow, append, claimed, map_in, part_folder
from phalanx.predict.maps import MapsMean, ProbabilityMaps
from phalanx.predict.run import write_submission
from phalanx.voting.agreement import AgreementMonitor

ROWS = [PredictedRow(f"{name}.png", (4, 5), ["1 2", "", f"{i + 1} 3"]) for i, name in enumerate("abcd")]


class Noise:
    """A member whose maps follow from the image's name; counts what it is asked for."""

    name, classes, hashes, key, needs_images = "noise", ["a", "b"], {"runs/x/fold0": "12"}, "k", True
    on_gpu, head = False, "sigmoid"
    options = None

    def __init__(self, fails_at=None):
        self.asked, self.fails_at = [], fails_at

    def maps(self, records, images):
        self.asked.append([record.name for record in records])
        if self.fails_at in self.asked[-1]:
            raise DataError(f"{self.fails_at}: broken")
        seeds = [sum(record.name.encode()) for record in records]
        return [ProbabilityMaps.of(np.random.default_rng(seed).random((2, 16, 16), np.float32)) for seed in seeds]


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(7):
        cv2.imwrite(str(folder / f"{i}.png"), np.full((16, 16), 10 * i, np.uint8))
    return layout.scan(folder)


def predict(path, member, records, **change):
    options = {"threshold": 0.5, "batch": 2, "progress": False, "maps_folder": path.with_suffix(".maps")} | change
    write_submission(path, [member], records, **options)


def contents(csv):
    files = [csv, csv.with_suffix(".json"), *sorted(csv.with_suffix(".maps").glob("*.npz"))]
    return {file.name: file.read_bytes() for file in files}


def test_rows_come_back_in_the_order_asked_for(tmp_path):
    csv = tmp_path / "x.csv"
    with claimed(csv):
        Journal(csv, "k")
        append(part_folder(csv), 1, ROWS[2:], "k")
        append(part_folder(csv), 0, ROWS[:2], "k")
        journal = Journal(csv, "k")
    assert list(journal.rows(["d.png", "a.png", "c.png"])) == [(r.image, r.rles) for r in (ROWS[3], ROWS[0], ROWS[2])]
    assert {image: place.size for image, place in journal.places.items()} == {row.image: (4, 5) for row in ROWS}
    journal.finish()
    assert not list(tmp_path.iterdir())


def test_a_half_written_row_is_missing_wherever_the_kill_came(tmp_path):
    csv = tmp_path / "x.csv"
    part_folder(csv).mkdir()
    Journal(csv, "k")
    append(part_folder(csv), 0, ROWS[:1], "k")
    file = part_folder(csv) / "rows.0"
    one = file.read_bytes()
    append(part_folder(csv), 0, ROWS[1:2], "k")
    two = file.read_bytes()
    for at in range(len(one), len(two)):
        for tail in (b"", b"\0" * 20):  # zeros: what some file systems leave after a power cut
            file.write_bytes(two[:at] + tail)
            assert set(Journal(csv, "k").places) == {"a.png"}
            append(part_folder(csv), 0, ROWS[2:3], "k")
            # all but the line break may have been written
            assert set(Journal(csv, "k").places) - {"b.png"} == {"a.png", "c.png"}
    append(part_folder(csv), 0, ROWS[1:2], "k")
    assert set(Journal(csv, "k").places) == {"a.png", "b.png", "c.png"}


ALTERATIONS = {
    "a bit turned": lambda data, rng: _with(
        data, at := int(rng.integers(len(data))), data[at] ^ (1 << rng.integers(8))
    ),
    "a byte replaced": lambda data, rng: _with(data, _place(data, rng), int(rng.integers(256))),
    "a digit replaced": lambda data, rng: _with(
        data, int(rng.choice([i for i, byte in enumerate(data) if 48 <= byte < 58])), int(rng.integers(48, 58))
    ),
    "a piece cut out": lambda data, rng: data[: (at := _place(data, rng))] + data[at + rng.integers(1, 40) :],
    "a piece doubled": lambda data, rng: data[: (at := _place(data, rng))] + data[at - rng.integers(1, 40) :],
    "two pieces exchanged": lambda data, rng: _exchanged(data, *sorted(rng.integers(len(data), size=3).tolist())),
}


def _place(data, rng):
    return int(rng.integers(len(data)))


def _with(data, at, value):
    return data[:at] + bytes([value]) + data[at + 1 :]


def _exchanged(data, a, b, c):
    return data[:a] + data[b:c] + data[a:b] + data[c:]


@pytest.mark.parametrize("kind", ALTERATIONS)
def test_no_altered_row_is_taken(tmp_path, kind):
    """Of 1,700 alterations of each kind, whatever is still found is what was written; the slow test makes more."""
    altered(tmp_path, kind, 1_700)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ALTERATIONS)
def test_no_altered_row_is_taken_in_a_hundred_thousand(tmp_path, kind):
    altered(tmp_path, kind, 17_000)


def altered(tmp_path, kind, count):
    csv, rng = tmp_path / "x.csv", np.random.default_rng(list(ALTERATIONS).index(kind))
    part_folder(csv).mkdir()
    Journal(csv, "k")
    append(part_folder(csv), 0, ROWS, "k")
    file = part_folder(csv) / "rows.0"
    whole, lost = file.read_bytes(), 0
    written = {row.image: row.rles for row in ROWS}
    journal = Journal(csv, "k")
    for _ in range(count):
        file.write_bytes(ALTERATIONS[kind](whole, rng))
        journal.places = {}
        journal.index_file(file)
        found = dict(journal.rows(list(journal.places)))
        assert found == {image: written[image] for image in found}
        assert all(journal.places[image].size == (4, 5) for image in found)
        lost += len(found) < len(ROWS)
    assert lost > count / 2  # which are then predicted again


def test_rows_altered_while_the_command_runs_are_told(tmp_path):
    csv = tmp_path / "x.csv"
    part_folder(csv).mkdir()
    Journal(csv, "k")
    append(part_folder(csv), 0, ROWS, "k")
    journal = Journal(csv, "k")
    file = part_folder(csv) / "rows.0"
    file.write_bytes(file.read_bytes().replace(b'"4 3"', b'"4 4"'))
    with pytest.raises(DataError, match=r"rows\.0: the record of d\.png was altered"):
        list(journal.rows(["d.png"]))


def test_a_map_that_was_altered_is_made_again_with_its_rows(pictures, tmp_path):
    csv = tmp_path / "x.csv"
    predict(tmp_path / "whole.csv", Noise(), pictures)
    with pytest.raises(DataError, match="broken"):
        predict(csv, Noise("6.png"), pictures)
    waiting = map_in(part_folder(csv), "2.png")
    waiting.write_bytes(map_in(part_folder(csv), "3.png").read_bytes())  # whole, and of another image
    again = Noise()
    predict(csv, again, pictures)
    assert again.asked == [["2.png", "3.png"], ["6.png"]]
    assert [data for name, data in contents(csv).items() if name.endswith("npz")] == [
        data for name, data in contents(tmp_path / "whole.csv").items() if name.endswith("npz")
    ]


def test_an_altered_note_of_how_members_agree_has_them_compared_again(pictures, tmp_path):
    options = {"threshold": 0.5, "batch": 2, "progress": False}
    watch = Watching()
    with pytest.raises(DataError, match="broken"):
        write_submission(tmp_path / "x.csv", [Noise(), Noise("6.png")], pictures, monitor=watch, **options)
    note = part_folder(tmp_path / "x.csv") / "agreement"
    note.write_bytes(note.read_bytes().replace(b"null", b"true"))
    watch = Watching()
    write_submission(tmp_path / "x.csv", [Noise(), Noise()], pictures, monitor=watch, **options)
    assert watch.seen


def test_rows_of_other_members_or_options_are_not_mixed_in(tmp_path):
    csv = tmp_path / "x.csv"
    part_folder(csv).mkdir()
    Journal(csv, "k").maps.mkdir()
    append(part_folder(csv), 0, ROWS, "k")
    other = Journal(csv, "other")
    assert other.places == {}
    assert not other.maps.exists()


def test_two_processes_do_not_write_the_same_file(tmp_path):
    with (
        claimed(tmp_path / "new" / "x.csv"),
        pytest.raises(PhalanxError, match=r"x.csv: another process is writing it"),
        claimed(tmp_path / "new" / "x.csv"),
    ):
        pass
    assert not list(tmp_path.iterdir())


def test_what_was_done_before_an_error_is_not_done_again(pictures, tmp_path, capsys):
    predict(tmp_path / "whole.csv", Noise(), pictures)
    broken, again = Noise("4.png"), Noise()
    with pytest.raises(DataError, match="broken"):
        predict(tmp_path / "x.csv", broken, pictures)
    assert not (tmp_path / "x.csv").exists()
    predict(tmp_path / "x.csv", again, pictures)
    assert "x.csv: continues after 4 of 7 images" in capsys.readouterr().out
    assert again.asked == [["4.png", "5.png"], ["6.png"]]
    for name, data in contents(tmp_path / "whole.csv").items():
        if not name.endswith(".json"):
            assert contents(tmp_path / "x.csv")[name.replace("whole", "x")] == data
    assert not part_folder(tmp_path / "x.csv").exists()


def stop(journal):
    raise KeyboardInterrupt


def test_a_kill_after_the_maps_moved_to_their_place_loses_none(pictures, tmp_path, monkeypatch):
    csv = tmp_path / "x.csv"
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "finish", stop)
        with pytest.raises(KeyboardInterrupt):
            predict(csv, Noise(), pictures)
    before = contents(csv)
    assert len(before) == 2 + len(pictures)
    assert part_folder(csv).exists()
    predict(csv, Noise(), pictures)
    assert contents(csv) == before


@pytest.mark.parametrize("change", ["threshold", "key", "image", "maps_folder", "weights"])
def test_another_threshold_member_image_or_option_begins_anew(pictures, tmp_path, change, capsys):
    with pytest.raises(DataError, match="broken"):
        predict(tmp_path / "x.csv", Noise("4.png"), pictures)
    member, options = Noise(), {"threshold": 0.4} if change == "threshold" else {}
    if change == "key":
        member.key = "other"
    if change == "image":
        cv2.imwrite(str(pictures[0].image), np.full((16, 16), 99, np.uint8))
    if change == "maps_folder":
        options = {"maps_folder": None}
    if change == "weights":
        options = {"weights": [2]}
    predict(tmp_path / "x.csv", member, pictures, **options)
    assert "continues" not in capsys.readouterr().out
    assert member.asked[0] == ["0.png", "1.png"]


def test_the_next_images_are_decoded_and_the_last_encoded_while_the_model_runs(pictures, tmp_path, monkeypatch):
    """Each waits for the other, so that one after another would never end."""
    import phalanx.predict.predictor as run

    decoded, asked = threading.Event(), threading.Event()
    missed = []

    class Waiting(Noise):
        def maps(self, records, images):
            if records[0].name == pictures[0].name and not decoded.wait(20):
                missed.append("the next image was not decoded while the model ran")
            if records[0].name == pictures[1].name:
                asked.set()
            return super().maps(records, images)

    def read(path):
        if path == pictures[1].image:
            decoded.set()
        return read_grey(path)

    def keep(folder, writer, rows, key):
        if rows[0].image == pictures[0].name and not asked.wait(20):
            missed.append("the model waited until an image was encoded")
        append(folder, writer, rows, key)

    monkeypatch.setattr(run, "read_grey", read)
    monkeypatch.setattr(run, "append", keep)
    predict(tmp_path / "x.csv", Waiting(), pictures, batch=1)
    assert not missed


class Watching:
    wanted, agreement = 3, None

    def __init__(self, stop=False):
        self.seen, self.stop = [], stop

    def __call__(self, image, size, rles):
        self.seen.append((image, size, len(rles)))
        if self.stop and len(self.seen) >= self.wanted:
            raise DataError("misaligned")


def test_a_watch_sees_every_member_s_masks_of_the_first_images_before_the_others(pictures, tmp_path):
    members, watch = [Noise(), Noise()], Watching(stop=True)
    options = {"threshold": 0.5, "batch": 2, "progress": False}
    with pytest.raises(DataError, match="misaligned"):
        write_submission(tmp_path / "x.csv", members, pictures, monitor=watch, **options)
    assert watch.seen == [(f"{i}.png", (16, 16), 2) for i in range(3)]
    assert members[0].asked == [["0.png", "1.png"], ["2.png", "3.png"]]
    again, watch = [Noise(), Noise()], Watching()
    write_submission(tmp_path / "x.csv", again, pictures, monitor=watch, **options)
    assert [image for image, _, _ in watch.seen] == ["0.png", "1.png", "2.png", "3.png"]
    assert again[0].asked == [["0.png", "1.png"], ["2.png", "3.png"], ["4.png", "5.png"], ["6.png"]]
    write_submission(tmp_path / "y.csv", [Noise(), Noise()], pictures, **options)
    assert (tmp_path / "x.csv").read_bytes() == (tmp_path / "y.csv").read_bytes()


def test_a_vote_s_sidecar_tells_how_members_agreed_however_often_it_was_stopped(pictures, tmp_path):
    heard = []
    options = {"threshold": 0.5, "batch": 2, "progress": False, "vote": {"how": "soft", "members": ["a", "b"]}}

    def go(name, fails_at=None):
        watch = AgreementMonitor(["a", "b"], Noise.classes, len(pictures), heard.append)
        watch.wanted = 3
        write_submission(tmp_path / name, [Noise(), Noise(fails_at)], pictures, monitor=watch, **options)

    go("whole.csv")
    with pytest.raises(DataError, match="broken"):
        go("stopped.csv", fails_at="6.png")
    go("stopped.csv")
    assert len(heard) == 2  # once each
    whole, stopped = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("whole", "stopped"))
    assert whole == stopped
    told = whole["vote"]["agreement"]
    assert (told["images"], told["of"]) == ([f"{i}.png" for i in range(3)], 7)
    assert told["pairs"] == [{"members": [1, 2], "dice": 1.0, "classes": [1.0, 1.0]}]


def words(runs, hands, out):
    options = ["device=cpu", "progress=false", "threshold=0.2", "batch=1", "maps=true"]
    return ["infer", "experiment=unet", f"runs={runs}", f"data.root={hands}", f"out={out}", *options]


def test_a_killed_infer_goes_on_to_the_same_bytes_and_so_do_two_processes(runs, hands, tmp_path, capsys):
    """SIGKILL when the first image has been written, then the rest by two processes."""
    whole, killed = tmp_path / "whole.csv", tmp_path / "killed.csv"
    assert main(words(runs, hands, whole)) == 0
    code = (
        "import os, sys, phalanx.predict.predictor as run, phalanx.cli\n"
        "append = run.append\n"
        f"run.append = lambda *a: (append(*a), os.kill(os.getpid(), {int(signal.SIGKILL)}))\n"
        "phalanx.cli.main(sys.argv[1:])"
    )
    done = subprocess.run([sys.executable, "-c", code, *words(runs, hands, killed)], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not killed.exists()
    capsys.readouterr()
    assert main([*words(runs, hands, killed), "workers=2"]) == 0
    assert "continues after 1 of 4 images" in capsys.readouterr().out
    first, second = contents(whole), contents(killed)
    assert [data for name, data in first.items() if name != "whole.json"] == [
        data for name, data in second.items() if name != "killed.json"
    ]
    assert first["whole.json"] == second["killed.json"]
    assert {path.name for path in tmp_path.iterdir()} == {
        f"{name}.{end}" for name in ("whole", "killed") for end in ("csv", "json", "maps")
    }


def test_what_is_finished_is_left_as_it_is_unless_something_of_it_is_gone_or_other(runs, hands, tmp_path, capsys):
    def asked(*more):
        capsys.readouterr()
        assert main([*words(runs, hands, tmp_path / "x.csv"), *more]) == 0
        return "finished before" not in capsys.readouterr().out

    assert asked()
    before = contents(tmp_path / "x.csv")
    assert not asked()
    assert not asked("workers=2")
    assert contents(tmp_path / "x.csv") == before
    for harm in (
        lambda: (tmp_path / "x.csv").write_text("image_name,class,rle\n"),
        lambda: next((tmp_path / "x.maps").glob("*.npz")).unlink(),
        lambda: shutil.rmtree(tmp_path / "x.maps"),
    ):
        harm()
        assert asked()
        assert contents(tmp_path / "x.csv") == before
    assert asked("tta=hflip")
    (tmp_path / "x.json").unlink()  # without it the CSV may be anybody's
    assert main(words(runs, hands, tmp_path / "x.csv")) == 2
    assert "x.csv: exists, and no sidecar x.json says" in capsys.readouterr().err


@pytest.mark.slow
def test_the_helpers_of_a_killed_infer_end_with_it(runs, tmp_path):
    """Else they would go on to write rows into a journal that the next command has begun anew."""
    (tmp_path / "many").mkdir()
    for i in range(80):
        cv2.imwrite(str(tmp_path / "many" / f"{i:02d}.png"), np.full((64, 64), i, np.uint8))
    code = (
        "import os, pathlib, sys, time, phalanx.predict.predictor as run, phalanx.cli\n"
        "def append(folder, *a):\n"
        "    while not (folder / 'rows.1').exists(): time.sleep(0.01)\n"
        f"    os.kill(os.getpid(), {int(signal.SIGKILL)})\n"
        "run.append = append\n"
        "if __name__ == '__main__': phalanx.cli.main(sys.argv[1:])"
    )
    more = [f"images={tmp_path / 'many'}", "workers=2", "tta=hflip,rotate"]
    call = [sys.executable, "-c", code, "infer", "experiment=unet", f"runs={runs}", f"out={tmp_path / 'x.csv'}"]
    call += ["device=cpu", "progress=false", "batch=1", *more]
    done = subprocess.run(call, capture_output=True, check=False, timeout=100)
    assert done.returncode == -signal.SIGKILL, done.stderr  # known when nobody holds its outputs any more
    rows = (part_folder(tmp_path / "x.csv") / "rows.1").read_text().splitlines()
    assert 1 <= len(rows) < 40


def test_the_error_of_a_job_is_that_of_the_call(pictures, tmp_path):
    job = Job("part 1", ("infer", "experiment=nosuch", f"runs={tmp_path}"), tmp_path).on("cpu")
    with pytest.raises(PhalanxError, match=r"^nosuch: no trained run of that name"):
        predict(tmp_path / "x.csv", Noise(), pictures, jobs=[job])


def test_a_bug_in_a_job_ends_the_call_with_its_traceback(pictures, tmp_path):
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['pydantic'] = None")
    job = Job("part 1", ("infer", "experiment=nosuch"), tmp_path, environment={"PYTHONPATH": path_with(tmp_path)})
    with pytest.raises(RuntimeError, match=r"(?s)part 1 failed unexpectedly:\nTraceback .*pydantic"):
        predict(tmp_path / "x.csv", Noise(), pictures, jobs=[job.on("cpu")])


def test_a_job_that_is_killed_is_reported_and_the_rest_is_saved(pictures, tmp_path, capsys):
    (tmp_path / "sitecustomize.py").write_text("import os; os.kill(os.getpid(), 9)")
    job = Job("part 1", ("infer",), tmp_path, environment={"PYTHONPATH": path_with(tmp_path)})
    with pytest.raises(PhalanxError, match=r"part 1, a process of workers= or devices=: the process was killed \(SIGK"):
        predict(tmp_path / "x.csv", Noise(), pictures, jobs=[job.on("cpu")])
    predict(tmp_path / "x.csv", Noise(), pictures)
    assert "continues after" in capsys.readouterr().out


def path_with(folder):
    """A PYTHONPATH whose first folder is this one."""
    return os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])


def test_parts_alone_and_then_the_call_are_the_call(runs, hands, tmp_path, capsys):
    """As on a cluster, where nothing waits for the parts but the last job."""
    call = words(runs, hands, tmp_path / "x.csv")
    assert main([*call, "part=3/2"]) == 2
    assert "part=3/2: expected a number from 1 up to the count" in capsys.readouterr().err
    for number in (2, 1):
        assert main([*call, f"part={number}/2"]) == 0
    parts = sorted(path.name for path in part_folder(tmp_path / "x.csv").glob("rows.*"))
    assert parts == ["rows.1", "rows.2"]
    capsys.readouterr()
    assert main(call) == 0
    assert "continues after 4 of 4 images" in capsys.readouterr().out
    assert main(words(runs, hands, tmp_path / "y.csv")) == 0
    assert (tmp_path / "x.csv").read_bytes() == (tmp_path / "y.csv").read_bytes()
    assert main([*call, "part=1/2"]) == 0  # finished before
    assert not part_folder(tmp_path / "x.csv").exists()


def test_a_part_of_another_prediction_than_that_in_progress_is_refused(runs, hands, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("phalanx.predict.journal.JOIN_SECONDS", 0.2)
    with claimed(tmp_path / "x.csv"):
        Journal(tmp_path / "x.csv", "key of other options")
        assert main([*words(runs, hands, tmp_path / "x.csv"), "part=1/2"]) == 2
        assert "a prediction of other members, options, images" in capsys.readouterr().err
        assert (part_folder(tmp_path / "x.csv") / "key").read_text() == "key of other options"


def test_a_row_that_comes_late_for_a_prediction_that_was_given_up_does_not_count(tmp_path):
    """A process on another machine does not end with the call that started it."""
    csv = tmp_path / "x.csv"
    Journal.share(csv, "first")
    append(part_folder(csv), 1, [PredictedRow("a.png", (3, 5), ["1 2"])], "first")
    Journal.share(csv, "second")
    append(part_folder(csv), 1, [PredictedRow("b.png", (3, 5), ["1 2"])], "first")
    append(part_folder(csv), 2, [PredictedRow("c.png", (3, 5), ["1 2"])], "second")
    assert set(Journal.share(csv, "second").places) == {"c.png"}


def test_the_job_of_a_part_has_the_options_of_the_call():
    given = {
        "data.root": "a place/it's", "tta": "hflip,rotate", "scales": "0.75,1", "window": "{size:64,stride:32}",
        "threshold": "0.25", "weights": "best", "maps": "true", "runs": "elsewhere", "precision": "32", "batch": "3",
        "workers": "2", "device": "cpu",
    }  # fmt: skip
    options = typed(InferOptions, given)
    job = part_job(["a", "b"], options, Path("x.csv"), [2, 1], True, 1, 2).on("cpu")
    command, *argv = job.argv
    found = typed(EnsembleOptions, split_words(argv))
    assert (command, found.mode, found.members, found.votes, found.average) == (
        "ensemble",
        "soft",
        ["a", "b"],
        [2, 1],
        "flat",
    )
    own = {"out": Path("x.csv"), "progress": False, "part": "1/2", "workers": None}
    assert found.model_dump(include=set(InferOptions.model_fields)) == options.model_dump() | own


def test_devices_are_dealt_to_the_processes():
    def places(**told):
        return typed(InferOptions, {key: str(value) for key, value in told.items()}).places()

    assert places() == ["auto"]
    assert places(workers=3, device="cpu") == ["cpu"] * 3
    assert places(devices="0,1") == ["cuda:0", "cuda:1"]
    assert places(devices="0,cuda:2", workers=3) == ["cuda:0", "cuda:2", "cuda:0"]
    with pytest.raises(ConfigError, match="give one of the two"):
        places(devices="0,1", device="cuda:0")


def test_next_to_a_gpu_several_threads_encode_at_once_and_write_the_same_rows(pictures, tmp_path, monkeypatch):
    """Each encoding of the second call waits for another, so that one after another would never end."""
    monkeypatch.setattr("phalanx.predict.predictor.cores", lambda: 3)
    predict(tmp_path / "one.csv", Noise(), pictures[:4], batch=1)
    together, stack = threading.Barrier(2, timeout=20), MapsMean.stack

    def meeting(mean, threshold):
        together.wait()
        return stack(mean, threshold)

    monkeypatch.setattr(MapsMean, "stack", meeting)
    member = Noise()
    member.on_gpu = True
    predict(tmp_path / "two.csv", member, pictures[:4], batch=1)
    assert (tmp_path / "two.csv").read_bytes() == (tmp_path / "one.csv").read_bytes()
