"""What restoration augmentation teaches a classifier: the rates at which restored images are called healthy."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .resampling import Interval, bootstrap, interval
from .spectrum import Correlation, SpectrumTest, rank_correlation

MIN_GAP = 0.1  # of the rates, that would count as a shortcut of practical size


@dataclass(frozen=True)
class Rate:
    """A mean over images, with its 95% interval over patients."""

    value: float
    interval: Interval

    def to_text(self) -> str:
        """As a row of a table."""
        span = "" if self.interval is None else f" [{self.interval[0]:.3f}, {self.interval[1]:.3f}]"
        return f"{self.value:.3f}{span}"

    def to_json(self) -> dict[str, Any]:
        """Both as JSON types."""
        return {"value": self.value, "interval": self.interval}


@dataclass(frozen=True)
class Called:
    """How one classifier calls plain and restored images of the same set.

    Attributes:
        name: of the classifier; ``kind``: none, healthy, all or another word for what was restored for it.
        plain: float64[N], called healthy as it is; 0 or 1, or the mean over folds.
        restored: float64[N, L], called healthy if restored from each level of noise; likewise.
        turned: float64[N], called healthy if restored, and not as it is; the mean over levels and folds.
        healthy_probability: float64[N], of the plain image.
    """

    name: str
    kind: str
    plain: np.ndarray
    restored: np.ndarray
    turned: np.ndarray
    healthy_probability: np.ndarray


@dataclass(frozen=True)
class RestorationReport:
    """All results. Made by :func:`report_of`.

    Attributes:
        levels: of noise.
        acceptance: of each classifier, the rate at which restored healthy images are called healthy.
        by_level: of each classifier, the rate of restored diseased images called healthy at each level.
        turned: of each classifier, the rate of diseased images that become healthy if restored.
        differences: of ``turned`` of the healthy-only classifier less each other one, paired.
        correlations: of each classifier, of "looks restored" and the probability of healthy, of plain images of the
            healthy and of the diseased.
    """

    healthy: str
    levels: tuple[float, ...]
    images: dict[str, int]
    patients: int
    acceptance: dict[str, Rate]
    plain: dict[str, tuple[Rate, Rate]]
    by_level: dict[str, list[float]]
    turned: dict[str, Rate]
    differences: dict[str, Rate]
    spectrum: SpectrumTest
    correlations: dict[str, tuple[Correlation, Correlation]]
    kinds: dict[str, str]

    def to_text(self) -> str:
        """Tables for the terminal, and what they say."""
        width = max(map(len, ("classifier", *self.kinds.values())))
        lines = [
            f"{self.images['healthy']} images of {self.healthy}, {self.images['diseased']} of the others, of "
            f"{self.patients} patients; noise {', '.join(f'{level:g}' for level in self.levels)}",
            "",
            f"called {self.healthy}, with 95% intervals over patients:",
            f"{'classifier':<{width}}  {'healthy, restored':<22}  {'healthy, plain':<22}  {'diseased, plain':<22}  "
            f"{'diseased, turned':<22}",
        ]
        for name, kind in self.kinds.items():
            cells = (self.acceptance[name], *self.plain[name], self.turned[name])
            lines.append(f"{kind:<{width}}  " + "  ".join(f"{cell.to_text():<22}" for cell in cells).rstrip())
        lines += ["", "diseased and restored, called healthy, by noise:"]
        for name, kind in self.kinds.items():
            lines.append(f"{kind:<{width}}  " + "  ".join(f"{value:.3f}" for value in self.by_level[name]))
        lines.append("")
        for other, rate in self.differences.items():
            lines.append(f"diseased, turned: healthy-only less {self.kinds[other]} {rate.to_text()}")
        lines += ["", *self.findings()]
        return "\n".join(lines)

    def findings(self) -> list[str]:
        """What the numbers say, a null result too."""
        lines = []
        for other, rate in self.differences.items():
            low = rate.interval[0] if rate.interval else -np.inf
            if low <= 0:
                found = "no shortcut shown: the interval contains zero, or is below it"
            elif rate.value >= MIN_GAP:
                found = f"shortcut: restored tumours turn healthy at least {MIN_GAP:.0%} more often"
            else:
                found = f"shortcut of less than {MIN_GAP:.0%}: above zero, but small"
            lines.append(f"against {self.kinds[other]}: {found} ({rate.to_text()})")
        spectrum, span = self.spectrum, self.spectrum.interval
        told = "can be told" if spectrum.detected else "cannot be told"
        between = f" [{span[0]:.3f}, {span[1]:.3f}]" if span else ""
        lines.append(
            f"frequencies: restored images {told} from plain ones by their power spectrum alone (AUC "
            f"{spectrum.auc:.3f}{between}, p = {spectrum.p:.3f})"
        )
        for name, pair in self.correlations.items():
            for what, one in zip(("healthy", "diseased"), pair, strict=True):
                if np.isnan(one.value):
                    lines.append(f"  {self.kinds[name]}, plain {what}: does not vary")
                    continue
                low, high = one.interval or (-1, 1)
                said = "rises with" if low > 0 else "falls with" if high < 0 else "does not follow"
                lines.append(
                    f"  {self.kinds[name]}, plain {what}: P(healthy) {said} how restored it looks (rank correlation "
                    f"{one.value:+.3f} [{low:+.3f}, {high:+.3f}])"
                )
        return lines

    def to_json(self) -> dict[str, Any]:
        """All numbers as JSON types."""
        return {
            "healthy": self.healthy, "levels": list(self.levels), "images": self.images, "patients": self.patients,
            "classifiers": {
                name: {
                    "restored_for_training": kind,
                    "acceptance": self.acceptance[name].to_json(),
                    "healthy_plain": self.plain[name][0].to_json(),
                    "diseased_plain": self.plain[name][1].to_json(),
                    "diseased_restored_by_level": self.by_level[name],
                    "diseased_turned": self.turned[name].to_json(),
                    "correlation": {
                        what: one.to_json()
                        for what, one in zip(("healthy", "diseased"), self.correlations[name], strict=True)
                    },
                }
                for name, kind in self.kinds.items()
            },
            "differences": {name: rate.to_json() for name, rate in self.differences.items()},
            "spectrum": self.spectrum.to_json(),
            "findings": self.findings(),
        }  # fmt: skip


def report_of(
    found: Sequence[Called], diseased: np.ndarray, patients: Sequence[str], spectrum: SpectrumTest,
    healthy: str, levels: Sequence[float],
) -> RestorationReport:  # fmt: skip
    """The report of several classifiers on the same images; the one of kind ``healthy`` is compared with the others.

    Args:
        diseased: bool[N].
        spectrum: of the same images, in the same order.
    """
    group = np.unique(np.array(patients, str), return_inverse=True)[1]

    def rate(values: np.ndarray, rows: np.ndarray) -> Rate:
        if not rows.any():
            return Rate(float("nan"), None)
        inner = np.unique(group[rows], return_inverse=True)[1]
        draws = bootstrap(values[rows][:, None], inner)[:, 0] if inner.max() else None
        return Rate(float(values[rows].mean()), None if draws is None else interval(draws))

    looks = spectrum.scores[: len(diseased)]

    def correlation(one: Called, rows: np.ndarray) -> Correlation:
        named = [patient for patient, row in zip(patients, rows, strict=True) if row]
        return rank_correlation(looks[rows], one.healthy_probability[rows], named)

    taught = next(one for one in found if one.kind == "healthy")
    return RestorationReport(
        healthy, tuple(levels), {"healthy": int((~diseased).sum()), "diseased": int(diseased.sum())},
        int(group.max()) + 1,
        {one.name: rate(one.restored.mean(axis=1), ~diseased) for one in found},
        {one.name: (rate(one.plain, ~diseased), rate(one.plain, diseased)) for one in found},
        {one.name: [float(column.mean()) for column in one.restored[diseased].T] for one in found},
        {one.name: rate(one.turned, diseased) for one in found},
        {one.name: rate(taught.turned - one.turned, diseased) for one in found if one is not taught},
        spectrum,
        {one.name: (correlation(one, ~diseased), correlation(one, diseased)) for one in found},
        {one.name: one.kind for one in found},
    )  # fmt: skip
