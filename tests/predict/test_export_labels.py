"""An exported classifier against its run: the same probabilities, without torch."""

import json
import subprocess
import sys

import numpy as np
import pytest
from tests import labelled

from phalanx.cli import main
from phalanx.predict.exported_labels import probabilities_of
from phalanx.submission.probabilities import Probabilities

NEEDED = "needs the extra: pip install '.[onnx]'"
QUIET = ["progress=false", "device=cpu"]


def test_probabilities_are_those_of_logits():
    logits = np.array([[-800.0, 0.0, 800.0]], np.float32)
    assert probabilities_of(logits, "sigmoid").tolist() == [[0.0, 0.5, 1.0]]
    assert probabilities_of(logits, "softmax").tolist() == [[0.0, 0.0, 1.0]]


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["folders", "table"])
def test_an_exported_classifier_predicts_the_same(layout, tmp_path, capsys, monkeypatch):
    pytest.importorskip("onnxscript", reason=NEEDED)
    pytest.importorskip("onnxruntime", reason=NEEDED)
    monkeypatch.chdir(tmp_path)
    make = labelled.make_folders if layout == "folders" else labelled.make_table
    root = make(tmp_path / "set")
    words = labelled.words(root, layout, fold="0,1", name="bars", runs=tmp_path / "runs", data__pairs="[[up,flat]]")
    assert main(["train", *(f"{key}={value}" for key, value in words.items())]) == 0
    assert main(["export", "bars"]) == 0
    assert "real picture: logits" in capsys.readouterr().out
    for name, source in (("run", "bars"), ("export", "exports/bars")):
        assert main(["infer", f"experiment={source}", f"out={name}.csv", "tta=hflip", *QUIET]) == 0
    run, export = (Probabilities.read(f"{name}.csv") for name in ("run", "export"))
    assert (run.images, run.classes, run.head) == (export.images, export.classes, export.head)
    assert np.abs(run.values - export.values).max() < 1e-5
    assert set(run.run_hashes.values()) == set(export.run_hashes.values())
    code = (
        "import sys; sys.modules['torch'] = None; from phalanx.cli import main\n"
        "sys.exit(main(['infer', 'experiment=exports/bars', 'out=alone.csv', 'tta=hflip', 'progress=false']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "alone.csv").read_bytes() == (tmp_path / "export.csv").read_bytes()
    both = ["mode=soft", "members=bars,exports/bars", "allow_misaligned=true", "out=both.csv", *QUIET]
    assert main(["ensemble", *both]) == 0
    capsys.readouterr()
    for more, text in (
        (["weights=best"], "holds the final weights"),
        (["device=cuda"], "is predicted on the CPU"),
        (["precision=bf16"], "computes in 32 bits"),
    ):
        assert main(["infer", "experiment=exports/bars", "out=no.csv", "progress=false", *more]) == 2
        assert text in capsys.readouterr().err
    about = json.loads((tmp_path / "exports/bars/export.json").read_text())
    (tmp_path / "exports/bars/export.json").write_text(json.dumps(about | {"head": "other"}))
    assert main(["infer", "experiment=exports/bars", "out=no.csv", *QUIET]) == 2
    assert "it was altered" in capsys.readouterr().err
    assert main(["export", "bars"]) == 2
    assert "exports/bars: exists" in capsys.readouterr().err
