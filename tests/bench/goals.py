"""The goals as data: what is measured, against which bound. Arithmetic only.

Goals are ratios inside one run wherever they can be, so that they hold on another machine too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Literal

from tests.bench.figures import Doubtful, Results

GROUPS = (
    "throughput", "replicas", "tutorial", "mobilenet", "stages", "features", "memory", "openloop", "overload", "starts",
    "preprocess",
)  # fmt: skip
PEERS = ("kserve", "mlserver", "mlserver-w0", "mlflow", "bentoml", "litserve")
# Peers that infer in the HTTP process, so that a replica of one process is a way to run them.
SINGLE = ("kserve", "mlserver-w0")
VARIANTS = ("auto", "int8", "openvino-bf16")

OURS, BARE, RAW, REPLICAS = "resnet/ours/fp32", "resnet/bare/hot", "resnet/bare/raw", "resnet/replicas/ours"
MOBILE, MOBILE_BF16, MOBILE_RAW = "mobilenet/ours/fp32", "mobilenet/ours/openvino-bf16", "mobilenet/bare/raw"


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """One line that a run must reach.

    Attributes:
        id: stable name.
        group: what `--only` selects.
        sentence: for people.
        comparison: how the measured value must stand to the bound.
        bound: in `unit`.
        unit: `x` for a ratio.
        rows: keys of the rows that it needs.
        experiments: names of the other measurements that it needs.
        measure: from the results to the value; KeyError where something is missing.
        peers: whether a peer that is absent makes it fail.
    """

    id: str
    group: str
    sentence: str
    comparison: Literal["<=", ">="]
    bound: float
    unit: str
    measure: Callable[[Results], float]
    rows: Sequence[str] = ()
    experiments: Sequence[str] = ()
    peers: bool = False

    def holds(self, measured: float) -> bool:
        """Whether a value reaches the bound; NaN and infinity never do."""
        return isfinite(measured) and (measured <= self.bound if self.comparison == "<=" else measured >= self.bound)


@dataclass(frozen=True, slots=True)
class Judged:
    """A goal and what came of it; `measured` is None when there is no data, which is a miss, or doubtful data."""

    goal: Goal
    measured: float | None
    why: str
    doubtful: bool = False

    @property
    def reached(self) -> bool:
        """Whether the goal was reached."""
        return self.measured is not None and not self.why and self.goal.holds(self.measured)

    @property
    def word(self) -> Literal["REACHED", "MISSED", "INCONCLUSIVE"]:
        """What came of it."""
        return "REACHED" if self.reached else "INCONCLUSIVE" if self.doubtful else "MISSED"


def judge(goal: Goal, results: Results, absent: Sequence[str] = ()) -> Judged:
    """Judge one goal. `absent` are peers that were asked for and could not be run."""
    if goal.peers and absent:
        return Judged(goal, None, f"could not be run: {', '.join(absent)}")
    try:
        return Judged(goal, goal.measure(results), "")
    except Doubtful as doubt:
        return Judged(goal, None, str(doubt), doubtful=True)
    except KeyError as missing:
        return Judged(goal, None, str(missing.args[0]))
    except ZeroDivisionError:
        return Judged(goal, None, "nothing was answered")


def goals(peers: Sequence[str]) -> list[Goal]:
    """All goals, for the peers that take part."""
    lent = [f"resnet/lent/{peer}" for peer in peers]
    return [*_throughput(lent, peers), *_mobilenet([f"mobilenet/lent/{peer}" for peer in peers]), *_own(), *_loops()]


def _ratio(ours: str, others: Sequence[str], name: str, pick: Callable[[list[float]], float]) -> Callable[[Results], float]:
    return lambda found: found.value(ours, name) / pick(found.values(list(others), name))


def _throughput(lent: list[str], peers: Sequence[str]) -> list[Goal]:
    tutorial = [f"resnet/tutorial/{peer}" for peer in peers]
    replicas = [f"resnet/replicas/{peer}" for peer in peers if peer in SINGLE]
    variants = [f"resnet/ours/{variant}" for variant in VARIANTS]
    return [
        Goal(
            id="rps-best-peer", group="throughput", comparison=">=", bound=2.0, unit="x", rows=[OURS, *lent], peers=True,
            sentence="Requests a second against the best peer, its own workers, our preprocessing lent to it",
            measure=_ratio(OURS, lent, "rps", max),
        ),
        Goal(
            id="p99-peers", group="throughput", comparison="<=", bound=1.0, unit="x", rows=[OURS, *lent], peers=True,
            sentence="P99 against the lowest of any peer", measure=_ratio(OURS, lent, "p99_ms", min),
        ),
        Goal(
            id="rps-variant", group="throughput", comparison=">=", bound=2.2, unit="x", rows=[*variants, *lent], peers=True,
            sentence="Requests a second of the best gated variant against the best peer in fp32",
            measure=lambda found: found.best(variants, "rps") / max(found.values(lent, "rps")),
        ),
        Goal(
            id="rps-replicas", group="replicas", comparison=">=", bound=1.8, unit="x", rows=[REPLICAS, *replicas], peers=True,
            sentence="Requests a second of two one-process replicas against two of the best peer, a fair balancer",
            measure=_ratio(REPLICAS, replicas, "rps", max),
        ),
        Goal(
            id="cpu-tutorial", group="tutorial", comparison="<=", bound=1 / 3, unit="x", rows=[OURS, *tutorial], peers=True,
            sentence="CPU time a request against the cheapest peer as its tutorial writes it, with Pillow",
            measure=_ratio(OURS, tutorial, "cpu_us", min),
        ),
    ]  # fmt: skip


def _mobilenet(lent: list[str]) -> list[Goal]:
    return [
        Goal(
            id="mobilenet-fp32", group="mobilenet", comparison=">=", bound=1.3, unit="x", rows=[MOBILE, *lent], peers=True,
            sentence="MobileNetV3-small at 224 px: requests a second against the best peer, the same engine",
            measure=_ratio(MOBILE, lent, "rps", max),
        ),
        Goal(
            id="mobilenet-bf16", group="mobilenet", comparison=">=", bound=1.8, unit="x", rows=[MOBILE_BF16, *lent], peers=True,
            sentence="The same with OpenVINO in bf16 against the best peer in fp32",
            measure=_ratio(MOBILE_BF16, lent, "rps", max),
        ),
    ]  # fmt: skip


def _own() -> list[Goal]:
    return [
        Goal(
            id="stages-resnet", group="stages", comparison="<=", bound=1.15, unit="x", rows=[OURS, RAW], experiments=["stages"],
            sentence="ResNet-8: CPU time a request against the sum of its stages, each measured alone",
            measure=lambda found: found.value(OURS, "cpu_us") / found.figure("stages resnet us"),
        ),
        Goal(
            id="stages-mobilenet", group="stages", comparison="<=", bound=1.25, unit="x", rows=[MOBILE, MOBILE_RAW],
            experiments=["stages"], sentence="MobileNetV3-small: the same",
            measure=lambda found: found.value(MOBILE, "cpu_us") / found.figure("stages mobilenet us"),
        ),
        Goal(
            id="features", group="features", comparison="<=", bound=0.10, unit="share", rows=[OURS, BARE],
            sentence="CPU time of all features together, as a share of the bare hot path's",
            measure=lambda found: found.value(OURS, "cpu_us") / found.value(BARE, "cpu_us") - 1,
        ),
        Goal(
            id="memory", group="memory", comparison="<=", bound=220, unit="MB", rows=[OURS],
            sentence="Memory of two workers under load, shared pages once", measure=lambda found: found.value(OURS, "pss_mb"),
        ),
        Goal(
            id="no-torch", group="memory", comparison="<=", bound=0, unit="processes", rows=[OURS],
            sentence="Serving processes that have torch loaded", measure=lambda found: found.figure("processes with torch"),
        ),
        Goal(
            id="starts", group="starts", comparison="<=", bound=55, unit="%", experiments=["starts"],
            sentence="Largest share of requests of one of two workers, the worst of all starts, 16 connections",
            measure=lambda found: found.figure("largest share %"),
        ),
        *(
            Goal(
                id=f"preprocess-{name}", group="preprocess", comparison="<=", bound=bound, unit="ms", experiments=["preprocess"],
                sentence=f"Preprocessing P99, {what}", measure=_figure(f"preprocess {name} p99 ms"),
            )
            for name, what, bound in (
                ("m", "256 x 256 to 32", 0.2), ("l", "480 x 360 to 224", 1.0), ("12MP", "12 megapixels to 224", 20.0),
            )
        ),
    ]  # fmt: skip


def _loops() -> list[Goal]:
    table: tuple[tuple[str, str, Literal["<=", ">="], float, str, str], ...] = (
        ("openloop-errors", "1000/s for a minute: answers other than 200, and none", "<=", 0, "requests", "open 1000 failed"),
        ("openloop-p95", "1000/s: P95 from the planned instant", "<=", 5, "ms", "open 1000 p95 ms"),
        ("openloop-p99", "1000/s: P99 from the planned instant", "<=", 10, "ms", "open 1000 p99 ms"),
        ("openloop-cores", "1000/s: CPU of the server", "<=", 0.5, "cores", "open 1000 cores"),
        ("overload-goodput", "1.5 x capacity: right answers per CPU second, relative", ">=", 0.9, "x", "overload goodput x"),
        ("overload-p99", "1.5 x capacity offered: P99 of what was accepted", "<=", 500, "ms", "overload accepted p99 ms"),
        ("overload-refusals", "1.5 x capacity offered: P99 of refusals, from sending", "<=", 20, "ms", "overload refused p99 ms"),
        ("overload-hung", "1.5 x capacity offered: requests without any answer", "<=", 0, "requests", "overload hung"),
        ("overload-other", "1.5 x capacity offered: answers but 200, 429, 503", "<=", 0, "requests", "overload other"),
    )  # fmt: skip
    return [
        Goal(
            id=name, group=name.partition("-")[0], sentence=sentence, comparison=comparison, bound=bound, unit=unit,
            experiments=[name.partition("-")[0]], measure=_figure(figure),
        )
        for name, sentence, comparison, bound, unit, figure in table
    ]  # fmt: skip


def _figure(name: str) -> Callable[[Results], float]:
    return lambda found: found.figure(name)
