"""Is a rebuilt cluster the one that was lost? Its objects, its rows, its prediction, and what Velero's records say of both."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from sre.judges import velero
from sre.judges.loss import Reach
from sre.judges.manifests.objects import Finding

# pgBackRest writes these anew with each backup, and what they say of the rest is judged by a restore.
_REWRITTEN = re.compile(r"ml-backups/pgbackrest/.*\.info(\.copy)?")
# Of a system that runs, things come and go during a backup; what is made by its own controllers changes after a restore.
_PASSING = frozenset({"item-extra", "item-invented"})
_STEADY = frozenset({"configmaps", "secrets", "serviceaccounts", "deployments.apps", "statefulsets.apps", "services"})
# How many replicas there are is the autoscaler's choice again at once, and each cluster tells every namespace who signs for it.
_OTHERWISE = re.compile(r"deployments\.apps/.*|configmaps/[^/]+/kube-root-ca\.crt")

Digests = Mapping[str, str]


def backup(taken: Mapping[str, Any], databases: Mapping[str, str]) -> Iterator[Finding]:
    """Why a cluster could not be made again from a backup.

    Args:
        taken: facts of `dr.velero.back_up`.
        databases: pods whose database has a backup of its own, as in `velero.volumes`.
    """
    return (finding for finding in velero.taken(taken, databases) if finding.rule not in _PASSING)


def restore(taken: Mapping[str, Any], brought: Mapping[str, Any], living: Digests) -> Iterator[Finding]:
    """What a restore did not bring back, or brought back otherwise.

    Args:
        taken: as in `backup`.
        brought: facts of `dr.velero.restored`.
        living: digests of the objects that are there afterwards.
    """
    if brought["late"]:
        yield Finding("restore-late", "restore", brought["late"])
    yield from velero.restore(brought["restore"], brought["words"], taken["made"], brought["brought"], {})
    steady = {key: digest for key, digest in taken["archived"].items() if key.partition("/")[0] in _STEADY}
    for finding in velero.returned(steady, living, {}):
        if finding.rule == "item-not-restored" or (finding.rule not in _PASSING and not _OTHERWISE.fullmatch(finding.subject)):
            yield finding


def objects(before: Digests, after: Digests, found: Digests) -> Iterator[Finding]:
    """Objects of the store that were there all the while that it was backed up, and are not there as they were.

    Args:
        before: SHA-256 by `bucket/key`, before the backup.
        after: the same after it.
        found: the same of the rebuilt system.
    """
    for key in judged(before, after):
        if key not in found:
            yield Finding("object-lost", key, "is not in the rebuilt store")
        elif found[key] != before[key]:
            yield Finding("object-altered", key, f"was {before[key][:12]}, is {found[key][:12]}")


def judged(before: Digests, after: Digests) -> list[str]:
    """Objects that must come back: those that were there before and after the backup, and the same."""
    return sorted(key for key in before if after.get(key) == before[key] and not _REWRITTEN.fullmatch(key))


def rows(reached: Reach) -> Iterator[Finding]:
    """Rows up to the newest one that came back which are not what was acknowledged."""
    if reached.gaps:
        what = f"up to the newest one that came back, {reached.gaps:,} are lost, invented, doubled or altered"
        yield Finding("rows-differ", "stamped writes", what)


def prediction(found: Mapping[str, Any]) -> Iterator[Finding]:
    """A recorded prediction that is not made again.

    Args:
        found: bits `recorded` and `repeated`, None where there are none, and `why` not.
    """
    if found["recorded"] is None or found["recorded"] != found["repeated"]:
        yield Finding("prediction-differs", "the recorded prediction", f"is not repeated: {found['why'] or 'it has other bits'}")
