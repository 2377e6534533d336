"""`phalanx tune` by command: what is planted is found, applied by a vote, and nothing else is adopted."""

import json
import shutil

import cv2
import numpy as np
import pytest
import yaml

from phalanx.cli import main
from phalanx.config.compose import compose, config_folder
from phalanx.ensemble.candidates import by_cleaning, by_threshold, by_weights, gather
from phalanx.ensemble.oof import open_out_of_fold
from phalanx.masks import rle
from phalanx.predict.map_file import write_map
from phalanx.predict.maps import MapsMean, ProbabilityMaps
from phalanx.predict.stored import write_about
from phalanx.runs.reader import FORMAT
from phalanx.submission.table import Submission

CLASSES = ["Radius", "Ulna", "Capitate"]
PATIENTS, FOLDS, GRID = 30, 3, 64
NAMES = [f"i{i:02d}.png" for i in range(2 * PATIENTS)]
FOLD_OF = {name: i // 2 % FOLDS for i, name in enumerate(NAMES)}
SIZES = {name: (96, 80) if i % 2 else (64, 64) for i, name in enumerate(NAMES)}  # larger than the grid, and as it is


def distances(i, height, width):
    """float[C, H, W]: how far inside its disc each pixel lies; image 7 has no Capitate."""
    rng = np.random.default_rng([9, i])
    y, x = np.mgrid[:height, :width]
    scale = max(height, width) / GRID
    found = []
    for c in range(3):
        cx, cy = np.array([[16, 16], [36, 18], [20, 38]][c]) + rng.uniform(-3, 3, 2)
        found.append(rng.uniform(7, 9) - np.hypot((x + 0.5) / scale - cx, (y + 0.5) / scale - cy))
    if i == 7:
        found[2] = np.full((height, width), -9.0)
    return np.array(found)


def good(i, seed, wobble=1.0):
    """float32[C, n, n] that is right but for the radius, which is off by a random part of a pixel."""
    rng = np.random.default_rng([seed, i])
    moved = rng.normal(0, wobble, (3, 1, 1))
    return (0.5 + (distances(i, GRID, GRID) + moved) / 10).clip(0, 1).astype(np.float32)


def noise(i, seed):
    rough = np.random.default_rng([seed, i]).random((8, 8, 3), np.float32)
    return cv2.resize(rough, (GRID, GRID), interpolation=cv2.INTER_CUBIC).clip(0, 1).transpose(2, 0, 1)


def timid(i, seed):
    found = good(i, seed, 0.3)
    found[1] = (found[1] - 0.2).clip(0, 1)
    return found


def specked(i, seed):
    found = good(i, seed, 0.3)
    if i % 3 and i != 7:
        found[0, 50:53, 50:53] = 0.9  # far from all bones, 9 pixels of the grid
        found[2, :2, -12:] = 0.8
    found[1, 18, 36] = found[1, 18:20, 37] = 0.2  # a hole in the Ulna
    return found


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty project with the annotated images."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(config_folder())
    for i, name in enumerate(NAMES):
        images, labels = (tmp_path / "hands/train" / kind / f"P{i // 2:02d}" for kind in ("DCM", "outputs_json"))
        images.mkdir(parents=True, exist_ok=True)
        labels.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(images / name), np.zeros(SIZES[name], np.uint8))
        items = []
        for label, inside in zip(CLASSES, distances(i, *SIZES[name]) > 0, strict=True):
            for line in cv2.findContours(inside.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]:
                items.append({"label": label, "points": line[:, 0].tolist()})
        (labels / name).with_suffix(".json").write_text(json.dumps({"annotations": items}))
    return tmp_path


def run_of(name, maps, *, fold_of=FOLD_OF, count=FOLDS, classes=CLASSES):
    """A finished run as training leaves it, without its weights; and what infer would keep of it, <name>.maps."""
    words = {"name": name, "data.root": "hands", "folds": str(count), "data.size": str(GRID)}
    config = compose(words | {"data.classes": f"[{','.join(classes)}]", "data.pairs": "[]", "progress": "false"})
    rows = "".join(f"{n},P{NAMES.index(n) // 2:02d},{f}\n" for n, f in fold_of.items())
    hashes = {f"runs/{name}/fold{fold}": f"{name}{fold}" for fold in range(count)}

    def keep(folder, images, hashes):
        for image in images:
            write_map(
                folder / f"{image}.npz", ProbabilityMaps.of(maps(NAMES.index(image))), image=image, size=SIZES[image],
                classes=classes, run_hashes=hashes, threshold=0.5,
            )  # fmt: skip
        write_about(folder, classes, hashes, {image: SIZES[image] for image in images}, name, 0.5)

    from pathlib import Path

    for fold in range(count):
        folder = Path("runs") / name / f"fold{fold}"
        (folder / "final").mkdir(parents=True)
        (folder / "config.yaml").write_text(yaml.safe_dump({"format": FORMAT} | config.model_dump(mode="json")))
        (folder / "folds.csv").write_text("image_name,group,fold\n" + rows)
        own = {f"runs/{name}/fold{fold}": f"{name}{fold}"}
        keep(folder / "oof_prob", [n for n, f in fold_of.items() if f == fold], own)
    keep(Path(f"{name}.maps"), NAMES, hashes)


def tuned(capsys, *members, words=()):
    code = main(["tune", f"members={','.join(members)}", "out=postprocess.json", "progress=false", *words])
    told = capsys.readouterr()
    return (json.loads(open("postprocess.json").read()) if code == 0 else None), told.out + told.err


def dense_dice(masks):
    """MapsMean Dice of bool[C, H, W] by image against the discs."""
    found = []
    for i, name in enumerate(NAMES):
        for mask, inside in zip(masks[name], distances(i, *SIZES[name]) > 0, strict=True):
            both = mask.sum() + inside.sum()
            found.append(2 * (mask & inside).sum() / both if both else 1.0)
    return float(np.mean(found))


def voted(capsys, *words):
    code = main(["ensemble", "mode=soft", "out=v.csv", "progress=false", "allow_misaligned=true", *words])
    told = capsys.readouterr()
    assert code == 0, told.err
    found = Submission.read("v.csv")
    masks = {n: [rle.decode(text, SIZES[n]) for text in found.rles(n)] for n in found.images}
    return dense_dice(masks), told.out


def adopted(found):
    return [row["choice"] for row in found["choices"] if row["adopted"] and row["choice"] != "together"]


def test_equally_good_members_keep_equal_votes_and_their_threshold(place, capsys):
    for name, seed in (("a", 1), ("b", 2)):
        run_of(name, lambda i, seed=seed: good(i, seed))
    found, told = tuned(capsys, "a", "b")
    assert adopted(found) == []
    assert [member["votes"] for member in found["members"]] == [1, 1]
    assert (found["thresholds"], found["smallest"], found["largest"], found["holes"]) == ({}, {}, [], [])
    assert told.count("not adopted") == 6
    words = ["members=a.maps,b.maps"]
    after, told = voted(capsys, *words, "postprocess=postprocess.json")
    assert after == pytest.approx(voted(capsys, *words)[0])
    assert told.count("does not record the options of prediction") == 2  # of these maps


def test_a_noise_member_is_left_out(place, capsys):
    run_of("a", lambda i: good(i, 1, 0.3))
    run_of("n", lambda i: noise(i, 2))
    found, _ = tuned(capsys, "a", "n")
    assert {member["name"]: member["votes"] > 0 for member in found["members"]}["a"]
    assert set(adopted(found)) & {"members", "weights"}
    before, _ = voted(capsys, "members=a.maps,n.maps")
    after, told = voted(capsys, "members=n.maps,a.maps", "postprocess=postprocess.json")
    best = max((row for row in found["choices"][:2]), key=lambda row: row["cross_fitted"])
    assert before == pytest.approx(best["default"], abs=0.01)
    assert after > before + 0.05
    votes = {member["name"]: member["votes"] for member in found["members"]}
    assert ("note: n.maps: left out" in told) == (votes["n"] == 0)


@pytest.mark.slow
def test_of_ten_members_the_bad_ones_are_left_out(place, capsys):
    """More than every choice can be tried of."""
    names = [f"m{k}" for k in range(10)]
    for k, name in enumerate(names):
        run_of(name, lambda i, k=k: noise(i, k) if k in (2, 7) else good(i, k))
    found, told = tuned(capsys, *names)
    assert adopted(found) in (["members"], ["weights"]), told
    votes = {member["name"]: member["votes"] for member in found["members"]}
    assert votes["m2"] == votes["m7"] == 0 < sum(votes.values())
    words = [f"members={','.join(f'{name}.maps' for name in names)}"]
    before, _ = voted(capsys, *words)
    after, said = voted(capsys, *words, "postprocess=postprocess.json")
    assert "m2.maps: left out" in said
    row = next(row for row in found["choices"] if row["adopted"])
    assert after - before == pytest.approx(row["in_sample"] - row["default"], abs=2e-3)


def test_a_planted_threshold_is_found_and_gains_what_was_told(place, capsys):
    run_of("a", lambda i: timid(i, 1))
    found, told = tuned(capsys, "a")
    assert adopted(found) == ["thresholds"]
    assert list(found["thresholds"]) == ["Ulna"]
    assert found["thresholds"]["Ulna"] == pytest.approx(0.3, abs=0.03)
    assert "adopted: Ulna 0.3" in told
    row = next(row for row in found["choices"] if row["choice"] == "thresholds")
    for side in ("default", "cross_fitted"):
        low, high = row["intervals"][side]
        assert low < row[side] < high < low + 0.1
    before, after = (
        voted(capsys, "members=a.maps")[0],
        voted(capsys, "members=a.maps", "postprocess=postprocess.json")[0],
    )
    assert before == pytest.approx(row["default"], abs=0.003)  # contours are drawn on pixel centres
    assert after - before == pytest.approx(row["gain"], abs=0.003)


def test_specks_and_holes_are_found_and_cleaned_together(place, capsys, monkeypatch):
    run_of("a", lambda i: specked(i, 1))
    found, told = tuned(capsys, "a")
    assert {"largest", "holes"} <= set(adopted(found))
    assert set(found["largest"]) == {"Radius", "Capitate"}
    assert found["holes"] == ["Ulna"]
    assert set(found["smallest"]) == {"Radius", "Capitate"}
    assert "together" in told
    before, after = (
        voted(capsys, "members=a.maps")[0],
        voted(capsys, "members=a.maps", "postprocess=postprocess.json")[0],
    )
    clean = {n: good(i, 1, 0.3) for i, n in enumerate(NAMES)}
    ideal = {n: [rle.decode(t, SIZES[n]) for t in mean_of([clean[n]], n).stack(0.5).texts()] for n in NAMES}
    assert before < after == pytest.approx(dense_dice(ideal), abs=1e-4)  # stored in 256 steps

    monkeypatch.setattr(
        "phalanx.ensemble.tune.together_dice", lambda held, postprocess: np.zeros((len(held.records), 3))
    )
    assert [found["choices"][-1][key] for key in ("choice", "adopted")] == ["together", True]
    found, told = tuned(capsys, "a")  # each gains, and all together do not
    assert [found["choices"][-1][key] for key in ("choice", "adopted")] == ["together", False]
    assert "no significant gain, so nothing is adopted" in told
    assert (adopted(found), found["largest"], found["holes"], found["smallest"]) == ([], [], [], {})


def mean_of(planes, name, votes=None):
    mean = MapsMean(SIZES[name])
    for one, vote in zip(planes, votes or [1] * len(planes), strict=True):
        if vote:
            mean.add(ProbabilityMaps.of(one), vote)
    return mean


def test_counts_are_those_of_dense_masks(place):
    """Every candidate of a few images, drawn by the way of a submission and compared pixel by pixel."""
    from scipy import ndimage

    run_of("a", lambda i: specked(i, 1))
    run_of("b", lambda i: noise(i, 2))
    held, threshold = open_out_of_fold(["a", "b"], runs=place / "runs", progress=False)
    some = [0, 1, 7, 8]
    held = type(held)(held.members, held.data, [held.records[i] for i in some], held.folds[some], held.folders, False)
    weights = np.array([[1, 0], [0, 1], [1, 1], [3, 2]])
    levels = np.array([0.2013, 0.3517, 0.5013, 0.8017], np.float32)  # stored maps never lie just there
    found = [
        gather(held, 4, 0.5, by_weights(weights, 0.5013)),
        gather(held, 4, 0.2, by_threshold(levels, np.array([2, 1]))),
        gather(held, 5, 0.4, by_cleaning((0, 9, 40), np.array([2, 1]), [0.5013, 0.4017, 0.5513])),
    ]
    assert threshold == 0.5
    for row, image in enumerate(held):
        planes = [maps.dense() for maps in image.maps]
        truth = [(image.planes[..., 0] >> c & 1).astype(bool) for c in range(3)]

        def dice(mask, c, truth=truth):
            both = mask.sum() + truth[c].sum()
            return 2 * (mask & truth[c]).sum() / both if both else 1.0

        def drawn(votes, at, c, planes=planes, name=image.name):
            return rle.decode(mean_of(planes, name, votes).stack(at).texts()[c], SIZES[name])

        for c in range(3):
            for k in range(4):
                assert found[0][row, c, k] == pytest.approx(dice(drawn(weights[k].tolist(), 0.5013, c), c), abs=1e-6)
                assert found[1][row, c, k] == pytest.approx(dice(drawn([2, 1], float(levels[k]), c), c), abs=1e-6)
            mask = drawn([2, 1], [0.5013, 0.4017, 0.5513][c], c)
            labels, count = ndimage.label(mask, np.ones((3, 3)))
            sizes = [(labels == n).sum() for n in range(1, count + 1)]
            for k, least in enumerate((0, 9, 40)):
                keep = [n for n, size in enumerate(sizes, 1) if size >= least]
                assert found[2][row, c, k] == pytest.approx(dice(np.isin(labels, keep), c), abs=1e-6)
            largest = labels == 1 + int(np.argmax(sizes)) if sizes else mask
            assert found[2][row, c, 3] == pytest.approx(dice(largest, c), abs=1e-6)
            assert found[2][row, c, 4] == pytest.approx(dice(ndimage.binary_fill_holes(mask), c), abs=1e-6)


def test_the_settings_of_a_fold_are_fitted_without_its_truth(place, capsys, monkeypatch):
    """The truth of fold 0 is made wrong: what was fitted without fold 0 stays the same, and the score does not."""
    from phalanx.ensemble import tune as module

    run_of("a", lambda i: timid(i, 1))
    seen = []
    fitted = module.cross_fit
    monkeypatch.setattr(module, "cross_fit", lambda *args, **named: seen.append(fitted(*args, **named)) or seen[-1])
    tuned(capsys, "a")
    clean, seen[:] = list(seen), []
    for name in (name for name, fold in FOLD_OF.items() if fold == 0):
        path = place / f"hands/train/outputs_json/P{NAMES.index(name) // 2:02d}/{name}".replace(".png", ".json")
        square = [[60, 60], [63, 60], [63, 63], [60, 63]]
        path.write_text(json.dumps({"annotations": [{"label": label, "points": square} for label in CLASSES]}))
    tuned(capsys, "a")
    for before, after in zip(clean[:1], seen[:1], strict=True):  # later choices stand on this one's
        np.testing.assert_array_equal(before.by_fold[0], after.by_fold[0])
        assert before.in_sample > after.in_sample
        assert before.comparison.means[1] > after.comparison.means[1]


def test_a_trained_run_predicts_with_its_post_processing(tiny, tmp_path, capsys, monkeypatch):
    """Post-processing edited to one threshold for all classes predict what that threshold does."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(config_folder())
    assert main(["train", *tiny("fpn", name="r", fold="0,1", epochs=1, predict__oof_prob="true")]) == 0
    found, told = tuned(capsys, "r")
    assert found["members"][0]["name"] == "r"
    assert "thresholds" in told
    found |= {"thresholds": dict.fromkeys(found["classes"], 0.07), "smallest": {}, "largest": [], "holes": []}
    (tmp_path / "postprocess.json").write_text(json.dumps(found))
    words = ["infer", "experiment=r", "progress=false", "device=cpu"]
    for last in (["postprocess=postprocess.json", "out=a.csv"], ["threshold=0.07", "out=b.csv"], ["out=c.csv"]):
        assert main([*words, *last]) == 0
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes() != (tmp_path / "c.csv").read_bytes()
    found["members"][0]["hashes"]["runs/r/fold1"] = "another"
    (tmp_path / "postprocess.json").write_text(json.dumps(found))
    assert main([*words, "postprocess=postprocess.json", "out=d.csv"]) == 2
    assert "postprocess= was tuned on the weights of r" in capsys.readouterr().err


def test_bad_members_are_refused(place, capsys):
    run_of("a", lambda i: good(i, 1))
    run_of("other", lambda i: good(i, 2), fold_of={n: (f + 1) % FOLDS for n, f in FOLD_OF.items()})
    run_of("split", lambda i: good(i, 2), fold_of={n: i % FOLDS for i, n in enumerate(NAMES)})
    run_of("renamed", lambda i: good(i, 2), classes=["Radius", "Ulna", "Lunate"])
    run_of("bare", lambda i: good(i, 2))
    (place / "runs/bare/fold1/oof_prob/maps.json").unlink()
    run_of("cut", lambda i: good(i, 2))
    (place / "runs/cut/fold1/oof_prob/i02.png.npz").write_bytes(b"PK")
    shutil.copytree(place / "runs/a", place / "runs/twin")
    for members, words, text in (
        ("a,other", [], "data.folds_file=FILE"),
        ("a,twin", [], "twin: has the same weights as a"),
        ("split", [], "is in two folds"),
        ("a,renamed", [], "has other classes"),
        ("bare", [], "predict.oof_prob=true"),
        ("cut", [], "not a whole probability map"),
        ("a,nobody", [], "no trained run of that name"),
        ("a,a", [], "each once"),
        ("", [], "name one run or more"),
        ("a", ["threshold=0.4"], "no such option"),
        ("a", ["data.root=elsewhere"], "no such folder"),
        ("a", ["runs=nowhere"], "no trained run"),
    ):
        found, told = tuned(capsys, members, words=words)
        assert found is None, members
        assert text in told, told
        assert "Traceback" not in told
    assert main(["tune"]) == 2
    (place / "postprocess.csv").touch()
    assert "not a CSV's sidecar" in tuned(capsys, "a")[1]


def test_a_post_processing_file_is_for_its_members_alone(place, capsys):
    for name, seed in (("a", 1), ("b", 2), ("c", 3)):
        run_of(name, lambda i, seed=seed: good(i, seed))
    found, _ = tuned(capsys, "a", "b")

    def refused(text, *words):
        assert main(["ensemble", "mode=soft", "out=v.csv", "progress=false", *words]) == 2
        told = capsys.readouterr().err
        assert text in told, told
        assert not (place / "v.csv").exists()

    both = "members=a.maps,b.maps"
    refused("decided: no such option; it is now postprocess", both, "decided=postprocess.json")
    refused("anyway: no such option; it is now allow_misaligned", both, "anyway=true")
    refused("needs b too", "members=a.maps", "postprocess=postprocess.json")
    refused(
        "c.maps: postprocess= was tuned on the weights of a, b", "members=a.maps,c.maps", "postprocess=postprocess.json"
    )
    refused("each once", f"members=a.maps,b.maps,{place / 'a.maps'}", "postprocess=postprocess.json")
    refused("a.maps is named twice", "members=a.maps,b.maps,a.maps", "postprocess=postprocess.json")
    refused("missing.json: no such file; make it with phalanx tune", both, "postprocess=missing.json")
    refused("threshold: postprocess= sets it", both, "postprocess=postprocess.json", "threshold=0.4")
    refused("votes: postprocess= sets it", both, "postprocess=postprocess.json", "weights=2,1")
    refused("maps: saves probabilities", both, "postprocess=postprocess.json", "maps=true")
    for change, text in (
        ({"classes": ["Radius", "Ulna", "Lunate"]}, "has other classes"),
        ({"thresholds": {"Lunate": 0.3}}, "'Lunate' is not one of the file's classes"),
        ({"thresholds": {"Ulna": 1.5}}, "less than 1"),
        ({"format": "another"}, "its format is 'another', not 'phalanx-postprocess-1'"),
        ({"format": "phalanx-decided-1"}, "is that of phalanx decide in an earlier version"),
        ({"members": []}, "members"),
        ({"members": [member | {"votes": 0} for member in found["members"]]}, "none has a vote"),
        ({"extra": 1}, "extra: no such option"),
    ):
        (place / "bad.json").write_text(json.dumps(found | change))
        refused(text, both, "postprocess=bad.json")
    (place / "bad.json").write_text("{")
    refused("bad.json: is not JSON", both, "postprocess=bad.json")
