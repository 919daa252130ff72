"""Counts judged without Prometheus: for notebooks, pipelines with numbers of their own, and tests."""

from __future__ import annotations

from collections.abc import Sequence

from sre.errors import UsageError
from sre.judges.canary.decision import Standing
from sre.judges.canary.gate import Gate
from sre.judges.canary.observation import Events, Interval
from sre.judges.canary.rules import Kind, MetricRule, Model, Objective, Rules, StageRule


def judge_counts(  # noqa: PLR0913 - four counts, and by what they are judged
    *,
    canary: Sequence[int],
    canary_of: Sequence[int],
    control: Sequence[int],
    control_of: Sequence[int],
    margin: float = 1.0,
    alpha: float = 0.01,
    beta: float = 0.05,
    at_most: float | None = None,
    share: float = 0.5,
    model: Model = Model.BURSTY,
) -> Standing:
    """Judge bad requests of a canary against its control's, look by look.

    >>> from sre.canary import judge_counts
    >>> looks = 60
    >>> worse = judge_counts(
    ...     canary=[30] * looks, canary_of=[1000] * looks, control=[10] * looks, control_of=[1000] * looks
    ... )
    >>> worse.action.value
    'ROLLBACK'
    >>> fine = judge_counts(
    ...     canary=[10] * looks, canary_of=[1000] * looks, control=[10] * looks, control_of=[1000] * looks
    ... )
    >>> fine.action.value
    'PROMOTE'

    Args:
        canary: its bad requests, one number per look.
        canary_of: all its requests, likewise.
        control: the control's bad requests.
        control_of: all its requests.
        margin: tolerated relative excess of the canary; 1.0 lets it be twice as bad.
        alpha: probability at most of ever rolling back a canary within the margin; for bursts, one as good as its control.
        beta: probability at most of ever promoting one beyond it.
        at_most: share of bad requests that the canary must keep below; None: it has no such objective.
        share: the canary's share of what the two get together.
        model: whether bad requests come one by one or several at once.

    Returns:
        Where the canary stands after the last look.

    Raises:
        UsageError: the four differ in length or are empty, or the rules contradict themselves.
    """
    lengths = {len(canary), len(canary_of), len(control), len(control_of)}
    if len(lengths) > 1 or not canary:
        raise UsageError(f"counts of {sorted(lengths)} looks cannot be compared; give four of the same length, at least one")
    metric = MetricRule(
        name="bad", kind=Kind.RATIO, model=model, margin=margin, objective=None if at_most is None else Objective(at_most)
    )  # fmt: skip
    stage = StageRule(weight=share, share=share, at_least_s=0.0, at_most_s=float(len(canary) + 1))
    gate = Gate(Rules(alpha=alpha, beta=beta, sample_ratio_alpha=0.001, metrics=(metric,), stages=(stage,)))
    for look, (bad, of, control_bad, among) in enumerate(zip(canary, canary_of, control, control_of, strict=True)):
        events = {"bad": Events(bad, of, control_bad, among)}
        standing = gate.look(Interval(float(look), look + 1.0, 0, of, among, events))
    return standing
