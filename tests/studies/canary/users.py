"""What users of the references complained about, given to our gate: every one must be caught or held, none promoted (C13).

Where an issue shows its numbers, these are they; the others are made after its words, since pictures were all there was.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sre.judges.canary.decision import Action
from sre.judges.canary.observation import Missing, Trouble
from sre.judges.canary.rules import Model
from tests.studies.canary.cells import Cell, Scale
from tests.studies.canary.figures import Figure, exact
from tests.studies.canary.references import Argo, Class, Flagger, Kayenta, Scored, kayenta_score
from tests.studies.canary.whole import ERRORS, Look, drive, rules

OF = 10_000  # requests per point of a series that shows only failures
_EMPTY = Missing("errors", Trouble.EMPTY, "errors: nothing matches the selector; correct it")
_NAN = Missing("errors", Trouble.NOT_A_NUMBER, "errors: the value is NaN; correct what exposes it")
_DOWN = Missing("errors", Trouble.SERVER_ERROR, "errors: Prometheus answered 503; see to it")


@dataclass(frozen=True, slots=True)
class Complaint:
    """One of them.

    Attributes:
        issue: where it stands.
        words: what happened.
        said: what the reference says, by its replica.
        looks: what our gate is given.
    """

    issue: str
    words: str
    said: str
    looks: Sequence[Look]


def complaints() -> list[Complaint]:
    """All of them."""
    sparse = ([0, 1, 2, 1, 0, 0], [0] * 6)
    seven = ([100] * 7 + [1] * 3, [1] * 10)
    spiky = ([1, 2, 1, 2, 56, 1], [1, 1, 2, 2, 1, 1])  # +650 per cent in the mean, by one point of six
    below, judge = Flagger(high=0.01), Argo(success=lambda result: result[0] < 0.01)
    blind = [Scored(name=f"m{n}", found=Class.NODATA if n < 49 else Class.PASS) for n in range(100)]
    none = ([1, 4, 2, 3, 1], [0] * 5)
    unseen = Kayenta().classify([1.0, 4.0, 2.0, 3.0, 1.0], [math.nan] * 5)
    failing = Argo(failure=lambda result: result[0] > 0.01)
    two = below.run([[0.9, 0.0]] * 10).state
    return [
        Complaint("kayenta 426", "sparse errors pass", _kayenta(*sparse), _looks(*sparse)),
        Complaint("kayenta 633", "a mean of +650 % passes", _kayenta(*spiky), _looks(*spiky)),
        Complaint("kayenta 780", "seven of ten points at 100 times the baseline pass", _kayenta(*seven), _looks(*seven)),
        Complaint("kayenta 799", "a baseline without errors is no data", unseen, _looks(*none)),
        Complaint("kayenta, scoring", "49 of 100 metrics blind", f"score {kayenta_score(blind):g}", _gone(_NAN)),
        Complaint("argo 4479", "every measurement an error", judge.run([[]] * 4, terminated=True)[0], _gone(_DOWN)),
        Complaint("argo 1466", "an empty vector aborts", judge.run([[]] * 5)[0], _gone(_EMPTY)),
        Complaint("argo, NaN", "only a failure condition", failing.measure([math.nan]), _gone(_NAN)),
        Complaint("argo, early", "ended before the first measurement", judge.run([], terminated=True)[0], []),
        Complaint("flagger 1035", "an idle canary rolls back", below.run([[]]).state, [Look(0, 0, 3, OF)] * 10),
        Complaint("flagger, series", "the last of two series wins", two, _looks([9000] * 3, [10] * 3)),
        Complaint("home remedy", "fewer than 20 requests pass", "Pass", [Look(1, 15, 0, 15)]),
    ]


def cells() -> list[Cell]:
    """All cells of this module."""
    return [Cell("complaints", _complaints)]


def ours(complaint: Complaint, model: Model = Model.INDEPENDENT) -> Action:
    """What our gate says; before the first look it holds."""
    standings = drive(rules(replace(ERRORS, model=model)), complaint.looks, every_s=60.0)
    return standings[-1].action if standings else Action.HOLD


def _complaints(_scale: Scale, _seed: int) -> dict[str, Figure]:
    found = [(ours(complaint, model), complaint) for complaint in complaints() for model in Model]
    return {
        "promoted": exact(float(sum(action is Action.PROMOTE for action, _ in found)), len(found)),
        "caught": exact(float(sum(action is Action.ROLLBACK for action, _ in found)), len(found)),
    }


def _kayenta(canary: Sequence[int], control: Sequence[int]) -> str:
    return Kayenta().classify([float(value) for value in canary], [float(value) for value in control])


def _looks(canary: Sequence[int], control: Sequence[int]) -> list[Look]:
    return [Look(ours, OF, theirs, OF) for ours, theirs in zip(canary, control, strict=True)]


def _gone(missing: Missing) -> list[Look]:
    return [Look(0, OF, 0, OF, (missing,))] * 10
