"""Tables of probabilities: what is written is read, and what is not a table of probabilities is one clear line."""

import json
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phalanx.errors import DataError, OutputError
from phalanx.submission import probabilities
from phalanx.submission.probabilities import DECIMALS, SUM_TOLERANCE, Probabilities, write_probabilities
from phalanx.submission.table import Submission

CLASSES = ["healthy", "glioma"]
GOOD = "image_name,healthy,glioma\na.png,0.25,0.75\nb.png,1,0\n"


def file(tmp_path, text, name="p.csv"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def refused(path, *arguments, **options):
    with pytest.raises(DataError) as error:
        Probabilities.read(path, *arguments, **options)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(str(path))
    return str(error.value).removeprefix(str(path))


def test_what_is_written_is_read_to_half_a_unit_of_the_last_decimal(tmp_path):
    rng = np.random.default_rng(0)
    values = rng.random((40, 3)) ** 8
    values[0] = [0, 1, 1e-12]
    images = [f"im{i}.png" for i in range(40)]
    sizes = {"im3.png": (5, 7)}
    write_probabilities(tmp_path / "new" / "p.csv", images, ["a", "b,c", "손"], values, "sigmoid", sizes=sizes,
                        run_hashes={"runs/x/fold0": "12"}, vote={"how": "soft", "members": ["x"]})  # fmt: skip
    found = Probabilities.read(tmp_path / "new" / "p.csv")
    assert found.images == tuple(sorted(images))
    assert found.classes == ("a", "b,c", "손")
    order = [images.index(name) for name in found.images]
    assert np.abs(found.values - values[order]).max() <= 0.5 * 10**-DECIMALS * (1 + 1e-6)
    assert (found.head, found.sizes, found.run_hashes, found.notes) == ("sigmoid", sizes, {"runs/x/fold0": "12"}, ())
    again = write_probabilities(tmp_path / "again.csv", found.images, found.classes, found.values, "sigmoid")
    assert (tmp_path / "again.csv").read_bytes() == (tmp_path / "new" / "p.csv").read_bytes()
    assert json.loads((tmp_path / "again.json").read_text())["sha256"] == again


@settings(max_examples=30)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=5), st.text(min_size=1, max_size=8))
def test_any_value_and_name_that_is_written_is_read(tmp_path_factory, row, name):
    path = tmp_path_factory.mktemp("any") / "p.csv"
    classes = [f"c{i}" for i in range(len(row))]
    try:
        write_probabilities(path, [name], classes, np.array([row]), "sigmoid")
    except DataError:
        assert any(letter in "\r\n\0" or 0xD800 <= ord(letter) <= 0xDFFF for letter in name)
        return
    found = Probabilities.read(path)
    assert found.images == (unicodedata.normalize("NFC", name),)
    np.testing.assert_allclose(found.values[0], row, atol=0.5 * 10**-DECIMALS * (1 + 1e-6), rtol=0)


def test_rows_and_columns_in_any_order_quotes_marks_and_exponents_are_read(tmp_path):
    text = '\ufeffimage_name,"glioma",healthy\r\n"b.png",0.0,1e0\r\n\r\na.png, 7.5e-1 ,.25\r\n'
    for name, data in (("utf8.csv", text.encode()), ("utf16.csv", text.removeprefix("\ufeff").encode("utf-16"))):
        found = Probabilities.read(file(tmp_path, data, name), CLASSES, "softmax")
        assert (found.images, found.classes) == (("a.png", "b.png"), ("healthy", "glioma"))
        np.testing.assert_array_equal(found.values, [[0.25, 0.75], [1, 0]])
    free = Probabilities.read(tmp_path / "utf8.csv")
    assert (free.classes, free.head) == (("glioma", "healthy"), None)


def test_names_are_compared_composed(tmp_path):
    loose = unicodedata.normalize("NFD", "é.png"), unicodedata.normalize("NFD", "손")
    path = file(tmp_path, f"image_name,{loose[1]}\n{loose[0]},0.5\n")
    found = Probabilities.read(path, ["손"], images=["é.png"])
    assert (found.images, found.classes) == (("é.png",), ("손",))
    assert ": lines 2 and 3: doubled row" in refused(file(tmp_path, f"image_name,a\né.png,0.5\n{loose[0]},0.5\n"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", ": is empty; it starts with image_name,CLASS,..."),
        ("image_name,healthy,glioma\n", ": has no rows; there is one row per image"),
        ("image_name\na.png\n", ": line 1: has no class"),
        ("name,healthy,glioma\na,0,1\n", ": line 1: begins with 'name'; it starts with image_name"),
        ("image_name,class,rle\na,b,1 2\n", ": is a CSV of masks, not of probabilities"),
        ("image_name;healthy;glioma\na;0,5;0,5\n", ": line 1: has semicolons between its fields; write it again, or"),
        ("image_name\thealthy\tglioma\na\t0\t1\n", ": line 1: has tabs between its fields"),
        ("image_name,healthy,glioma,healthy\na,0,1,0\n", ": line 1: column 'healthy' appears twice; keep one"),
        ("image_name,healthy\na,1\n", ": line 1: has no column 'glioma' (1 of 2 missing)"),
        ("image_name,healthy,gliom\na,0,1\n", ": line 1: unknown class 'gliom' of 2 known; did you mean glioma?"),
        ("image_name,healthy,\na,0,1\n", ": line 1: column 3 has '', which is not a class name"),
        (GOOD + "c.png,0.5\n", ": line 4: has 2 fields, the header has 3"),
        (GOOD + "c.png,0,1,0\n", ": line 4: has 4 fields, the header has 3"),
        (GOOD + "a.png,0.5,0.5\n", ": lines 2 and 4: doubled row for image 'a.png'; keep one of them"),
        (GOOD + ",0.5,0.5\n", ": line 4: '' is not an image name"),
        (GOOD + '"c\nd",0.5,0.5\n', ": line 5: 'c\\nd' is not an image name"),
        (GOOD + "c.png,,1\n", ": line 4 (image 'c.png', class 'healthy'): '' is not a number"),
        (GOOD + "c.png,0.5,half\n", ": line 4 (image 'c.png', class 'glioma'): 'half' is not a number"),
        (GOOD + "c.png,nan,1\n", "class 'healthy'): 'nan' is not a number"),
        (GOOD + "c.png,0,inf\n", "class 'glioma'): 'inf' is not a number"),
        (GOOD + "c.png,0,1e999\n", "class 'glioma'): '1e999' is not from 0 to 1"),
        (GOOD + "c.png,-0.1,1\n", "class 'healthy'): '-0.1' is not from 0 to 1"),
        (GOOD + "c.png,0,1.1\n", "class 'glioma'): '1.1' is not from 0 to 1"),
        (GOOD + 'c.png,"0,5",0.5\n', "class 'healthy'): '0,5' is not a number with a decimal point"),
        (GOOD + "c.png,0x1,0\n", "'0x1' is not a number"),
        (GOOD + "c.png,1_0,0\n", "'1_0' is not a number"),
        (GOOD + "c.png,１,0\n", "'１' is not a number"),
        (GOOD + f"c.png,{'0' * 50},1\n", "is not a number"),
        (
            GOOD + "c.png,0.4,0.4\n",
            ": line 4 (image 'c.png'): adds up to 0.8000, and a softmax to 1; give head=sigmoid",
        ),
        (b"image_name,healthy,glioma\n\xff.png,0,1\n", ": is not UTF-8 at byte 26; write it again, or export"),
        (GOOD + "c\0.png,0,1\n", ": contains NUL"),
        (GOOD + '"c.png,0,1\n', ": line 4: has 1 fields, the header has 3"),
        (GOOD + f"{'n' * 1001},0,1\n", "is not an image name"),
    ],
)
def test_what_is_not_a_table_of_probabilities_is_one_line(tmp_path, text, message):
    assert message in refused(file(tmp_path, text), CLASSES, "softmax")


def test_limits_of_size_and_columns(tmp_path, monkeypatch):
    assert ": no such file" in refused(tmp_path / "none.csv")
    assert ": is a folder, not a regular file" in refused(tmp_path)
    monkeypatch.setattr(probabilities, "MAX_COLUMNS", 2)
    assert ": line 1: has 3 classes, 2 at most" in refused(file(tmp_path, "image_name,a,b,c\nx,0,0,0\n"))
    monkeypatch.setattr(probabilities, "LIMIT", 20)
    assert ": has more than" in refused(file(tmp_path, GOOD))


def test_a_softmax_may_be_rounded_and_sigmoids_need_not_add_up(tmp_path):
    near = 1 - SUM_TOLERANCE * 0.9
    path = file(tmp_path, f"image_name,healthy,glioma\na.png,{near:.6f},0\n")
    assert Probabilities.read(path, CLASSES, "softmax").values[0, 0] == pytest.approx(near)
    wide = file(tmp_path, "image_name,healthy,glioma\na.png,0.9,0.9\n")
    assert Probabilities.read(wide, CLASSES, "sigmoid").head == "sigmoid"


def test_images_that_are_missing_or_unknown_are_named(tmp_path):
    path = file(tmp_path, GOOD)
    assert Probabilities.read(path, images=["b.png", "a.png"]).images == ("a.png", "b.png")
    assert ": has no row for 1 of 3 images, first 'c.png'" in refused(path, images=["a.png", "b.png", "c.png"])
    assert ": has 1 rows of other images, first 'b.png'; leave them out" in refused(path, images=["a.png"])


def test_a_changed_table_another_head_and_a_foreign_sidecar_are_noticed(tmp_path):
    path = tmp_path / "p.csv"
    write_probabilities(path, ["a"], CLASSES, np.array([[0.5, 0.5]]), "softmax")
    assert "was written with head=softmax, and head=sigmoid is given" in refused(path, head="sigmoid")
    path.write_text(path.read_text() + "b,0.5,0.5\n")
    assert "not the table its sidecar p.json was written with" in refused(path)
    side = json.loads((tmp_path / "p.json").read_text())
    side["head"] = "argmax"
    (tmp_path / "p.json").write_text(json.dumps(side))
    with pytest.raises(DataError, match="neither softmax nor sigmoid"):
        Probabilities.read(path)
    (tmp_path / "p.json").write_text("{}")
    assert Probabilities.read(path).notes[0].startswith(f"{tmp_path / 'p.json'} is not a sidecar")


def test_the_two_kinds_of_tables_are_not_confused(tmp_path):
    write_probabilities(tmp_path / "p.csv", ["a"], CLASSES, np.array([[0.5, 0.5]]), "softmax")
    with pytest.raises(DataError, match="a submission starts with image_name,class,rle"):
        Submission.read(tmp_path / "p.csv")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": []}, "no image"),
        ({"images": ["a", "a"]}, "image 'a' twice"),
        ({"classes": ["x", "x"]}, "class 'x' twice"),
        ({"images": ["a\n", "b"]}, "cannot be an image or class name"),
        ({"images": ["a\udc80", "b"]}, "cannot be an image or class name"),
        ({"images": ["", "b"]}, "cannot be an image or class name"),
        ({"values": np.array([[0.5, 0.5]])}, r"values \[1, 2\] for 2 images x 2 classes"),
        ({"values": np.array([[0.5, 0.5], [np.nan, 1]])}, "image 'b' has .*, no probabilities of a softmax"),
        ({"values": np.array([[0.5, 0.5], [1.5, -0.5]])}, "image 'b' has"),
        ({"values": np.array([[0.5, 0.5], [0.5, 0.4]])}, "image 'b' has"),
        ({"sizes": {"a": (0, 3)}}, "is not a .height, width. in pixels"),
        ({"path": "p.txt"}, "a submission's name ends in .csv"),
    ],
)
def test_what_cannot_be_written_leaves_nothing(tmp_path, change, message):
    good = {
        "path": "p.csv",
        "images": ["a", "b"],
        "classes": CLASSES,
        "values": np.full((2, 2), 0.5),
        "head": "softmax",
    }
    given = {**good, **change}
    with pytest.raises(DataError, match=message):
        write_probabilities(tmp_path / given.pop("path"), **given)
    assert list(tmp_path.iterdir()) == []


def test_a_link_is_not_followed(tmp_path):
    (tmp_path / "p.csv").symlink_to(tmp_path / "elsewhere.csv")
    with pytest.raises(OutputError, match="is a link"):
        write_probabilities(tmp_path / "p.csv", ["a"], CLASSES, np.array([[0.5, 0.5]]), "softmax")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p.csv"]


def test_parts_of_a_table(tmp_path):
    found = Probabilities.read(file(tmp_path, GOOD))
    np.testing.assert_array_equal(found.reorder(["glioma", "healthy"]).values, [[0.75, 0.25], [0, 1]])
    assert found.only(["b.png", "z"]).images == ("b.png",)
    np.testing.assert_array_equal(found.only(["b.png"]).values, [[1, 0]])
