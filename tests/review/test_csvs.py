"""``phalanx review`` of CSVs: probabilities by their ground truth, and fused boxes out of fold."""

import csv
import json
import shutil

import numpy as np
import pytest
import yaml
from PIL import Image
from tests.boxed import make_table as make_boxes
from tests.boxed import words as box_words
from tests.labelled import CLASSES, make_folders, make_table
from tests.oof_runs import make_run, overconfident

from phalanx.cli import main
from phalanx.config.compose import compose
from phalanx.data.objects import box_truth
from phalanx.data.quarantine import kept_records
from phalanx.review.csvs import evaluate_csv
from phalanx.review.evaluate_options import EvaluateOptions
from phalanx.runs.reader import FORMAT, FoldResult
from phalanx.runs.vote_score import stored
from phalanx.runtime.files import write_json
from phalanx.runtime.metric import Metric
from phalanx.runtime.sidecar import read_sidecar
from phalanx.submission.boxes import BoxSubmission
from phalanx.submission.probabilities import write_probabilities

OBJECTS = "image_name,class,x_min,y_min,x_max,y_max"


def rows_of(path):
    with open(path, newline="", encoding="utf-8") as file:
        return {row["class"]: row for row in csv.DictReader(file)}


def predicted(place, head, names, *, name="guess"):
    """A CSV of test images, as a run predicts it."""
    run = place / "run"
    if not run.exists():
        make_run(run, *overconfident(24, head), head)
    values = np.random.default_rng(3).dirichlet(np.ones(3), len(names))
    if head == "sigmoid":
        values = values.clip(0.1, 0.9)
    file = place / f"{name}.csv"
    write_probabilities(file, sorted(names), CLASSES, values, head, run_hashes={str(run / "fold0"): "0" * 64})
    return file


@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
def test_probabilities_by_their_ground_truth_have_the_figures_of_their_score(tmp_path, head):
    root = (make_folders if head == "softmax" else make_table)(tmp_path / "set")
    names = [path.name for path in (root / "test").rglob("*.png")]
    file, out = predicted(tmp_path, head, names), tmp_path / "out"
    truth = root / ("test" if head == "softmax" else "answers.csv")
    report, limit = tmp_path / "score.json", ["threshold=0.4"] if head == "sigmoid" else []
    assert main(["review", str(file), f"truth={truth}", f"out={out}", "worst=3", *limit]) == 0
    assert main(["score", str(file), str(truth), f"json={report}", *limit]) == 0
    scored = json.loads(report.read_text())
    assert json.loads((out / "review.json").read_text())["runs"][0]["macro_auc"] == pytest.approx(
        scored["metrics"]["macro_auc"]["value"]
    )
    for label, row in rows_of(out / "classes.csv").items():
        own = scored["classes"][label]
        assert [int(row[key]) for key in ("tp", "fp", "fn")] == [own[key] for key in ("tp", "fp", "fn")]
        assert float(row["macro_auc"]) == pytest.approx(own["auc"], abs=1e-4)
    for name in ("worst.png", "balance.png", "confusion.png" if head == "softmax" else "classes.png"):
        assert min(Image.open(out / name).size) > 100


def test_a_table_of_labels_without_patients_and_with_more_images_serves(tmp_path):
    root = make_table(tmp_path / "set")
    names = [path.name for path in (root / "test").rglob("*.png")]
    file = predicted(tmp_path, "sigmoid", names)
    lines = (root / "answers.csv").read_text().splitlines()
    cut = [",".join(cell for k, cell in enumerate(line.split(",")) if k != 1) for line in [*lines, "zzz.png,P9,0,1,1"]]
    (tmp_path / "labels.csv").write_text("\n".join(cut) + "\n")
    found = evaluate_csv(file, tmp_path / "labels.csv", None, EvaluateOptions())
    assert sorted(found.names) == sorted(names)
    assert not found.grouped
    assert evaluate_csv(file, root / "answers.csv", None, EvaluateOptions()).grouped
    other = predicted(tmp_path, "sigmoid", names, name="vote")  # as a vote of two machines records its members
    sidecar = json.loads(other.with_suffix(".json").read_text())
    sidecar["run_hashes"] = {f"a.csv: {folder}": value for folder, value in sidecar["run_hashes"].items()}
    other.with_suffix(".json").write_text(json.dumps(sidecar))
    assert evaluate_csv(other, root / "answers.csv", None, EvaluateOptions()).value == pytest.approx(
        evaluate_csv(file, root / "answers.csv", None, EvaluateOptions()).value
    )


def test_what_cannot_be_reviewed_is_one_line(tmp_path, capsys):
    root = make_folders(tmp_path / "set")
    names = [path.name for path in (root / "test").rglob("*.png")]
    file = predicted(tmp_path, "softmax", names)
    shutil.copytree(root / "test", tmp_path / "fewer")
    next((tmp_path / "fewer" / "up").iterdir()).unlink()
    cases = [
        ([f"truth={tmp_path / 'fewer'}"], "has no label of"),
        ([f"truth={tmp_path / 'none'}"], "no such file or folder of ground truth"),
        ([f"truth={root / 'test'}", "threshold=0.4"], "threshold: a softmax takes its largest probability"),
        ([f"truth={root / 'test'}", f"images={root / 'train'}"], "is not there"),
        ([f"truth={root / 'test'}", "f1_iou={positive:up}"], "f1_iou: a CSV is reviewed by its metric"),
    ]
    for words, says in cases:
        assert main(["review", str(file), f"out={tmp_path / 'out'}", *words]) == 2
        printed = capsys.readouterr().err
        assert says in printed
        assert printed.count("\n") == 1
        assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def fused(tmp_path_factory):
    """Two runs without weights, which miss every fourth object and are a pixel or two off, and CSVs of theirs."""
    place = tmp_path_factory.mktemp("fused")
    root = make_boxes(place / "set")
    config = compose(box_words(root, "boxes", runs=place / "runs", name="one", folds=2, metric="map50"))
    records = kept_records(config.data, report=False)
    truth, number = box_truth(records, config.data), {r.name: int(r.group[1:]) % 2 for r in records}
    for seed, name in enumerate(("one", "two")):
        rng, hashes = np.random.default_rng(seed), {}
        for fold in (0, 1):
            folder, rows, objects = place / "runs" / name / f"fold{fold}", [], [OBJECTS]
            (folder / "final").mkdir(parents=True)
            for image, own in zip(truth.images, truth.boxes, strict=True):
                if number[image] == fold:
                    some = own.chosen(np.flatnonzero(rng.random(len(own.scores)) < 0.75))
                    moved = some.corners + rng.integers(-2, 3, some.corners.shape)
                    rows.append(
                        (image, some._replace(corners=moved.clip(0, 64), scores=rng.uniform(0.3, 1, len(moved))))
                    )
                corners = zip(own.classes.tolist(), own.corners.tolist(), strict=True)
                objects += [",".join(map(str, (image, truth.classes[c], *four))) for c, four in corners] or [
                    f"{image},,,,,"
                ]
            images, boxes = zip(*rows, strict=True)
            BoxSubmission(name, images, truth.classes, boxes, dict.fromkeys(images, (64, 64))).write(folder / "oof.csv")
            (folder / "objects.csv").write_text("\n".join(objects) + "\n")
            (folder / "config.yaml").write_text(yaml.safe_dump({"format": FORMAT, **config.model_dump(mode="json")}))
            lines = [f"{r.name},{r.group},{number[r.name]}\n" for r in records]
            (folder / "folds.csv").write_text("image_name,group,fold\n" + "".join(lines))
            hashes[str(folder)] = f"{seed}{fold}" * 32
            write_json(folder / "final" / "state.json", {"files": {"weights.safetensors": hashes[str(folder)]}})
            write_json(folder / "done.json", FoldResult(Metric("map50"), 0.5, len(images), 1.0, 1.0).to_json())
        some = BoxSubmission(name, ("t.png",), truth.classes, (boxes[0],), {"t.png": (64, 64)}, run_hashes=hashes)
        some.write(place / f"{name}.csv")
    return place


@pytest.mark.parametrize("mode", ["wbf", "nms"])
def test_fused_boxes_are_reviewed_out_of_fold(fused, tmp_path, mode, capsys):
    file, out = tmp_path / f"{mode}.csv", tmp_path / "out"
    members = f"members={fused / 'one.csv'},{fused / 'two.csv'}"
    words = [f"mode={mode}", members, f"runs={fused / 'runs'}", f"out={file}", "weights=2,1"]
    assert main(["ensemble", *words]) == 0
    assert main(["review", str(file), f"runs={fused / 'runs'}", f"out={out}", "worst=3"]) == 0
    printed = capsys.readouterr().out
    sidecar, _ = read_sidecar(file)
    score = stored(sidecar.vote, file)
    review = json.loads((out / "review.json").read_text())
    assert review["runs"][0]["map50"] == pytest.approx(score.value)
    assert "boxes count from a score of" in printed
    table = rows_of(out / "classes.csv")
    assert set(table) == {"disc", "block"}
    for name in ("worst.png", "classes.png", "balance.png"):
        assert min(Image.open(out / name).size) > 100
