"""Names of files and folders in options: taken as they are, whatever characters they have."""

from pathlib import Path

import pytest

from phalanx.commands.args import plain_words, split_places
from phalanx.config.compose import compose, config_folder, split_words
from phalanx.config.words import join_list, split_list, split_names, typed, words_of
from phalanx.ensemble.options import EnsembleOptions, InferOptions
from phalanx.errors import ConfigError

NAMES = [
    "한글 (사본), 1",
    "a,b",
    "[a]",
    "a]b[",
    "{a: 1}",
    "#1",
    "a # b",
    "a=b",
    "it's",
    'a"b',
    "a:b",
    "*",
    "&a",
    "!b",
    "%c",
    "-x",
    "~x",
    "@",
    "`",
    "$HOME",
    "null.d",
    "true",
    "1e3",
    "007",
    "a\\b",
    " a ",
    "(",
    "|",
    ">",
    "?",
    "a;b",
    "é",
    "e\u0301",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_path_is_taken_as_it_is(name):
    for word in (f"data.root={name}", f'data.root="{name}"', f"data.root='{name}'"):
        assert compose(split_words([word])).data.root == Path(name)
        assert typed(InferOptions, split_words([word])).root == Path(name)
    options = typed(InferOptions, split_words([f"data.root={name}", f"out={name}.csv", f"images={name}"]))
    words = words_of(options, ["root", "out", "images"])
    assert typed(InferOptions, split_words(words)) == options
    config = compose(split_words([f"data.coco.train={name}", "data.layout=coco", f"data.root={name}", f"runs={name}"]))
    assert (config.data.coco.train, config.runs) == (name, Path(name))


def test_a_name_with_quotes_that_exists_is_not_stripped(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path('"a"').mkdir()
    assert compose({"data.root": '"a"'}).data.root == Path('"a"')
    assert compose({"data.root": '"b"'}).data.root == Path("b")


@pytest.mark.parametrize("name", [name for name in NAMES if name.strip() == name])
def test_names_of_members_come_back(name):
    assert split_list(join_list([name, "b"])) == [name, "b"]
    options = typed(EnsembleOptions, {"mode": "soft", "members": join_list([name, "b"])})
    assert options.members == [name, "b"]


def test_names_with_commas_that_exist_need_no_quotes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("한글, 1.csv", "b.csv", "c,d,e.csv", "[x].csv"):
        Path(name).touch()
    assert split_names("한글, 1.csv,b.csv,c,d,e.csv") == ["한글, 1.csv", "b.csv", "c,d,e.csv"]
    assert split_names("한글, 1.csv") == ["한글, 1.csv"]
    assert split_names("b.csv, none.csv") == ["b.csv", "none.csv"]
    assert split_names("[b.csv,none.csv]") == ["b.csv", "none.csv"]
    assert split_names("[x].csv") == ["[x].csv"]
    assert split_names("'q, r.csv',b.csv") == ["q, r.csv", "b.csv"]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("[a,b]", ["a", "b"]),
        ("a, b ,", ["a", "b"]),
        ("", []),
        ("[]", []),
        ("[[a],b]", ["[a]", "b"]),
        ("[a],[b]", ["[a]", "[b]"]),
        ("'a,b'", ["a,b"]),
        ("\"a,b\", 'c'", ["a,b", "c"]),
        ("'a", ["'a"]),
        ("a'b,c'd", ["a'b", "c'd"]),
        ("'a'b,c", ["'a'b", "c"]),
        (",,", []),
        ("''", []),
    ],
)
def test_a_list_is_split_at_commas_outside_of_quotes(text, parts):
    assert split_list(text) == parts


def test_lists_of_texts_are_written_alike_in_recipes():
    for text in ("[뼈,a]", "뼈,a", "['뼈', \"a\"]"):
        assert compose({"data.root": "x", "data.classes": text, "data.pairs": "[]"}).data.classes == ["뼈", "a"]
    assert compose({"data.root": "x", "devices": "0,1", "tracking": "wandb"}).devices == ["cuda:0", "cuda:1"]


def test_null_is_nothing_where_nothing_is_a_value():
    assert compose({"data.root": "x", "data.quarantine": "null"}).data.quarantine is None
    assert compose({"data.root": "x", "data.quarantine": "'null'"}).data.quarantine == Path("null")
    assert typed(InferOptions, {"out": "null"}).out is None


def test_a_section_that_is_a_value_is_refused():
    with pytest.raises(ConfigError, match=r"^data\.coco\.train: coco is a value, not a section"):
        compose({"data.coco": "5", "data.coco.train": "x", "data.root": "x"})


def test_the_repository_may_have_any_name(tmp_path, monkeypatch):
    import shutil

    folder = tmp_path / "한글 [1], #=%20 'a'"
    shutil.copytree(config_folder(), folder / "configs")
    monkeypatch.chdir(folder)
    assert compose({"experiment": "base", "data.root": "x"}).name == "base"


@pytest.mark.parametrize(
    ("word", "says"),
    [
        (b"data.root=\xbc\xd5".decode(errors="surrogateescape"), r"data.root=\xbc\xd5: is not UTF-8"),
        (b"\xbc.csv".decode(errors="surrogateescape"), r"\xbc.csv: is not UTF-8"),
        ("out=a\nb.csv", r"out=a\nb.csv: has a line break or control character"),
        ("out=a\x1b[31m", r"out=a\x1b[31m: has a line break or control character"),
        ("data.root=~/x", "'~' is not replaced within a word; write $HOME/x"),
        ("out=~", "write $HOME"),
    ],
)
def test_a_word_that_no_file_of_ours_can_record_is_refused(word, says):
    with pytest.raises(ConfigError) as caught:
        plain_words(["x.csv", word])
    assert says in str(caught.value)


def test_places_may_have_equal_signs_and_any_length(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a=b.csv").touch()
    long = "data.classes=[" + "a" * 5000 + "]"
    assert split_places(["a=b.csv", "c/d=e.csv", "f=g", long]) == (
        ["a=b.csv", "c/d=e.csv"],
        {"f": "g", "data.classes": f"[{'a' * 5000}]"},
    )
