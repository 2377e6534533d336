"""Sheets as hospitals, spreadsheets and scripts write them: every one of these says that ID000 is a man of 30."""

import io
import struct
import time
import unicodedata
import zipfile

import openpyxl
import pytest

from phalanx.checks.run import sheet as check_sheet
from phalanx.data.attributes import read_attributes
from phalanx.data.metadata import match, mismatch, read_metadata, rows_of
from phalanx.data.records import Record
from phalanx.errors import DataError

GROUPS = ["ID000", "ID001", "ID002"]
PLAIN = "ID,나이,성별\nID000,30,남\nID001,40,여\nID002,,F\n"
MEANT = [("male", 30.0), ("female", 40.0), ("female", None)]


def values(root, groups=GROUPS):
    table = read_metadata(root, groups)
    rows = rows_of(table, groups)
    return [(row.sex, None if row.age != row.age else row.age) for row in rows.itertuples()]


def csv(root, content, name="meta_data.csv"):
    (root / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


def xlsx(root, rows, *, merge=(), tabs=(), hidden=()):
    book = openpyxl.Workbook()
    for number, (state, cells) in enumerate([("visible", rows), *tabs]):
        page = book.active if number == 0 else book.create_sheet(f"tab{number}")
        page.sheet_state = state
        for row in cells:
            page.append(row)
    for place in merge:
        book.worksheets[0].merge_cells(place)
    for row in hidden:
        book.worksheets[0].row_dimensions[row].hidden = True
    book.save(root / "meta_data.xlsx")
    return root


def numbered(text, heading):
    head, *lines = text.splitlines()
    return "\n".join([f"{heading},{head}", *(f"{i},{line}" for i, line in enumerate(lines, 1))])


@pytest.mark.parametrize(
    "content",
    [
        PLAIN,
        PLAIN.replace("\n", "\r"),
        PLAIN.replace("\n", "\r\n").encode("utf-8-sig"),
        PLAIN.encode("utf-16"),
        PLAIN.encode("cp949"),
        PLAIN.replace(",", "\t"),
        "sep=;\n" + PLAIN.replace(",", ";"),
        "환자 목록 (2024),,\n,,\n" + PLAIN,
        "Patients of the hand study\n\n" + PLAIN.replace(",", ";"),
        unicodedata.normalize("NFD", PLAIN),
        "," + PLAIN.replace("\n", "\n,").rstrip(","),
        PLAIN.replace("여\n", "여,,,\n"),
        PLAIN + "ID,나이,성별\n",
        *(numbered(PLAIN, heading) for heading in ("번호", "No.", "#", "index", "순번", "연번")),
        *(
            numbered(PLAIN.replace("ID,", f"{heading},", 1), "No.")
            for heading in ("환자 ID", "환자번호", "code", "이름")
        ),
        "ID,환자 정보,\n,나이,성별\n" + PLAIN.split("\n", 1)[1],
        PLAIN.replace("성별", "성별,메모").replace("30,남", "30,남," + "x" * 200000),
        PLAIN.replace("나이,", "나이(개월),").replace("30", "360").replace("40", "480"),
        PLAIN.replace("ID000", "id000"),
    ],
)
def test_a_csv_in_any_dress(tmp_path, content):
    assert values(csv(tmp_path, content)) == MEANT


HEAD = ["ID", "나이", "성별"]
ROWS = [["ID000", 30, "남"], ["ID001", 40.0, "여"], ["ID002", None, "F"]]


@pytest.mark.parametrize(
    ("rows", "more"),
    [
        ([HEAD, *ROWS], {}),
        ([["환자 정보 2024"], [], HEAD, *ROWS], {"merge": ["A1:C1"]}),
        ([["ID", "환자 정보", None], [None, "나이", "성별"], *ROWS], {"merge": ["A1:A2", "B1:C1"]}),
        ([[None, *HEAD], *([None, *row] for row in ROWS)], {}),
        ([["번호", *HEAD], *([i, *row] for i, row in enumerate(ROWS, 1))], {}),
        ([[*HEAD, "손"], [*ROWS[0], "L"], [None, None, None, "R"], *ROWS[1:]], {"merge": ["A2:A3", "B2:B3", "C2:C3"]}),
        ([HEAD[:2], *(row[:2] for row in ROWS)], {"tabs": [("visible", [row[::2] for row in [HEAD, *ROWS]])]}),
        ([["notes"], ["see the next sheet"]], {"tabs": [("visible", [HEAD, *ROWS])]}),
        ([HEAD, *ROWS], {"tabs": [("hidden", [HEAD, ["ID002", 99, "M"]])], "hidden": [2]}),
    ],
)  # fmt: skip
def test_an_xlsx_in_any_dress(tmp_path, rows, more):
    assert values(xlsx(tmp_path, rows, **more)) == MEANT


def test_units_below_the_headings(tmp_path):
    table = read_metadata(csv(tmp_path, "ID,키,몸무게\n,(m),lb\nID000,1.7,150\n"), GROUPS)
    assert table.loc["ID000", "height"] == 170
    assert table.loc["ID000", "weight"] == pytest.approx(68.04, abs=0.01)


def test_numbers_as_text_as_floats_and_without_their_zeros(tmp_path):
    assert values(csv(tmp_path, "환자,나이\n7,30\n12.0,40\n"), ["007", "12", "9"])[:2] == [(None, 30.0), (None, 40.0)]
    table = read_metadata(csv(tmp_path, "환자,나이\n7,30\n007,40\n"), ["007", "7"])
    assert match(table, ["7", "007"]) == {"7": "7", "007": "007"}
    table = read_metadata(csv(tmp_path, "환자,나이\n7,30\n"), ["07", "007"])
    assert match(table, ["07", "007"]) == {}, "either could be meant"


def test_what_is_left_out_is_noted(tmp_path):
    rows = [HEAD, *ROWS, ["ID003", "=15+15", "M"]]
    tabs = [("visible", [["who"], ["x"]]), ("hidden", [HEAD, *ROWS])]
    table = read_metadata(xlsx(tmp_path, rows, tabs=tabs, hidden=[3]), GROUPS)
    notes = " | ".join(table.attrs["notes"])
    for text in (
        "1 hidden row(s) are read, too",
        "1 cell(s) have a formula without its value; missing",
        "the sheet 'tab1' is not read: no column names the patient",
        "the hidden sheet 'tab2' is not read",
    ):
        assert text in notes
    (tmp_path / "csv").mkdir()
    table = read_metadata(csv(tmp_path / "csv", PLAIN + "ID003,1,72,M\n"), GROUPS)
    assert "1 row(s) have more cells than there are headings, such as line 5; left out" in table.attrs["notes"][0]
    assert "ID003" not in table.index


def test_a_date_is_not_a_number(tmp_path):
    import datetime

    xlsx(tmp_path, [HEAD, ["ID000", datetime.datetime(1900, 3, 30), "남"]])
    table = read_metadata(tmp_path, GROUPS)
    assert table.loc["ID000", "age"] != table.loc["ID000", "age"]
    assert any("age '1900-03-30' is not understood" in note for note in table.attrs["notes"])


def test_a_sheet_of_other_patients_is_said_in_a_line(tmp_path):
    csv(tmp_path, "순번,나이\n1,30\n2,40\n")
    text = mismatch(read_metadata(tmp_path, GROUPS), GROUPS)
    assert "none of 3 patients has a row: its column '순번' has '1', '2'" in text
    assert "the images are of 'ID000', 'ID001', 'ID002'; call the column with the names of the image folders ID" in text
    records = [Record(f"{group}.png", group, tmp_path, None) for group in GROUPS]

    class Config:
        root = tmp_path

    with pytest.raises(DataError, match="none of 3 patients has a row"):
        read_attributes(records, Config(), ["age"])  # type: ignore[arg-type]
    assert "other-patients" in {finding.kind for finding in check_sheet(tmp_path, set(GROUPS))}
    assert mismatch(read_metadata(csv(tmp_path, PLAIN), GROUPS), GROUPS) == ""


def test_a_sheet_under_another_name_is_mentioned(tmp_path):
    (tmp_path / "Meta_Data.xls").write_bytes(b"x")
    assert any("Meta_Data.xls is not read" in finding.text for finding in check_sheet(tmp_path, {"a"}))


OLE = b"\xd0\xcf\x11\xe0" + bytes(600)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("meta_data.xlsx", OLE, r"is an \.xls of Excel 97 to 2003, not an \.xlsx; save it again"),
        ("meta_data.xlsx", OLE + "EncryptedPackage".encode("utf-16-le"), "is protected by a password"),
        ("meta_data.xlsx", b"<html><table>", r"is a web page \(HTML\)"),
        ("meta_data.xlsx", PLAIN.encode(), "not a readable sheet"),
        ("meta_data.xlsx", b"", "not a readable sheet"),
        ("meta_data.xlsx", b"PK\x03\x04", "not a readable sheet"),
        ("meta_data.csv", OLE, r"is an \.xls of Excel 97 to 2003, not a CSV"),
        ("meta_data.csv", b"PK\x03\x04", r"is an \.xlsx, not a CSV"),
        ("meta_data.csv", b"ID\0,age", "contains NUL"),
        ("meta_data.csv", b"\xff\xfe\x00", "is not UTF-16"),
        ("meta_data.csv", b"ID,age\n\x81\xff\xff", "is not UTF-8 at byte 7 and not CP949"),
        ("meta_data.csv", b"\n\n", "the sheet is empty"),
    ],
)
def test_what_is_not_a_sheet_is_named(tmp_path, name, content, says):
    with pytest.raises(DataError, match=says) as found:
        read_metadata(csv(tmp_path, content, name))
    assert str(tmp_path / name) in str(found.value)
    assert "\n" not in str(found.value)


def repacked(root, name, change):
    """The workbook with one part changed."""
    content = io.BytesIO()
    path = xlsx(root, [HEAD, *ROWS]) / "meta_data.xlsx"
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as new:
        for part in old.namelist():
            new.writestr(part, change(old.read(part)) if part == name else old.read(part))
    path.write_bytes(content.getvalue())
    return root


FAR = b"".join(b'<row r="%d"><c r="XFD%d"><v>1</v></c></row>' % (row, row) for row in range(9, 49))
PAGE = "xl/worksheets/sheet1.xml"


@pytest.mark.parametrize(
    ("part", "change", "says"),
    [
        (PAGE, lambda xml: xml.replace(b'r="C4"', b'r="XFD1048576"'), None),
        (PAGE, lambda xml: xml.replace(b"</sheetData>", b'</sheetData><mergeCells><mergeCell ref="A1:XFD1048576"/>'
                               b"</mergeCells>"), None),
        (PAGE, lambda xml: xml.replace(b"<sheetData>", b"<sheetData>" + FAR),
         "cells"),
        (PAGE, lambda xml: xml.replace(b"<sheetData>", b"<sheetData>" + b"<row/>" * 2_100_000), "other elements"),
        (PAGE, lambda xml: xml + b" " * (70 << 20), "unpacks to more than 64 MiB"),
        (PAGE, lambda xml: b'<!DOCTYPE x [<!ENTITY a "aaaa">]>' + xml, "it defines entities"),
        (PAGE, lambda xml: xml[: len(xml) // 2], "not a readable sheet"),
        (PAGE, lambda xml: xml.replace(b"<sheetData>", b'<sheetData><row r="9"><c t="s"><v>77</v></c></row>'),
         "it has no text '77'"),
        ("xl/workbook.xml", lambda xml: xml.replace(b"<sheet ", b"<other "), "it has no sheets"),
    ],
)  # fmt: skip
def test_a_few_bytes_claim_no_memory(tmp_path, part, change, says):
    repacked(tmp_path, part, change)
    assert (tmp_path / "meta_data.xlsx").stat().st_size < 200_000
    began = time.monotonic()
    if says is None:
        read_metadata(tmp_path, GROUPS)
    else:
        with pytest.raises(DataError, match=says) as found:
            read_metadata(tmp_path, GROUPS)
        assert "meta_data.xlsx" in str(found.value)
    assert time.monotonic() - began < 20


def test_a_zip_that_lies_about_its_size(tmp_path):
    path = xlsx(tmp_path, [HEAD, *ROWS]) / "meta_data.xlsx"
    content = bytearray(path.read_bytes())
    place = content.index(b"PK\x01\x02")
    while place >= 0:
        content[place + 24 : place + 28] = struct.pack("<I", 1 << 31)
        place = content.find(b"PK\x01\x02", place + 4)
    path.write_bytes(bytes(content))
    with pytest.raises(DataError, match="unpacks to more than 64 MiB"):
        read_metadata(tmp_path, GROUPS)
