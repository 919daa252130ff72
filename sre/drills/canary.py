"""The canary drills: a version with a known defect, or none, is rolled out by `sre canary run` while users send requests.

The rollout is a process of its own, begun as a person or a pipeline would begin it. The drill only watches: the users' answers,
the shares of traffic at the ingress, and at the end the rollout's own signed record, which lies in the drill's folder.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

from sre.canary import record as records
from sre.drills import loaded
from sre.drills.base import EXPERIMENTS, Case, Context, Drill, Judgement, Options
from sre.drills.canary_site import site_of
from sre.drills.lifecycle import require_load
from sre.errors import CannotRun, EvidenceDamaged, FaultWithoutEffect, StepFailed, UsageError
from sre.evidence import bundle
from sre.faults import model
from sre.faults.base import Undo
from sre.faults.model import Place
from sre.judges.canary.ending import ending, requests_lost
from sre.judges.recovery import recovery
from sre.probes import prometheus
from sre.promises import promise
from sre.readings import LoadPlan
from sre.targets.base import Capability
from sre.targets.registry import PRODUCTION
from sre.units import Unit, show

PLAN = EXPERIMENTS / "canary-drill.yaml"
RATE = 300.0
SHIFTED_WITHIN_S = 180.0
ENDED_WITHIN_S = 2000.0  # every stage of the plan to its deadline, and its end
STEADY_S = 20.0  # the planner reads today's traffic from what was scraped of it
PROMOTED, ROLLED_BACK = "promoted", "rolled back"


class CanaryDrill(Drill):
    """One rollout, and how it must end."""

    promises: ClassVar[tuple[str, ...]] = ("canary", "canary-requests")
    needs: ClassVar = frozenset({Capability.REPLICAS, Capability.WEIGHTS})
    defect: ClassVar[model.Defect] = "none"
    ends: ClassVar[str] = ROLLED_BACK
    counted: ClassVar[bool] = True
    plan_file: ClassVar[Path] = PLAN
    _process: subprocess.Popen[bytes]

    def plan(self, options: Options) -> LoadPlan:
        """Enough users that a tenth of them tells something within minutes."""
        seconds = STEADY_S + SHIFTED_WITHIN_S + ENDED_WITHIN_S + 60.0
        return LoadPlan(options.rate or RATE, options.seconds or seconds, options.seed)

    def steady_seconds(self, options: Options) -> float:
        """Long enough for a forecast."""
        del options
        return STEADY_S

    def preflight(self, context: Context) -> str:
        """As every drill, and there is no canary."""
        seen = super().preflight(context)
        if there := context.target.router.split():
            raise CannotRun(f"version {there.version} is a canary already; end its rollout first with `sre canary abort`")
        return f"{seen}, there is no canary"

    def inject(self, context: Context) -> str:
        """Register the version, and begin its rollout. Every undo is on disk before."""
        site = site_of(context)
        with site.models() as models:
            production = models.named(PRODUCTION).number
            context.ledger.plan(Undo("demote", {"version": production}, f"put version {production} back into production"))
            context.ledger.plan(Undo("end-canary", {}, "end the canary"))
            version = self.version(context, models)
        command = [*self.command(version), *site.arguments]
        context.ran(command)
        context.note(production=production, version=version)
        with (context.folder / "rollout.log").open("wb") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                env={**os.environ, **site.environment, "SRE_EVIDENCE": str(context.folder)},
            )  # fmt: skip
        try:
            share = context.until(
                lambda: self._shifted(context), within=SHIFTED_WITHIN_S, what="traffic for the canary", every=0.5
            )
            fault = self.harm(context)
        except BaseException:
            self._end()
            raise
        return f"version {version} gets {share:.0%} of the traffic{fault}   undo: put version {production} back"

    def command(self, version: str) -> list[str]:
        """What begins the rollout, as a person would type it."""
        program = str(Path(sys.executable).with_name("sre"))
        return [program, "canary", "run", version, "--plan", str(self.plan_file), "--since", f"{STEADY_S:.0f}s"]

    def version(self, context: Context, models: Place) -> str:
        """The version that is rolled out, registered just now: production under a new number, with the drill's defect."""
        del context
        return model.register(models, self.defect)

    def harm(self, context: Context) -> str:
        """What is done to the rollout under way, as `, SIGKILL canary-1`; nothing for a version that is harm enough."""
        del context
        return ""

    def prove_injected(self, context: Context) -> str:
        """Users get answers from the canary, as Prometheus counted them."""
        url = site_of(context).endpoints.prometheus

        def answered() -> tuple[float | None, str]:
            found = prometheus.Prometheus(url).value('sum(http_requests_total{job="serving",path="/predict",track="canary"})')
            return found or None, f"{found or 0:.0f} requests"

        try:
            count = context.until(answered, within=30.0, what="requests that the canary answered", every=1.0)
        except StepFailed as error:
            raise FaultWithoutEffect(f"nobody was served by the canary: {error}") from error
        return f"the canary has answered {count:,.0f} requests"

    def recover(self, context: Context) -> str:
        """Watch until the rollout has ended, and note when the canary had no traffic any more."""
        try:
            self._watch(context)
        finally:
            self._end()
        return self.conclude(context)

    def conclude(self, context: Context) -> str:
        """Note how it ended, from its record, from the replicas and from Prometheus."""
        context.note(exit_code=self._process.returncode, **told(context.folder))
        context.note(canary_failed=self._failed_by_canary(context), serving=sorted(set(site_of(context).versions().values())))
        facts = context.facts
        cleared = "" if facts["cleared_at"] is None else f", no traffic for it {_cleared_words(facts)}"
        return f"{facts['ended']}{cleared}: {facts['why']}"

    def judge(self, case: Case) -> Judgement:
        """How it ended against how it had to, requests that were lost on the way, and the time of a rollback."""
        facts = case.facts
        if "ended" not in facts:
            return loaded.judgement(case, [], may_stop=True)
        wanted = facts["version"] if self.ends == PROMOTED else facts["production"]
        watchers = [ending(promise("canary"), expected=self.ends, ended=facts["ended"], wanted=wanted, serving=facts["serving"])]
        if "canary-rollback" in self.promises and facts["ended"] == ROLLED_BACK:
            decided, cleared = facts["decided_at"], facts["cleared_at"]
            seconds = None if decided is None or cleared is None else max(0.0, cleared - decided)
            watched = 0.0 if decided is None else facts["watched_until"] - decided
            watchers.append(recovery(promise("canary-rollback"), seconds, watched=watched, event="no traffic for the canary"))
        recording, samples = case.load()
        users = [requests_lost(promise("canary-requests"), recording, samples, facts["canary_failed"])]
        return loaded.judgement(case, users, watchers, may_stop=True, counted=self.counted)

    def _shifted(self, context: Context) -> tuple[float | None, str]:
        if self._process.poll() is not None:
            words = (context.folder / "rollout.log").read_text(encoding="utf-8", errors="replace").strip()
            raise StepFailed(f"the rollout ended before it had begun; its last words: {words[-400:] or 'none'}")
        split = context.target.router.split()
        return (split.canary or None, "no share yet") if split else (None, "no canary yet")

    def _watch(self, context: Context) -> None:
        clock, cleared = context.target.clock, None
        deadline = clock.now() + ENDED_WITHIN_S
        over = False
        while not over:
            require_load(context)
            if clock.now() > deadline:
                raise StepFailed(f"the rollout did not end within {ENDED_WITHIN_S:.0f} s; see rollout.log")
            # Asked before the last look at the shares, so that what its end changed is seen.
            over = self._process.poll() is not None
            split = context.target.router.split()
            without = split is None or split.canary == 0
            # The share goes up again after a stage, so only the last time counts.
            cleared = (cleared or clock.wall()) if without else None
            shares = "no canary" if split is None else f"canary {split.canary:.0%}, control {split.control:.0%}"
            context.say(f"{shares}; {context.load.progress() if context.load else ''}")
            clock.sleep(0.2)
        context.note(cleared_at=cleared, watched_until=clock.wall())

    def _end(self) -> None:
        """The rollout takes back what it did when it is told to end; what it leaves, the drill's own undo takes back."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(60.0)
        self._process.kill()
        self._process.wait()

    def _failed_by_canary(self, context: Context) -> float | None:
        """Requests that the canary itself answered with a 5xx: its defect, not the shift, failed them."""
        if context.facts["counted_from"] is None:
            return None
        clock = context.target.clock
        clock.sleep(context.observers.settle_s)
        url = site_of(context).endpoints.prometheus
        counts = prometheus.server_counts(url, context.facts["counted_from"], clock.wall(), track="canary")
        return None if counts is None else counts.errors


def told(folder: Path) -> dict[str, Any]:
    """What the record of the rollout in a drill's folder says.

    Returns:
        `ended` and `why`; `decided_at`, the end of the look that rolled back; `counted_from`, when the canary had been scraped
        at zero and had no request yet; `looks`, their number; `record`, its id. Times are seconds since the epoch, None when
        there was no such moment.

    Raises:
        StepFailed: there is no record, or not one.
    """
    found = [path.parent for path in folder.glob(f"*/{bundle.RUN}")]
    if len(found) != 1:
        raise StepFailed(f"the rollout left {len(found)} closed records, not one; see rollout.log")
    try:
        course = records.read(found[0])
    except (EvidenceDamaged, UsageError) as error:
        raise StepFailed(f"the rollout's record cannot be read: {error}") from error
    decision = course.decision()
    if decision is None:
        raise StepFailed("the rollout's record holds no decision; see rollout.log")
    ended = {"kept": PROMOTED, "broken": ROLLED_BACK}.get(decision["outcome"], decision["outcome"])
    last = (*course.looks, *course.burns)[-1:]
    decided_at = last[0].line["interval"]["end"] if ended == ROLLED_BACK and last else None
    return {
        "ended": ended, "why": decision["why"], "decided_at": decided_at, "counted_from": course.counted_from,
        "looks": len(course.looks), "record": found[0].name,
    }  # fmt: skip


def _cleared_words(facts: Mapping[str, Any]) -> str:
    if facts["decided_at"] is None:
        return "at the end"
    return f"{show(max(0.0, facts['cleared_at'] - facts['decided_at']), Unit.SECONDS)} after the look that decided"
