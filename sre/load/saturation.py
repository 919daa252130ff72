"""Was the load generator the bottleneck? Then its samples hold its own delay, and say little about the system."""

from __future__ import annotations

import numpy as np

from sre.measure.samples import Failure, Recording, Samples

BUSIEST_CORE = 0.8
LATE_SECONDS = 0.05
LATE_SHARE = 0.001


def saturation(recording: Recording, samples: Samples, *, may_stop: bool = False) -> tuple[str, ...]:
    """Sentences on why the generator cannot be trusted; none when it can.

    Args:
        recording: of the samples.
        samples: what it recorded.
        may_stop: the drill ends the load itself, so a schedule cut short says nothing.
    """
    findings = []
    if not len(samples):
        findings.append("the load generator sent nothing")
    if len(samples) < recording.planned:
        findings.append(f"the load generator recorded {len(samples):,} of {recording.planned:,} planned requests")
    if recording.stopped and not may_stop:
        findings.append(f"the load was stopped before its {recording.seconds:g} s were over")
    left = samples["sent"][~np.isnan(samples["sent"])]
    sending = max(
        recording.seconds if not recording.stopped else 0.0, float(left.max(initial=recording.started)) - recording.started
    )
    if not recording.cpu_seconds <= BUSIEST_CORE * sending:
        share = recording.cpu_seconds / sending if sending else np.inf
        findings.append(f"the load generator used {share:.0%} of a core, above {BUSIEST_CORE:.0%}")
    late = int(np.count_nonzero(samples["sent"] - samples["planned"] > LATE_SECONDS))
    if late > LATE_SHARE * len(samples):
        allowed = f"{LATE_SHARE * 100:g} %"
        findings.append(
            f"{late:,} of {len(samples):,} requests left more than {LATE_SECONDS * 1000:.0f} ms late, above {allowed}"
        )
    if unsent := int(np.count_nonzero((samples["failure"] == Failure.UNSENT) | np.isnan(samples["sent"]))):
        findings.append(f"{unsent:,} planned requests were never sent")
    return tuple(findings)
