"""What a gate promises, in sentences: which error rates, over what, and which of it is proved and which simulated."""

from __future__ import annotations

from collections.abc import Iterator

from sre.judges.canary.rules import Kind, Model, Rules
from sre.judges.canary.soundness import check


def statement(rules: Rules) -> tuple[str, ...]:
    """The stated error rates of these rules, one sentence each.

    Raises:
        UsageError: the rules contradict themselves.
    """
    check(rules)
    return tuple(_sentences(rules))


def _sentences(rules: Rules) -> Iterator[str]:
    compared = [rule for rule in rules.metrics if rule.kind is not Kind.CRASHES]
    gating = [rule for rule in compared if rule.gates]
    bursty = [rule.name for rule in compared if rule.model is Model.BURSTY and rule.kind is not Kind.BOUNDED]
    single = [rule.name for rule in compared if rule.model is Model.INDEPENDENT and rule.kind is not Kind.BOUNDED]
    tolerated = "is as good as its control" if bursty else "is within all margins"
    yield (
        f"A canary that {tolerated} is ever rolled back with a probability of at most {rules.alpha:g}: over all looks, all"
        f" {len(rules.stages)} stages and {len(compared)} metrics together. Their e-values are averaged with equal weights, and"
        " within a metric over its edges, or over its classes and both directions; a mean of e-values is one whatever their"
        " dependence."
    )
    yield (
        "A canary that is beyond a margin or an objective from its first stage on is ever promoted with a probability of at"
        f" most {rules.beta:g}, at whatever look: each of {', '.join(rule.name for rule in gating)} must show by itself that it"
        " is fine, at every edge or class that gates. Evidence is multiplied over stages; a stage whose own evidence speaks"
        " against the canary does not promote."
    )
    yield (
        f"A split of traffic that is as planned is ever called wrong with a probability of at most {rules.sample_ratio_alpha:g}."
        " While it is called wrong nothing is promoted, and only a canary that gets too little is rolled back by evidence."
    )
    if single:
        yield (
            f"For {', '.join(single)} both rates are theorems when events come one by one; their dispersion is measured, and"
            " evidence that contradicts this is not used."
        )
    if bursty:
        yield (
            f"For {', '.join(bursty)} the rate of wrong rollbacks is a theorem when the two arms are exchangeable within a look,"
            " whatever comes in bursts; the rate of wrong promotions is simulated, since counts are divided by a measured"
            " dispersion."
        )
    for rule in rules.metrics:
        if rule.kind is Kind.CRASHES:
            yield (
                f"{rule.name}: more than {rule.limit} crashes of the canary roll back at once; that is a bound without an error"
                " rate."
            )
