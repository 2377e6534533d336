"""Fusing CSVs of boxes: ``ensemble.sh`` of the task ``detect``."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field, model_validator

from ..config import Count, Fraction
from ..errors import ConfigError, DataError
from ..runs.ledger import note_vote
from ..runtime.sidecar import is_csv, merged_hashes
from ..submission.box_matching import with_common_classes
from ..submission.boxes import Boxes, BoxSubmission
from ..submission.matching import known_sizes
from ..submission.table import check_name, check_target
from ..voting.box_guard import measure_box_agreement
from ..voting.boxes import FUSION_IOU, NMS_IOU, Method, Scores, fuse
from .common_options import MemberOptions
from .options import parse_size
from .reports import report_faults


class FuseBoxes(MemberOptions):
    """Options of ``ensemble`` for CSVs of boxes."""

    SPELLED: ClassVar = {"weights": "votes"}  # as of other ensembles; CSVs have no checkpoints
    READ: ClassVar = {**MemberOptions.READ, "size": parse_size}

    mode: Method
    iou: Annotated[float, Field(gt=0, lt=1)] | None = None  # null: 0.55 of wbf, 0.5 of nms
    scores: Scores | None = None  # of wbf: how those of a cluster become one; null: mean
    min_score: Fraction = 0.0  # boxes of members below are left out
    most: Count = 100  # boxes per image, those with the highest scores
    size: tuple[int, int] | None = None  # of the images of CSVs without sidecar
    runs: Path = Path("runs")
    out: Path | None = None

    @model_validator(mode="after")
    def _usable(self) -> "FuseBoxes":
        if self.mode != "wbf" and self.scores is not None:
            raise ValueError(f"scores: only mode=wbf combines scores, and mode={self.mode} chooses boxes; leave it out")
        if self.mode == "soft_nms" and self.iou is not None:
            raise ValueError("iou: mode=soft_nms has no threshold of overlap; leave it out")
        return self

    @property
    def how(self) -> str:
        """What was done, for sidecars and the ledger."""
        parts: list[str] = [self.mode]
        if self.mode == "wbf":
            parts += [f"iou={self.iou or FUSION_IOU:g}", f"scores={self.scores or 'mean'}"]
        elif self.mode == "nms":
            parts.append(f"iou={self.iou or NMS_IOU:g}")
        if self.votes:
            parts.append(f"weights={','.join(map(str, self.votes))}")
        return " ".join(parts)


def fuse_csvs(options: FuseBoxes) -> Path:
    """Fuses members into a CSV of boxes; returns its path. A CSV in ``submissions/`` gets a row in the ledger there.

    Raises:
        ConfigError: a member that is not a CSV, or that would be replaced. DataError: members that cannot be read, that
            differ in images or classes, or one that is misaligned.
    """
    out = options.out or Path("submissions") / f"{options.mode}.csv"
    check_name(out)
    for name in options.members:
        if not is_csv(name):
            raise ConfigError(
                f"members: {name} is not a CSV; predict it first with bash infer.sh experiment={name}, which fuses its "
                "folds and views, and name that CSV"
            )
        if Path(name).resolve() == out.resolve():
            raise ConfigError(f"out={out}: would replace the member {name}; give another name")
    check_target(out)
    found = with_common_classes([BoxSubmission.read(name, sizes=options.size) for name in options.members])
    for note in (note for member in found for note in member.notes):
        print(f"note: {note}", flush=True)
    for member in found:
        if member.thresholds is not None:
            print(f"note: {member.name} lacks boxes below its thresholds, which a fusion can use; predict it with "
                  "postprocess=null", flush=True)  # fmt: skip
    agreement = None
    if len(found) > 1:
        agreement = measure_box_agreement(found)
        print(agreement.to_text(), flush=True)
        for one, other in agreement.identical():
            print(f"note: {one} and {other} have the same boxes, so one opinion has two votes", flush=True)
        for note in agreement.notes:
            print(f"note: {note}", flush=True)
        report_faults(agreement.misaligned, allow_misaligned=options.allow_misaligned)
    fused = fuse_members(found, options)
    about = {"how": options.how, "members": options.members, "agreement": agreement and agreement.to_json()}
    hashes = merged_hashes((member.name, member.run_hashes) for member in found)
    sizes, first = known_sizes(found), found[0]
    made = BoxSubmission(str(out), first.images, first.classes, fused, sizes, run_hashes=hashes)
    made.write(out, vote=about)
    if options.out_of_fold:
        from .vote_oof import add_score
        from .vote_oof_boxes import score_vote

        add_score(out, lambda: score_vote(options.members, options.runs, lambda some: fuse_members(some, options)))
    note_vote(out, options.members, options.how)
    return out


def fuse_members(members: Sequence[BoxSubmission], options: FuseBoxes) -> list[Boxes]:
    """The boxes of each image of the first member, fused with those of all others.

    Raises:
        DataError: no member has a box, and none lists its classes, so that nothing is known of them.
    """
    places = [{image: i for i, image in enumerate(member.images)} for member in members]
    found = []
    for image in members[0].images:
        each = [member.boxes[place[image]] for member, place in zip(members, places, strict=True)]
        boxes = fuse(
            each, options.votes, method=options.mode, iou=options.iou, scores=options.scores or "mean",
            min_score=options.min_score,
        )  # fmt: skip
        found.append(boxes.chosen(boxes.order()[: options.most]))
    if not members[0].classes:
        raise DataError(
            f"{', '.join(member.name for member in members)}: have no box and no sidecar that lists the classes, so "
            "there is nothing to fuse; predict them again"
        )
    if not any(len(boxes.scores) for boxes in found):
        print(f"note: no box with a score of {options.min_score:g} or more in any image", flush=True)
    return found
