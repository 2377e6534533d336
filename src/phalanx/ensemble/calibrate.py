"""`phalanx calibrate`: a temperature and thresholds from out-of-fold probabilities, and what they are worth."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..config import Strict
from ..errors import ConfigError
from ..runtime.files import check_report, write_report
from ..scoring.calibration import (
    THRESHOLD,
    CrossFitted,
    apply_temperature,
    cross_fit_temperature,
    cross_fit_thresholds,
    fit_thresholds,
)
from ..scoring.calibration_file import KIND, Calibration
from ..scoring.reliability import Reliability, calibration_json, outcomes, reliability
from .classify_oof import OutOfFold, read_out_of_fold


class CalibrateOptions(Strict):
    """Options of ``calibrate``."""

    out: Path = Path("submissions/calibration.json")
    runs: Path = Path("runs")
    per_class: bool = False  # a temperature for each sigmoid

    @property
    def picture(self) -> Path:
        """The reliability diagram."""
        return self.out.with_suffix(".png")


@dataclass(frozen=True)
class Calibrated:
    """What was fitted, and the reliability before and after on images that it was not fitted on."""

    source: OutOfFold
    temperature: CrossFitted
    thresholds: CrossFitted | None
    file: Calibration
    tables: dict[str, Reliability]

    def to_text(self) -> str:
        """Tables for the terminal."""
        report = self.file.report
        lines = [f"note: {note}" for note in self.source.notes]
        lines.append(f"{self.source.run}: {len(self.source.images)} images out of fold, head={self.source.head}")
        for one in (self.temperature, self.thresholds):
            if one is None:
                continue
            score = "negative log-likelihood" if one.what == "temperature" else "macro F1"
            span = f" [{one.interval[0]:+.4f}, {one.interval[1]:+.4f}]" if one.interval else ""
            gain = one.before - one.after if one.what == "temperature" else one.after - one.before
            used = "adopted" if one.adopted else "not adopted"
            lines.append(
                f"{one.what}: {score} {one.before:.4f}, cross-fitted {one.after:.4f}, better by {gain:+.4f}{span}: "
                f"{used}"
            )
        width = max(map(len, ("class", *self.source.classes)))
        lines += ["", f"{'class':<{width}}  temperature  threshold  ECE before  ECE after"]
        before, after = report["before"]["classes"], report["after"]["classes"]
        sigmoid = self.source.head == "sigmoid"
        limits = self.file.thresholds or [THRESHOLD if sigmoid else None] * len(self.source.classes)
        for c, name in enumerate(self.source.classes):
            cells = (f"{self.file.temperature[c]:.4f}", _text(limits[c]), _text(before[name]), _text(after[name]))
            lines.append(f"{name:<{width}}  {cells[0]:>11}  {cells[1]:>9}  {cells[2]:>10}  {cells[3]:>9}")
        lines.append("")
        for key, what in (("ece_equal_width", "ECE, bins of equal width"), ("ece_equal_mass", "ECE, of equal mass")):
            lines.append(f"{what}: {_text(report['before'][key])}, cross-fitted {_text(report['after'][key])}")
        return "\n".join(lines)


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def calibrate(name: str, options: CalibrateOptions) -> Calibrated:
    """Fits a calibration to a run, writes it and its reliability diagram.

    Raises:
        ConfigError, DataError: as :func:`read_out_of_fold`; fewer than two finished folds.
        OutputError: a file of another kind is in the place of one to write.
    """
    from ..visualize.reliability import draw_reliability  # loads matplotlib

    if options.out.suffix != ".json":
        raise ConfigError(f"out={options.out}: expected a file name that ends in .json, as in out=calibration.json")
    check_report(options.out, KIND)
    found = fit_calibration(read_out_of_fold(name, options.runs), per_class=options.per_class)
    draw_reliability(found.tables, options.picture, f"{found.source.run}, out of fold")
    write_report(options.out, KIND, found.file.model_dump(mode="json", exclude={"format"}))
    return found


def fit_calibration(source: OutOfFold, *, per_class: bool = False) -> Calibrated:
    """Cross-fits a temperature, then thresholds on the probabilities at it; what is not better unseen is left out.

    A softmax has thresholds if its images may have several labels: those of the classes that are scored, compared with
    its likeliest class.
    """
    head, labels, p = source.head, source.labels, source.probabilities
    shares, scored = source.negative is not None, source.scored
    targets = labels / labels.sum(axis=1, keepdims=True) if shares else labels
    temperature = cross_fit_temperature(p, targets, head, source.folds, source.patients, per_class=per_class)
    cold = temperature.fitted if temperature.adopted else np.ones(len(source.classes))
    applied = temperature.applied if temperature.adopted else p
    thresholds, limits = None, None
    if head == "sigmoid" or shares:
        likeliest = np.arange(p.shape[1]) == applied.argmax(axis=1)[:, None]
        thresholds = cross_fit_thresholds(
            applied[:, scored], labels[:, scored], source.folds, source.patients,
            plain=likeliest[:, scored] if shares else None,
        )  # fmt: skip
        if thresholds.adopted:
            whole = apply_temperature(p, cold if head == "sigmoid" else cold[0], head) if temperature.adopted else p
            found = np.clip(fit_thresholds(whole[:, scored], labels[:, scored]), 1e-9, 1 - 1e-9).tolist()
            of = dict(zip(scored, found, strict=True))
            limits = [of.get(c) for c in range(len(source.classes))]
    report = {
        "images": len(source.images), "folds": sorted(set(source.folds.tolist())),
        "before": calibration_json(p, labels, source.classes, head),
        "after": calibration_json(applied, labels, source.classes, head),
        "choices": [
            _choice(one, names)
            for one, names in ((temperature, source.classes), (thresholds, [source.classes[c] for c in scored]))
            if one is not None
        ],
    }  # fmt: skip
    file = Calibration(
        run=source.run, run_hashes=dict(source.hashes), classes=list(source.classes), head=head,
        temperature=cold.tolist(), thresholds=limits, report=report,
    )  # fmt: skip
    tables = {
        key: reliability(*outcomes(values, labels, head))
        for key, values in (("before", p), *([("cross-fitted", applied)] if temperature.adopted else []))
    }
    return Calibrated(source, temperature, thresholds, file, tables)


def _choice(one: CrossFitted, classes: Sequence[str]) -> dict[str, Any]:
    return {
        "what": one.what, "adopted": one.adopted, "before": _number(one.before), "after": _number(one.after),
        "interval": one.interval, "fitted": dict(zip(classes, one.fitted.tolist(), strict=True)),
        "without_fold": {str(fold): values.tolist() for fold, values in one.by_fold.items()},
    }  # fmt: skip


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
