"""The table of promises. Everything else in the toolkit exists to judge a row of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from sre.errors import UsageError
from sre.units import Comparison, Unit


@dataclass(frozen=True, slots=True)
class Promise:
    """One sentence of the architecture document that a drill can prove or break.

    Attributes:
        id: stable name, used in evidence and on the command line.
        sentence: the promise in words.
        comparison: how the measured value must stand to the bound.
        bound: in the base unit.
        unit: of the bound.
        least: fewest samples a verdict may rest on; with fewer it is inconclusive.
        drills: names of the drills that judge it.
        runbook: file in `runbooks/` for the day that it breaks.
        fresh_for_s: for how long evidence that it was kept counts, s.
    """

    id: str
    sentence: str
    comparison: Comparison
    bound: float
    unit: Unit
    least: int
    drills: tuple[str, ...]
    runbook: str
    fresh_for_s: float


class Freshness(StrEnum):
    """Whether evidence is young enough to say something about today."""

    FRESH = "fresh"
    STALE = "stale"
    NEVER = "never"


_BELOW, _AT_LEAST = Comparison.BELOW, Comparison.AT_LEAST
_DAY = 86_400.0
# How fast code under load, and what restarts it, changes: with every release, and there is one in most weeks.
_RELEASE = 7 * _DAY
# Alerts that do not come are missed by nobody, and scrape targets and rules change with every release too.
_SILENT = 7 * _DAY
# A model changes only by training, and each training is gated by the same number; what is left is drift of the data.
_MODEL = 30 * _DAY
# A restore is tried once a week, and the evidence may miss that by a day: as backups/plan.yaml says (restore.drill.max_age).
_RESTORE = 8 * _DAY
# What a rebuild needs changes with every release, but no cluster is destroyed for each of them.
_REBUILD = 30 * _DAY

_BAD_CANARIES = (
    "canary-slow", "canary-errors", "canary-wrong-classes", "canary-trained-defect", "canary-crash", "canary-prometheus-down",
)  # fmt: skip
_CANARIES = ("canary-good", *_BAD_CANARIES)
_DATABASE = (
    "database-recovery", "database-hung", "database-host-lost", "database-volume-lost", "database-standby-lost",
    "database-partition", "database-etcd-lost", "database-etcd-quorum-lost", "database-disk-full", "database-lag",
    "database-switchover",
)  # fmt: skip

PROMISES: tuple[Promise, ...] = (
    Promise("throughput", "1000+ predictions a second, sustained", _AT_LEAST, 1000.0, Unit.PER_SECOND, 20_000,
            ("peak-load",), "high-latency", _RELEASE),
    Promise("latency-p95", "95 % of predictions answered in under 500 ms", _BELOW, 0.5, Unit.SECONDS, 1000,
            ("peak-load",), "high-latency", _RELEASE),
    Promise("latency-p99", "99 % of predictions answered in under 1 s", _BELOW, 1.0, Unit.SECONDS, 5000,
            ("peak-load",), "high-latency", _RELEASE),
    Promise("error-rate", "fewer than 0.1 % of predictions fail under load", _BELOW, 0.001, Unit.RATIO, 5000,
            ("peak-load",), "high-error-rate", _RELEASE),
    Promise("availability", "99.9 % of requests are served, while a replica is lost", _AT_LEAST, 0.999, Unit.RATIO, 5000,
            ("pod-recovery", "pod-deleted", "zone-killed"), "high-error-rate", _RELEASE),
    Promise("scale-out", "replicas follow the load: 3 to 20, one more in 30 s, one less in 5 min", _BELOW, 1.0, Unit.COUNT, 1,
            ("scale-out",), "high-latency", _RELEASE),
    Promise("pod-recovery", "a killed replica serves again in under 30 s", _BELOW, 30.0, Unit.SECONDS, 1,
            ("pod-recovery", "pod-deleted", "pod-evicted", "zone-killed"), "low-replica-count", _RELEASE),
    Promise("node-recovery", "what was on a lost node serves again elsewhere in under 2 min", _BELOW, 120.0, Unit.SECONDS, 1,
            ("node-recovery", "node-cut", "node-kubelet"), "low-replica-count", _RELEASE),
    Promise("planned-changes", "no request fails because a node is drained or every replica is replaced", _BELOW, 1.0, Unit.COUNT,
            1000, ("pod-evicted", "node-drain", "rolling-update"), "low-replica-count", _RELEASE),
    Promise("network-policy", "connections in a cluster are those that are listed, and no others", _BELOW, 1.0, Unit.COUNT, 100,
            ("network-policy",), "network-policy", _RELEASE),
    Promise("key-rotation", "no request fails because an API key is replaced by another", _BELOW, 1.0, Unit.COUNT, 1000,
            ("secrets-rotation",), "api-keys", _RELEASE),
    Promise("key-withdrawal", "every replica refuses a withdrawn API key within 2 min", _BELOW, 120.0, Unit.SECONDS, 1,
            ("secrets-rotation",), "api-keys", _RELEASE),
    Promise("alerting", "a fault raises its alert within 2 min", _BELOW, 120.0, Unit.SECONDS, 1,
            ("alerting",), "low-replica-count", _SILENT),
    Promise("alert-resolution", "an alert resolves within 2 min of the repair", _BELOW, 120.0, Unit.SECONDS, 1,
            ("alerting",), "low-replica-count", _SILENT),
    Promise("database-recovery", "a database fault: every writer is served again in under 10 min", _BELOW, 600.0, Unit.SECONDS,
            1, _DATABASE, "database-no-primary", _RELEASE),
    Promise("database-failover", "a database fault: the next write is acknowledged in under 30 s", _BELOW, 30.0, Unit.SECONDS, 1,
            _DATABASE, "database-no-primary", _RELEASE),
    Promise("acknowledged-writes", "no acknowledged write is lost, invented or altered", _BELOW, 1.0, Unit.COUNT, 1000,
            _DATABASE, "database-no-primary", _RELEASE),
    Promise("prediction-availability", "no prediction fails because the database does", _BELOW, 1.0, Unit.COUNT, 1000,
            _DATABASE, "database-no-primary", _RELEASE),
    Promise("prediction-log", "every answered prediction reaches the log, also when the database fails", _BELOW, 1.0, Unit.COUNT,
            1000, _DATABASE, "database-no-primary", _RELEASE),
    Promise("model-quality", "the model is right on at least 85 % of images it never saw", _AT_LEAST, 0.85, Unit.RATIO, 100,
            ("training",), "model-quality", _MODEL),
    Promise("canary", "a new version is promoted at 10, 50, 100 % if it is fine, and rolls itself back if not", _BELOW, 1.0,
            Unit.COUNT, 1, _CANARIES, "canary", _RELEASE),
    Promise("canary-requests", "no request fails because traffic is shifted between versions", _BELOW, 1.0, Unit.COUNT, 1000,
            _CANARIES, "canary", _RELEASE),
    Promise("canary-rollback", "a bad version has no traffic 30 s and one scrape after the look that decides", _BELOW, 32.0,
            Unit.SECONDS, 1, _BAD_CANARIES, "canary", _RELEASE),
    Promise("restore-time", "a backup is restored and serves in under 1 h", _BELOW, 3600.0, Unit.SECONDS, 1,
            ("restore",), "restore", _RESTORE),
    Promise("restore-content", "a restore holds every row and object, unaltered", _BELOW, 1.0, Unit.COUNT, 1,
            ("restore",), "restore", _RESTORE),
    Promise("restore-checklist", "a restore passes all nine points of its checklist", _BELOW, 1.0, Unit.COUNT, 1,
            ("restore",), "restore", _RESTORE),
    Promise("volume-backup", "a cluster's backups are kept 7 days, 4 weeks, 12 months and leave no object or volume out", _BELOW,
            1.0, Unit.COUNT, 1, ("velero-restore",), "restore", _RESTORE),
    Promise("volume-restore", "a cluster's objects and volumes come back on other nodes, unaltered", _BELOW, 1.0, Unit.COUNT, 1,
            ("velero-restore",), "restore", _RESTORE),
    Promise("volume-restore-time", "a cluster's backup is restored and runs in under 1 h", _BELOW, 3600.0, Unit.SECONDS, 1,
            ("velero-restore",), "restore", _RESTORE),
    Promise("data-loss", "a restore loses less than 24 h of data", _BELOW, 86_400.0, Unit.SECONDS, 1,
            ("restore",), "restore", _RESTORE),
    Promise("cluster-rebuild", "a lost cluster is made again and serves in under 1 h", _BELOW, 3600.0, Unit.SECONDS, 1,
            ("cluster-rebuild",), "cluster-lost", _REBUILD),
    Promise("cluster-content", "a rebuilt cluster holds every object and row, and predicts the same bits", _BELOW, 1.0,
            Unit.COUNT, 1, ("cluster-rebuild",), "cluster-lost", _REBUILD),
    Promise("cluster-data-loss", "a lost cluster costs less than 24 h of data", _BELOW, 86_400.0, Unit.SECONDS, 1,
            ("cluster-rebuild",), "cluster-lost", _REBUILD),
)  # fmt: skip

_BY_ID = {promise.id: promise for promise in PROMISES}


def promise(promise_id: str) -> Promise:
    """The promise of that id.

    Raises:
        UsageError: there is none; the message lists those that exist.
    """
    try:
        return _BY_ID[promise_id]
    except KeyError:
        raise UsageError(f"promise {promise_id!r} does not exist; there are {', '.join(_BY_ID)}") from None


def freshness(row: Promise, kept_at: float | None, now: float) -> Freshness:
    """Whether the newest evidence that a promise was kept is young enough. A time in the future is no age, so it is stale.

    Args:
        row: the promise.
        kept_at: when it was last seen kept, seconds since the epoch; None when it never was.
        now: seconds since the epoch.
    """
    if kept_at is None:
        return Freshness.NEVER
    return Freshness.FRESH if 0 <= now - kept_at <= row.fresh_for_s else Freshness.STALE
