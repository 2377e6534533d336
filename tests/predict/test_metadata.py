"""Metadata from the sheet to the logits: training, out-of-fold and infer on tiny hands."""

import shutil

import numpy as np
import openpyxl
import pytest
import torch

from phalanx.cli import main
from phalanx.data import records as layout
from phalanx.data.images import Grid, read_grey
from phalanx.data.metadata import read_metadata
from phalanx.predict.maps import FLOOR
from phalanx.predict.opening import open_member

NAMES = ["sex", "age", "height"]


@pytest.fixture(scope="module")
def place(hands, tmp_path_factory):
    """A copy of the hands whose first patient has no row in the sheet."""
    root = tmp_path_factory.mktemp("told") / "hands"
    shutil.copytree(hands, root)
    book = openpyxl.load_workbook(root / "meta_data.xlsx")
    first = layout.train_records(root)[0].group
    rows = [row[0].row for row in book.active.iter_rows() if str(row[0].value) == first]
    book.active.delete_rows(rows[0], len(rows))
    book.save(root / "meta_data.xlsx")
    assert first not in read_metadata(root).index
    return root


@pytest.fixture(scope="module")
def told(place, tiny, tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    words = tiny("fpn", fold=0, name="told", runs=runs, model__metadata=f"[{','.join(NAMES)}]")
    words = [f"data.root={place}" if word.startswith("data.root=") else word for word in words]
    assert main(["train", *words]) == 0
    return runs, words


def by_hand(records, root):
    sheet = read_metadata(root)
    values = []
    for record in records:
        row = sheet.loc[record.group] if record.group in sheet.index else None
        sex = None if row is None else {"male": 1.0, "female": 0.0}.get(row["sex"])
        rest = [np.nan] * 2 if row is None else [row["age"], row["height"]]
        values.append([np.nan if sex is None else sex, *rest])
    return torch.tensor(np.array(values, np.float32))


def test_a_run_standardises_by_its_training_fold_and_keeps_what_it_was_told(told, place):
    runs, _ = told
    member = open_member("told", runs=runs, device="cpu")
    film = member.folds[0].network.segmenter.film
    lines = (runs / "told" / "fold0" / "attributes.csv").read_text().splitlines()
    assert lines[0] == "image_name,sex,age,height"
    folds = dict(line.split(",")[::2] for line in (runs / "told/fold0/folds.csv").read_text().splitlines()[1:])
    train = [record for record in layout.train_records(place) if folds[record.name] != "0"]
    assert [line.split(",")[0] for line in lines[1:]] == [record.name for record in train]
    values = by_hand(train, place)
    torch.testing.assert_close(film.mean, values.nanmean(0))
    assert (film.out.weight != 0).any()


def test_images_are_predicted_by_what_the_sheet_says_of_their_patients(told, place, capsys):
    runs, _ = told
    member = open_member("told", runs=runs, device="cpu", changes={"tta": ["hflip"]})
    records = [*layout.train_records(place)[:2], *layout.test_records(place)[:2]]
    maps = member.maps(records, [read_grey(record.image) for record in records])
    assert f"{records[0].group} has no row in the metadata sheet" in capsys.readouterr().out
    network, values = member.folds[0].network, by_hand(records, place)
    assert values.isnan().all(1).any()
    assert not values.isnan().all()
    torch.nn.init.normal_(network.segmenter.film.out.weight)
    maps = member.maps(records, [read_grey(record.image) for record in records])
    images = torch.from_numpy(np.stack([placed(record) for record in records]))[:, None]
    with torch.no_grad():
        slow = torch.sigmoid(network.predict(images, values))
        slow += torch.sigmoid(network.predict(images.flip(3), values)).flip(3)
        blind = torch.sigmoid(network.predict(images)) + torch.sigmoid(network.predict(images.flip(3))).flip(3)
    np.testing.assert_allclose(np.stack([m.dense() for m in maps]), slow.numpy() / 2, atol=FLOOR)
    assert abs(slow - blind).max() > 1e-3


def placed(record):
    image = read_grey(record.image)
    return Grid.of(image, 64).place(image)


def test_another_sheet_is_another_run_and_none_is_told(told, place, tmp_path, capsys):
    runs, words = told
    other = tmp_path / "other"
    shutil.copytree(place, other)
    shutil.copytree(runs, tmp_path / "runs")
    for done in tmp_path.glob("runs/told/fold0/done.json"):
        done.unlink()
    (other / "meta_data.xlsx").unlink()
    lines = ["ID,sex,age,height"] + [
        f"{group},M,{30 + i},170" for i, group in enumerate({r.group for r in layout.train_records(other)})
    ]
    (other / "meta_data.csv").write_text("\n".join(lines))
    change = {"data.root": other, "runs": tmp_path / "runs"}
    again = [f"{key}={change[key]}" if (key := word.partition("=")[0]) in change else word for word in words]
    assert main(["train", *again]) == 2
    assert (
        "this run began with another attributes.csv, so what it is made from has changed since"
        in capsys.readouterr().err
    )
    (other / "meta_data.csv").unlink()
    anew = [word for word in again if not word.startswith("name=")]
    assert main(["train", *anew, "name=blind"]) == 2
    assert "has no meta_data.xlsx or meta_data.csv, so the patients' sex is unknown" in capsys.readouterr().err
    assert not (tmp_path / "runs" / "blind" / "fold0" / "config.yaml").exists()


def test_infer_reads_the_sheet_of_the_root_it_is_given(told, place, tmp_path, capsys):
    runs, _ = told
    words = [f"runs={runs}", "device=cpu", "progress=false", f"out={tmp_path / 'x.csv'}", "threshold=0.05"]
    assert main(["infer", "experiment=told", f"data.root={place}", *words]) == 0
    other = tmp_path / "other"
    shutil.copytree(place, other)
    (other / "meta_data.xlsx").unlink()
    for command in (["infer", "experiment=told"], ["ensemble", "mode=soft", "members=told"]):
        assert main([*command, f"data.root={other}", *words]) == 2
        assert f"{other}: has no meta_data.xlsx" in capsys.readouterr().err
