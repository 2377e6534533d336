"""The table of `phalanx runs` as files, with every number."""

import csv
import io
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from .recipes import text_of
from .standing import Standing
from .table import BEST, Listing, finished_folds

COLUMNS = (
    "best", "kind", "name", "task", "data", "metric", "state", "epoch", "score", "low", "high", "spread", "folds",
    "images", "patients", "seconds", "machine", "changed", "members", "fault",
)  # fmt: skip


def to_json(listing: Listing) -> dict[str, Any]:
    """All groups with their rows and folds, as JSON types."""
    return {
        "groups": [
            {
                **group._asdict(),
                "differ": listing.keys[group],
                "rows": [_row(one) | {"recipe": _recipe(one, listing.keys[group])} for one in rows],
            }
            for group, rows in listing.groups.items()
        ]
    }


def _recipe(one: Standing, keys: Sequence[str]) -> dict[str, Any]:
    return {key: one.recipe[key] for key in keys if key in one.recipe}


def _row(one: Standing) -> dict[str, Any]:
    return {
        "best": one.best, "kind": one.kind, "name": one.name, "state": one.state, "epoch": one.epoch_text,
        "score": one.value, "interval": one.interval, "spread": one.spread, "images": one.images,
        "patients": one.patients, "seconds": one.seconds, "machine": one.machine, "changed": _date(one.changed),
        "members": list(one.members), "how": one.how, "fault": one.fault, "drawn": one.drawn,
        "folds": [
            {
                "name": fold.name, "state": fold.state, "epoch": fold.epoch, "epochs": fold.epochs,
                "score": fold.value, "validated": fold.validated, "interval": fold.interval,
                "seconds": fold.seconds, "machine": fold.machine, "fault": fold.fault,
            }
            for fold in one.folds
        ],
    }  # fmt: skip


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if seconds else ""


def to_csv(listing: Listing) -> str:
    """One table of all rows; of recipes the keys that differ within any group."""
    keys = list(dict.fromkeys(key for some in listing.keys.values() for key in some))
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow([*COLUMNS, *keys])
    for group, rows in listing.groups.items():
        for one in rows:
            values = _row(one) | {
                "best": BEST if one.best else "", "task": group.task, "data": group.data, "metric": group.metric,
                "low": one.interval[0] if one.interval else None, "high": one.interval[1] if one.interval else None,
                "members": "; ".join(one.members),
                "folds": f"{finished_folds(one)} of {one.drawn}" if one.drawn else "",
            }  # fmt: skip
            table.writerow(
                ["" if values[name] is None else values[name] for name in COLUMNS]
                + [text_of(one.recipe[key]) if key in one.recipe else "" for key in keys]
            )
    return text.getvalue()
