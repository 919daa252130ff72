"""Whether connections inside a cluster are those that are meant to be, and no others; from what probes were answered.

A connection that fails looks the same whether a policy refuses it or nobody listens. So a refusal counts only where somebody is
known to listen: another probe was let in there, or the server's own kernel lists the port.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from sre.judges.manifests import ways
from sre.judges.manifests.flows import Flow
from sre.judges.manifests.objects import Finding
from sre.readings import Try

OPEN = "open"
Listening = Collection[tuple[str, int]]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Tries held against the ways that should be open.

    Attributes:
        findings: ways that are open and should not be, or the other way round.
        doubts: why nothing is known of some ways between workloads.
        unproven: refusals beyond the workloads that prove nothing: there is nobody at that address here.
        ways: how many were compared.
    """

    findings: tuple[Finding, ...]
    doubts: tuple[str, ...]
    unproven: tuple[str, ...]
    ways: int


def compare(roles: Collection[str], tries: Sequence[Try], listening: Listening, listed: Collection[Flow]) -> Comparison:
    """Hold tries against the ways that are listed.

    Args:
        roles: who has a probe, as `namespace/workload`.
        tries: all of them.
        listening: pods or hosts and the ports at which they are known to listen.
        listed: every way between workloads that should be open; `ways.allowed`, or as it was when they tried.
    """
    heard = {(one.at, one.port) for one in tries if one.answer == OPEN} | set(listening)
    by_way: dict[Flow, list[Try]] = defaultdict(list)
    for one in tries:
        if not (one.source.endswith(f"/{ways.GUEST}") and _beyond(one.to)):
            by_way[Flow(one.source, one.to, one.port)].append(one)
    silent = sorted({(one.to, one.at, one.port) for found in by_way.values() for one in found if (one.at, one.port) not in heard})
    return Comparison(
        findings=tuple(_findings(by_way, heard, listed)),
        doubts=(*(_silence(at, port) for to, at, port in silent if not _beyond(to)), *_untried(roles, by_way, listed)),
        unproven=tuple(_silence(at, port) for to, at, port in silent if _beyond(to)),
        ways=sum(any((one.at, one.port) in heard for one in found) for found in by_way.values()),
    )


def _findings(by_way: Mapping[Flow, Sequence[Try]], heard: Listening, listed: Collection[Flow]) -> Iterator[Finding]:
    for way, found in sorted(by_way.items()):
        passed = [one for one in found if one.answer == OPEN]
        refused = [one for one in found if one.answer != OPEN and (one.at, one.port) in heard]
        if passed and not ways.may(way, listed):
            yield Finding("way-open", way.source, f"reaches {way.to} at port {way.port} ({_at(passed)}), and should not")
        if refused and ways.may(way, listed):
            why = ", ".join(sorted({one.answer for one in refused}))
            yield Finding("way-closed", way.source, f"does not reach {way.to} at port {way.port} ({_at(refused)}): {why}")


def _untried(roles: Collection[str], by_way: Mapping[Flow, Sequence[Try]], listed: Collection[Flow]) -> Iterator[str]:
    if not roles:
        yield "nobody tried anything"
    servers = {(way.to, way.port) for way in by_way if not _beyond(way.to)}
    for role in sorted(roles):
        missing = {(way.to, way.port) for way in listed if way.source == role} | {one for one in servers if one[0] != role}
        missing -= {(way.to, way.port) for way in by_way if way.source == role}
        if missing:
            yield f"{role} did not try {', '.join(f'{to} at port {port}' for to, port in sorted(missing))}"


def _silence(at: str, port: int) -> str:
    return f"nobody is known to listen at {at} port {port}, so that it refuses proves nothing"


def _beyond(to: str) -> bool:
    return to.startswith(f"{ways.BEYOND}/")


def _at(tries: Sequence[Try]) -> str:
    return ", ".join(sorted({one.at for one in tries}))
