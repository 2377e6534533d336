"""The table: written as an outsider reads it, and read without trusting anyone."""

import csv
import hashlib
import json
import time

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from phalanx.errors import DataError
from phalanx.masks import rle
from phalanx.submission.matching import check_matching, known_sizes
from phalanx.submission.table import Submission, write

CLASSES = ["finger-1", "Ulna, left", 'the "big" one']
SIZE = (4, 5)


def random_masks(images, seed=0):
    rng = np.random.default_rng(seed)
    return {image: rng.random((len(CLASSES), *SIZE)) < 0.4 for image in images}


def rows_of(masks):
    return [(image, [rle.encode(mask) for mask in masks[image]]) for image in sorted(masks)]


def text(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


GOOD = "image_name,class,rle\na,x,1 5\na,y,\nb,x,2 3\nb,y,4 1 6 2\n"


def test_an_independent_reader_finds_every_image_and_class_in_order(tmp_path):
    masks = random_masks(["b", "a,1", "c"])
    path = tmp_path / "made" / "out.csv"
    digest = write(path, rows_of(masks), CLASSES, dict.fromkeys(masks, SIZE), {"run": "abc"})
    with path.open(newline="", encoding="utf-8") as file:
        found = list(csv.reader(file))
    assert found[0] == ["image_name", "class", "rle"]
    assert [tuple(row[:2]) for row in found[1:]] == [(i, c) for i in sorted(masks) for c in CLASSES]
    for image, label, runs in found[1:]:
        dense = np.zeros(SIZE[0] * SIZE[1], bool)
        numbers = list(map(int, runs.split()))
        for start, length in zip(numbers[::2], numbers[1::2], strict=True):
            dense[start - 1 : start - 1 + length] = True
        np.testing.assert_array_equal(dense.reshape(SIZE), masks[image][CLASSES.index(label)])
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()
    side = json.loads(path.with_suffix(".json").read_text())
    assert side["sha256"] == digest
    assert side["sizes"] == {image: list(SIZE) for image in masks}
    assert side["classes"] == CLASSES
    assert side["run_hashes"] == {"run": "abc"}
    assert sorted(p.name for p in path.parent.iterdir()) == ["out.csv", "out.json"]


def test_what_was_written_is_read(tmp_path):
    masks = random_masks(["b", "a"])
    write(tmp_path / "out.csv", rows_of(masks), CLASSES, dict.fromkeys(masks, SIZE), {"run": "abc"})
    found = Submission.read(tmp_path / "out.csv")
    assert (found.images, found.classes, found.notes) == (("a", "b"), tuple(CLASSES), [])
    assert found.sizes == {"a": SIZE, "b": SIZE}
    assert found.run_hashes == {"run": "abc"}
    for image, texts in rows_of(masks):
        assert found.rles(image) == texts
        assert found.stack(image).texts() == texts
        assert found.reorder(CLASSES[::-1]).rles(image) == texts[::-1]
        assert found.reorder(CLASSES[::-1]).reorder(CLASSES).rles(image) == texts


@pytest.mark.parametrize(
    "content",
    [
        GOOD,
        GOOD.strip(),
        GOOD.replace("\n", "\r\n"),
        GOOD + "\n\n",
        "\ufeff" + GOOD,
        '"image_name","class","rle"\n"a","x","1 5"\na,"y",""\n"b",x,2 3\nb,y,"4 1 6 2"\n',
        "image_name,class,rle\nb,y,4 1 6 2\na,y,\na,x,1 5\nb,x,2 3\n",
    ],
    ids=["plain", "no last newline", "crlf", "blank lines", "mark", "quoted", "row order"],
)
def test_every_way_of_writing_the_same_table(tmp_path, content):
    found = Submission.read(text(tmp_path / "a.csv", content), ["x", "y"], (2, 4))
    assert [found.rles(image) for image in found.images] == [["1 5", ""], ["2 3", "4 1 6 2"]]
    assert [found.stack(image).areas.tolist() for image in found.images] == [[5, 0], [3, 3]]
    assert found.notes == []


def test_rows_of_an_image_far_apart_in_the_file(tmp_path):
    long = " ".join(f"{i} 1" for i in range(1, 40001, 2))
    content = f"image_name,class,rle\na,x,1 5\nb,x,{long}\nb,y,{long}\na,y,7 1\n"
    found = Submission.read(text(tmp_path / "a.csv", content))
    assert found.rles("a") == ["1 5", "7 1"]
    assert found.rles("b") == [long, long]


def test_a_line_that_is_no_mask_is_refused_before_it_fills_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("phalanx.submission.rows._MAX_LINE", 1000)
    with pytest.raises(DataError, match="line 3: has more than"):
        Submission.read(text(tmp_path / "a.csv", "image_name,class,rle\na,x,1 5\nb,x," + "1 " * 500))
    line = "b,x," + "1 " * 496
    with pytest.raises(DataError, match="line 1: has more than"):
        Submission.read(text(tmp_path / "b.csv", "\0" * 2000))
    assert Submission.read(text(tmp_path / "c.csv", f"image_name,class,rle\na,x,1 5\n{line}\n")).images == ("a", "b")


def test_given_images_that_are_not_those_are_noted(tmp_path):
    path = text(tmp_path / "a.csv", "image_name,class,rle\na,x,1 5\nb,x,\n")
    (note,) = Submission.read(path, sizes={"a": (3, 5), "c.png": (3, 5)}).notes
    assert "the size of 1 of 2 images is not known" in note
    assert "the images given have no 'b'" in note


def test_unknown_sizes_are_noted(tmp_path):
    path = text(tmp_path / "a.csv", GOOD)
    assert "size of 2 of 2 images is not known" in Submission.read(path).notes[0]
    partly = Submission.read(path, sizes={"a": (2, 4), "elsewhere": (9, 9)})
    assert "1 of 2" in partly.notes[0]
    assert partly.sizes == {"a": (2, 4)}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "holds no rows"),
        ("image_name,class,rle\n", "holds no rows"),
        ("image,class,rle\na,x,\n", "line 1: the header is 'image,class,rle'"),
        (GOOD.replace(",y,\n", ",y\n", 1), "line 3: 2 fields"),
        (GOOD.replace("1 5", "1 5,7"), "line 2: 4 fields"),
        (GOOD.replace("1 5", '"1 5'), "line 2: quoted"),
        (GOOD.replace("1 5", '1" 5'), "line 2: quoted"),
        (GOOD.replace("b,y", "b,Y"), r"line 5 \(image 'b'\): unknown class 'Y' of 2 known"),
        (GOOD.replace("b,y", "b,"), "line 5 .*unknown class ''"),
        (GOOD.replace("b,", ","), "line 4: an image_name or class is empty"),
        (GOOD + "a,x,1 5\n", "lines 2 and 6: doubled row for image 'a', class 'x'"),
        (
            GOOD.replace("b,y,4 1 6 2\n", ""),
            "1 of 4 image x class rows are missing, first image 'b', class 'y'",
        ),
        (GOOD.encode().replace(b"b,", b"\xff,"), "line 4: .*UTF-8"),
        (GOOD.replace("\n", "\r"), "line 1"),
        ("\0" * 50, "line 1"),
    ],
)
def test_a_wrong_table_is_refused_when_opened(tmp_path, content, message):
    with pytest.raises(DataError, match=r"a\.csv:? .*" + message):
        Submission.read(text(tmp_path / "a.csv", content), ["x", "y"])


@pytest.mark.parametrize(
    ("rle_text", "message"),
    [
        ("nan", "'nan'"),
        ("1 5 9", "3 numbers"),
        ("1 5 6", "cut off"),
        ("1 x", "'x'"),
        ("1 0", "no length"),
        ("0 2", "below 1"),
        ("-3 2", "'-3'"),
        ("5 1 2 1", "not sorted"),
        ("1 5 3 1", "overlaps"),
        ("8 2", "outside the image, which has 8 pixels"),
        ("1 \xe9", "not a whole number"),
    ],
)
def test_a_wrong_row_is_refused_with_its_place(tmp_path, rle_text, message):
    path = text(tmp_path / "a.csv", GOOD.replace("2 3", rle_text).encode("latin1"))
    found = Submission.read(path, sizes=(2, 4))
    assert found.stack("a").texts() == ["1 5", ""]
    with pytest.raises(DataError, match=r"a\.csv line 4 \(image 'b', class 'x'\): .*" + message):
        found.stack("b")
    with pytest.raises(DataError, match=r"a\.csv line 4 \(image 'b', class 'x'\): .*" + message):
        found.reorder(["y", "x"]).stack("b")


def test_a_misspelt_class_names_the_nearest(tmp_path):
    with pytest.raises(DataError, match="unknown class 'Ulnar' of 2 known; nearest: 'Ulna'"):
        Submission.read(text(tmp_path / "a.csv", "image_name,class,rle\na,Ulnar,\n"), ["Ulna", "Radius"])


def test_missing_files_and_folders_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"none\.csv: no such"):
        Submission.read(tmp_path / "none.csv")
    with pytest.raises(DataError, match="is not a regular file"):
        Submission.read(tmp_path)


def test_a_class_list_with_a_double_is_refused(tmp_path):
    with pytest.raises(DataError, match="twice"):
        Submission.read(text(tmp_path / "a.csv", GOOD), ["x", "y", "x"])


def test_a_cut_or_edited_table_does_not_fit_its_sidecar(tmp_path):
    write(tmp_path / "a.csv", [("i", ["1 15"])], ["x"], {"i": (3, 5)})
    text(tmp_path / "a.csv", (tmp_path / "a.csv").read_bytes()[:-2])  # now '1 1', which is a valid row
    with pytest.raises(DataError, match=r"cut off or edited"):
        Submission.read(tmp_path / "a.csv")
    (tmp_path / "a.json").unlink()
    assert Submission.read(tmp_path / "a.csv").rles("i") == ["1 1"]


def test_sizes_that_contradict_the_sidecar_are_refused(tmp_path):
    write(tmp_path / "a.csv", [("i", ["1 15"])], ["x"], {"i": (3, 5)})
    assert Submission.read(tmp_path / "a.csv", sizes=(3, 5)).sizes == {"i": (3, 5)}
    with pytest.raises(DataError, match=r"image 'i' is 5x3 .*predicted at 3x5"):
        Submission.read(tmp_path / "a.csv", sizes={"i": (5, 3)})
    with pytest.raises(DataError, match=r"not a \(height, width\)"):
        Submission.read(tmp_path / "a.csv", sizes=(0, 5))


@pytest.mark.parametrize("vote", [[1], {"how": "hard"}, {"how": 1, "members": []}, {"how": "", "members": [1]}, "x"])
def test_a_vote_that_a_sidecar_cannot_tell(tmp_path, vote):
    write(tmp_path / "a.csv", [("a", ["1 2"])], ["x"], {"a": (3, 5)})
    told = json.loads((tmp_path / "a.json").read_text())
    (tmp_path / "a.json").write_text(json.dumps(told | {"vote": vote}))
    with pytest.raises(DataError, match="damaged sidecar"):
        Submission.read(tmp_path / "a.csv")


def test_damaged_and_foreign_sidecars(tmp_path):
    path, side = text(tmp_path / "a.csv", GOOD), tmp_path / "a.json"
    text(side, "{")
    with pytest.raises(DataError, match=r"a\.json: .*is not JSON"):
        Submission.read(path)
    text(side, '{"format": "phalanx-submission-1", "classes": 3, "run_hashes": {}}')
    with pytest.raises(DataError, match=r"a\.json: is a damaged sidecar"):
        Submission.read(path)
    text(side, '{"format": "phalanx-submission-1", "classes": [], "run_hashes": {}, "sizes": {"a": [1]}}')
    with pytest.raises(DataError, match=r"a\.json: is a damaged sidecar of a\.csv \(image 'a': size"):
        Submission.read(path)
    text(side, "[1]")
    assert "is not a sidecar of the format" in Submission.read(path).notes[0]


@pytest.mark.parametrize(
    ("rows", "classes", "message"),
    [
        ([], ["x"], "no images"),
        ([("b", [""]), ("a", [""])], ["x"], "'a' comes after 'b'"),
        ([("a", [""]), ("a", [""])], ["x"], "'a' comes after 'a'"),
        ([("a", ["", ""])], ["x"], "2 RLEs for 1 classes"),
        ([("a\nb", [""])], ["x"], "breaks lines"),
        ([("a", [""])], [""], "empty"),
        ([("a", ["", ""])], ["x", "x"], "once"),
    ],
)
def test_a_write_that_fails_leaves_what_was_there(tmp_path, rows, classes, message):
    path = tmp_path / "a.csv"
    write(path, [("i", ["1 15"])], ["x"], {"i": (3, 5)})
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    with pytest.raises(DataError, match=message):
        write(path, rows, classes, {})
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_a_name_that_would_meet_its_sidecar_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"\.csv"):
        write(tmp_path / "a.json", [("i", [""])], ["x"], {})


def test_a_table_may_replace_one_of_those_it_is_made_from(tmp_path):
    path = tmp_path / "a.csv"
    write(path, [("i", ["1 15"]), ("j", ["2 3"])], ["x"], {})
    old = Submission.read(path)
    write(path, ((image, [old.rles(image)[0] or "1 1"]) for image in old.images), ["x"], {})
    assert Submission.read(path).rles("j") == ["2 3"]


def test_known_sizes_come_from_any_member():
    a = Submission.of({"i": ["1 1"], "j": [""]}, ["x"], {"i": (1, 2)})
    b = Submission.of({"i": ["1 1"], "j": [""]}, ["x"], {"j": (3, 4)})
    check_matching([a, b])
    assert known_sizes([a, b]) == {"i": (1, 2), "j": (3, 4)}


def test_in_memory_rows_are_checked_too():
    with pytest.raises(DataError, match="truth: image 'i' has 2 masks for 1 classes"):
        Submission.of({"i": ["", ""]}, ["x"])
    with pytest.raises(DataError, match=r"truth \(image 'i', class 'x'\): .*outside"):
        Submission.of({"i": ["4 1"]}, ["x"], {"i": (1, 3)}).stack("i")


ROWS = [b"image_name,class,rle", *(line.encode() for line in GOOD.splitlines()[1:])]
pieces = st.one_of(
    st.binary(max_size=6),
    st.sampled_from([*(row + b"\n" for row in ROWS), b"a,x,", b"b,y,", b"1 5", b"8 1", b"2 0", b"7 3", b"-1", b"1e1"]),
    st.sampled_from([b" ", b"\n", b'"', b'""', b",", b"9", b"\r", b"\r\n", b"\0", b"\xef\xbb\xbf", "\u0663".encode()]),
)
noise = st.lists(pieces, max_size=12).map(b"".join)
spoilt = st.builds(  # a good table with something put into it, cut from it, or exchanged
    lambda rows, cut, put, at: (lambda text: text[:at] + put + text[at + cut :])(b"\n".join([ROWS[0], *rows]) + b"\n"),
    st.permutations(ROWS[1:]),
    st.integers(0, 9),
    st.one_of(noise, st.just(b"")),
    st.integers(0, len(GOOD)),
)


def read_or_refuse(content, folder):
    """What is accepted must be what the csv module and int() find there, and within the rules of a good table."""
    path = text(folder / "a.csv", content)
    try:
        found = Submission.read(path, ["x", "y"], (2, 4))
        ours = {(i, c): found.stack(i).texts()[k] for i in found.images for k, c in enumerate(found.classes)}
    except DataError:
        return False
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = [row for row in csv.reader(file) if row][1:]
    assert len(rows) == len(ours)
    assert {(image, label): " ".join(runs.split()) for image, label, runs in rows} == ours
    assert set(ours) == {(image, label) for image in found.images for label in "xy"}
    for runs in ours.values():
        numbers = [int(word) for word in runs.split()]
        ends = [0, *(a + n - 1 for a, n in zip(numbers[::2], numbers[1::2], strict=True))]
        assert all(n >= 1 for n in numbers)
        assert all(start > before for start, before in zip(numbers[::2], ends, strict=False))
        assert ends[-1] <= 8
    return True


@settings(max_examples=300, deadline=None)
@given(st.one_of(noise, spoilt))
@example(GOOD.encode())
def test_a_fuzzed_reader_accepts_only_what_an_outsider_reads_alike(tmp_path_factory, content):
    read_or_refuse(content, tmp_path_factory.getbasetemp())


@pytest.mark.slow
def test_ten_thousand_fuzzed_tables(tmp_path):
    """Refused or read alike, each within a second; some of both, or the fuzzing would show nothing."""
    outcomes, slowest = [], 0.0

    @settings(max_examples=10_000, deadline=None, database=None)
    @given(st.one_of(noise, spoilt))
    def fuzz(content):
        nonlocal slowest
        began = time.process_time()
        outcomes.append(read_or_refuse(content, tmp_path))
        slowest = max(slowest, time.process_time() - began)

    fuzz()
    assert len(outcomes) >= 10_000
    assert 100 < sum(outcomes) < len(outcomes) - 5000
    assert slowest < 1
