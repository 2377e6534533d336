"""The out-of-fold score of votes: the members' out-of-fold predictions by the same rule, stored with the vote."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from tests.oof_runs import make_run, overconfident

from phalanx.cli import main
from phalanx.ensemble.options import EnsembleOptions
from phalanx.ensemble.vote_oof import NoScoreError, runs_of
from phalanx.ensemble.vote_oof_labels import score_vote as score_labels
from phalanx.ensemble.vote_oof_masks import score_vote
from phalanx.runs.ledger import LEDGER, read
from phalanx.runs.reader import FoldRun
from phalanx.runs.vote_score import stored
from phalanx.runtime.sidecar import read_sidecar
from phalanx.scoring.classify import score_classes
from phalanx.submission.table import Submission


@pytest.fixture(scope="module")
def mapped(runs, tiny, tmp_path_factory):
    """The two runs, with out-of-fold maps."""
    place = tmp_path_factory.mktemp("mapped") / "runs"
    shutil.copytree(runs, place)
    for name in ("fpn", "unet"):
        assert main(["train", *tiny(name, fold="0,1", name=name, runs=place, predict__oof_prob="true")]) == 0
    return place


def dice_of(run: Path) -> dict[str, float]:
    return {image: value for k in (0, 1) for image, value in FoldRun(run / f"fold{k}").per_image.items()}


def test_a_hard_vote_of_masks_is_that_of_pixels(runs, hands):
    from phalanx.config import SegmentConfig
    from phalanx.data.quarantine import kept_records
    from phalanx.data.truth import truth_of

    members = [str(runs / name) for name in ("fpn", "unet")]
    data = FoldRun(runs / "fpn/fold0").config_of(SegmentConfig).data
    truth = truth_of(kept_records(data), data)
    for quorum, join in ((None, np.logical_and), (1, np.logical_or)):
        found = score_vote(EnsembleOptions(mode="hard", members=members, quorum=quorum, runs=runs))
        dice = {}
        for k in (0, 1):
            one, other = (Submission.read(Path(member) / f"fold{k}/oof.csv") for member in members)
            for image in one.images:
                size = truth.sizes[image]
                a, b, t = (some.stack(image, size).masks(size) for some in (one, other, truth))
                mask = join(a, b)
                area = mask.sum((-2, -1)) + t.sum((-2, -1))
                shared = 2 * (mask & t).sum((-2, -1))
                dice[image] = np.where(area > 0, shared / np.maximum(area, 1), 1).mean()
        assert found.value == pytest.approx(np.mean([*dice.values()]))
        assert (found.images, found.patients, found.task, found.data) == (12, 6, "segment", "hand")
        assert found.interval[0] <= found.value <= found.interval[1]


def test_one_member_alone_is_its_run(runs, mapped):
    own = np.mean([*dice_of(runs / "unet").values()])
    hard = score_vote(EnsembleOptions(mode="hard", members=[str(runs / "unet")], runs=runs))
    assert hard.value == pytest.approx(own)
    soft = score_vote(EnsembleOptions(mode="soft", members=[str(mapped / "unet")], runs=mapped, progress=False))
    assert soft.value == pytest.approx(own, abs=0.02)  # of maps on the network's grid
    heavy = EnsembleOptions(
        mode="soft", members=[str(mapped / name) for name in ("unet", "fpn")], votes=[999, 1], runs=mapped,
        progress=False,
    )  # fmt: skip
    assert score_vote(heavy).value == pytest.approx(soft.value, abs=0.01)


def test_a_tuned_vote_has_the_interval_of_its_tuning(mapped, hands, tmp_path):
    members, out = [str(mapped / name) for name in ("fpn", "unet")], tmp_path / "tuned.json"
    words = [f"members={','.join(members)}", f"runs={mapped}", f"data.root={hands}", f"out={out}", "progress=false"]
    assert main(["tune", *words]) == 0
    tuned = json.loads(out.read_text())
    options = EnsembleOptions(mode="soft", members=members, runs=mapped, progress=False)

    def scored(choices):
        out.write_text(json.dumps(tuned | {"choices": choices}))
        return score_vote(options.model_copy(update={"postprocess": out}))

    rows = [row | {"adopted": False} for row in tuned["choices"]]
    found, plain = scored(rows[:1]), score_vote(options)  # nothing is adopted: the vote as it is
    assert found.value == pytest.approx(plain.value, abs=1e-6)
    assert found.interval == pytest.approx(plain.interval, abs=1e-6)
    found = scored([row | {"adopted": True} for row in rows])
    assert found.cross_fitted
    assert found.interval == pytest.approx(rows[-1]["intervals"]["cross_fitted"])
    assert scored([{key: row[key] for key in row if key != "intervals"} for row in rows]).interval is None  # earlier


def test_the_command_stores_it_with_the_vote_and_in_the_ledger(mapped, hands, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for mode in ("hard", "soft"):
        words = [f"members={mapped}/fpn,{mapped}/unet", f"data.root={hands}", "allow_misaligned=true", "progress=false"]
        assert main(["ensemble", f"mode={mode}", *words]) == 0
        assert f"submissions/{mode}.csv: out of fold dice " in capsys.readouterr().out
        sidecar, _ = read_sidecar(Path(f"submissions/{mode}.csv"))
        score = stored(sidecar.vote, Path(f"submissions/{mode}.csv"))
        row = read(LEDGER)[-1]
        assert (row.name, row.metric, row.out_of_fold) == (mode, "dice", f"{score.value:.4f}")
    assert main(["ensemble", "mode=hard", *words, "out_of_fold=false", "out=submissions/x.csv"]) == 0
    assert read_sidecar(Path("submissions/x.csv"))[0].vote.get("out_of_fold") is None


def test_what_cannot_be_scored_is_a_note_and_no_failure(runs, hands, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = [f"members={runs}/fpn/fold0,{runs}/unet/fold0", f"data.root={hands}", "allow_misaligned=true"]
    assert main(["ensemble", "mode=hard", *words, "progress=false"]) == 0
    assert "submissions/hard.csv: has no out-of-fold score: " in capsys.readouterr().out
    cases = [
        ({"mode": "soft"}, "has no out-of-fold probability maps"),
        ({"mode": "hard", "tta": ["hflip"]}, "tta: the members' out-of-fold predictions"),
        ({"mode": "hard", "weights": "last"}, "weights=last"),
        ({"mode": "hard", "threshold": 0.3}, "threshold: the members'"),
    ]
    for changes, says in cases:
        options = EnsembleOptions(members=[str(runs / "fpn"), str(runs / "unet")], runs=runs, **changes)
        with pytest.raises(ValueError, match=says):
            score_vote(options)
    with pytest.raises(NoScoreError, match="is a single fold"):
        runs_of([str(runs / "fpn/fold0")], runs)
    with pytest.raises(NoScoreError, match="another member is of the same run"):
        runs_of([str(runs / "fpn"), "fpn"], runs)


@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
@pytest.mark.parametrize("mode", ["soft", "hard"])
def test_votes_of_probabilities(tmp_path, head, mode):
    values, labels = overconfident(40, head)
    other = np.roll(values, 1, axis=1) * 0.3 + values * 0.7
    for name, some in (("a", values), ("b", other)):
        run = make_run(tmp_path / name, some, labels, head)
        for k in (0, 1):
            (run / f"fold{k}" / "final").mkdir()
    found = score_labels(["a", "b"], tmp_path, mode=mode, votes=[3, 1], weights="final", changed=[])
    if mode == "soft":
        voted = (3 * values.round(9) + other.round(9)) / 4
        limits = None if head == "softmax" else np.full(3, 0.5)
        names = [f"{k}" for k in range(40)]
        patients = [f"P{k // 2}" for k in range(40)]
        own = score_classes("x", voted, labels, ["up", "flat", "slant"], head, images=names, patients=patients,
                            thresholds=limits)  # fmt: skip
        assert found.value == pytest.approx(own.value("macro_auc"), abs=1e-6)
    assert (found.metric.name, found.images, found.patients, found.task) == ("macro_auc", 40, 20, "classify")
    with pytest.raises(NoScoreError, match="postprocess: the members'"):
        score_labels(["a"], tmp_path, mode=mode, votes=None, weights="final", changed=["postprocess"])


def test_members_that_held_out_other_images_are_refused(tmp_path):
    for name, count in (("a", 40), ("b", 44)):
        values, labels = overconfident(count, "softmax")
        run = make_run(tmp_path / name, values, labels, "softmax")
        for k in (0, 1):
            (run / f"fold{k}" / "final").mkdir()
    with pytest.raises(NoScoreError, match="held out other images"):
        score_labels(["a", "b"], tmp_path, mode="soft", votes=None, weights="final", changed=[])


def test_one_run_of_boxes_alone_is_its_run(tmp_path):
    from tests import boxed

    from phalanx.ensemble.boxes import FuseBoxes, fuse_members
    from phalanx.ensemble.vote_oof_boxes import score_vote as score_boxes

    words = boxed.words(boxed.make_table(tmp_path / "set"), "boxes", runs=tmp_path / "runs", name="one", epochs=1)
    assert main(["train", "fold=0", *(f"{key}={value}" for key, value in words.items())]) == 0
    result = FoldRun(tmp_path / "runs/one/fold0").result
    options = FuseBoxes(mode="nms", iou=0.999, members=["one.csv"], most=10_000)
    found = score_boxes([str(tmp_path / "runs/one")], tmp_path / "runs", lambda some: fuse_members(some, options))
    assert found.metric == result.metric
    assert found.value == pytest.approx(result.value, abs=1e-6)
    assert (found.images, found.task) == (result.images, "detect")
