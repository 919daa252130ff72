"""Did everything come back? Rows, objects, and a prediction that must have the same bits."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sre.judges.history import Attempt, Fate, Row, check
from sre.judges.ruling import verdict
from sre.promises import Promise
from sre.verdict import Outcome, Verdict


def differences(tables: Mapping[str, Mapping[str, Any]], objects: Mapping[str, Any]) -> dict[str, int]:
    """Everything in which a restore is not what was backed up: a sentence, and how many rows or objects it is about.

    Args:
        tables: by name, `expected` and `restored`: `rows` and a `checksum` over them, or None where there is no such table.
        objects: `expected` as a count; `lost`, `altered` and `invented` as names.
    """
    found = {}
    for name, table in tables.items():
        before, after = table["expected"], table["restored"]
        if before is None or after is None:
            rows = (before or after or {"rows": 0})["rows"]
            found[f"{name} {'invented' if before is None else 'lost'} with {rows:,} rows"] = max(1, rows)
        elif before["rows"] != after["rows"]:
            kind = "lost" if after["rows"] < before["rows"] else "invented"
            count = abs(before["rows"] - after["rows"])
            found[f"{name}: {count:,} of {before['rows']:,} rows {kind}"] = count
        elif before["checksum"] != after["checksum"]:
            found[f"{name}: {before['rows']:,} rows, of which some are altered"] = 1
    return found | {f"{name} {kind}": 1 for kind in ("lost", "altered", "invented") for name in objects[kind]}


def content_loss(
    promise: Promise,
    tables: Mapping[str, Mapping[str, Any]],
    objects: Mapping[str, Any],
    prediction: Mapping[str, Any],
) -> Verdict:
    """Judge a restore by its content: the measured value is the number of differences.

    Args:
        promise: bound as a count.
        tables: as in `differences`.
        objects: the same.
        prediction: bits `recorded` and `repeated`, None where there are none, and `why` not.
    """
    rows = sum(table["expected"]["rows"] for table in tables.values() if table["expected"])
    if not rows or not objects["expected"]:
        why = f"there was nothing to compare: {rows:,} rows in {len(tables)} tables, {objects['expected']:,} objects"
        return verdict(promise, Outcome.INCONCLUSIVE, None, None, 0, why)
    found = differences(tables, objects)
    if prediction["recorded"] is None or prediction["recorded"] != prediction["repeated"]:
        found[prediction["why"] or "the repeated prediction has other bits than the recorded one"] = 1
    count, compared = sum(found.values()), rows + int(objects["expected"])
    why = _summary(list(found)) or f"{compared:,} rows and objects are the same, and a recorded prediction has the same bits"
    outcome = Outcome.KEPT if promise.comparison.holds(count, promise.bound) else Outcome.BROKEN
    return verdict(promise, outcome, float(count), None, compared, why)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """How much of a history of stamped writes a restore holds.

    Attributes:
        disaster_at: when the last write was acknowledged before the loss, wall s; None when none was.
        until: stamp of the newest restored write before which none is missing, wall s; None when none came back.
        gaps: writes up to the newest restored one that are lost, invented, doubled or altered.
        acked: acknowledged writes before the loss.
    """

    disaster_at: float | None
    until: float | None
    gaps: int
    acked: int


def reach(attempts: Sequence[Attempt], rows: Sequence[Row], lost_at: float) -> Reach:
    """Compare one writer's history with what a restore holds of it.

    A write's stamp is when it was sent, so that what is missing is never counted too short.

    Args:
        attempts: of one writer, in the order of their numbers.
        rows: restored.
        lost_at: the moment of the loss, wall s; what was acknowledged later had no chance to be restored.
    """
    before = [one for one in attempts if one.fate is Fate.ACKED and one.done_wall is not None and one.done_wall <= lost_at]
    newest = max((row.key.seq for row in rows), default=-1)
    checked = check([one for one in attempts if one.key.seq <= newest], rows)
    whole = min((key.seq for key in checked.lost), default=newest + 1)
    back = {row.key for row in rows}
    return Reach(
        disaster_at=max((one.done_wall for one in before if one.done_wall is not None), default=None),
        until=max((one.sent_wall for one in attempts if one.key in back and one.key.seq < whole), default=None),
        gaps=checked.differences,
        acked=len(before),
    )


def data_loss(promise: Promise, reached: Reach) -> Verdict:
    """Judge how much time is missing from a restore.

    Args:
        promise: bound in s.
        reached: from `reach`.
    """
    if reached.disaster_at is None:
        return verdict(promise, Outcome.INCONCLUSIVE, None, None, 0, "no stamped write was acknowledged before the loss")
    if reached.until is None:
        return verdict(promise, Outcome.BROKEN, math.inf, None, reached.acked, "no stamped write came back at all")
    lost = max(0.0, reached.disaster_at - reached.until)
    outcome = Outcome.KEPT if promise.comparison.holds(lost, promise.bound) else Outcome.BROKEN
    why = "the newest restored write before which none is missing is that much older than the last acknowledged one"
    return verdict(promise, outcome, lost, None, reached.acked, why)


def failed_points(promise: Promise, points: Mapping[str, str], of: int) -> Verdict:
    """Judge a checklist: the measured value is the number of its points that did not pass.

    Args:
        promise: bound as a count.
        points: why it did not pass, by name of the point.
        of: how many points there are.
    """
    why = _summary([f"{name}: {words}" for name, words in points.items()]) or f"all {of} points passed"
    outcome = Outcome.KEPT if promise.comparison.holds(len(points), promise.bound) else Outcome.BROKEN
    return verdict(promise, outcome, float(len(points)), None, of, why)


def unrecorded(promise: Promise, answered: int, recorded: int | None, dropped: float | None) -> Verdict:
    """Judge how many answered predictions the log does not hold.

    Args:
        promise: bound as a count.
        answered: predictions that users got.
        recorded: requests in the log meanwhile, each once; None when nobody could look.
        dropped: records that the replicas say they gave up meanwhile; None when nobody could ask. A count that fell is none.
    """
    dropped = dropped if dropped is not None and dropped >= 0 else None
    if not answered or recorded is None:
        why = "the log could not be read" if answered else "no prediction was answered"
        return verdict(promise, Outcome.INCONCLUSIVE, None, None, 0, why)
    # A request that failed for its user may be in the log all the same, so what is dropped may be more than what is missing.
    missing = max(float(answered - recorded), 0.0, dropped or 0.0)
    why = f"{recorded:,} requests in the log, {answered:,} answered"
    if not promise.comparison.holds(missing, promise.bound):
        return verdict(promise, Outcome.BROKEN, missing, None, answered, f"{why}; {dropped or 0:,.0f} dropped by the replicas")
    if dropped is None:
        return verdict(promise, Outcome.INCONCLUSIVE, missing, None, answered, f"{why}; what the replicas dropped is not known")
    if answered < promise.least:
        why = f"{why}; {answered:,} of at least {promise.least:,} predictions"
        return verdict(promise, Outcome.INCONCLUSIVE, missing, None, answered, why)
    return verdict(promise, Outcome.KEPT, missing, None, answered, why)


def _summary(differences: Sequence[str], shown: int = 3) -> str:
    more = f", and {len(differences) - shown} more" if len(differences) > shown else ""
    return "; ".join(differences[:shown]) + more
