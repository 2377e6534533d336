"""Words of the command line, and YAML: options, or one line."""

from pathlib import Path
from typing import Any

import pytest

from phalanx.commands.args import number_of, plain_words, split_places
from phalanx.config.compose import compose, parse_folds, split_words
from phalanx.config.overrides import check_value
from phalanx.config.plain import read_plain
from phalanx.config.words import typed, words_of
from phalanx.ensemble.options import EnsembleOptions, InferOptions
from phalanx.sweep.options import SweepOptions
from phalanx.visualize.overlay import PictureOptions

from .harness import Format, fuzz, seconds_of_a_test

COMPOSED = r"""
data.root=/data/한글 (사본), 1
data.classes=[a, b]
data.size=64
data.oversample=null
data.pairs=[]
fold=0..2
epochs=3
optim.lr=3e-4
predict.window={size: 64, stride: 32}
predict.scales=[0.5, 1]
loss.class_weights.a=2
devices=0,1
name=run1
"""
TYPED = r"""
members="a, b.csv",c
mode=hard
out=b.csv
data.root='/a b'
window={size:1024,stride:512,skip_empty:true}
scales=0.75,1,1.25
tta=hflip,vflip
threshold=0.5
batch=4
workers=2
devices=0,1
size=48x64
weights=2,1
part=1/2
progress=false
rows=4
"""
RECIPE = """
# a recipe
name: base
data: {name: hand, root: /data, classes: [a, "b", 'c d'], size: 64}
optim:
  lr: 0.0003
  options: {betas: [0.9, 0.999], eps: 1.0e-08}
loss:
  stages:
    - weights: {bce: 1, dice: 2.5}
      until: {epochs: 3}
    - weights: {bce: 1}
seed: 12
progress: true
predict: null
text: |
  several
  lines
"""


def _words(folder: Path) -> list[str]:
    """The words of a file, as a shell hands them over: without NUL, others than UTF-8 as surrogates."""
    content = (folder / "words").read_bytes().replace(b"\0", b"")[:100_000]
    return [line.decode(errors="surrogateescape") for line in content.split(b"\n") if line]


def read_composed(folder: Path) -> Any:
    pairs = split_words(plain_words(_words(folder)))
    folds = parse_folds(pairs.pop("fold", "0"), 5)
    return compose(pairs), folds


def read_values(folder: Path) -> Any:
    """The words one by one, as Hydra would parse them."""
    for word in _words(folder):
        key, _, value = word.partition("=")
        check_value(key, value)


def read_typed(folder: Path) -> Any:
    _, pairs = split_places(plain_words(_words(folder)))
    number_of(pairs.get("threshold", ""))
    found = typed(EnsembleOptions, {key: value for key, value in pairs.items() if key != "rows"})
    typed(PictureOptions, {"out": "a.png"} | {key: value for key, value in pairs.items() if key == "rows"})
    words = words_of(found, [name for name in InferOptions.model_fields if name not in ("workers", "devices")])
    again = typed(EnsembleOptions, split_words([*words, f"members={pairs['members']}", f"mode={pairs['mode']}"]))
    assert {name: getattr(again, name) for name in ("root", "out", "window", "scales", "tta", "images")} == {
        name: getattr(found, name) for name in ("root", "out", "window", "scales", "tta", "images")
    }
    return found


def read_sweep(folder: Path) -> Any:
    return SweepOptions.read(*split_places(plain_words(_words(folder))))


def formats(place: Path) -> list[Format]:
    sweep = b"epochs\nseeds=0,1\nscale=small\nfold=0\ndevices=cpu,cpu\nworkers=0\n"
    return [
        Format("words of recipes", {"words": COMPOSED.encode()}, read_composed, text=True, names=False),
        Format(
            "values",
            {"words": b"optim.lr=3e-4\npredict.window={size: 64, stride: 32}\n"},
            read_values,
            text=True,
            names=False,
        ),
        Format("words of commands", {"words": TYPED.encode()}, read_typed, text=True, names=False),
        Format("words of sweeps", {"words": sweep}, read_sweep, text=True, names=False),
        Format("YAML", {"config.yaml": RECIPE.encode()}, lambda folder: read_plain(folder / "config.yaml"), text=True),
    ]


@pytest.mark.parametrize("name", [form.name for form in formats(Path())])
def test_damaged_words_are_read_or_refused(name, tmp_path):
    (form,) = (form for form in formats(tmp_path) if form.name == name)
    report = fuzz(form, tmp_path, seconds=seconds_of_a_test(slow=False))
    assert not report.findings
    assert report.cases
