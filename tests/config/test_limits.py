"""Numbers: every option has a lower and an upper limit, and is written in plain decimal digits."""

from typing import Annotated, Any, Literal, get_args, get_origin

import pytest
from annotated_types import Ge, Gt, Interval, Le, Lt, MaxLen
from pydantic import BaseModel

from phalanx.config import Oversample, SegmentConfig, SegmentPredict, SlidingWindow, Strict, validate_as
from phalanx.config.compose import compose, parse_folds, split_words
from phalanx.config.overrides import check_value
from phalanx.config.words import typed
from phalanx.ensemble.options import EnsembleOptions, InferOptions, parse_size
from phalanx.ensemble.tune import TuneOptions
from phalanx.errors import ConfigError
from phalanx.visualize.overlay import PictureOptions


def numbers(annotation: Any, metadata: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The metadata of each number within an annotation."""
    if get_origin(annotation) is Annotated:
        inner, *more = get_args(annotation)
        return numbers(inner, (*metadata, *more))
    if annotation in (int, float):
        return [metadata]
    if get_origin(annotation) is Literal:
        return []
    if get_origin(annotation) in (list, tuple, dict):
        return [found for part in get_args(annotation) for found in numbers(part)]
    return [found for part in get_args(annotation) for found in numbers(part, metadata)]


def sections(kind: type[BaseModel], seen: set[type]) -> set[type]:
    seen.add(kind)

    def models(annotation):
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield annotation
        for part in get_args(annotation):
            yield from models(part)

    for field in kind.model_fields.values():
        for one in models(field.annotation):
            if one not in seen:
                sections(one, seen)
    return seen


def flat(metadata: Any) -> list[Any]:
    found = []
    for one in metadata:
        found += flat(one.metadata) if hasattr(one, "metadata") else [one]
    return found


ALL = sorted(
    {
        s
        for kind in (SegmentConfig, InferOptions, EnsembleOptions, TuneOptions, PictureOptions)
        for s in sections(kind, set())
    },
    key=lambda kind: kind.__name__,
)


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_every_number_has_two_limits(kind):
    for name, field in kind.model_fields.items():
        if name in getattr(kind, "READ", {}):
            continue  # by a parser of its own, below
        for metadata in numbers(field.annotation, tuple(field.metadata)):
            found = flat(metadata)
            low = any(isinstance(one, Ge | Gt | Interval) for one in found)
            high = any(isinstance(one, Le | Lt | Interval) for one in found)
            assert low, f"{kind.__name__}.{name} has no lower limit"
            assert high, f"{kind.__name__}.{name} has no upper limit"


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_every_list_has_a_limit(kind):
    free = {"options", "votes"}  # what the optimizer or architecture takes; as many as members
    for name, field in kind.model_fields.items():
        annotations = [field.annotation, *get_args(field.annotation)]
        if any(get_origin(one) is list for one in annotations) and name not in free and kind.__name__ != "TuneOptions":
            found = flat(field.metadata) + [m for a in annotations for m in getattr(a, "__metadata__", ())]
            assert any(isinstance(one, MaxLen) or hasattr(one, "metadata") for one in found), f"{kind.__name__}.{name}"


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("seed=18446744073709551616", "less than 9223372036854775808"),
        ("seed=-1", "greater than or equal to 0"),
        ("seed=" + "9" * 5000, "cannot be parsed"),
        ("epochs=1e20", "less than or equal to 1000000"),
        ("epochs=0", "greater than or equal to 1"),
        ("epochs=true", "valid integer in plain decimal digits"),
        ("epochs='1_0'", "valid integer in plain decimal digits"),
        ("epochs='٣'", "valid integer in plain decimal digits"),
        ("epochs='１'", "valid integer in plain decimal digits"),
        ("epochs='0x10'", "valid integer in plain"),
        ("epochs=1.5", "valid integer"),
        ("epochs=null", "valid integer"),
        ("batch=1e9", "less than or equal to 65536"),
        ("data.cache_gb=inf", "finite number"),
        ("data.cache_gb=nan", "finite number"),
        ("data.cache_gb=-1", "greater"),
        ("data.cache_gb=1e300", "less than or equal to 100000"),
        ("optim.clip=inf", "finite number"),
        ("optim.lr=1e999", "finite number"),
        ("optim.lr=false", "valid number in plain decimal digits"),
        ("workers=100000", "less than or equal to 1024"),
        ("workers=-2", "greater than or equal to -1"),
        ("data.size=1000000", "less than or equal to 32768"),
        ("data.crop=1000000", "less than or equal to 32768"),
        ("model.pointrend.points=1000000000", "less than or equal to 16777216"),
        ("checkpoint_minutes=1e18", "less than or equal to 100000"),
        ("max_hours=1e18", "less than or equal to 100000"),
        ("data.phantom.patients=1000000000", "less than or equal to 100000"),
        ("folds=100000", "less than or equal to"),
        ("data.oversample.rotated=1e9", "less than or equal to 1000"),
        ("predict.tta=[hflip,vflip,rotate,hflip]", "at most 3"),
        ("predict.scales=[" + ",".join(["1"] * 17) + "]", "at most 16"),
        ("predict.scales=[true]", "plain decimal digits"),
        ("predict.window={size:1024,stride:1}", "greater than or equal to 2"),
        ("predict.window=true", "plain decimal digits"),
        ("predict.window={size:1024,stride:8}", "at least 64, a 16th of the size"),
        ("loss.class_weights=true", "valid dictionary"),
        ("data.classes=[" + ",".join(f"c{i}" for i in range(2000)) + "]", "at most 1024"),
        ("devices=[" + ",".join("0" * 2000) + "]", "at most 1024"),
        ("devices=['٣']", "expected numbers of GPUs"),
        ("optim.restarts={cycles:1000}", "less than or equal to 100"),
        ("precision=16", "32"),
        ("optim.options.a=" + "[" * 5000, "nested deeper"),
        ("optim.options.a=" + "1" * 20000, "longer than 16384"),
    ],
)
def test_a_number_that_cannot_be_is_refused_with_its_limit(word, says):
    with pytest.raises(ConfigError) as caught:
        compose(split_words(["data.root=x", word]))
    text = str(caught.value)
    assert says in text
    assert word.partition("=")[0].split(".")[-1] in text
    assert "\n" not in text
    assert len(text) < 600


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("batch=1_0", "not a value ('1_0' is not a decimal number"),
        ("batch=٣", "valid integer in plain"),
        ("batch=0b111", "not a value"),
        ("batch=true", "valid integer in plain"),
        ("batch=1:1:1", "not a value"),
        ("batch=" + "9" * 5000, "not a value"),
        ("workers=10000", "less than or equal to 1024"),
        ("threshold=.nan", "not a value"),
        ("batch=!!bool 3", "not a value"),
        ("window={size:64,stride:1}", "greater than or equal to 2"),
        ("scales=" + "1," * 20, "at most 16"),
        ("scales=inf", "plain decimal digits"),
        ("input_size=320000000", "less than or equal to 32768"),
        ("part=١/٢", "match pattern"),
        ("window=" + "[" * 20000, "not a value"),
        ("window=&a 64", "not a value"),
        ("tta=" + "hflip," * 9, "at most 3"),
        ("batch=010", "not a value"),
        ("scales=1e9", "less than or equal to 4"),
    ],
)
def test_numbers_of_a_command_too(words, says):
    with pytest.raises(ConfigError) as caught:
        typed(InferOptions, split_words([words]))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    "text", ["٢x٢", "1e3x4", "0x5", "5", "x", "-1x2", "1_0x10", "99999999x99999999", "²x2", "9" * 5000 + "x1"]
)
def test_a_size_that_cannot_be_is_refused(text):
    with pytest.raises(ConfigError, match="expected height x width, at most 1073741824 pixels"):
        parse_size(text)


@pytest.mark.parametrize("text", ["٣", "0..٣", "9" * 5000, "0..9999999999", "-1", "1_0", "", "²", "0..", "1..0"])
def test_a_fold_that_cannot_be_is_refused(text):
    with pytest.raises(ConfigError, match=r"^fold="):
        parse_folds(text, 5)


def test_ranges_are_in_ascii_digits():
    with pytest.raises(ConfigError, match="is not a range"):
        validate_as(Oversample, {"age": {"٣..9": 2}})


def test_an_image_has_not_more_windows_than_are_predicted_in_minutes():
    words = ["data.root=x", "data.size=8192", "predict.window={size:64,stride:32}"]
    with pytest.raises(ConfigError, match=r"^predict\.window: 64 with a stride of 32 makes 65025 .* at most 10000"):
        compose(split_words(words))
    assert compose(split_words([*words[:1], "data.size=2048", words[2]])).predict.window.step == 32


def test_rows_of_a_picture_have_limits():
    for text in ("-1", "0", "100000", "٣", "1_0", "true"):
        with pytest.raises(ConfigError, match="rows"):
            typed(PictureOptions, {"out": "a.png", "rows": text})


def test_a_number_may_still_be_written_as_people_do():
    found = compose(split_words(["data.root=x", "optim.lr=3e-4", "epochs=1e2", "batch='4'", "predict.scales=[1,1.5]"]))
    assert (found.optim.lr, found.epochs, found.batch, found.predict.scales) == (3e-4, 100, 4, [1.0, 1.5])
    assert typed(InferOptions, {"threshold": ".5", "window": "64", "batch": "+4"}).window == SlidingWindow(size=64)
    assert validate_as(SegmentPredict, {"window": {"size": 64, "stride": 4}}).window.step == 4


def test_several_kinds_of_odd_numbers_in_nested_options():
    class Options(Strict):
        pair: tuple[float, int] | None = None
        by_name: dict[str, float] | None = None
        text_or_number: str | int = 1

    for bad in ({"pair": [1, True]}, {"pair": ["٣", 1]}, {"by_name": {"a": True}}, {"by_name": {"a": "1_0"}}):
        with pytest.raises(ConfigError, match="plain decimal digits"):
            validate_as(Options, bad)
    assert validate_as(Options, {"text_or_number": "1_0", "pair": [1.5, 2]}).text_or_number == "1_0"


def test_a_long_value_is_refused_at_once():
    with pytest.raises(ConfigError, match="longer than 16384 characters"):
        check_value("optim.options.a", "[" + "1," * 60_000 + "1]")


@pytest.mark.parametrize("word", ["epochs=1_0", "optim.lr=1_0.5", "seed=-1_0"])
def test_a_number_with_underscores_is_refused_in_recipes_too(word):
    with pytest.raises(ConfigError, match="without underscores"):
        compose(split_words([word]))
