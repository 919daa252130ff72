"""The recovery study: one drill many times on the system that runs, each with fresh replicas, and what its runs say together.

    python -m tests.studies.recovery pod-recovery 59 --target kubernetes
    python -m tests.studies.recovery node-recovery 29 --target kubernetes

59 of 59 show that at least 95 % of recoveries are within the bound, 29 of 29 that 90 % are. It goes on where it stopped: its runs
lie in a folder of their own below the evidence.

Exit status: 0 when every run kept every promise, 1 when one did not or decided nothing, 4 when a run left something changed.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Literal

import typer

from sre.cli import output
from sre.config import Settings
from sre.drills import catalog, session
from sre.drills.base import Options
from sre.errors import ExitCode, StepFailed
from sre.evidence import history, standing
from sre.evidence.history import Trials
from sre.targets.base import Capability, Target

FRESH_WITHIN_S = 300.0


def freshen(target: Target) -> None:
    """Replace every replica, where the platform does that: one that ended often is begun again late, and nodes are to be shared.

    Raises:
        StepFailed: not all of them are ready within the deadline.
    """
    if Capability.ROLLOUTS not in target.capabilities:
        return
    before = {replica.identity for replica in target.replicas()}
    target.roll_out()
    deadline = target.clock.now() + FRESH_WITHIN_S
    while True:
        now = target.replicas()
        if all(replica.ready and replica.identity not in before for replica in now):
            return
        if target.clock.now() > deadline:
            raise StepFailed(f"replicas are not fresh within {FRESH_WITHIN_S:.0f} s (last seen: {now})")
        target.clock.sleep(1.0)


def conclusion(found: Sequence[Trials], runs: int) -> ExitCode:
    """Kept only when every run kept every promise of the drill."""
    whole = found and all(one.kept == len(one.measured) >= runs and not one.undecided for one in found)
    return ExitCode.KEPT if whole else ExitCode.BROKEN


def main(
    drill: Annotated[str, typer.Argument(help="Name of the drill.")] = "pod-recovery",
    runs: Annotated[int, typer.Argument(min=1, help="How many in all.")] = 59,
    target: Annotated[Literal["local", "kubernetes"], typer.Option()] = "kubernetes",
    rate: Annotated[float | None, typer.Option(help="Requests a second.")] = None,
) -> None:
    """Run what is missing, then show all."""
    kind = type(catalog.drill(drill))
    known = Settings()
    settings = known.model_copy(update={"evidence": known.evidence / f"study-{drill}-{target}"})

    def done() -> list[Trials]:
        return history.trials(settings.evidence, standing.known_key(settings.signing_key), [drill])

    with output.progress() as narrator:
        while (count := max((len(one.measured) + one.undecided for one in done()), default=0)) < runs:
            narrator.change(f"run {count + 1} of {runs}")
            with session.running(settings, target) as (system, _):
                if Capability.NODES in kind.needs or any(replica.restarts for replica in system.replicas()):
                    freshen(system)
            finished = session.on_running(
                settings, target, [kind()], name=drill, options=replace(Options(), rate=rate), narrator=narrator
            )
            if finished.record.exit_code in {ExitCode.UNDO_INCOMPLETE, ExitCode.INTERRUPTED}:
                sys.exit(ExitCode.CANNOT_RUN)
    found = done()
    output.table(history.COLUMNS, [one.row() for one in found], right=frozenset(history.COLUMNS[4:9]))
    sys.exit(conclusion(found, runs))


if __name__ == "__main__":
    typer.run(main)
