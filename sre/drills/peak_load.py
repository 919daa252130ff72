"""`peak-load`: a thousand predictions a second through the ingress over TLS, and what users got."""

from __future__ import annotations

from typing import ClassVar

from sre.drills import loaded
from sre.drills.base import Case, Context, Drill, Judgement, Options
from sre.errors import StepFailed
from sre.judges.availability import availability
from sre.judges.latency import latency
from sre.judges.throughput import throughput
from sre.promises import promise
from sre.readings import LoadPlan
from sre.targets.base import Capability

WARM_UP_S = 5.0


class PeakLoad(Drill):
    """The load is the test; no fault is injected."""

    name = "peak-load"
    summary = "1000 predictions a second through the ingress over TLS"
    promises: ClassVar = ("throughput", "latency-p95", "latency-p99", "error-rate")
    needs: ClassVar[frozenset[Capability]] = frozenset()

    def plan(self, options: Options) -> LoadPlan:
        """Arrivals are random, so the rate lies a little above the promise: its average must not fall short by chance."""
        return LoadPlan(options.rate or 1050.0, WARM_UP_S + (options.seconds or 60.0), options.seed)

    def steady_seconds(self, options: Options) -> float:
        """The warm-up."""
        del options
        return WARM_UP_S

    def recover(self, context: Context) -> str:
        """Wait for the end of the schedule."""
        load = context.load
        if load is None:
            raise StepFailed("there is no load")
        plan = self.plan(context.options)
        context.until(
            lambda: (None, load.progress()) if load.running() else (True, ""),
            within=plan.seconds + 45.0, what="the end of the schedule", every=0.5,
        )  # fmt: skip
        load.wait()
        return load.progress()

    def judge(self, case: Case) -> Judgement:
        """Throughput, P95, P99 and error rate, from the raw samples after the warm-up."""
        recording, samples = case.load()
        return loaded.judgement(
            case,
            [
                throughput(promise("throughput"), recording, samples, warm_up=WARM_UP_S),
                latency(promise("latency-p95"), recording, samples, quantile=0.95, warm_up=WARM_UP_S),
                latency(promise("latency-p99"), recording, samples, quantile=0.99, warm_up=WARM_UP_S),
                availability(promise("error-rate"), recording, samples),
            ],
        )
