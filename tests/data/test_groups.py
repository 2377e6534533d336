"""Files of groups: what is read, what is refused, and that scores resample by them."""

import pytest

from phalanx.data.groups import MARK, check_used, read_groups, write_groups
from phalanx.errors import DataError


def test_what_is_written_is_read(tmp_path):
    groups = {"b.png": "P1", "a, b.png": "P1", "c.png": "P2"}
    write_groups(tmp_path / "g.csv", groups)
    assert (tmp_path / "g.csv").read_text().startswith(MARK)
    assert read_groups(tmp_path / "g.csv") == groups
    write_groups(tmp_path / "g.csv", {"c.png": "P3"})
    assert read_groups(tmp_path / "g.csv") == {"c.png": "P3"}  # not what was read before
    assert read_groups(None) == {}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (None, "no such file"),
        ("", "begins with"),
        ("image_name,group\n", "begins with"),
        ("image_name,group,fold\na.png,P1,0\n", "begins with"),
        ("image_name,group\na.png,\n", "row 1"),
        ("image_name,group\na.png,P1\n,P1\n", "row 2"),
        ("image_name,group\na.png,P1,2\n", "row 1"),
        ("image_name,group\na.png,P1\na.png,P2\n", "also has a row above"),
    ],
)
def test_other_files_are_refused(tmp_path, text, why):
    path = tmp_path / "g.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(DataError, match=why):
        read_groups(path)


def test_a_file_of_another_set_is_refused(tmp_path):
    check_used(tmp_path / "g.csv", {"a.png": "P1", "z.png": "P1"}, ["a.png"])
    check_used(None, {}, ["a.png"])
    with pytest.raises(DataError, match="lists none of the 1 image"):
        check_used(tmp_path / "g.csv", {"z.png": "P1"}, ["a.png"])
