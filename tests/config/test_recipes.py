"""Recipes resolve; what is misspelt is refused in one line that names the key and the nearest valid one."""

import re
import shutil

import pytest
import yaml
from pydantic import BaseModel

from phalanx.config import (
    RUNTIME_KEYS,
    Augment,
    ClassifyConfig,
    ClassifyData,
    ClassifyLoss,
    ClassifyModel,
    DetectConfig,
    DetectData,
    DetectLoss,
    DetectModel,
    Loss,
    Optim,
    RestoreConfig,
    SegmentConfig,
    SegmentData,
    SegmentModel,
    known_keys,
    read_plain,
    validate,
    validate_as,
)
from phalanx.config.base import RENAMED
from phalanx.config.classify_loss import HEADS
from phalanx.config.compose import compose, config_folder, parse_folds, split_words
from phalanx.config.overrides import NOT_OF_A_RECIPE
from phalanx.config.restore import RestoreLoss
from phalanx.errors import ConfigError

FILES = sorted(path for path in config_folder().rglob("*.yaml") if path.parent.name not in NOT_OF_A_RECIPE)
GROUPS = [path for path in FILES if path.parent != config_folder()]


LABELS = ("folders", "table", "presence")  # layouts
RESTORES = ("mse", "l1")  # names of losses
BOXES = ("polygons", "coco_boxes", "boxes")  # layouts
GENERAL = [key for key in SegmentConfig.model_fields if key not in ("name", *(path.parent.name for path in FILES))]


def arrived(written, found):
    """Whether what a file says stands in the result, which may hold more."""
    if isinstance(written, dict):
        return found is not None and all(key in found and arrived(written[key], found[key]) for key in written)
    if isinstance(written, list):
        return len(written) == len(found) and all(map(arrived, written, found))
    return written == found


@pytest.mark.parametrize("path", GROUPS, ids=lambda path: f"{path.parent.name}={path.stem}")
def test_every_file_composes_and_its_values_arrive(path):
    group, name = path.parent.name, path.stem
    values = yaml.safe_load(path.read_text()) or {}
    pairs = {group: name, "data.root": "/data"}
    if group != "experiment" and task_of(group, values) == "detect":
        outlines = values.get("layout") != "boxes"  # a CSV of boxes has none for masks
        pairs |= {"experiment": "hand_mask_rcnn" if outlines else "teeth_tooth_faster", "name": "base"}
    elif group != "experiment" and task_of(group, values) == "restore":
        pairs |= {"experiment": "brain_restore", "name": "base"}
    elif group != "experiment" and task_of(group, values) == "classify":
        pairs |= {"experiment": "brain", "name": "base"}
        heads = HEADS[values["name"]] if group == "loss" else ("sigmoid" if group == "data" else "softmax",)
        pairs |= {"model.head": heads[0]} | ({"loss": "bce"} if group == "data" else {})
    elif group == "model" and values.get("pointrend", "default") is None:
        pairs["loss"] = "bce5_dice5"
    elif group == "loss" and not any("point" in stage["weights"] for stage in values["stages"]):
        pairs["model.pointrend"] = "null"
    config = compose(pairs)
    assert config.name == (name if group == "experiment" else "base")
    found = config.model_dump(mode="json")
    for key, value in values.items():
        if group == "experiment" and key not in ("defaults", *GENERAL):
            assert arrived(value, found[key]), key
        elif group != "experiment" and key != "root":
            assert arrived(value, found[group][key]), key
    for line in values.get("defaults", []):  # what an experiment chooses is what it gets
        for target, choice in line.items():
            part = target.removeprefix("override /")
            chosen = yaml.safe_load((config_folder() / part / f"{choice}.yaml").read_text()) or {}
            for key, value in chosen.items():
                if not isinstance(value, dict | list) and key not in values.get(part, {}) and key != "root":
                    assert found[part][key] == value


def test_an_experiment_wins_over_the_general_values():
    for path in GROUPS:
        values = yaml.safe_load(path.read_text()) or {}
        if path.parent.name == "experiment":
            config = compose({"experiment": path.stem, "data.root": "/data"}).model_dump(mode="json")
            assert all(arrived(values[key], config[key]) for key in GENERAL if key in values), path.stem


KINDS = {"model": SegmentModel, "loss": Loss, "augment": Augment, "optim": Optim, "data": SegmentData}
CLASSIFY_KINDS = KINDS | {"model": ClassifyModel, "loss": ClassifyLoss, "data": ClassifyData}


def task_of(group, values):
    """The task of a file of a group, by the options that only one has."""
    if group == "experiment":
        return values.get("task", "segment")
    if group == "loss" and values.get("name") in RESTORES:
        return "restore"
    of_boxes = {"model": "architecture" in values, "data": values.get("layout") in BOXES}
    if of_boxes.get(group, group == "loss" and not {"name", "stages"} & values.keys()):
        return "detect"
    only = {"model": "arch" not in values, "loss": "stages" not in values, "data": values.get("layout") in LABELS}
    return "classify" if only.get(group) else "segment"


def restated(values, kind, passed_over=()):
    """Dotted keys of plain values that say what the kind's default is."""
    found = []
    for key, value in (values or {}).items():
        field = kind.model_fields.get(key)
        if field is None or key in passed_over or field.is_required():
            continue
        default = field.get_default(call_default_factory=True)
        if isinstance(default, BaseModel) and isinstance(value, dict):
            found += [f"{key}.{inner}" for inner in restated(value, type(default))] or [key] * (not value)
        elif value == (default.model_dump() if isinstance(default, BaseModel) else default):
            found.append(key)
    return found


@pytest.mark.parametrize("path", GROUPS, ids=lambda path: f"{path.parent.name}={path.stem}")
def test_no_file_restates_a_default(path):
    values, group = yaml.safe_load(path.read_text()), path.parent.name
    # sections of an experiment differ from the file of their group, not from the default
    sections = () if group in KINDS else ("task", "predict", *KINDS)
    kinds, whole = {
        "segment": (KINDS, SegmentConfig),
        "classify": (CLASSIFY_KINDS, ClassifyConfig),
        "detect": (KINDS | {"model": DetectModel, "loss": DetectLoss, "data": DetectData}, DetectConfig),
        "restore": (CLASSIFY_KINDS | {"loss": RestoreLoss}, RestoreConfig),
    }[task_of(group, values or {})]
    assert restated(values, kinds.get(group, whole), sections) == []


def test_config_yaml_states_choices_alone():
    assert set(yaml.safe_load((config_folder() / "config.yaml").read_text())) == {"defaults"}


def test_a_restated_default_is_seen():
    assert restated({"norm": "group", "encoder": "x", "pointrend": {"points": 8096, "hidden": 3}}, SegmentModel) == [
        "norm", "pointrend.points",
    ]  # fmt: skip
    assert restated({"pointrend": {}, "drop_path": None}, SegmentModel) == ["pointrend", "drop_path"]


def test_without_words_the_base_recipe_is_made():
    config = compose({})
    assert (config.name, config.data.name, len(config.data.classes), config.data.size) == ("base", "hand", 29, 2048)
    assert config.model.arch == "fpn"


def test_an_override_goes_with_an_experiment_and_wins():
    config = compose(split_words(["experiment=demo_fpn", "optim.lr=3e-4", "name=mine", "data.root=/a b/x", "folds=3"]))
    assert (config.name, config.optim.lr, str(config.data.root), config.folds) == ("mine", 3e-4, "/a b/x", 3)
    assert config.epochs == compose({"experiment": "demo_fpn"}).epochs


def test_a_config_survives_being_written_and_read():
    """A run keeps its config as YAML and is continued from it."""
    config = compose({"experiment": "demo_fpn"})
    again = validate(yaml.safe_load(yaml.safe_dump(config.model_dump(mode="json"))))
    assert again == config


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("epoch=5", "epoch: no such option; did you mean epochs?"),
        ("lr=3e-4", "lr: no such option; did you mean optim.lr?"),
        ("model.lr=3e-4", "model.lr: no such option; did you mean optim.lr?"),
        ("modle=fpn_b3", "modle: no such option; did you mean model?"),
        ("optm.lr=1", "optm.lr: no such option; did you mean optim.lr?"),
        ("optim.lrr=1", "optim.lrr: no such option; did you mean lr?"),
        ("optim.lr.x=1", "optim.lr={'x': 1}: input should be a valid number"),
        ("data.phantom.patient=3", "data.phantom.patient: no such option; did you mean patients?"),
        ("model.pointrend.pionts=5", "model.pointrend.pionts: no such option; did you mean points?"),
        ("model.norm=batc", "model.norm='batc': input should be 'group', 'batch', 'instance' or 'layer'"),
        ("model.reinit_head=true", "model.reinit_head: needs model.init_from, the run to start from"),
        ("optim.freeze.stages=0", "optim.freeze.stages=0: input should be greater than or equal to 1"),
        ("optim.freeze.epochs=3", "optim.freeze.stages: missing; give it as optim.freeze.stages=..."),
        ("optim.freeze={stages:2,epochs:101}", "optim.freeze.epochs: 101 of 100 epochs; omit it to freeze"),
        ("optim.layer_decay=0", "optim.layer_decay=0: input should be greater than 0"),
        ("optim.encoder_lr_factor=2", "optim.encoder_lr_factor=2: input should be less than or equal to 1"),
        ("model.drop_path=1", "model.drop_path=1: input should be less than 1"),
        (
            "loss.stages=[{weights:{bce:1},untill:{epochs:3}}]",
            "loss.stages.0.untill: no such option; did you mean until?",
        ),
        ("augment.elastic.cel=1", "augment.elastic.cel: no such option; did you mean cell?"),
        ("model=fpn_b4", "model=fpn_b4: no configs/model/fpn_b4.yaml; did you mean fpn_b3?"),
        ("experiment=demo_fp", "experiment=demo_fp: no configs/experiment/demo_fp.yaml; did you mean demo_fpn?"),
        ("experiment=base,demo_fpn", "experiment=base,demo_fpn: no configs/experiment/"),
        ("optim=", "optim=: no configs/optim/.yaml; known: adam_cosine"),
        ("optim.name=adamq", "optim.name: 'adamq' is not an optimizer; did you mean adam? Known: adabelief, adadelta"),
        ("optim.name=best", "optim.name: 'best' is not an optimizer. Known: adabelief, adadelta"),
        ("optim.schedule=cosin", "optim.schedule='cosin': input should be 'cosine', 'cosine_restarts', 'linear'"),
        ("optim.power=2", "optim.power: only schedule=poly reads it, this is cosine; set it to null"),
        ("optim.restarts.cycles=3", "optim.restarts: only schedule=cosine_restarts reads it"),
        ("optim.monitor.split=train", "optim.monitor: only schedule=plateau and early_stop read it; set it to null"),
        (
            "optim.options.eps={a:1}",
            "optim.options.eps: expected a number, a string or a list of numbers, got {'a': 1}",
        ),
        ("optim.lr=fast", "optim.lr='fast': input should be a valid number"),
        ("optim.lr=0", "optim.lr=0: input should be greater than 0"),
        ("epochs=", "epochs='': input should be a valid integer"),
        ("data.size=100", "data.size=100: input should be a multiple of 32"),
        ("predict.tta=[hflop]", "predict.tta.0='hflop': input should be 'hflip', 'vflip' or 'rotate'"),
        ("predict.window={size:1024,stride:2000}", "predict.window.stride: 2000 leaves gaps between windows of 1024"),
        (
            "data.pairs=[[Ulna,Radius],[Ulna,Lunate]]",
            "data.pairs: 'Ulna' appears twice; a class has at most one partner",
        ),
        ("data.pairs=[[Ulna,Radus]]", "data.pairs: 'Radus' is not a class; did you mean Radius?"),
        ("data.classes=[a,a]", "data.classes: a name appears twice"),
        ("data.phantom=null", "data.root: name the data set's folder, as in data.root=/path/to/dataset"),
        ("model.pointrend=null", "loss: the term 'point' needs a head: set model.pointrend, or remove the term"),
        ("loss.class_weights.Pisifrm=2", "loss.class_weights: 'Pisifrm' is not a class; did you mean Pisiform?"),
        ("loss.options.bce.pos_weight.Uln=2", "loss.options.bce.pos_weight: 'Uln' is not a class; did you mean Ulna?"),
        ("loss.options.bce.smothing=0.1", "loss.options.bce.smothing: no such option; did you mean smoothing?"),
        ("loss.options.focal.gamma=1", "loss.options.focal: no stage has the term 'focal', so it would not be used"),
        ("loss=bce5_dice5", "model.pointrend: no loss stage has the term 'point', so the head would never learn"),
        ("optim.lr=1e-3,1e-4", "optim.lr=1e-3,1e-4: expected one value; a list is written optim.lr=[1e-3,1e-4]"),
        ("optim.lr=range(1,3)", "optim.lr=range(1,3): expected one value"),
        ("optim.lr=[1", "optim.lr=[1: cannot be parsed; put quotes around"),
        ("data.root=", "data.root=: expected the name of a file or folder"),
        ("optim.options.a=(b)", "optim.options.a=(b): cannot be parsed; put quotes around"),
        ("data.name=${nope}", "data.name=${nope}: ${...} is not resolved here; write the value itself"),
        ("name=${oc.env:HOME}", "name=${oc.env:HOME}: ${...} is not resolved here"),
        ("name=../elsewhere", "name: '../elsewhere' is not a plain folder name"),
        ("name=.hidden", "name: '.hidden' is not a plain folder name"),
        ("name=", "name: '' is not a plain folder name"),
    ],
)
def test_a_wrong_word_is_refused_in_one_line(word, message):
    with pytest.raises(ConfigError, match="^" + re.escape(message)) as found:
        compose(split_words([word]))
    text = str(found.value)
    assert "\n" not in text
    assert not re.search(r"\+\+|hydra|--multirun|omegaconf", text, re.IGNORECASE)  # the user never met those


OLD = sorted(set(RENAMED) - {"model.options.most"})  # the options of an architecture are checked when it is built


@pytest.mark.parametrize("key", OLD)
def test_an_old_key_is_refused_with_its_new_name(key):
    words = {"loss.options.point.dice": ["loss=bce_dice"], "predict.window.skip": ["predict.window.size=64"]}
    with pytest.raises(ConfigError, match=f"^{re.escape(key)}: no such option; it is now {re.escape(RENAMED[key])}$"):
        compose(split_words([*words.get(key, []), f"{key}=1"]))


def test_the_new_names_exist_and_the_old_ones_do_not():
    for old, new in RENAMED.items():
        if old in OLD:
            section, _, name = new.split()[0].rpartition(".")
            assert name in known_keys(SegmentConfig, section)
            assert old.rpartition(".")[2] not in known_keys(SegmentConfig, old.rpartition(".")[0])


def test_several_faults_are_told_at_once():
    with pytest.raises(ConfigError) as found:
        compose(split_words(["optim.lrr=1", "epochs=0", "data.sise=64"]))
    parts = [part for part in str(found.value).split("; ") if "=" in part or ":" in part]
    assert sorted(part.split(":")[0].split("=")[0] for part in parts) == ["data.sise", "epochs", "optim.lrr"]


@pytest.mark.parametrize("words", [["fold"], ["=3"], ["--fold=1", "x"], [""]])
def test_a_word_without_key_or_value_is_refused(words):
    with pytest.raises(ConfigError, match="expected key=value, as in fold=0"):
        split_words(words)


def test_a_doubled_key_is_refused_and_a_value_may_hold_an_equals_sign():
    with pytest.raises(ConfigError, match=r"^optim\.lr: given twice"):
        split_words(["optim.lr=1", "seed=1", "optim.lr=1"])
    assert split_words(["a=b=c", "d="]) == {"a": "b=c", "d": ""}


@pytest.mark.parametrize(
    ("text", "folds"),
    [
        ("0", [0]), ("4", [4]), ("0,2", [0, 2]), ("2,0", [2, 0]), ("0..4", [0, 1, 2, 3, 4]), ("1..1", [1]),
        ("0..1,3", [0, 1, 3]), ("1,1,0..1", [1, 0]), ("0, 2", [0, 2]), ("all", [None]),
    ],
)  # fmt: skip
def test_folds_are_one_some_a_range_or_all(text, folds):
    assert parse_folds(text, 5) == folds


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("7", "fold=7: fold 7 of 5; there are 0..4 (folds=5)"),
        ("0..5", "fold=0..5: fold 5 of 5"),
        ("4..2", "fold=4..2: an empty range; the first fold comes first"),
        ("", "fold=: expected one fold (0), some (0,2), a range (0..4) or all"),
        ("0,", "fold=0,: expected"),
        ("-1", "fold=-1: expected"),
        ("0-4", "fold=0-4: expected"),
        ("0...4", "fold=0...4: expected"),
        ("[0,1]", "fold=[0,1]: expected"),
        ("1.0", "fold=1.0: expected"),
        ("0,all", "fold=0,all: expected"),
        ("x", "fold=x: expected"),
    ],
)
def test_other_folds_are_refused(text, message):
    with pytest.raises(ConfigError, match="^" + re.escape(message)):
        parse_folds(text, 5)


def test_runtime_keys_exist():
    """A key misspelt there would make a harmless change refuse to continue a run."""
    for key in RUNTIME_KEYS:
        parent, _, name = key.rpartition(".")
        assert name in known_keys(SegmentConfig, parent)


def test_a_missing_value_is_asked_for():
    with pytest.raises(ConfigError, match=r"^encoder: missing; give it as encoder=\.\.\.$"):
        validate_as(SegmentModel, {"arch": "fpn"})


def test_oversampling_is_composed_from_words_and_experiments():
    root = {"data.root": "anywhere"}
    assert compose(root).data.oversample is None
    told = compose(root | {"data.oversample.rotated": "10", "data.oversample.sex.male": "1.34"}).data.oversample
    assert told.factors() == {("rotated", True): 10, ("sex", "male"): 1.34}
    for name, factors in (("rotated", {("rotated", True): 10}), ("male", {("sex", "male"): 1.34})):
        assert compose(root | {"experiment": f"oversample_{name}"}).data.oversample.factors() == factors
    for key, message in (("rotatd", "did you mean rotated"), ("sex.man", "'male' or 'female'")):
        with pytest.raises(ConfigError, match=message):
            compose(root | {f"data.oversample.{key}": "2"})


@pytest.mark.parametrize("value", ["32", "bf16"])
def test_precision_is_given_as_it_is_written(value):
    assert compose({"precision": value}).precision == value


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("experiment/mine.yaml", '# @package _global_\ndata: {name: "${oc.env:HOME}"}\n'),
        ("experiment/mine.yaml", "# @package _global_\nname: ${oc.env:HOME}\n"),
        ("experiment/mine.yaml", "# @package _global_\ndefaults:\n  - override /loss: ${oc.env:HOME}\n"),
        ("experiment/mine.yaml", "# @package _global_\nepochs: ${batch}\n"),
        ("config.yaml", "defaults: [_self_]\nseed: ${oc.decode:1}\n"),
    ],
)
def test_a_recipe_resolves_nothing(tmp_path, monkeypatch, file, text):
    shutil.copytree(config_folder(), tmp_path / "configs")
    (tmp_path / "configs" / file).write_text(text)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"\.yaml: .*\$\{.*is not resolved here") as caught:
        compose({"experiment": "mine"} if "mine" in file else {})
    assert "\n" not in str(caught.value)


def test_a_comment_may_hold_anything(tmp_path, monkeypatch):
    shutil.copytree(config_folder(), tmp_path / "configs")
    with (tmp_path / "configs/config.yaml").open("a") as config:
        config.write("# as in ${oc.env:HOME}\n")
    monkeypatch.chdir(tmp_path)
    assert compose({"data.root": "/data"}).name == "base"


@pytest.mark.parametrize("name", ["a", "a-b_c 1", "손", "v1.2", "a$b"])
def test_plain_folder_names_are_taken(name):
    assert validate(compose({"data.root": "/data"}).model_dump() | {"name": name}).name == name


@pytest.mark.parametrize("name", ["", ".", "..", ".git", "a/b", "/a", "..\\a", "a\nb", " a", "a ", "a\0b"])
def test_a_name_that_would_lead_elsewhere_is_refused(name):
    values = compose({"data.root": "/data"}).model_dump()
    with pytest.raises(ConfigError, match="is not a plain folder name"):
        validate(values | {"name": name})


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a: &x [1]\nb: *x\n", "has a reference"),
        ("a: !!python/object/apply:os.system [ls]\n", "has a tag"),
        ("a: 2026-11-28\n", "is a timestamp, which needs quotes"),
        ("a: !!binary aGk=\n", "is a binary, which needs quotes"),
        ("<<: {a: 1}\n", "is a merge, which needs quotes"),
        ("a: 1\na: 2\n", "is not text, or appears twice"),
        ("1: 2\n", "is not text, or appears twice"),
        ("- a\n", "contains no options"),
        ("", "contains no options"),
        ("a: [\n", "is not plain YAML"),
        ("[" * 100_000, "is nested deeper than 64 levels"),
        ("- " * 100_000, "is nested deeper than 64 levels"),
        ("a: " + "x" * (1 << 18) + "\n", "has more than 0.25 MiB"),
        ("a: \x00\n", "contains NUL"),
        ("a: 0b" + "1" * 5000 + "\n", "is not a decimal number"),
        ("a: " + "9" * 5000 + "\n", "is not a decimal number"),
        ("a: 1:1:1\n", "is not a decimal number"),
        ("a: 010\n", "is not a decimal number"),
        ("a: 1_0\n", "is not a decimal number"),
        ("a: .inf\n", "is not a finite decimal number"),
        ("a: .nan\n", "is not a finite decimal number"),
        ("a: 1.0e+999\n", "is not a finite decimal number"),
        ("a: !!float ١\n", "is not a finite decimal number"),
        ('a: "\\ud800"\n', "is not plain YAML"),
        ("a: 1\n---\nb: 1\n", "has several documents"),
        ("? [a]\n: 1\n", "has a key that is not text"),
    ],
)
def test_a_run_s_configuration_is_plain_data(tmp_path, text, why):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=rf"config\.yaml: .*{why}") as caught:
        read_plain(path)
    assert "\n" not in str(caught.value)


def test_every_run_s_configuration_comes_back_as_it_was(tmp_path):
    values = compose({"data.root": "/data"}).model_dump(mode="json")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    assert read_plain(tmp_path / "config.yaml") == values
    with pytest.raises(ConfigError, match="no such file"):
        read_plain(tmp_path / "none.yaml")
