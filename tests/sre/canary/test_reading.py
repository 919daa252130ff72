from __future__ import annotations

import json
from typing import Any

import pytest

from sre.canary import reading
from sre.canary.reading import Look, Reading
from sre.errors import EvidenceDamaged
from sre.judges.canary.observation import Trouble
from sre.probes.answers import Gap
from tests.sre.probes.test_answers import LABELS, TRUE

ASKED = Reading('x{track="canary"}', 'x{track="canary"}[3000ms]', 10.0)
WHOLE = reading.read(json.dumps(TRUE).encode(), ASKED, LABELS)


def test_an_answer_that_is_none_is_refused_with_its_trouble() -> None:
    assert WHOLE.trouble is None
    assert [len(one.values) for one in WHOLE.series] == [2, 2]
    refused = reading.read(json.dumps({**TRUE, "warnings": ["slow"]}).encode(), ASKED, LABELS)
    assert refused == Reading(
        ASKED.selector, ASKED.expression, ASKED.at, (), Trouble.WARNINGS, "Prometheus warns: slow; see to the warning"
    )


def test_a_look_is_one_line_and_comes_back() -> None:
    refused = reading.refuse(ASKED, Gap(Trouble.STALE, "old"))
    look = Look(10.125, 1, (WHOLE, refused))
    line = reading.dump(look)
    assert "\n" not in line
    assert reading.load(line) == look
    assert reading.dump(reading.load(line)) == line


@pytest.mark.parametrize("damage", [lambda line: line[:-5], lambda line: line.replace("10.0", '"10"'), lambda line: "{}"])
def test_a_damaged_record_is_told(damage: Any) -> None:
    with pytest.raises(EvidenceDamaged, match="recorded look is damaged"):
        reading.load(damage(reading.dump(Look(10.0, 0, (WHOLE,)))))


def test_an_earlier_look_is_cut_out_of_a_later_one() -> None:
    earlier = reading.until(Look(10.0, 0, (WHOLE,)), 8.0, 7.0)
    assert [one.values for one in earlier.readings[0].series] == [((7.5, "3"),), ((7.5, "0"),)]
    assert (earlier.at, earlier.readings[0].at) == (8.0, 8.0)
    assert reading.until(Look(10.0, 0, (WHOLE,)), 7.0, 6.0).readings[0].series == ()
