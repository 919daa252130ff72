"""Did everything come back? Rows, objects, and a prediction that must have the same bits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sre.judges.ruling import verdict
from sre.promises import Promise
from sre.verdict import Outcome, Verdict


def content_loss(
    promise: Promise,
    tables: Mapping[str, Mapping[str, int]],
    objects: Mapping[str, Any],
    prediction: Mapping[str, str | None],
) -> Verdict:
    """Judge a restore by its content: the measured value is the number of differences.

    Args:
        promise: bound as a count.
        tables: by name, `before`, `restored`, `lost` and `invented` rows.
        objects: `before` as a count, `lost` and `altered` as names.
        prediction: bits `recorded` and `repeated`, None where there are none, and `why` not.
    """
    compared = sum(table["before"] for table in tables.values()) + int(objects["before"])
    if not tables or not objects["before"] or not any(table["before"] for table in tables.values()):
        why = f"there was nothing to compare: {len(tables)} tables, {objects['before']} objects"
        return verdict(promise, Outcome.INCONCLUSIVE, None, None, 0, why)
    differences = [
        f"{name}: {table[kind]:,} rows {kind}" for name, table in tables.items() for kind in ("lost", "invented") if table[kind]
    ]
    differences += [f"{name} {kind}" for kind in ("lost", "altered") for name in objects[kind]]
    if prediction["recorded"] is None or prediction["recorded"] != prediction["repeated"]:
        differences.append(prediction["why"] or "the repeated prediction has other bits than the recorded one")
    count = sum(table["lost"] + table["invented"] for table in tables.values())
    count += len(objects["lost"]) + len(objects["altered"]) + (prediction["recorded"] != prediction["repeated"])
    count += prediction["recorded"] is None
    why = _summary(differences) or f"{compared:,} rows and objects are the same, and a recorded prediction has the same bits"
    outcome = Outcome.KEPT if promise.comparison.holds(count, promise.bound) else Outcome.BROKEN
    return verdict(promise, outcome, float(count), None, compared, why)


def data_loss(promise: Promise, disaster_at: float, newest_at: float | None) -> Verdict:
    """Judge how much time is missing from a restore.

    Args:
        promise: bound in s.
        disaster_at: when the original was lost, wall s.
        newest_at: of the newest restored row, wall s; None when no row came back.
    """
    if newest_at is None:
        return verdict(promise, Outcome.BROKEN, float("inf"), None, 1, "no recorded prediction came back at all")
    lost = max(0.0, disaster_at - newest_at)
    outcome = Outcome.KEPT if promise.comparison.holds(lost, promise.bound) else Outcome.BROKEN
    why = "the newest restored row is that much older than the loss, which came right after a backup"
    return verdict(promise, outcome, lost, None, 1, why)


def _summary(differences: Sequence[str], shown: int = 3) -> str:
    more = f", and {len(differences) - shown} more" if len(differences) > shown else ""
    return "; ".join(differences[:shown]) + more
