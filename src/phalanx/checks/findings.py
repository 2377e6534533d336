"""The findings of a check, each with severity and remedy, and the report that lists them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Literal, NamedTuple

from ..errors import shown

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
MAX_EXAMPLES = 4  # per kind, on the terminal; the file has all


class Finding(NamedTuple):
    """One problem.

    Attributes:
        image: name of the training image that it makes unusable; empty if there is none.
    """

    file: str
    severity: Severity
    kind: str
    text: str
    remedy: str
    image: str = ""


class Report(NamedTuple):
    """All problems of a data set, the most severe first."""

    root: str
    images: dict[str, int]  # number checked, by split
    findings: list[Finding]
    quarantined: list[str]  # images in quarantine already, which are not checked
    # of a set with labels: patient by image, one for all who share an image
    groups: Mapping[str, str] = MappingProxyType({})

    @property
    def counts(self) -> dict[str, int]:
        """Number of findings by severity."""
        found = Counter(finding.severity for finding in self.findings)
        return {severity: found[severity] for severity in SEVERITIES}

    def bad_images(self) -> dict[str, str]:
        """Returns the training images with errors and the first reason of each, as for a quarantine file."""
        bad: dict[str, str] = {}
        for finding in self.findings:
            if finding.severity == "error" and finding.image:
                bad.setdefault(finding.image, f"{finding.kind}: {finding.text}")
        return dict(sorted(bad.items()))

    def to_json(self) -> dict[str, object]:
        """Returns the contents of ``check.json``."""
        kinds = Counter(f"{finding.severity} {finding.kind}" for finding in self.findings)
        return {
            "root": self.root,
            "images": self.images,
            "counts": self.counts,
            "kinds": dict(kinds),
            "passed_over": self.quarantined,
            "findings": [finding._asdict() for finding in self.findings],
        }

    def to_text(self) -> str:
        """Returns a listing by kind with a few examples each."""
        kinds: dict[tuple[str, str], list[Finding]] = {}
        for finding in self.findings:
            kinds.setdefault((finding.severity, finding.kind), []).append(finding)
        lines = []
        for (severity, kind), found in kinds.items():
            lines += [f"{severity}: {kind}, {len(found)}x", f"  {found[0].remedy}"]
            lines += [
                f"    {finding.file}: {finding.text}".replace("    : ", "    ") for finding in found[:MAX_EXAMPLES]
            ]
            if len(found) > MAX_EXAMPLES:
                lines.append(f"    ... and {len(found) - MAX_EXAMPLES} more")
        counted = ", ".join(f"{count} {split}" for split, count in self.images.items())
        counts = ", ".join(f"{count} {name}{'s' * (count != 1)}" for name, count in self.counts.items())
        lines.append(f"{self.root}: {counted} images: {counts}")
        if self.quarantined:
            lines.append(f"{len(self.quarantined)} more are in quarantine (data.quarantine) and were not checked")
        return "\n".join(lines)


def ranked(findings: Sequence[Finding]) -> list[Finding]:
    """Returns the findings sorted by severity, kind and file, in text that can be printed."""
    printable = [finding._replace(file=shown(finding.file), text=shown(finding.text)) for finding in findings]
    return sorted(printable, key=lambda f: (SEVERITIES.index(f.severity), f.kind, f.file, f.text))
