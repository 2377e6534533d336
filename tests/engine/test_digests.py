"""A run is not continued, nor joined by another fold, once an image or annotation of it has changed."""

import os
import re
import shutil

import cv2
import pytest
from tests.engine.stopping import Stopped, stopping

from phalanx.data.digests import Digests
from phalanx.engine.fit import fit
from phalanx.errors import DataError, TrainingError
from phalanx.tasks.segment import Segment

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def own(records, tmp_path):
    """The records with files of their own, that a test may change."""
    found = []
    for record in records:
        image, labels = (tmp_path / "data" / record.group / path.name for path in (record.image, record.labels))
        image.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(record.image, image)
        shutil.copy(record.labels, labels)
        found.append(record._replace(image=image, labels=labels))
    return found


def change(path, part):
    if part == "annotation":
        path.write_text(path.read_text().replace("1", "2", 1))
    else:
        picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        picture[0, 0] ^= 1
        assert cv2.imwrite(str(path), picture)


@pytest.mark.parametrize(
    ("fold", "part"),
    [
        (0, "image"),
        (1, "annotation"),
        pytest.param(0, "annotation", marks=pytest.mark.slow),
        pytest.param(1, "image", marks=pytest.mark.slow),
    ],
)
def test_changed_files_stop_a_continued_run_and_another_fold(recipe, own, part, fold):
    config = recipe(checkpoint_minutes=1e-9, epochs=2)
    with pytest.raises(Stopped):
        fit(config, 0, own, stopping(2))
    table = config.runs / config.name / "fold0" / "digests.csv"
    assert table.read_text().splitlines()[0] == "image_name,image,annotation"
    assert set(Digests.read(table)) == {record.name for record in own}
    paths = [record.image if part == "image" else record.labels for record in sorted(own)]
    before = [path.read_bytes() for path in paths]
    change(paths[3], part)
    change(paths[1], part)
    says = rf"^{re.escape(str(paths[1]))}: changed and 1 more since this run began \({re.escape(str(table))}\)"
    with pytest.raises(TrainingError, match=says):
        fit(config, fold, own, Segment)
    assert not (config.runs / config.name / "fold1").exists()
    for path, content in zip(paths, before, strict=True):
        path.write_bytes(content)
    fit(config, fold, own, Segment)
    assert (config.runs / config.name / f"fold{fold}/digests.csv").read_bytes() == table.read_bytes()


def test_moved_copied_and_touched_files_are_the_same(recipe, own, tmp_path):
    config = recipe(checkpoint_minutes=1e-9, epochs=2)
    with pytest.raises(Stopped):
        fit(config, 0, own, stopping(2))
    (tmp_path / "data").rename(tmp_path / "elsewhere")
    moved = [
        record._replace(
            image=tmp_path / "elsewhere" / record.group / record.image.name,
            labels=tmp_path / "elsewhere" / record.group / record.labels.name,
        )
        for record in own
    ]
    os.utime(moved[0].image)
    fit(config, 0, moved, Segment)


def test_a_run_without_digests_continues_and_has_them_from_then_on(recipe, own, capsys):
    config = recipe(checkpoint_minutes=1e-9, epochs=2)
    with pytest.raises(Stopped):
        fit(config, 0, own, stopping(2))
    table = config.runs / config.name / "fold0" / "digests.csv"
    table.unlink()
    change(sorted(own)[0].image, "image")
    with pytest.raises(Stopped):
        fit(config, 0, own, stopping(3))
    assert "began without digests.csv" in capsys.readouterr().out
    change(sorted(own)[0].image, "image")
    with pytest.raises(TrainingError, match="changed since this run began"):
        fit(config, 0, own, Segment)


def test_a_damaged_table_is_named(recipe, own):
    config = recipe(checkpoint_minutes=1e-9, epochs=2)
    with pytest.raises(Stopped):
        fit(config, 0, own, stopping(2))
    table = config.runs / config.name / "fold0" / "digests.csv"
    for content in (b"", b"a,b\n", b"\xff\xfe\x00", table.read_bytes().replace(b"\n", b",x\n")):
        table.write_bytes(content)
        with pytest.raises(DataError, match=rf"^{re.escape(str(table))}: .*restore it, or delete it"):
            fit(config, 0, own, Segment)


def test_several_annotation_files_of_an_image_count_with_their_names(tmp_path):
    for name in ("i.png", "a.png", "b.png", "c.png"):
        (tmp_path / name).write_bytes(b"same" if name != "i.png" else b"image")
    ab, ac = (Digests.of({"i": [tmp_path / f"{name}.png" for name in f"i{pair}"]}) for pair in ("ab", "ac"))
    assert ab.changed(ac) == [("i", "annotation")]
    assert ab.changed(ab) == []
