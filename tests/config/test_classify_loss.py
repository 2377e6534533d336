"""Options of the classification loss: what is not read is refused, and each loss fits its heads."""

import pytest

from phalanx.config.base import validate_as
from phalanx.config.classify_loss import DEFAULT_BETA, HEADS, ClassifyLoss, Mix, check_loss
from phalanx.errors import ConfigError

CLASSES = ["healthy", "glioma"]


def loss(**values):
    return validate_as(ClassifyLoss, values, "loss")


def test_the_options_of_the_loss_have_defaults_and_those_of_others_are_none():
    found = loss(name="ldam")
    assert (found.ldam.max_margin, found.ldam.scale, found.ldam.drw_epoch) == (0.5, 1.0, None)
    assert (found.focal, found.asl, found.logit_adjusted, found.beta) == (None, None, None, None)
    assert loss(name="focal").focal.gamma == 2
    assert loss(name="asl").asl.margin == 0.05
    assert loss(name="logit_adjusted", logit_adjusted={"tau": 0.5}).logit_adjusted.tau == 0.5


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "ce", "focal": {"gamma": 2}}, "loss.focal: the loss is 'ce', so it would not be used"),
        ({"name": "bce", "ldam": {}}, "loss.ldam: the loss is 'bce'"),
        ({"name": "focal", "asl": {"margin": 0}}, "loss.asl: the loss is 'focal'"),
        ({"name": "ce", "beta": 0.9}, "loss.beta: only class_weights=effective_number and ldam.drw_epoch use it"),
        ({"name": "ldam", "ldam": {"drw_epoch": 3}, "class_weights": "inverse"}, "loss.class_weights: ldam.drw_epoch"),
        ({"name": "ce", "class_weights": {}}, "loss.class_weights: names no class"),
        ({"name": "ce", "class_weights": "inverted"}, "loss.class_weights"),
        ({"name": "focal", "focal": {"gamma": 0.5}}, "loss.focal.gamma"),
        ({"name": "dice"}, "loss.name='dice'"),
        ({"name": "ce", "smothing": 0.1}, "loss.smothing: no such option; did you mean smoothing?"),
        ({}, "loss.name: missing"),
    ],
)
def test_what_is_not_read_is_refused_in_one_line(values, message):
    with pytest.raises(ConfigError) as error:
        loss(**values)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_beta_has_its_default_where_it_is_read():
    assert loss(name="ce", class_weights="effective_number").beta == DEFAULT_BETA
    assert loss(name="ldam", ldam={"drw_epoch": 2}, beta=0.9).beta == 0.9


def test_each_loss_fits_its_heads_alone():
    for name, heads in HEADS.items():
        for head in ("softmax", "sigmoid"):
            if head in heads:
                check_loss(loss(name=name), head, CLASSES)
            else:
                with pytest.raises(ConfigError, match=f"loss.name={name}: is for head={heads[0]}.*use one of .*focal"):
                    check_loss(loss(name=name), head, CLASSES)


def test_names_alpha_and_a_single_class_are_checked():
    check_loss(loss(name="bce"), "sigmoid", ["tumour"])
    check_loss(loss(name="ce", class_weights={"glioma": 2, "others": 1}), "softmax", CLASSES)
    for values, classes, message in (
        ({"name": "ce", "class_weights": {"gliom": 2}}, CLASSES, "'gliom' is not a class; did you mean glioma"),
        ({"name": "focal", "focal": {"alpha": 0.3}}, CLASSES, "loss.focal.alpha"),
        ({"name": "ce"}, ["tumour"], "needs two classes or more"),
    ):
        with pytest.raises(ConfigError, match=message):
            check_loss(loss(**values), "softmax", classes)


def test_mixing_that_does_nothing_is_refused():
    assert validate_as(Mix, {"mixup_alpha": 0.2, "cutmix_alpha": 1}).switch_prob == 0.5
    assert validate_as(Mix, {"cutmix_alpha": 1}).switch_prob is None
    for values, message in (
        ({}, "mixup_alpha: it and cutmix_alpha are 0"),
        ({"mixup_alpha": 1, "switch_prob": 0.3}, "switch_prob: chooses between"),
        ({"mixup_alpha": 1, "prob": 0}, "prob=0"),
    ):
        with pytest.raises(ConfigError, match=message):
            validate_as(Mix, values)
