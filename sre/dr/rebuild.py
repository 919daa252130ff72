"""A lost cluster is made again: an empty one, Velero in it with the store that outlived it, and what that store holds.

The database comes from its own backups: its pods and the agreement of its members, which names a cluster that is gone, are left
out of the restore, and its members find a repository with a backup where they find no data (k8s/base/database/bootstrap.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from sre.clock import Clock
from sre.dr import velero
from sre.dr.velero import Watch
from sre.errors import CannotRun, StepFailed, UndoIncomplete
from sre.faults.ledger import ACTIONS
from sre.judges import velero as judges
from sre.judges.ruling import told
from sre.targets.backups import NAMESPACES, Object, Say, VolumeBackups
from sre.targets.base import Target

T = TypeVar("T")
Note = Callable[..., None]

# In the ledger.
REBUILD = "rebuild-cluster"
# What the members of the database have, and what they agree by; and replicas, which have nothing of their own, and whose pods an
# API server of 1.34 or later refuses as they are, since it has written what `matchLabelKeys` says into them.
LEFT_OUT = ("cluster-name=ml", "app.kubernetes.io/component=serving")
KNOWN_WITHIN_S = 300.0
RESTORED_WITHIN_S = 1800.0
RUNS_WITHIN_S = 1800.0
LOOK_EVERY_S = 1.0


def rebuild(target: Target, backup: str, say: Say, note: Note, *, lost: str = "") -> None:
    """Make the cluster of a target again and wait until all of its system runs.

    Args:
        target: attached, though its cluster may be gone.
        backup: of Velero; the newest complete one when empty.
        say: is told of each change.
        note: gets facts as they become known: `phases`, in s by name, `backup`, and `brought` as `velero.restored` has it.
        lost: identity of the cluster that was lost, which is not touched. What a rebuild that broke off has left in another is
            deleted first; when empty, nothing is.

    Raises:
        CannotRun: it was never lost, or the new cluster is not empty, or the store has no complete backup.
        StepFailed: a phase did not come to its end; the message holds what was last seen.
    """
    site, clock, phases = target.site, target.clock, dict[str, float]()

    def phase(what: str, act: Callable[[], T]) -> T:
        began = clock.now()
        say(f"rebuilding: {what}")
        try:
            return act()
        finally:
            phases[what] = clock.now() - began
            note(phases=dict(phases))

    phase("an empty cluster", site.create)
    if lost and site.identity() == lost:
        raise CannotRun("the cluster that answers was never lost, and is left as it is")
    if lost:
        site.clear(say)
    elif there := site.holds():
        raise CannotRun(f"the cluster holds {there}; end that system first with `sre down --target kubernetes --purge`")
    phase("Velero", lambda: site.install(say))
    watch = Watch(target.volumes, clock, RESTORED_WITHIN_S, say)
    chosen = phase("its backups known", lambda: _known(target.volumes, clock, backup, say))
    note(backup=chosen)
    name = f"rebuild-{int(clock.wall())}"
    brought = phase("restore", lambda: _bring_back(watch, name, chosen))
    note(brought=brought)
    phase("the database", lambda: wait(lambda: _of_database(site.missing()), "the database", clock, RUNS_WITHIN_S, say))
    phase("all of it runs", lambda: wait(site.missing, "the system", clock, RUNS_WITHIN_S, say))
    if misfits := site.misfits():
        raise StepFailed(f"{misfits} than this machine has; take those of the backup that was restored")


def wait(look: Callable[[], str], what: str, clock: Clock, within_s: float, say: Say) -> None:
    """Look again and again until nothing is waited for.

    Raises:
        StepFailed: the deadline passed; the message holds what was last waited for.
    """
    if late := velero.until(look, what, clock, within_s, say, every_s=LOOK_EVERY_S):
        raise StepFailed(late)


def newest(backups: Sequence[Object]) -> Object | None:
    """The newest complete backup that has all of the system."""
    whole = [
        one
        for one in backups
        if (one.get("status") or {}).get("phase") == "Completed"
        and set(one["spec"].get("includedNamespaces") or ()) >= set(NAMESPACES)
    ]
    return max(whole, key=lambda one: str(one["metadata"]["creationTimestamp"]), default=None)


def _of_database(missing: str) -> str:
    return "; ".join(words for words in missing.split("; ") if "postgres" in words or words.startswith("no workload"))


def _known(volumes: VolumeBackups, clock: Clock, backup: str, say: Say) -> str:
    """The name of the backup to restore, once the new Velero has looked through the store."""
    found: Object | None = None

    def look() -> str:
        nonlocal found
        if words := volumes.trouble() or "; ".join(map(told, judges.location(volumes.records("backupstoragelocations")))):
            return words
        there = volumes.records("backups")
        found = next((one for one in there if one["metadata"]["name"] == backup), None) if backup else newest(there)
        return "" if found else f"{len(there)} backups are known, {backup or 'a complete one of the system'} is not"

    wait(look, "the backups in the store", clock, KNOWN_WITHIN_S, say)
    if found is None or found["status"]["phase"] != "Completed":
        state = "nowhere" if found is None else found["status"]["phase"]
        raise CannotRun(f"backup {backup} is {state}, so it is not whole; name another one")
    return str(found["metadata"]["name"])


def _bring_back(watch: Watch, name: str, backup: str) -> dict[str, Any]:
    watch.volumes.bring_back(name, backup, {namespace: namespace for namespace in NAMESPACES}, {}, without=LEFT_OUT)
    facts = velero.restored(watch, name)
    if facts["restore"] is None or (facts["restore"].get("status") or {}).get("phase") not in {"Completed", "PartiallyFailed"}:
        raise StepFailed(facts["late"] or f"restore {name} failed; see `velero restore describe {name}`")
    return facts


def _undo(target: Target, arguments: Mapping[str, str]) -> None:
    """What was never lost is waited for; what was is made again, from the beginning where that broke off."""
    site, clock = target.site, target.clock
    there = site.identity()
    if there != arguments["identity"] and (not there or velero.seen(site.missing)):
        rebuild(target, arguments["backup"], _silent, _silent, lost=arguments["identity"])
    try:
        wait(site.missing, "the system", clock, RUNS_WITHIN_S, _silent)
    except StepFailed as error:
        raise UndoIncomplete(str(error)) from error


def _silent(*_: Any, **__: Any) -> None:
    """Whoever undoes after a crash tells only how it ended."""


# Here, since the ledger knows no procedure of so many layers; whoever replays a ledger has this module loaded (drills.run).
ACTIONS[REBUILD] = _undo
