"""Submissions of boxes brought to one list of classes: a CSV without a sidecar shows only those that have a box."""

from collections.abc import Sequence

from ..errors import DataError, brief
from .boxes import BoxSubmission
from .matching import check_matching


def with_common_classes(members: Sequence[BoxSubmission], classes: Sequence[str] | None = None) -> list[BoxSubmission]:
    """The same submissions with the same classes in the same order.

    Args:
        classes: all there are; by default those of the members whose list is known to be whole, in the order of the
            first of them; if there is no such member, those found in any of them, sorted.

    Raises:
        DataError: lists that are whole differ, a class that is not among them; images or known sizes differ.
    """
    closed = [member for member in members if member.closed]
    for other in closed[1:]:
        if set(other.classes) != set(closed[0].classes):
            check_matching([closed[0], other])
    if classes is None:
        classes = closed[0].classes if closed else sorted({name for member in members for name in member.classes})
    for member in members:
        if lacking := next((name for name in member.classes if name not in classes), None):
            source = f"{closed[0].name} has" if closed and closed[0] is not member else "there are"
            raise DataError(
                f"{member.name}: has the class {brief(lacking)}, and {source} only {', '.join(classes)}; use tables of "
                "the same class list"
            )
    found = [member.reorder(classes) for member in members]
    check_matching(found)
    return found
