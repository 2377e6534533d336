"""The documents agree with the program: links, commands, options and their defaults, decisions, numbers."""

import re
import shlex
from pathlib import Path
from typing import get_args

import pytest
import yaml
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from phalanx.cli import main
from phalanx.commands.recipes import one_by_one
from phalanx.config import RUNTIME_KEYS, ClassifyConfig, SegmentConfig
from phalanx.config.cluster import take_cluster
from phalanx.config.compose import compose, split_words
from phalanx.config.overrides import NOT_OF_A_RECIPE
from phalanx.config.words import typed
from phalanx.ensemble.boxes import FuseBoxes
from phalanx.ensemble.classify import InferLabels, VoteLabels
from phalanx.ensemble.detect import InferBoxes
from phalanx.ensemble.options import EnsembleOptions, InferOptions

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
GUIDES = [ROOT / "docs" / name for name in ("training.md", "data.md", "ensembling.md")]
OPTIONS = {"classification.md": (InferLabels, VoteLabels), "detection.md": (InferBoxes, FuseBoxes)}
SCRIPTS = {f"{name}.sh": name for name in ("train", "infer", "ensemble", "demo")}
RECIPE_COMMANDS = (
    "train",
    "plan",
    "config",
    "check",
    "eda",
    "folds",
    "quarantine",
    "selection",
)  # take the keys of a recipe
RECIPE_KEYS = {
    *SegmentConfig.model_fields,
    *(path.name for path in (ROOT / "configs").iterdir() if path.is_dir() and path.name not in NOT_OF_A_RECIPE),
}


def anchors(page):
    """What a link may name after '#': headings as GitHub has them, and explicit ids."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.S)
    titles = re.findall(r"(?m)^#+ (.+)$", text)
    slugs = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
    return slugs | set(re.findall(r'id="(\w+)"', text))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", text, flags=re.S)):
        if target.startswith("http"):
            continue
        name, _, anchor = target.partition("#")
        place = (page.parent / name).resolve() if name else page
        assert place.exists(), f"{page.name}: {target}"
        assert not anchor or anchor in anchors(place), f"{page.name}: {target}"


def commands():
    """(page, words) of every command in a bash block."""
    for page in PAGES:
        for block in re.findall(r"```bash\n(.*?)```", page.read_text(encoding="utf-8"), re.S):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                if words[:1] == ["bash"] and words[1] in SCRIPTS:
                    yield page.name, [SCRIPTS[words[1]], *words[2:]]
                elif words[:1] == ["phalanx"]:
                    yield page.name, words[1:]


@pytest.mark.parametrize(
    ("page", "words"), list(commands()), ids=lambda value: value if isinstance(value, str) else " ".join(value)[:60]
)
def test_commands_are_accepted(page, words, capsys):
    command, rest = words[0], words[1:]
    assert main([command, "--help"]) == 0
    text = capsys.readouterr().out
    pairs = split_words([word for word in rest if "=" in word])
    if take_cluster(pairs) is not None:
        assert command in ("train", "sweep", "infer")
    infer, vote = OPTIONS.get(page, (InferOptions, EnsembleOptions))
    if vote is FuseBoxes and pairs.get("mode") in ("soft", "hard"):  # of masks, which Mask R-CNN also predicts
        vote = EnsembleOptions
    if command == "infer":
        pairs.pop("experiment")
        assert typed(infer, pairs)
    elif command == "ensemble":
        assert typed(vote, pairs)
    elif command in RECIPE_COMMANDS:
        recipe = {key: value for key, value in pairs.items() if key.split(".")[0] in RECIPE_KEYS}
        if "," not in recipe.get("experiment", ""):
            recipe = {"name": "documented"} | recipe
        assert all(map(compose, one_by_one(recipe)))
        own = pairs.keys() - recipe.keys()
        assert not [key for key in own if not re.search(rf"\b{key}=", text)], f"{page}: not in the help of {command}"
    else:
        for key in pairs:
            assert re.search(rf"\b{re.escape(key)}=", text), f"{page}: {key}= is not in the help of {command}"


def test_the_readme_lists_every_command(capsys):
    assert main(["--help"]) == 0
    known = set(re.findall(r"(?m)^  phalanx (\w+)", capsys.readouterr().out))
    assert len(known) > 15
    index = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Commands")[2].partition("\n## ")[0]
    assert {
        name for row in re.findall(r"(?m)^\| \w[^|]*: ([^|]*)\|", index) for name in re.findall(r"`(\w+)`", row)
    } == (known - {"demo"})


def sections(kind):
    """The kinds of options among the types of a field."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return [kind]
    return [one for part in get_args(kind) if part is not list for one in sections(part)]


def options(kind, before=""):
    """(dotted key, default) of every option; a section is its own options."""
    for name, field in kind.model_fields.items():
        inner = [] if str(field.annotation).startswith("list") else sections(field.annotation)
        if inner:
            yield from options(inner[0], f"{before}{name}.")
        else:
            default = field.get_default(call_default_factory=True)
            yield f"{before}{name}", "required" if default is PydanticUndefined else default


def documented(pages=GUIDES):
    """(key, default as written, whether it is marked as a runtime key) of the tables of the guides."""
    for page in pages:
        yield from re.findall(r"(?m)^\| `([\w.]+)`( \*)? \| ([^|]*) \|", page.read_text(encoding="utf-8"))


def plain(value):
    return list(map(plain, value)) if isinstance(value, list | tuple) else value if value is None else str(value)


def test_every_option_is_documented_with_its_default():
    rows = [
        (key, bool(mark), text)
        for key, mark, text in documented()
        if key.partition(".")[0] in SegmentConfig.model_fields
    ]
    keys = [key for key, _, _ in rows if "." in key or key not in EnsembleOptions.model_fields or key in TOP]
    known = dict(options(SegmentConfig))
    assert set(keys) >= known.keys(), sorted(known.keys() - set(keys))
    for key, mark, text in rows:
        if key not in known:
            assert key in EnsembleOptions.model_fields or key in ("data", "data.layout"), f"{key}: no such option"
            continue
        check_row(key, mark, text, known[key])


def check_row(key, mark, text, want):
    if key != "name":  # whose default is another option
        shown = yaml.safe_load(text)
        same = float(shown) == want if isinstance(want, float) else plain(shown) == plain(want)
        same = same or text == str(want).lower()
        assert same, f"{key}: {text} is written, {want} is the default"
    assert mark == (key in RUNTIME_KEYS), f"{key}: '*' marks the keys that may change between two calls"


def test_every_option_of_classification_is_documented_with_its_default():
    """In its own guide those that segmentation lacks or has with another default; the others are in the others."""
    known, others = dict(options(ClassifyConfig)), dict(options(SegmentConfig))
    own = {key for key, value in known.items() if key not in others or others[key] != value}
    written = documented([ROOT / "docs" / "classification.md"])
    rows = [
        (key, bool(mark), text) for key, mark, text in written if key.partition(".")[0] in ClassifyConfig.model_fields
    ]
    assert {key for key, _, _ in rows} == own
    for key, mark, text in rows:
        check_row(key, mark, text, known[key])


TOP = [name for name, field in SegmentConfig.model_fields.items() if not sections(field.annotation)]


def test_decisions_are_numbered_once_and_are_in_the_index():
    text = (ROOT / "docs" / "decisions.md").read_text(encoding="utf-8")
    index, _, body = text.partition("\n## ")
    numbers = [int(number) for number in re.findall(r"(?m)^\*\*(\d+)\. ", body)]
    assert sorted(numbers) == list(range(1, len(numbers) + 1))
    assert [int(number) for number in re.findall(r'id="d(\d+)"', body)] == numbers
    assert [int(number) for number in re.findall(r"\[(\d+)\]", index)] == numbers
    for section in f"## {body}".split("\n## "):
        title = section.partition("\n")[0].removeprefix("## ")
        row = next(row for row in index.splitlines() if row.startswith(f"| [{title}]"))
        assert re.findall(r"\[(\d+)\]", row) == re.findall(r"(?m)^\*\*(\d+)\. ", section)


def test_numbers_of_the_readme_were_measured():
    measured = "".join((ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("results.md", "benchmarks.md"))
    measured += (ROOT / "docs" / "training.md").read_text(encoding="utf-8")  # output of phalanx plan
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    tables = text.partition("## Results")[2].partition("## Commands")[0]
    numbers = re.findall(r"[+-]?\d*\.\d{2,}", tables)
    assert len(numbers) > 15
    for number in numbers:
        assert re.search(rf"(?<![\d.]){re.escape(number if number[0] != '.' else '0' + number)}(?!\d)", measured), (
            number
        )


def test_the_architecture_names_files_that_exist():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = re.findall(r"`((?:\w+/)+(?:\w+\.py)?)`", text)
    assert len(named) > 15
    for name in named:
        assert (ROOT / "src" / "phalanx" / name).exists() or (ROOT / name).exists(), name


def test_the_architecture_has_the_tested_layers():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    block = text.partition("## Layers")[2].split("```")[1]
    shown = [line.split("  ")[0].split() for line in block.splitlines() if line and not line.startswith(" ")]
    tested = re.search(r'FLOORS = """\n(.*?)"""', (ROOT / "tests" / "test_layers.py").read_text(encoding="utf-8"), re.S)
    layers = [line.split() for line in tested[1].splitlines() if line != "__main__"]
    assert list(map(sorted, shown)) == list(map(sorted, layers))
