"""An exported run against the run: the same masks, without torch; what is broken or cannot be exported is told."""

import json
import os
import shutil
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml

from phalanx.cli import main
from phalanx.config import SegmentPredict
from phalanx.errors import ConfigError, DataError
from phalanx.masks.rle import decode
from phalanx.predict import export, exported
from phalanx.predict.export import ExportOptions, export_run
from phalanx.predict.exported import Difference, open_export, read_description
from phalanx.predict.maps import reordered
from phalanx.predict.opening import open_member
from phalanx.predict.views import crop, probabilities, views_of
from phalanx.runtime.provenance import digest
from phalanx.submission.table import Submission

NEEDED = "needs the extra: pip install '.[onnx]'"
THRESHOLD = "threshold=0.2"  # the tiny runs are seldom sure of more


def masks(csv):
    found = Submission.read(csv)
    return np.concatenate([decode(r, found.sizes[i]).ravel() for i in found.images for r in found.rles(i)])


@pytest.fixture(scope="module")
def exports(runs, tmp_path_factory):
    """Both folds of one tiny run and one of the other, exported: six seconds a fold."""
    pytest.importorskip("onnxscript", reason=NEEDED)
    pytest.importorskip("onnxruntime", reason=NEEDED)
    place = tmp_path_factory.mktemp("exports")
    for name, what in (("fpn", "fpn/fold0"), ("unet", "unet")):
        assert main(["export", what, f"runs={runs}", f"out={place / name}"]) == 0
    return place


@pytest.fixture
def copy(exports, tmp_path):
    return shutil.copytree(exports / "unet", tmp_path / "unet")


@pytest.mark.parametrize(
    ("run", "name", "more"),
    [("fpn/fold0", "fpn", []), ("unet", "unet", ["tta=hflip,vflip,rotate", "workers=2"])],
    ids=["fpn", "unet"],
)
def test_the_csv_of_an_export_is_that_of_the_run(run, name, more, exports, runs, tmp_path):
    found = []
    for kind, source in (("run", runs / run), ("export", exports / name)):
        out = tmp_path / f"{kind}.csv"
        assert (
            main(["infer", f"experiment={source}", f"out={out}", THRESHOLD, "progress=false", "device=cpu", *more]) == 0
        )
        found.append(masks(out))
    assert found[0].mean() > 0.001
    assert (found[0] != found[1]).mean() <= 1e-4
    told = [json.loads(path.read_text())["run_hashes"] for path in sorted(tmp_path.glob("*.json"))]
    assert set(told[0].values()) == set(told[1].values())
    assert len(told[0]) == (2 if run == "unet" else 1)


def test_an_export_votes_beside_its_run(exports, runs, hands, tmp_path):
    """Their mean is the run, at the same threshold."""
    words = [f"data.root={hands}", THRESHOLD, "progress=false", "device=cpu", f"runs={runs}"]
    assert main(["infer", "experiment=unet", f"out={tmp_path / 'run.csv'}", *words]) == 0
    both = f"members={exports / 'unet'},unet"
    assert main(["ensemble", "mode=soft", both, f"out={tmp_path / 'both.csv'}", *words]) == 0
    assert (masks(tmp_path / "run.csv") != masks(tmp_path / "both.csv")).mean() <= 1e-4


def test_predicting_loads_no_torch(exports, hands, tmp_path):
    code = f"""
import sys
from phalanx.cli import main
words = ["data.root={hands}", "{THRESHOLD}", "progress=false", "maps=true"]
assert main(["infer", "experiment={exports / "fpn"}", "out={tmp_path / "a.csv"}", *words]) == 0
members = "members={exports / "unet"},{tmp_path / "a.maps"}"
assert main(["ensemble", "mode=soft", members, "out={tmp_path / "b.csv"}", "allow_misaligned=true", *words]) == 0
loaded = sorted({{"torch", "timm", "albumentations", "pandas", "sklearn"}} & set(sys.modules))
sys.exit(f"loaded {{loaded}}" if loaded else 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(Submission.read(tmp_path / "b.csv").images) == 4


def test_the_description_tells_files_weights_and_differences(exports, runs):
    about = read_description(exports / "unet")
    state = json.loads((runs / "unet" / "fold1" / "final" / "state.json").read_text())
    assert [one.file for one in about.folds] == ["fold0.onnx", "fold1.onnx"]
    assert about.folds[1].weights_sha256 == state["files"]["weights.safetensors"]
    assert (about.side, about.weights, len(about.data.classes)) == (64, "final", 29)
    for one in about.folds:
        assert set(one.differences) == {"random", "real"}
        assert all(d.coarse <= 1e-4 and d.masks <= 1e-4 for d in one.differences.values())


def test_views_and_maps_are_those_of_torch():
    """A made-up network that looks at places and classes, under every view; pairs are exchanged by mirrors."""
    weight = np.random.default_rng(0).normal(size=(3, 32, 32)).astype(np.float32)
    picture = np.random.default_rng(1).integers(0, 256, (32, 32), np.uint8)

    class Session:
        def run(self, names, given):
            return [(given["images"] / 64 - 2 + weight)[:, :].astype(np.float32)]

    class Net:
        def predict(self, images):
            return images.float() / 64 - 2 + torch.from_numpy(weight)

    for tta in ([], ["hflip"], ["vflip"], ["rotate"], ["hflip", "vflip"], ["hflip", "vflip", "rotate"]):
        fold = object.__new__(exported.ExportFold)
        fold.views, fold.pairs, fold.session, fold.classes = (
            views_of(tta),
            [(0, 2)],
            Session(),
            ["a", "b", "c"],
        )
        fold.predict, fold.head, fold.name = SegmentPredict(tta=tta), "sigmoid", "fold"
        expected = probabilities(Net().predict, torch.from_numpy(picture)[None, None], views_of(tta), [(0, 2)])[0]
        np.testing.assert_allclose(fold._maps_of(picture).dense(), expected.dense(), atol=1e-6)
    logits = np.full((2, 8, 8), -200, np.float32)
    logits[0, 2:4, 3:7] = 5
    ours, theirs = crop(logits), crop(torch.from_numpy(logits))
    assert ours.boxes == theirs.boxes == reordered(theirs, []).boxes
    np.testing.assert_allclose(ours.dense(), theirs.dense(), atol=1e-6)
    logits[1, 0, 0] = np.nan
    with pytest.raises(DataError, match="outputs NaN"):
        crop(logits)


def alter_file(folder):
    data = bytearray((folder / "fold1.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "fold1.onnx").write_bytes(data)


def alter_about(folder):
    text = (folder / "export.json").read_text()
    (folder / "export.json").write_text(text.replace('"threshold": 0.5', '"threshold": 0.4'))


def other_classes(folder):
    """A description of one class less, with the digest that fits it."""
    about = json.loads((folder / "export.json").read_text())
    del about["digest"]
    about["data"] |= {"classes": about["data"]["classes"][:-1], "pairs": []}
    (folder / "export.json").write_text(json.dumps(about | {"digest": digest(about)}))


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (alter_file, "fold1.onnx: was altered or cut off"),
        (lambda folder: (folder / "fold0.onnx").unlink(), "fold0.onnx: is missing"),
        (alter_about, "it was altered"),
        (lambda folder: (folder / "fold2.onnx").write_bytes(b""), "fold2.onnx: is not of this export"),
        (lambda folder: os.mkfifo(folder / "fold0.onnx.data"), "fold0.onnx.data: is not of this export"),
        (other_classes, "fold0.onnx: is not the network that export.json describes, from uint8[1, 1, 64, 64] to"),
        (lambda folder: (folder / "export.json").write_text("[1"), "export.json: is not JSON"),
        (lambda folder: (folder / "export.json").write_text("[1]"), "export.json: is not a mapping"),
        (lambda folder: (folder / "export.json").write_text('{"format": "x"}'), "its format is 'x'"),
    ],
)
def test_a_broken_export_is_refused(harm, told, copy, hands, tmp_path, capsys):
    harm(copy)
    assert main(["infer", f"experiment={copy}", f"data.root={hands}", f"out={tmp_path / 'x.csv'}"]) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "x.csv").exists()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"weights": "best"}, "holds the final weights"),
        ({"device": "cuda"}, "on the CPU"),
        ({"precision": "bf16"}, "32 bits"),
        ({"changes": {"input_size": 128}}, "64 x 64 pixels alone.*ask for 128"),
        ({"changes": {"scales": [1.0, 2.0]}}, "ask for 64, 128"),
    ],
)
def test_what_an_export_cannot_do_is_refused(options, told, exports):
    with pytest.raises(ConfigError, match=told):
        open_export(exports / "unet", **options)


def test_windows_of_the_exported_size_are_those_of_the_run(exports, runs, hands, tmp_path):
    words = [f"data.root={hands}", THRESHOLD, "progress=false", "device=cpu", "input_size=128", "window=64"]
    for source in (runs / "unet", exports / "unet"):
        assert main(["infer", f"experiment={source}", f"out={tmp_path / source.parent.name}.csv", *words]) == 0
    one, other = (masks(path) for path in sorted(tmp_path.glob("*.csv")))
    assert one.any()
    assert (one != other).mean() <= 1e-4


def test_without_the_packages_it_says_what_to_install(runs, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert main(["export", "unet", f"runs={runs}", f"out={tmp_path / 'x'}"]) == 2
    assert "pip install '.[onnx]'" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="pip install"):
        exported.open_session(tmp_path / "x.onnx")


class Normed(torch.nn.Module):
    """A network of one group norm, over maps whose level is far above what varies in them."""

    def __init__(self, groups):
        super().__init__()
        self.norm = torch.nn.GroupNorm(groups, 4)
        with torch.no_grad():
            self.norm.weight.copy_(torch.tensor([1.0, -2.0, 0.5, 3.0]))
            self.norm.bias.copy_(torch.tensor([0.1, 0.0, -0.3, 2.0]))

    def forward(self, x):
        far = torch.tensor([0.3, 4.0, 0.7, 0.0], dtype=x.dtype).reshape(1, 4, 1, 1)
        return SimpleNamespace(logits=self.norm(x + far))


@pytest.mark.parametrize("groups", [1, 2, pytest.param(4, marks=pytest.mark.slow)])
def test_norms_over_many_pixels_keep_their_digits(groups, tmp_path):
    """Against float64; onnxruntime's own operator for it is off by more than is allowed here."""
    pytest.importorskip("onnxscript", reason=NEEDED)
    network = SimpleNamespace(core=Normed(groups).eval(), softmax=False)
    picture = export.random_picture(1024)
    export.write_onnx(network, 1024, tmp_path / "x.onnx")
    [found] = exported.open_session(tmp_path / "x.onnx").run(["coarse"], {"images": picture[None, None]})
    with torch.inference_mode():
        x = export.normalise(torch.from_numpy(picture)[None, None]).double()
        exact = Normed(groups).double().eval()(x).logits.numpy()
    assert np.abs(found - exact).max() < 5e-6  # that operator: 1e-4 and more


@pytest.mark.parametrize("shape", [(2, 6, 5, 4), (1, 6, 1, 1), (2, 6, 3, 4, 2)])
@pytest.mark.parametrize("affine", [True, False])
def test_the_exported_group_norm_is_torch_s(shape, affine):
    rng = torch.Generator().manual_seed(0)
    x, weight, bias = (torch.randn(size, generator=rng, dtype=torch.float64) for size in (shape, 6, 6))
    told = (weight, bias) if affine else (None, None)
    torch.testing.assert_close(export.group_norm(x, 3, *told), torch.nn.functional.group_norm(x, 3, *told))


def test_a_file_that_is_no_network_is_told(tmp_path):
    pytest.importorskip("onnxruntime", reason=NEEDED)
    (tmp_path / "x.onnx").write_bytes(b"nothing")
    with pytest.raises(DataError, match="cannot load it"):
        exported.open_session(tmp_path / "x.onnx")


def test_a_network_that_differs_is_not_exported(exports, runs, tmp_path, monkeypatch):
    written = exports / "unet"
    monkeypatch.setattr(export, "write_onnx", lambda network, side, path: shutil.copy(written / path.name, path))
    for found, told in (({"coarse": 2e-4, "masks": 0}, "coarse logits differ"), ({"coarse": 0, "masks": 0.01}, "mask")):
        monkeypatch.setattr(export, "compare", lambda *_, found=found: Difference(**found))
        with pytest.raises(DataError, match=told):
            export_run("unet", ExportOptions(runs=runs, out=tmp_path / "x"))
        assert list(tmp_path.iterdir()) == []


def test_where_torch_itself_is_less_exact_an_export_may_be_so_too(exports, runs, tmp_path, monkeypatch):
    monkeypatch.setattr(
        export, "write_onnx", lambda network, side, path: shutil.copy(exports / "unet" / path.name, path)
    )
    monkeypatch.setattr(export, "compare", lambda *_: Difference(coarse=2e-4, masks=0))
    monkeypatch.setattr(export, "rounding", lambda *_: 9e-5)
    with pytest.raises(DataError, match=r"coarse logits differ by 0\.0002 .* 0\.00018 is allowed"):
        export_run("unet", ExportOptions(runs=runs, out=tmp_path / "x"))
    monkeypatch.setattr(export, "rounding", lambda *_: 1.1e-4)
    about = read_description(export_run("unet", ExportOptions(runs=runs, out=tmp_path / "x")))
    assert about.folds[0].differences["real"].rounding == 1.1e-4


@pytest.mark.parametrize("name", ["fpn", "unet"])
def test_rounding_is_that_of_32_bits(name, runs):
    network = open_member(str(runs / name / "fold0"), runs=runs, device="cpu").folds[0].network
    first = export.rounding(network, export.random_picture(64))
    assert 0 < first < 1e-4
    assert next(network.parameters()).dtype == torch.float32
    assert export.rounding(network, export.random_picture(64)) == first


def test_a_difference_is_seen(exports, runs):
    """Another fold's network in the file: what the comparison is for."""
    network = open_member(str(runs / "unet" / "fold0"), runs=runs, device="cpu").folds[0].network
    session = exported.open_session(exports / "unet" / "fold1.onnx")
    found = export.compare(network, session, export.random_picture(64), 0.1)
    assert found.coarse > 1e-2
    assert found.masks > 1e-4


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"model": {"metadata": ["sex"]}}, "conditioned on metadata"),
        ({"predict": {"scales": [0.5, 1.0]}}, "grids of 32, 64 pixels"),
        ({"data": {"blackout": 80}}, "another data.blackout than"),
    ],
)
def test_runs_that_cannot_be_exported_are_refused(change, told, runs, tmp_path):
    pytest.importorskip("onnxruntime", reason=NEEDED)
    for fold in ("fold0", "fold1"):
        shutil.copytree(runs / "unet" / fold, tmp_path / "x" / fold)
        if fold == "fold0" and "data" in change:
            continue
        path = tmp_path / "x" / fold / "config.yaml"
        config = yaml.safe_load(path.read_text())
        for section, values in change.items():
            config[section] |= values
        path.write_text(yaml.safe_dump(config))
    with pytest.raises((ConfigError, DataError), match=told):
        export_run("x", ExportOptions(runs=tmp_path, out=tmp_path / "out"))


def test_mistakes_at_the_command_line_are_told(runs, tmp_path, capsys):
    pytest.importorskip("onnxruntime", reason=NEEDED)
    for words, told in (
        ([], "expected one RUN or FOLD"),
        (["unet", "ouz=x"], "ouz: no such option; did you mean out?"),
        (["nosuch", f"runs={runs}"], "no trained run of that name"),
        (["unet", f"runs={runs}", f"out={tmp_path}"], "exists; move it away"),
    ):
        assert main(["export", *words]) == 2
        assert told in capsys.readouterr().err
