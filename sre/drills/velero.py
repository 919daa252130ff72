"""`velero-restore`: Velero backs up a namespace with volumes and brings it back under another name and on other nodes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from sre.dr import velero
from sre.drills.base import Case, Context, Drill, Judgement
from sre.errors import CannotRun, StepFailed
from sre.faults.base import Undo
from sre.judges import velero as judges
from sre.judges.manifests.objects import Finding
from sre.judges.recovery import recovery
from sre.judges.ruling import ruled, told
from sre.promises import promise
from sre.targets.base import Capability

# The same each time: for each namespace the store gets a repository that outlives its backups.
SOURCE, RESTORED = "velero-drill", "velero-drill-restored"
NAMESPACES = (SOURCE, RESTORED)
WITHIN_S = 300.0
LOCATION_WITHIN_S = 60.0


class VeleroRestore(Drill):
    """Nothing of the system is touched: what is backed up and restored is the drill's own, under the same rules."""

    name = "velero-restore"
    summary = "a namespace with volumes is backed up by Velero, restored on other nodes, and compared file by file"
    promises: ClassVar = ("volume-backup", "volume-restore", "volume-restore-time")
    needs: ClassVar = frozenset({Capability.VOLUME_BACKUPS})

    def preflight(self, context: Context) -> str:
        """Velero answers and pods can go elsewhere. What is wrong with its store or schedules is no hindrance but a finding."""
        self.require_capabilities(context.target)
        volumes = context.target.volumes
        if trouble := volumes.trouble():
            raise CannotRun(trouble)
        if len(volumes.nodes()) < 2:
            raise CannotRun(f"{len(volumes.nodes())} node takes pods, so nothing can be restored elsewhere; add or uncordon one")
        watch = _watch(context, LOCATION_WITHIN_S)
        if left := watch.until(lambda: volumes.left(_name(context), NAMESPACES), "leftovers of an earlier drill to be gone"):
            raise StepFailed(f"{left}; run `sre undo` or delete them")
        watch.until(
            lambda: "; ".join(map(told, judges.location(volumes.records("backupstoragelocations")))), "a place for backups"
        )
        schedules, backups = volumes.records("schedules"), volumes.records("backups")
        context.note(
            looked_at=context.target.clock.wall(), location=volumes.records("backupstoragelocations"), schedules=schedules,
            backups=backups, scheduled=velero.scheduled(volumes, schedules, backups),
        )  # fmt: skip
        return f"Velero answers, {len(schedules)} schedules and {len(backups)} backups there, {len(volumes.nodes())} nodes"

    def steady(self, context: Context) -> str:
        """Let pods run that have volumes, and fill these."""
        name = _name(context)
        sentence = f"delete backup {name} and namespaces {' and '.join(NAMESPACES)}"
        context.ledger.plan(Undo("forget-volumes", {"name": name, "namespaces": ",".join(NAMESPACES)}, sentence))
        files = velero.sample(_watch(context), SOURCE)
        context.note(files=files)
        return f"{len(files)} volumes with {_count(files)} files in namespace {SOURCE}"

    def inject(self, context: Context) -> str:
        """Back it up."""
        taken = velero.back_up(_watch(context), _name(context), [SOURCE])
        context.note(taken=taken)
        return f"{_ending(taken['backup'])}, {len(taken['made'])} volume backups"

    def prove_injected(self, context: Context) -> str:
        """The source is as it was, so that it can be compared with."""
        again = context.target.volumes.files(SOURCE)
        context.note(files_after=again)
        archived = context.facts["taken"]["archived"]
        return archived.get("trouble") or f"{len(judges.own(archived))} objects read back from the store"

    def recover(self, context: Context) -> str:
        """Restore it under another name, each pod away from the node where it was, and look at everything."""
        volumes, clock, name = context.target.volumes, context.target.clock, _name(context)
        taken = context.facts["taken"]
        if (taken["backup"] or {}).get("status", {}).get("phase") not in {"Completed", "PartiallyFailed"}:
            return "there is no backup to restore"
        away_from = {pod["metadata"]["name"]: pod["spec"]["nodeName"] for pod in taken["after"]["pods"]}
        began = clock.now()
        brought = velero.bring_back(_watch(context), name, name, {SOURCE: RESTORED}, away_from)
        try:
            found: dict[str, Any] = volumes.files(RESTORED)
        except StepFailed as error:
            found, brought["late"] = {}, brought["late"] or str(error)
        watched = clock.now() - began
        whole = not brought["late"] and not list(judges.content(context.facts["files"], found))
        context.note(brought=brought, files_restored=found, restored_in=watched if whole else None, watched=watched)
        placed = {pod["metadata"]["name"]: pod["spec"].get("nodeName") for pod in brought["after"]["pods"]}
        moved = ", ".join(f"{pod} from {node} to {placed.get(pod)}" for pod, node in sorted(away_from.items()))
        return f"{_ending(brought['restore'])}, {_count(found)} files; {moved}"

    def judge(self, case: Case) -> Judgement:
        """What is wrong with backups, what is wrong with the restore, and how long that took."""
        facts = case.facts
        backup, restore = list(_of_backups(facts)), list(_of_restore(facts))
        archived = judges.own(_archived(facts))
        made, files = len(facts.get("taken", {}).get("made", ())), _count(facts.get("files_restored", {}))
        verdicts = [
            ruled(
                promise("volume-backup"), backup, made and len(archived) and made + len(archived),
                f"{len(archived)} objects and {made} volumes are in the store, {len(facts['schedules'])} schedules as promised",
            ),
            ruled(
                promise("volume-restore"), restore, files and files + len(archived),
                f"{len(archived)} objects and {files} files came back on other nodes, unaltered",
            ),
        ]  # fmt: skip
        if "watched" in facts:
            event = "every restored pod ready with every file"
            verdicts.append(recovery(promise("volume-restore-time"), facts["restored_in"], watched=facts["watched"], event=event))
        return Judgement(tuple(verdicts), tuple(map(told, (*backup, *restore))))


def _of_backups(facts: Any) -> Iterator[Finding]:
    yield from judges.location(facts["location"])
    yield from judges.schedules(facts["schedules"], facts["backups"], facts["looked_at"])
    for one in facts["scheduled"]:
        living = one["living"]
        yield from judges.volumes(living["pods"], living["claims"], living["volumes"], one["made"], one.get("databases", ()))
    if "taken" not in facts:
        return
    yield from judges.taken(facts["taken"])
    yield from judges.content(facts["files"], facts["files_after"])


def _of_restore(facts: Any) -> Iterator[Finding]:
    if "brought" not in facts:
        return
    taken, brought, into = facts["taken"], facts["brought"], {SOURCE: RESTORED}
    if brought["late"]:
        yield Finding("restore-late", "restore", brought["late"])
    yield from judges.restore(brought["restore"], brought["words"], taken["made"], brought["brought"], into)
    yield from judges.returned(_archived(facts), brought["after"]["items"], into)
    yield from judges.placement(taken["after"]["pods"], brought["after"]["pods"])
    yield from judges.content(facts["files"], facts["files_restored"])


def _archived(facts: Any) -> dict[str, str]:
    archived = facts.get("taken", {}).get("archived", {})
    return {} if "trouble" in archived else dict(archived)


def _watch(context: Context, within_s: float = WITHIN_S) -> velero.Watch:
    return velero.Watch(context.target.volumes, context.target.clock, within_s, context.say)


def _name(context: Context) -> str:
    """Of backup, restore and what places it, made from the run's."""
    return f"drill-{context.folder.parents[1].name.partition('-')[0].lower()}"


def _count(files: Any) -> int:
    return sum(map(len, files.values()))


def _ending(found: Any) -> str:
    return "nothing" if found is None else f"{found['metadata']['name']} is {found.get('status', {}).get('phase')}"
