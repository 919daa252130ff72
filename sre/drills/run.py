"""One run: some drills on one target, one folder of evidence, one exit code. Also the way back: verdicts anew from the folder."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import psutil
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from sre.canary import replay
from sre.canary.record import CANARY
from sre.chaos.attach import end_orphans
from sre.config import PROJECT
from sre.dr.rebuild import REBUILD
from sre.drills.base import Case, Context, Drill, Options, read_case
from sre.drills.catalog import DRILLS
from sre.drills.lifecycle import conduct
from sre.errors import CannotRun, EvidenceDamaged, ExitCode, SreError, UndoIncomplete
from sre.evidence import attest, bundle, codec, journal, sign
from sre.evidence.schema import DrillRecord, RunRecord, StepRecord
from sre.faults.ledger import LEDGER_NAME, Ledger
from sre.promises import promise
from sre.targets import handles
from sre.targets.base import Observers, Target
from sre.targets.local import processes
from sre.verdict import Outcome, combine


class Narrator(Protocol):
    """Who tells people how a run goes."""

    def drill(self, name: str, sentence: str, target: str) -> None:
        """A drill begins."""
        ...

    def step(self, step: StepRecord) -> None:
        """A step has ended."""
        ...

    def say(self, line: str) -> None:
        """Something to show until the next step ends."""
        ...


@dataclass(frozen=True, slots=True)
class Finished:
    """A run that is over: its record and its folder."""

    record: RunRecord
    folder: Path


def run(  # noqa: PLR0913 - each is a part of what a run is
    drills: Sequence[Drill], target: Target, observers: Observers, *,
    root: Path, signing_key: Path, name: str, options: Options, narrator: Narrator,
) -> Finished:  # fmt: skip
    """Carry out drills one after the other; the first that leaves something changed, or is interrupted, is the last.

    Args:
        drills: in order.
        target: the system.
        observers: those who watch it.
        root: folder of all evidence.
        signing_key: file of the key that signs the evidence, made when missing.
        name: of the run, becomes part of its id.
        options: for every drill.
        narrator: is told of everything.

    Raises:
        CannotRun: the signing key cannot be used; nothing was done then.
    """
    key = sign.private_key(signing_key)
    clock = target.clock
    evidence = bundle.create(root, name, clock)
    ledger = Ledger(evidence.folder / LEDGER_NAME)
    started = clock.wall()
    environment = {**machine(), "command": [Path(sys.argv[0]).name, *sys.argv[1:]], **target.describe()}
    process = processes.identity(os.getpid())
    evidence.journal.write("run", name=name, target=target.name, handle=target.handle, process=process)
    records: list[DrillRecord] = []
    exit_code: ExitCode | None = None
    for drill in drills:
        narrator.drill(drill.name, promise(drill.promises[0]).sentence, target.name)
        context = Context(
            drill.name, target, observers, evidence.drill_folder(drill.name), evidence.journal, ledger, options, narrator.say
        )
        ended = conduct(drill, context, narrator.step)
        records.append(ended.record)
        if not ended.undone:
            exit_code = ExitCode.UNDO_INCOMPLETE
        elif ended.interrupted:
            exit_code = ExitCode.INTERRUPTED
        if exit_code is not None:
            break
    outcome = combine(record.outcome for record in records)
    record = RunRecord(
        id=evidence.id, title=", ".join(drill.name for drill in drills), target=target.name, started=started, ended=clock.wall(),
        outcome=outcome, exit_code=exit_code if exit_code is not None else outcome.exit_code, drills=tuple(records),
        environment=environment,
    )  # fmt: skip
    evidence.seal(record, key)
    return Finished(record, evidence.folder)


def verify(folder: Path, key: Ed25519PublicKey) -> list[str]:
    """Check a run as someone would who trusts its signer alone: signature, every file, journal chain, every verdict anew.

    Args:
        folder: of the run.
        key: public key of the signer.

    Returns:
        What is wrong, one sentence each; empty when the evidence holds.

    Raises:
        EvidenceDamaged: the record itself cannot be read.
    """
    record = bundle.load(folder)
    broken_journal = journal.problems(folder / bundle.JOURNAL)
    wrong = [*attest.problems(folder, record, key), *broken_journal]
    if broken_journal:
        return wrong
    events = journal.read(folder / bundle.JOURNAL)
    wrong += _retold(record, events)
    for drill in record.drills:
        if drill.name == CANARY:
            wrong += replay.rejudge(drill, folder)
        else:
            wrong += _rejudge(drill, folder, _facts(events, drill.name))
    outcome = combine(drill.outcome for drill in record.drills)
    if outcome is not record.outcome:
        wrong.append(f"the run's outcome is recorded as {record.outcome}, its drills say {outcome}")
    return wrong


def undo(folder: Path, tools: Path) -> list[str]:
    """Take back whatever a run left changed, once nothing of it is alive any more.

    Args:
        folder: of the run.
        tools: folder of unpacked programs, to attach to the run's target.

    Returns:
        One sentence per change taken back; none when nothing was left.

    Raises:
        CannotRun: the run is still under way.
        UndoIncomplete: something cannot be taken back.
        TargetUnavailable: the run's target is gone.
    """
    ledger = Ledger(folder / LEDGER_NAME)
    # A run writes to its journal before it changes anything: one that was killed before its first line has changed nothing.
    if not ledger.pending() and ((folder / bundle.RUN).exists() or not _begun(folder)):
        return []
    origin = _origin(folder)
    if processes.alive(origin["process"]):
        pid = origin["process"].partition("@")[0]
        raise CannotRun(f"{folder.name} is still under way in process {pid}; interrupt that, it undoes by itself")
    end_orphans(ledger)
    if not ledger.pending():
        return []
    if origin["handle"] is None:
        raise UndoIncomplete(f"{folder.name} ran on a target that ended with its process; nothing can be undone")
    lost = any(entry.undo.action == REBUILD for entry in ledger.pending())
    return ledger.replay(handles.attach(origin["handle"], tools, lost=lost))


def machine() -> dict[str, Any]:
    """What a run ran on: hardware, system, Python, commit; that is unknown where there is no git, as in an image."""
    describe = ["git", "-C", str(PROJECT), "describe", "--always", "--dirty", "--abbrev=12"]
    commit = ""
    with suppress(OSError):
        commit = subprocess.run(describe, capture_output=True, text=True, timeout=10, check=False).stdout.strip()
    return {
        "commit": commit or "unknown",
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "load_average": os.getloadavg()[0],
    }


def _retold(record: RunRecord, events: list[dict[str, Any]]) -> list[str]:
    """Where the record tells another course of the run than the journal: its drills, their steps, how it ended."""
    wrong = []
    ran = [event["drill"] for event in events if event["event"] == "drill"]
    if ran != [drill.name for drill in record.drills]:
        wrong.append(f"the journal tells of other drills than the record: {', '.join(ran) or 'none'}")
    for drill in record.drills:
        told = [
            (event["name"], event["state"], event["detail"])
            for event in events
            if event["event"] == "step" and event["drill"] == drill.name and event["state"] != "began"
        ]
        # Steps that were skipped and the mark of an interrupt never ran, so the journal does not hold them.
        steps = [(step.name, step.result, step.detail) for step in drill.steps if step.result != "skipped"]
        if told != [step for step in steps if step[0] != "interrupted"]:
            wrong.append(f"{drill.name}: the steps of the record are not those of the journal")
    sealed = events[-1] if events else {}
    if (sealed.get("outcome"), sealed.get("exit_code")) != (record.outcome, record.exit_code):
        wrong.append(
            f"the journal does not end with outcome {record.outcome} and exit code {record.exit_code}, as the record says"
        )
    return wrong


def _facts(events: list[dict[str, Any]], drill: str) -> dict[str, Any]:
    return {event["name"]: event["value"] for event in events if event["event"] == "fact" and event["drill"] == drill}


def _rejudge(drill: DrillRecord, folder: Path, facts: dict[str, Any]) -> list[str]:
    if drill.name not in DRILLS:
        return [f"drill {drill.name} does not exist here, so its verdicts cannot be computed anew"]
    if codec.plain(drill.facts) != codec.plain(facts):
        return [f"{drill.name}: the facts of the record are not those of the journal"]
    failed = [Outcome.ERROR for step in drill.steps if step.result == "failed"]
    if combine([*(verdict.outcome for verdict in drill.verdicts), *failed]) is not drill.outcome:
        return [f"{drill.name}: its outcome is recorded as {drill.outcome}, its verdicts and steps say otherwise"]
    if not drill.verdicts and not any(step.name == "judge" and step.result == "ok" for step in drill.steps):
        return []
    try:
        case: Case = read_case(folder / drill.folder, facts)
        judged = DRILLS[drill.name]().judge(case)
    except (SreError, KeyError, TypeError, ValueError) as error:
        return [f"{drill.name}: its verdicts cannot be computed from what is there ({error!r})"]
    wrong = []
    if codec.plain(judged.verdicts) != codec.plain(drill.verdicts):
        wrong.append(f"{drill.name}: the verdicts computed from the raw files are not those that were recorded")
    if judged.findings != drill.findings:
        wrong.append(f"{drill.name}: the findings computed from the raw files are not those that were recorded")
    return wrong


def _begun(folder: Path) -> bool:
    path = folder / bundle.JOURNAL
    return path.exists() and bool(journal.read(path))


def _origin(folder: Path) -> dict[str, Any]:
    """`handle` of the target that a run used, and the identity of its `process`, or of the one that went on with it."""
    events = journal.read(folder / bundle.JOURNAL)
    if not events or events[0]["event"] != "run":
        raise EvidenceDamaged(f"the journal of {folder.name} does not begin with the run; undo by hand what its ledger names")
    return events[0] | {"process": [event["process"] for event in events if "process" in event][-1]}
