"""What a check finds: one problem each, with its severity and its remedy, and how many of them are listed."""

from collections import Counter
from collections.abc import Sequence
from typing import Literal, NamedTuple

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
SHOWN = 4  # examples of a kind on the terminal; all stand in the file


class Finding(NamedTuple):
    """One problem. ``image``: name of the training image that it spoils, or nothing where it spoils none."""

    file: str
    severity: Severity
    kind: str
    text: str
    remedy: str
    image: str = ""


class Report(NamedTuple):
    """All problems of a data set, the most severe first."""

    root: str
    images: dict[str, int]  # looked at, by split
    findings: list[Finding]
    passed_over: list[str]  # images that lie in quarantine already

    @property
    def counts(self) -> dict[str, int]:
        """Findings by severity."""
        found = Counter(finding.severity for finding in self.findings)
        return {severity: found[severity] for severity in SEVERITIES}

    def bad_images(self) -> dict[str, str]:
        """Training images with errors and the first reason of each: what a quarantine would leave out."""
        bad: dict[str, str] = {}
        for finding in self.findings:
            if finding.severity == "error" and finding.image:
                bad.setdefault(finding.image, f"{finding.kind}: {finding.text}")
        return dict(sorted(bad.items()))

    def to_json(self) -> dict[str, object]:
        """Plain values for ``check.json``."""
        kinds = Counter(f"{finding.severity} {finding.kind}" for finding in self.findings)
        return {
            "root": self.root,
            "images": self.images,
            "counts": self.counts,
            "kinds": dict(kinds),
            "passed_over": self.passed_over,
            "findings": [finding._asdict() for finding in self.findings],
        }

    def to_text(self) -> str:
        """A listing by kind, a few examples each."""
        kinds: dict[tuple[str, str], list[Finding]] = {}
        for finding in self.findings:
            kinds.setdefault((finding.severity, finding.kind), []).append(finding)
        lines = []
        for (severity, kind), found in kinds.items():
            lines += [f"{severity}: {kind}, {len(found)}x", f"  {found[0].remedy}"]
            lines += [f"    {finding.file}: {finding.text}".replace("    : ", "    ") for finding in found[:SHOWN]]
            if len(found) > SHOWN:
                lines.append(f"    ... and {len(found) - SHOWN} more")
        looked = ", ".join(f"{count} {split}" for split, count in self.images.items())
        counts = ", ".join(f"{count} {name}{'s' * (count != 1)}" for name, count in self.counts.items())
        lines.append(f"{self.root}: {looked} images: {counts}")
        if self.passed_over:
            lines.append(f"{len(self.passed_over)} more lie in quarantine (data.quarantine) and are passed over")
        return "\n".join(lines)


def ranked(findings: Sequence[Finding]) -> list[Finding]:
    """Sorted by severity, kind and file."""
    return sorted(findings, key=lambda f: (SEVERITIES.index(f.severity), f.kind, f.file, f.text))
