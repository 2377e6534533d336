"""What a training prints: one header, a line per epoch, warnings of what never happens, and no long silence."""

import json
import re

import pytest
from tests.runtime.test_progress import drawn, longest_silence, on_terminal

from phalanx.cli import main
from phalanx.runs.reader import FoldRun

STAGES = "[{weights:{bce:0.5,dice:0.5},until:{epochs:2}},{weights:{bce:1,lovasz:0.5}}]"
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def printed(tiny, tmp_path_factory):
    """Lines of a training without a terminal, by stream, and its folder."""
    import contextlib
    import io

    runs, out = tmp_path_factory.mktemp("printed") / "runs", io.StringIO()
    words = tiny("unet", fold=0, name="r", runs=runs, epochs=4, progress="true", loss__stages=STAGES, device="auto")
    with contextlib.redirect_stdout(out):
        assert main(["train", *words]) == 0
    return out.getvalue().splitlines(), runs / "r" / "fold0"


def test_the_header_comes_once_and_names_what_is_trained(printed):
    lines, _ = printed
    header = "\n".join(lines[: next(i for i, line in enumerate(lines) if line.startswith("epoch 1/"))])
    for text in (
        "r: fold0 of 2 folds", r"trained on 6 \(3 patients\), held out 6 \(3 patients\), 64 pixels", "device     CPU",
        "no GPU: ", "precision  32", r"network +\d.\d\d M parameters \(encoder ", "4 epochs, 12 steps of 2 images",
        "adamw, learning rate 0.01, cosine", r"29, may overlap \(sigmoids\); metric dice",
        r"stage 1: 0.5 bce \+ 0.5 dice, for 2 epochs", r"stage 2: 1 bce \+ 0.5 lovasz, to the end",
    ):  # fmt: skip
        assert len(re.findall(text, header)) == 1, (text, header)


def test_each_epoch_is_one_line_with_its_terms_metric_rate_and_time(printed):
    lines, folder = printed
    epochs = [line for line in lines if line.startswith("epoch ")]
    assert [line.partition(":")[0] for line in epochs] == [f"epoch {n}/4" for n in (1, 2, 3, 4)]
    logged = FoldRun(folder).log("epoch")
    for number, (line, values) in enumerate(zip(epochs, logged, strict=True)):
        term = "dice" if number < 2 else "lovasz"
        for text in (
            f"loss {values['loss']:.4f} (bce {values['loss/bce']:.4f}, {term} {values[f'loss/{term}']:.4f})",
            f", dice {values['dice']:.4f}, ", f", lr {values['lr']:.1e}, 0:0",
        ):  # fmt: skip
            assert text in line, (text, line)
    validated = {line["epoch"]: line["held_out/dice"] for line in FoldRun(folder).log("validate")}
    assert validated.keys() == {2, 4}
    assert all((f"held-out dice {validated.get(n + 1, -1):.4f}" in line) == (n + 1 in validated)
               for n, line in enumerate(epochs))  # fmt: skip


def test_classes_are_folded_to_the_worst_five_and_a_file_has_the_rest(printed):
    lines, folder = printed
    [last] = [line for line in lines[-40:] if "worst of 29 classes (all: curves.csv)" in line][-1:]
    values = {k.split("/", 3)[3]: v for k, v in FoldRun(folder).log("validate")[-1].items() if "/class/" in k}
    assert len(values) == 29
    shown = re.findall(r"([\w-]+) (\d\.\d{4})", last.partition("): ")[2])
    assert [float(value) for _, value in shown] == pytest.approx(sorted(values.values())[:5], abs=6e-5)
    assert all(values[name] == pytest.approx(float(value), abs=6e-5) for name, value in shown)
    assert "the worst 5 of 29 classes; oof_score.json has all" in lines
    assert len(json.loads((folder / "oof_score.json").read_text())["classes"]) == 29
    table = lines[
        next(k for k, line in enumerate(lines) if line.startswith("class       present    dice  95% interval")) + 1 :
    ]
    assert len(table[: table.index("the worst 5 of 29 classes; oof_score.json has all")]) == 5


def test_without_progress_only_validations_and_results_are_printed(tiny, tmp_path, capsys):
    assert main(["train", *tiny("unet", fold=0, name="q", runs=tmp_path / "runs", epochs=4)]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    assert [line.partition(":")[0] for line in shown.out.splitlines() if line.startswith("epoch")] == [
        "epoch 2/4", "epoch 4/4"
    ]  # fmt: skip
    assert "device" not in shown.out


@pytest.mark.parametrize(
    ("stages", "epochs", "text"),
    [
        ("[{weights:{bce:1},until:{epochs:4}},{weights:{dice:1}}]", 4, "warning: loss stage 2 of 2 never begins: it "
         "comes after 4 epochs or more, and epochs=4; give epochs=5 or more"),
        ("[{weights:{bce:1},until:{epochs:3}},{weights:{dice:1}}]", 4, None),
        ("[{weights:{bce:1},until:{dice:0.99}},{weights:{dice:1}}]", 2, "loss stage 2 of 2 never began: the training "
         "Dice is"),
        ("[{weights:{bce:1},until:{dice:0.99}},{weights:{dice:1},until:{epochs:1}},{weights:{bce:1}}]", 2,
         "warning: loss stage 3 of 3 never begins"),
    ],
)  # fmt: skip
def test_stages_that_never_begin_are_said(tiny, tmp_path, capsys, stages, epochs, text):
    words = tiny("unet", fold="all", name="s", runs=tmp_path, epochs=epochs, loss__stages=stages)
    assert main(["train", *words]) == 0
    out = capsys.readouterr().out
    assert (text in out) if text else not re.search("never beg[ai]n", out)


def test_epochs_count_from_one_everywhere(printed, capsys):
    lines, folder = printed
    log = FoldRun(folder).log()
    assert [line["epoch"] for line in log if line["event"] == "epoch"] == [1, 2, 3, 4]
    assert all(line["epoch"] >= 1 for line in log if "epoch" in line)
    rows = (folder / "curves.csv").read_text().splitlines()
    place = rows[0].split(",").index("epoch")
    assert [row.split(",")[place] for row in rows[1:]] == ["1", "2", "3", "4"]
    assert not [line for line in lines if re.search(r"\bepoch 0\b", line)]
    assert [line["stage"] for line in log if line["event"] == "stage"] == [2]


@pytest.mark.parametrize("columns", [pytest.param(80, marks=pytest.mark.slow), 40])
def test_on_a_terminal_a_training_is_never_silent_and_its_bar_fits(tiny, tmp_path, columns):
    words = tiny("unet", fold=0, name="t", runs=tmp_path / "runs", epochs=40, progress="true", validate_every=10)
    pieces = on_terminal(["train", *words], columns, OMP_NUM_THREADS="1")
    bars = [line for line in drawn(pieces) if line.startswith("fold0  ")]
    assert bars
    assert max(map(len, bars)) < columns
    assert any(re.search(r"epoch \d+/40  loss \d", line) for line in bars)
    assert longest_silence(pieces, pieces[0][0]) < 2
