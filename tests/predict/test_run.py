"""From members to a CSV: averages, maps, shapes, and the one path that training and submission share."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from phalanx.cli import main
from phalanx.data import records as layout
from phalanx.data.images import Grid
from phalanx.errors import ConfigError, DataError
from phalanx.masks.rle import decode
from phalanx.predict.maps import FLOOR, ProbabilityMaps
from phalanx.predict.opening import open_member
from phalanx.predict.predictor import Vote, stream
from phalanx.predict.run import write_submission
from phalanx.submission.table import Submission

THRESHOLD = 0.2  # the tiny runs are seldom sure of more
STEP = 1 / 255  # of stored maps


class Given:
    """A member whose maps are given: float32[C, n, n] by image name."""

    needs_images, on_gpu, head = True, False, "sigmoid"
    options = None

    def __init__(self, maps, name="given"):
        self.given, self.name, self.hashes, self.key = maps, name, {}, f"{name}{[m.sum() for m in maps.values()]}"
        self.classes = [f"c{i}" for i in range(len(next(iter(maps.values()))))]

    def maps(self, records, images):
        return [ProbabilityMaps.of(self.given[record.name]) for record in records]


def means(members, records, batch=2, weights=None):
    """Record and mean of every image."""
    vote = Vote(members, weights or [1] * len(members), 0.5)
    groups = [records[i : i + batch] for i in range(0, len(records), batch)]
    return [found for group in stream(vote, groups) for found in group]


@pytest.fixture
def pictures(tmp_path):
    """Three images of different shapes, and their records."""
    shapes = {"a.png": (64, 64), "b.png": (64, 40), "c.png": (33, 64)}
    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(1)
    for name, (height, width) in shapes.items():
        noise = cv2.GaussianBlur(rng.integers(0, 256, (height, width), np.uint8), (9, 9), 3)
        cv2.imwrite(str(folder / name), cv2.normalize(noise, None, 0, 255, cv2.NORM_MINMAX))
    return layout.scan(folder)


def random_maps(records, side, seed, classes=3):
    rng = np.random.default_rng(seed)
    return {record.name: rng.random((classes, side, side), np.float32) for record in records}


def masks(csv: Path) -> np.ndarray:
    """bool[N]: all pixels of all images and classes of a submission, one after another."""
    found = Submission.read(csv)
    return np.concatenate([decode(r, found.sizes[i]).ravel() for i in found.images for r in found.rles(i)])


def test_members_on_different_grids_are_each_enlarged_once(pictures):
    coarse, fine = random_maps(pictures, 8, 0), random_maps(pictures, 32, 1)
    for order in ([coarse, fine], [fine, coarse]):
        for record, mean in means([Given(m) for m in order], pictures):
            grid = Grid(*cv2.imread(str(record.image), 0).shape, 8)
            slow = (grid.restore(coarse[record.name]) + grid.restore(fine[record.name])) / 2
            found = np.stack([decode(rle, mean.size) for rle in mean.stack(0.5).texts()])
            sure = abs(slow - 0.5) > FLOOR
            np.testing.assert_array_equal(found[sure], (slow >= 0.5)[sure])


def test_each_member_counts_by_its_weight_whatever_the_batch(pictures):
    members = [Given(random_maps(pictures, 8, seed)) for seed in range(3)]
    for batch, weights in ((1, [1, 1, 1]), (2, [3, 1, 2]), (5, [1, 0.5, 1])):
        for record, mean in means(members, pictures, batch, weights):
            slow = sum(w * m.given[record.name] for m, w in zip(members, weights, strict=True)) / sum(weights)
            np.testing.assert_allclose(mean.on_finest_grid().dense(), slow, atol=FLOOR)


def test_members_of_other_classes_are_refused(pictures, tmp_path):
    members = [Given(random_maps(pictures, 8, 0)), Given(random_maps(pictures, 8, 0, classes=2), "other")]
    with pytest.raises(DataError, match="other: has other classes than given"):
        write_submission(tmp_path / "x.csv", members, pictures, threshold=0.5, batch=1)


def test_the_frame_beside_a_non_square_image_is_never_predicted(pictures, tmp_path):
    everywhere = Given({record.name: np.ones((1, 16, 16), np.float32) for record in pictures})
    write_submission(tmp_path / "x.csv", [everywhere], pictures, threshold=0.5, batch=2, progress=False)
    found = Submission.read(tmp_path / "x.csv")
    assert found.sizes == {"a.png": (64, 64), "b.png": (64, 40), "c.png": (33, 64)}
    assert [found.rles(name) for name in found.images] == [["1 4096"], ["1 2560"], ["1 2112"]]


def test_a_whole_prediction_of_non_square_images_is_the_network_on_the_padded_image(pictures, runs, tmp_path):
    """Where the long side is the working size nothing is resized, and the slow way is three lines."""
    folder = runs / "unet" / "fold0"
    member = open_member(str(folder), runs=runs, device="cpu")
    write_submission(tmp_path / "x.csv", [member], pictures, threshold=0.05, batch=2, progress=False)
    found = Submission.read(tmp_path / "x.csv")
    network = member.folds[0].network
    for record in pictures:
        image = cv2.imread(str(record.image), 0)
        padded = np.pad(image, [(0, 64 - side) for side in image.shape])
        with torch.no_grad():
            slow = torch.sigmoid(network.predict(torch.from_numpy(padded)[None, None]))[0].numpy()
        slow = slow[:, : image.shape[0], : image.shape[1]]
        ours = np.stack([decode(rle, image.shape) for rle in found.rles(record.name)])
        sure = abs(slow - 0.05) > 1e-5
        np.testing.assert_array_equal(ours[sure], (slow >= 0.05)[sure])
        assert ours.any()


def test_folds_of_a_run_are_averaged_first(runs, hands):
    run, *folds = (open_member(str(runs / name), runs=runs, device="cpu") for name in ("fpn", "fpn/fold0", "fpn/fold1"))
    other = open_member("unet", runs=runs, device="cpu")
    records = layout.test_records(hands)[:2]
    one, two, unet = ([m.on_finest_grid().dense() for _, m in means([member], records)] for member in (*folds, other))
    for i, (_, mean) in enumerate(means([run, other], records)):
        np.testing.assert_allclose(mean.on_finest_grid().dense(), ((one[i] + two[i]) / 2 + unet[i]) / 2, atol=FLOOR)
    assert set(run.hashes) == {str(runs / "fpn" / f"fold{k}") for k in (0, 1)}


def test_out_of_fold_prediction_is_that_of_infer(runs, hands, tmp_path):
    fold = runs / "fpn" / "fold0"
    names = json.loads((fold / "oof.json").read_text())["sizes"]
    (tmp_path / "held_out").mkdir()
    for path in (hands / "train" / "DCM").rglob("*.png"):
        if path.name in names:
            shutil.copy(path, tmp_path / "held_out")
    out = tmp_path / "again.csv"
    words = [f"experiment={fold}", f"images={tmp_path / 'held_out'}", f"out={out}", "device=cpu", "progress=false"]
    assert main(["infer", *words]) == 0
    assert out.read_bytes() == (fold / "oof.csv").read_bytes()


def test_a_soft_vote_of_stored_maps_is_that_of_the_runs(runs, hands, tmp_path):
    common = [f"runs={runs}", f"data.root={hands}", "device=cpu", "progress=false", f"threshold={THRESHOLD}"]
    for name in ("fpn", "unet"):
        assert main(["infer", f"experiment={name}", *common, f"out={tmp_path / name}.csv", "maps=true"]) == 0
    places = ",".join(str(tmp_path / f"{name}.maps") for name in ("fpn", "unet"))
    maps_csv, runs_csv = tmp_path / "by_maps.csv", tmp_path / "by_runs.csv"
    assert main(["ensemble", "mode=soft", f"members={places}", *common, f"out={maps_csv}"]) == 0
    assert main(["ensemble", "mode=soft", "members=fpn,unet", *common, f"out={runs_csv}"]) == 0

    stored, live = (
        [open_member(str(n), runs=runs, device="cpu") for n in names] for names in (places.split(","), ["fpn", "unet"])
    )
    records = layout.test_records(hands)
    for (_, a), (_, b) in zip(means(stored, records), means(live, records), strict=True):
        assert (
            abs(a.on_finest_grid().dense() - b.on_finest_grid().dense()).max() <= 1.5 * STEP
        )  # a step at the ends of 0..1
    a, b = masks(maps_csv), masks(runs_csv)
    assert b.any()
    assert (a == b).mean() > 0.999
    assert json.loads(maps_csv.with_suffix(".json").read_text())["run_hashes"] == {
        **json.loads((tmp_path / "fpn.json").read_text())["run_hashes"],
        **json.loads((tmp_path / "unet.json").read_text())["run_hashes"],
    }


def test_maps_are_stored_whole_or_not_at_all(pictures, tmp_path):
    class Breaks(Given):
        def maps(self, records, images):
            if any(record.name == "c.png" for record in records):
                raise DataError("c.png: broken")
            return super().maps(records, images)

    member, folder = Breaks(random_maps(pictures, 8, 0)), tmp_path / "x.maps"
    options = {"threshold": 0.5, "batch": 1, "maps_folder": folder, "progress": False}
    with pytest.raises(DataError, match="broken"):
        write_submission(tmp_path / "x.csv", [member], pictures, **options)
    assert {p.name for p in tmp_path.iterdir()} == {"pictures", ".x.csv.part"}
    write_submission(tmp_path / "x.csv", [member], pictures[:2], **options)
    assert {p.name for p in tmp_path.iterdir()} == {"pictures", "x.csv", "x.json", "x.maps"}
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    assert set(before) == {"a.png.npz", "b.png.npz", "maps.json"}
    with pytest.raises(DataError, match="broken"):
        write_submission(tmp_path / "x.csv", [member], pictures, **options)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
    write_submission(tmp_path / "x.csv", [member], pictures[:1], **options)
    assert {p.name for p in folder.iterdir()} == {"a.png.npz", "maps.json"}


def test_a_folder_that_holds_something_else_is_kept(pictures, tmp_path):
    (tmp_path / "x.maps").mkdir()
    (tmp_path / "x.maps" / "thesis.txt").write_text("mine")
    member = Given(random_maps(pictures, 8, 0))
    with pytest.raises(ConfigError, match="exists and is not a folder of probability maps"):
        write_submission(
            tmp_path / "x.csv", [member], pictures, threshold=0.5, batch=1, maps_folder=tmp_path / "x.maps"
        )
    assert (tmp_path / "x.maps" / "thesis.txt").read_text() == "mine"
