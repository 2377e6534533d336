"""From members to a CSV: averages, maps, shapes, and the one path that training and submission share."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from phalanx.cli import main
from phalanx.data import records as layout
from phalanx.data.images import Grid
from phalanx.errors import ConfigError, DataError
from phalanx.predict.members import open_member
from phalanx.predict.run import average, write_submission
from phalanx.submit.rle import decode
from phalanx.submit.table import Submission

THRESHOLD = 0.2  # the tiny runs are seldom sure of more
STEP = 1 / 255  # of stored maps


class Given:
    """A member whose maps are given: float32[C, n, n] by image name."""

    def __init__(self, maps, name="given"):
        self.given, self.name, self.hashes = maps, name, {}
        self.classes = [f"c{i}" for i in range(len(next(iter(maps.values()))))]

    def maps(self, records, images):
        return [self.given[record.name] for record in records]


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


def test_members_on_different_grids_meet_on_the_finest(pictures):
    coarse, fine = random_maps(pictures, 8, 0), random_maps(pictures, 32, 1)
    for order in ([coarse, fine], [fine, coarse]):
        for record, grid, maps in average([Given(m) for m in order], pictures, batch=2, progress=False):
            small = torch.from_numpy(coarse[record.name])[None]
            grown = F.interpolate(small, (32, 32), mode="bilinear", align_corners=False)[0].numpy()
            np.testing.assert_allclose(maps, (grown + fine[record.name]) / 2, atol=1e-5)
            assert grid == Grid(*cv2.imread(str(record.image), 0).shape, 32)


def test_each_member_counts_once_whatever_the_batch(pictures):
    members = [Given(random_maps(pictures, 8, seed)) for seed in range(3)]
    for batch in (1, 2, 5):
        for record, _, maps in average(members, pictures, batch=batch, progress=False):
            np.testing.assert_allclose(maps, np.mean([m.given[record.name] for m in members], axis=0), atol=1e-6)


def test_members_of_other_classes_are_refused(pictures):
    members = [Given(random_maps(pictures, 8, 0)), Given(random_maps(pictures, 8, 0, classes=2), "other")]
    with pytest.raises(DataError, match="other: has other classes than given"):
        next(average(members, pictures, batch=1, progress=False))


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
    one, two, unet = (list(average([m], records, batch=2, progress=False)) for m in (*folds, other))
    for i, (_, _, maps) in enumerate(average([run, other], records, batch=2, progress=False)):
        np.testing.assert_allclose(maps, ((one[i][2] + two[i][2]) / 2 + unet[i][2]) / 2, atol=1e-6)
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
    for (_, _, a), (_, _, b) in zip(
        *(average(m, records, batch=2, progress=False) for m in (stored, live)), strict=True
    ):
        assert abs(a - b).max() <= STEP / 2 + 1e-6
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
    assert [p.name for p in tmp_path.iterdir()] == ["pictures"]
    write_submission(tmp_path / "x.csv", [member], pictures[:2], **options)
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
    with pytest.raises(ConfigError, match="exists and is no folder of probability maps"):
        write_submission(
            tmp_path / "x.csv", [member], pictures, threshold=0.5, batch=1, maps_folder=tmp_path / "x.maps"
        )
    assert (tmp_path / "x.maps" / "thesis.txt").read_text() == "mine"
