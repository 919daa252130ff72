"""Runs one experiment and believes its journal, never its exit status.

`chaos run` exits with 0 when the system was not steady beforehand, when nothing was injected, and when an action failed. Here an
experiment counts only if its journal shows a hypothesis that held, and every activity of the method with an answer of ours.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sre.chaos import attach
from sre.errors import ExperimentFailed
from sre.faults.ledger import Ledger
from sre.targets.base import Target

JOURNAL_NAME = "chaos-journal.json"
LOG_NAME = "chaos.log"
WITHIN_S = 60.0


@dataclass(frozen=True, slots=True)
class Injection:
    """What an experiment changed.

    Attributes:
        fault: in words, as the action reported it.
        at: monotonic s just before the change.
        undo: how it will be taken back.
    """

    fault: str
    at: float
    undo: str


def run(  # noqa: PLR0913 - what an experiment needs
    experiment: Path,
    target: Target,
    ledger: Ledger,
    folder: Path,
    variables: dict[str, str],
    *,
    ran: Callable[[Sequence[str]], None] = lambda _: None,
) -> Injection:
    """Inject the fault of an experiment. Its rollbacks are left to the ledger, which holds them beyond this process.

    Args:
        experiment: a file of `experiments/`.
        target: where.
        ledger: gets the undo before the change.
        folder: gets the journal and the log.
        variables: values for the experiment's configuration.
        ran: gets the command before it is run; none is run for a target that lives in this process.

    Raises:
        ExperimentFailed: the journal is missing, or shows anything but a complete and successful run.
    """
    journal_path = folder / JOURNAL_NAME
    # What an earlier run left must not speak for one that writes nothing.
    journal_path.unlink(missing_ok=True)
    if target.handle is None:
        _run_here(experiment, target, ledger, journal_path, variables)
    else:
        command = _command(experiment, folder, variables)
        ran(command)
        _run_child(command, target.handle, ledger, folder)
    try:
        journal = json.loads(journal_path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ExperimentFailed(f"{experiment.name} left no readable journal ({error}); see {folder / LOG_NAME}") from error
    return read_journal(journal, experiment.name)


def read_journal(journal: dict[str, Any], name: str) -> Injection:
    """What a journal proves.

    Raises:
        ExperimentFailed: it does not prove that the system was steady and that the fault was injected.
    """
    before = (journal.get("steady_states") or {}).get("before") or {}
    if before.get("steady_state_met") is not True:
        failed = [probe["activity"]["name"] for probe in before.get("probes", []) if not probe.get("tolerance_met")]
        raise ExperimentFailed(f"{name}: not steady beforehand ({', '.join(failed) or 'no hypothesis was checked'})")
    if journal.get("status") != "completed" or journal.get("deviated"):
        raise ExperimentFailed(f"{name}: status {journal.get('status')}, deviated {journal.get('deviated')}")
    planned, ran = journal["experiment"].get("method", []), journal.get("run", [])
    for activity in ran:
        if activity.get("status") != "succeeded":
            reason = " ".join(str(activity.get("exception", "")).split())[-400:]
            raise ExperimentFailed(f"{name}: {activity['activity']['name']} {activity.get('status')}: {reason}")
    outputs = [activity.get("output") for activity in ran if activity["activity"]["type"] == "action"]
    if len(ran) != len(planned) or not outputs:
        raise ExperimentFailed(f"{name}: {len(ran)} of {len(planned)} activities ran, {len(outputs)} actions among them")
    last = outputs[-1]
    if not isinstance(last, dict) or not {"fault", "at", "undo"} <= last.keys():
        raise ExperimentFailed(f"{name}: the action returned {str(last)[:120]!r} instead of what it changed")
    return Injection(str(last["fault"]), float(last["at"]), str(last["undo"]))


def _command(experiment: Path, folder: Path, variables: dict[str, str]) -> list[str]:
    chaos = str(Path(sys.executable).with_name("chaos"))
    return [
        chaos, "--no-version-check", "--log-file", str(folder / LOG_NAME), "--settings", os.devnull,
        "run", "--journal-path", str(folder / JOURNAL_NAME), "--rollback-strategy", "never",
        *(f"--var={key}={value}" for key, value in variables.items()), str(experiment),
    ]  # fmt: skip


def _run_child(command: list[str], handle: str, ledger: Ledger, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    environment = {
        **os.environ,
        attach.TARGET_VARIABLE: handle,
        attach.LEDGER_VARIABLE: str(ledger.path),
        "SRE_SYSTEM": handle.partition(":")[2],
        "NO_COLOR": "1",
    }
    try:
        subprocess.run(command, env=environment, cwd=folder, capture_output=True, timeout=WITHIN_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise ExperimentFailed(f"{command[-1]} did not end within {WITHIN_S:.0f} s; see {folder / LOG_NAME}") from error


def _run_here(experiment: Path, target: Target, ledger: Ledger, journal_path: Path, variables: dict[str, str]) -> None:
    from chaoslib.exceptions import ChaosException  # noqa: PLC0415 - slow to import
    from chaoslib.experiment import load_experiment, run_experiment  # noqa: PLC0415
    from chaoslib.types import Strategy  # noqa: PLC0415

    attach.bind(target, ledger)
    try:
        journal = run_experiment(
            load_experiment(str(experiment)),
            settings={"runtime": {"rollbacks": {"strategy": "never"}}},
            experiment_vars=(variables, {}),
            strategy=Strategy.BEFORE_METHOD,
        )
    except ChaosException as error:
        raise ExperimentFailed(f"{experiment.name} cannot be run: {error}") from error
    finally:
        attach.bind(None, None)
    journal_path.parent.mkdir(parents=True, exist_ok=True)
    journal_path.write_text(json.dumps(journal, default=str), encoding="utf-8")
