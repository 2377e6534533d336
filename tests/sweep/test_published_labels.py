"""Published figures of classifications: impossible rows are refused with a reason, possible ones are not."""

import json

import pytest

from phalanx.errors import DataError
from phalanx.sweep.published_labels import PublishedRow, PublishedTable, read_published_tables, section, verdict_of

TABLE = PublishedTable(title="t", source="s", positives=90, negatives=10, rows={})


def row(accuracy: float, tp: int, tn: int) -> PublishedRow:
    """A row as it would be printed of 90 diseased and 10 healthy images."""
    recall, specificity, f1 = tp / 90, tn / 10, 2 * tp / (2 * tp + 10 - tn + 90 - tp)
    return PublishedRow(
        accuracy=accuracy, auc=0.9, recall=round(recall, 4), specificity=round(specificity, 4), f1=round(f1, 4)
    )


def test_a_row_that_one_matrix_gives_is_possible():
    assert verdict_of(row(0.9, 85, 8), TABLE) == (True, "")
    assert verdict_of(row(0.93, 85, 8), TABLE)[0]  # every tumour with its kind


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"f1": 0.99}, "exceeds 2R/(1+R)"),
        ({"accuracy": 0.9412}, "no number of 100 images gives accuracy 0.9412"),
        ({"accuracy": 0.98}, "accuracy 0.9800 needs 98 right images, and recall and specificity leave 93"),
        ({"specificity": 0.85}, "specificity 0.8500 cannot be"),
    ],
)
def test_a_row_that_none_gives_is_refused_with_the_reason(changed, reason):
    possible, why = verdict_of(row(0.9, 85, 8).model_copy(update=changed), TABLE)
    assert not possible
    assert reason in why


def test_every_published_row_of_brain_mri_is_impossible():
    table = read_published_tables()["brain_mri"]
    assert len(table.rows) == 5
    for values in table.rows.values():
        possible, why = verdict_of(values, table)
        assert not possible
        assert why


def test_the_section_has_a_verdict_per_row_and_our_own_results(tmp_path):
    lines = section(tmp_path)
    text = "\n".join(lines)
    assert text.count("impossible: ") == 5
    assert "ViT | 0.9858 (2079 of 2109)" in text
    assert "EfficientNet | 0.9848 (2077 of 2109)" in text
    assert "the same recall, specificity and F1 as ResNet18 at another accuracy" in text
    assert "The published accuracy winner is not the AUC winner: EfficientNet, unaugmented by accuracy" in text
    assert "Ours: not run" in text
    model = {"accuracy": 0.5, "macro_auc": 0.75, "disease_recall": None}
    report = {"format": "phalanx-rank-1", "images": 7, "models": {"resnet18": model}, "answer": "No."}
    (tmp_path / "brain.json").write_text(json.dumps(report))
    text = "\n".join(section(tmp_path))
    assert "| resnet18 | 0.5000 | 0.7500 | - |" in text
    assert "Ours, brain (7 images):" in text
    (tmp_path / "brain.json").write_text("{}")
    with pytest.raises(DataError, match="not a report of phalanx rank"):
        section(tmp_path)
