"""Planted label errors found by the ranking of `phalanx suspects`, against cleanlab's scores of the same probabilities.

Out-of-fold probabilities are simulated: a network that is good but overconfident, with classes of different difficulty
and some images that look like another class. Average precision of the planted errors, mean over seeds. cleanlab is
optional (pip install cleanlab): without it, its columns are missing, and the output says so. Its softmin differs from
ours by rounding alone, which the bench checks.

    python bench/suspects.py [--quick] [--json FILE]
"""

import numpy as np
from sklearn.metrics import average_precision_score

from common import flags, keep
from phalanx.scoring.suspects import normalised_margins, self_confidences, softmin


def simulate(head: str, images: int, classes: int, wrong: float, seed: int) -> tuple[np.ndarray, ...]:
    """Probabilities float64[N, C], labels as given, and which images have a wrong one, bool[N]."""
    rng = np.random.default_rng(seed)
    several = rng.random((images, classes)) < np.linspace(0.1, 0.5, classes)
    true = np.eye(classes)[rng.integers(0, classes, images)] if head == "softmax" else several.astype(float)
    evidence = rng.normal(np.linspace(1.2, 2.4, classes), 0.9, (images, classes))
    evidence *= np.where(rng.random((images, 1)) < 0.05, -0.3, 1.0)  # images that mislead
    logits = 1.5 * (2 * true - 1) * evidence
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True) if head == "softmax" else 1 / (1 + np.exp(-logits))
    given, planted = true.copy(), rng.random(images) < wrong
    for row in np.flatnonzero(planted):
        if head == "softmax":
            given[row] = np.roll(given[row], rng.integers(1, classes))
        else:
            c = rng.integers(classes)
            given[row, c] = 1 - given[row, c]
    return p, given, planted


def ours(p: np.ndarray, given: np.ndarray, head: str) -> dict[str, np.ndarray]:
    """Scores by method; low is suspect."""
    own = self_confidences(p, given)
    found = {"softmin": softmin(own), "minimum": own.min(axis=1), "mean": own.mean(axis=1)}
    if head == "softmax":
        found |= {"self-confidence": (p * given).sum(axis=1), "normalised margin": normalised_margins(p, given)}
    return found


def theirs(p: np.ndarray, given: np.ndarray, head: str) -> dict[str, np.ndarray]:
    """cleanlab's scores by method; none if it is not installed."""
    try:
        from cleanlab import rank
        from cleanlab.multilabel_classification import rank as several
    except ImportError:
        return {}
    if head == "softmax":
        labels = given.argmax(axis=1)
        return {
            f"cleanlab {method}": rank.get_label_quality_scores(labels, p, method=method)
            for method in ("self_confidence", "normalized_margin", "confidence_weighted_entropy")
        }
    lists = [np.flatnonzero(row).tolist() for row in given]
    options = {
        "softmin": {"method": "softmin", "temperature": 0.1},
        "default": {"method": "exponential_moving_average", "alpha": 0.8},
    }
    return {
        f"cleanlab {name}": several.get_label_quality_scores(lists, p, aggregator_kwargs=how)
        for name, how in options.items()
    }


def main() -> None:
    parser = flags(__doc__, "fewer images and seeds")
    arguments = parser.parse_args()
    images, seeds = (400, 2) if arguments.quick else (2000, 10)
    rows, compared = [], False
    for head in ("softmax", "sigmoid"):
        found: dict[str, list[float]] = {}
        for seed in range(seeds):
            p, given, planted = simulate(head, images, 5, 0.05, seed)
            scores = ours(p, given, head)
            other = theirs(p, given, head)
            compared |= bool(other)
            pairs = [("softmin", "cleanlab softmin"), ("self-confidence", "cleanlab self_confidence"),
                     ("normalised margin", "cleanlab normalized_margin")]  # fmt: skip
            for mine, its in pairs:
                if mine in scores and its in other:
                    np.testing.assert_allclose(scores[mine], other[its], atol=1e-9)
            for name, values in (scores | other).items():
                found.setdefault(name, []).append(average_precision_score(planted, -values))
        best = max((np.mean(values) for name, values in found.items() if name.startswith("cleanlab")), default=None)
        for name, values in found.items():
            print(f"{head:<8} {name:<38} average precision {np.mean(values):.4f} +- {np.std(values):.4f}")
        rows.append({
            "claim": f"{head}: average precision of 5% planted label errors, softmin against cleanlab's best score",
            "ours": float(np.mean(found["softmin"])), "baseline": None if best is None else float(best), "unit": "AP",
            "methods": {name: float(np.mean(values)) for name, values in found.items()},
        })  # fmt: skip
    if not compared:
        print("cleanlab: not compared, because it is not installed (pip install cleanlab)")
    keep(rows, arguments.json)


if __name__ == "__main__":
    main()
