"""Validation panels: of each task, over a kill, thinned out, and side by side."""

import json
from io import BytesIO

import cv2
import numpy as np
import pytest
from PIL import Image
from tests import boxed, labelled

from phalanx.cli import main
from phalanx.runs.panels import MAX_KEPT, PanelIndex, to_drop
from phalanx.tasks.panels import worst_first


def train(words):
    return main(["train", *(f"{key}={value}" for key, value in words.items())])


@pytest.fixture(scope="module")
def masks(tiny, tmp_path_factory):
    runs = tmp_path_factory.mktemp("panels")
    words = tiny("fpn", fold=0, name="masks", runs=runs, epochs=3, validate_every=1, panels=3)
    assert main(["train", *words]) == 0
    return runs, words


def index_of(fold):
    found = PanelIndex.read(fold / "panels")
    assert found is not None
    return found


def test_each_validation_draws_the_same_images(masks, tmp_path):
    runs, _ = masks
    fold = runs / "masks" / "fold0"
    index = index_of(fold)
    assert index.epochs == [1, 2, 3]
    held_out = {line.split(",")[0] for line in (fold / "folds.csv").read_text().splitlines() if line.endswith(",0")}
    assert len(index.images) == min(3, len(held_out))
    assert set(index.images) <= held_out
    pictures = [np.asarray(Image.open(fold / "panels" / f"epoch000{epoch}.jpg")).astype(int) for epoch in (1, 2, 3)]
    truth, prediction, _ = index.places[0]
    parts = [picture[truth.y : truth.y + truth.height, truth.x : truth.x + truth.width] for picture in pictures]
    assert abs(parts[0] - parts[2]).mean() < 1  # the ground truth stays
    assert [one.title for one in index.places[0]] == ["ground truth", "prediction", "errors"]
    assert parts[0].std() > 10
    assert prediction.width == prediction.height


def test_the_first_is_a_rotated_hand_then_come_the_worst():
    dice = np.array([0.5, 0.1, 0.9, np.nan, 0.3])
    assert worst_first(dice, 3, first=[0, 2]) == [0, 1, 4]
    assert worst_first(dice, 9) == [1, 4, 0, 2]
    assert worst_first(dice, 1, first=[3]) == [1]


def test_epochs_are_put_side_by_side(masks, tmp_path, capsys):
    runs, _ = masks
    out = tmp_path / "panels.png"
    assert main(["panels", "masks", f"runs={runs}", "epochs=1,3", f"out={out}"]) == 0
    two = cv2.imread(str(out)).shape
    assert main(["panels", str(runs / "masks" / "fold0"), "epochs=1,2,3", f"out={tmp_path / 'three.png'}"]) == 0
    index = index_of(runs / "masks" / "fold0")
    wider = sum(one.width + 8 for one in index.places[0][1:])
    assert cv2.imread(str(tmp_path / "three.png")).shape[1] == two[1] + wider
    capsys.readouterr()
    assert main(["panels", "masks", f"runs={runs}", "epochs=3,50", f"out={out}"]) == 0
    assert "note: epoch 50 has no picture; epoch 3 is the nearest" in capsys.readouterr().out


def test_the_panels_change_nothing_of_the_training(masks, tiny, tmp_path):
    runs, _ = masks
    words = tiny("fpn", fold=0, name="masks", runs=tmp_path, epochs=3, validate_every=1, panels=0)
    assert main(["train", *words]) == 0
    assert not (tmp_path / "masks" / "fold0" / "panels").exists()
    one, other = (place / "masks" / "fold0" / "final" / "weights.safetensors" for place in (runs, tmp_path))
    assert one.read_bytes() == other.read_bytes()


def test_the_pictures_of_a_long_training_are_thinned_out():
    kept: list[int] = []
    for epoch in range(1, 301):
        kept.append(epoch)
        dropped = to_drop(kept, MAX_KEPT)
        kept = [one for one in kept if one not in dropped]
        assert len(kept) <= MAX_KEPT
    assert (kept[0], kept[-1]) == (1, 300)
    assert np.diff(kept).max() < 40


def test_labels_and_boxes_have_panels_of_their_own(tmp_path):
    labelled.make_table(tmp_path / "labels")
    words = labelled.words(tmp_path / "labels", "table", runs=tmp_path, name="labels", epochs=1, validate_every=1)
    assert train({"fold": 0, **words}) == 0
    (row, *_) = index_of(tmp_path / "labels" / "fold0").places
    assert [one.title for one in row] == ["probabilities"]
    boxed.make_table(tmp_path / "boxes")
    words = boxed.words(tmp_path / "boxes", "boxes", runs=tmp_path, name="boxes_run", epochs=1, validate_every=1)
    assert train({"fold": 0, **words}) == 0
    (row, *_) = index_of(tmp_path / "boxes_run" / "fold0").places
    assert [one.title for one in row] == ["ground truth", "prediction", "errors"]
    assert main(["panels", "boxes_run", f"runs={tmp_path}"]) == 0
    assert (tmp_path / "boxes_run" / "fold0" / "panels" / "panels.png").is_file()


def test_trackers_get_the_picture(masks, tmp_path):
    from phalanx.config.compose import compose, split_words
    from phalanx.tracking.logger import Logger

    _, words = masks
    seen = []

    class Tracker:
        def picture(self, key, step, pixels):
            seen.append((key, step, pixels.shape))
            raise RuntimeError("full")

    log = Logger(compose(split_words([word for word in words if not word.startswith("fold=")])), tmp_path)
    log.trackers["fake"] = Tracker()
    log.picture("held_out/panels", 7, np.zeros((4, 5, 3), np.uint8))
    log.picture("held_out/panels", 8, np.zeros((4, 5, 3), np.uint8))
    assert seen == [("held_out/panels", 7, (4, 5, 3))]  # one that fails is off


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "expected one RUN"),
        (["masks", "epochs=0"], "epochs=0: expected up to 12 numbers from 1 on"),
        (["masks", "epochs=1,x"], "epochs=1,x: expected up to 12 numbers from 1 on"),
        (["masks", "epoch=1"], "epoch: no such option; did you mean epochs?"),
        (["mask"], "mask: no trained run of that name"),
    ],
)
def test_wrong_words_are_one_line(masks, words, message, capsys):
    runs, _ = masks
    assert main(["panels", *words, f"runs={runs}"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_damaged_panels_are_one_line(masks, tmp_path, capsys):
    import shutil

    runs, _ = masks
    shutil.copytree(runs / "masks", tmp_path / "masks")
    folder = tmp_path / "masks" / "fold0" / "panels"
    index = json.loads((folder / "panels.json").read_text())
    small = BytesIO()
    Image.new("RGB", (20, 20)).save(small, "JPEG")
    for damage, message in (
        (lambda: (folder / "epoch0001.jpg").write_bytes(small.getvalue()), "do not fit together"),
        (lambda: (folder / "epoch0001.jpg").write_bytes(b"no picture"), "or it is damaged"),
        (lambda: (folder / "panels.json").write_text(json.dumps(index | {"epochs": ["1"]})), "panels.json"),
        (lambda: (folder / "panels.json").write_text("{"), "panels.json"),
    ):
        damage()
        assert main(["panels", "masks", f"runs={tmp_path}", "epochs=1"]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
