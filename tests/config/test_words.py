"""Words become options by their types alone."""

from pathlib import Path
from typing import ClassVar, Literal

import pytest

from phalanx.config import SlidingWindow, Strict
from phalanx.config.words import leaves, typed
from phalanx.errors import ConfigError


class Options(Strict):
    SPELLED: ClassVar = {"data.root": "root"}
    READ: ClassVar = {"size": lambda text: tuple(map(int, text.split("x")))}

    name: str = "a"
    root: Path | None = None
    kind: Literal["auto", "32"] = "auto"
    many: list[str] | None = None
    numbers: list[float] | None = None
    count: int | None = None
    share: float = 0.5
    on: bool = False
    window: SlidingWindow | None = None
    size: tuple[int, int] | None = None


@pytest.mark.parametrize(
    ("word", "field", "value"),
    [
        ("name=007", "name", "007"), ("name=true", "name", "true"), ("data.root=0", "root", Path("0")),
        ("kind=32", "kind", "32"), ("many=a,b", "many", ["a", "b"]), ("many=[a, b]", "many", ["a", "b"]),
        ("many=1", "many", ["1"]), ("numbers=0.5,1", "numbers", [0.5, 1.0]), ("count=7", "count", 7),
        ("count=null", "count", None), ("share=1", "share", 1.0), ("on=true", "on", True), ("on=false", "on", False),
        ("window=64", "window", SlidingWindow(size=64)), ("size=3x4", "size", (3, 4)),
        ("window={size:64,skip_empty:false}", "window", SlidingWindow(size=64, skip_empty=False)),
        ("window=null", "window", None),
    ],
)  # fmt: skip
def test_a_value_is_read_by_the_type_of_its_option(word, field, value):
    key, _, text = word.partition("=")
    assert getattr(typed(Options, {key: text}), field) == value


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ({"nme": "a"}, "nme: no such option; did you mean name?"), ({"root": "a"}, "root: no such option"),
        ({"count": "two"}, "count='two'"), ({"count": "[1"}, "count=[1: not a value"),
        ({"on": "maybe"}, "on='maybe'"), ({"numbers": "a,b"}, "numbers"), ({"window": "{size:1}"}, "window.size=1"),
    ],
)  # fmt: skip
def test_a_value_of_another_type_is_refused(pairs, message):
    with pytest.raises(ConfigError) as caught:
        typed(Options, pairs)
    assert message in str(caught.value)


def test_types_are_found_behind_unions_and_annotations():
    assert leaves(Options, "root") == {Path, type(None)}
    assert leaves(Options, "many") == {list, type(None)}
    assert leaves(Options, "window") == {SlidingWindow, type(None)}
    assert leaves(Options, "kind") == {str}
