from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sre.errors import EvidenceDamaged, ExitCode
from sre.evidence import codec
from sre.evidence.schema import DrillRecord, FaultRecord, RunRecord, StepRecord
from sre.units import Comparison, Unit
from sre.verdict import Outcome, Verdict

GOLDEN = Path(__file__).parent / "golden" / "run.json"
numbers = st.floats(allow_nan=False)
words = st.text().filter(lambda word: word not in codec._NOT_FINITE)
documents = st.dictionaries(
    words, st.recursive(st.none() | st.booleans() | st.integers() | numbers | words, st.lists, max_leaves=5)
)
verdicts = st.builds(
    Verdict,
    promise=words,
    outcome=st.sampled_from(Outcome),
    measured=st.none() | numbers,
    bound=numbers,
    comparison=st.sampled_from(Comparison),
    unit=st.sampled_from(Unit),
    n=st.integers(),
    interval=st.none() | st.tuples(numbers, numbers),
    why=words,
)
drills = st.builds(
    DrillRecord,
    name=words,
    sentence=words,
    outcome=st.sampled_from(Outcome),
    started=numbers,
    started_wall=numbers,
    ended=numbers,
    steps=st.lists(st.builds(StepRecord, name=words, seconds=numbers, result=words, detail=words), max_size=2).map(tuple),
    verdicts=st.lists(verdicts, max_size=2).map(tuple),
    findings=st.lists(words, max_size=2).map(tuple),
    fault=st.none() | st.builds(FaultRecord, name=words, start=numbers, end=st.none() | numbers),
    facts=documents,
    folder=words,
)
records = st.builds(
    RunRecord,
    id=words,
    title=words,
    target=words,
    started=numbers,
    ended=numbers,
    outcome=st.sampled_from(Outcome),
    exit_code=st.integers(),
    drills=st.lists(drills, max_size=2).map(tuple),
    environment=documents,
)


def test_golden_file(make_run: Callable[..., RunRecord]) -> None:
    assert codec.dump(make_run()) == GOLDEN.read_text(encoding="utf-8")
    assert codec.parse(GOLDEN.read_text(encoding="utf-8")) == make_run()


@given(records)
def test_round_trip_is_exact(record: RunRecord) -> None:
    assert codec.parse(codec.dump(record)) == record


def test_nan_and_infinity_survive_in_strict_json(
    make_run: Callable[..., RunRecord], make_drill: Callable[..., DrillRecord], make_verdict: Callable[..., Verdict]
) -> None:
    verdict = make_verdict(measured=math.nan, interval=(-math.inf, math.inf))
    run = make_run(drills=(make_drill(verdicts=(verdict,), facts={"worst": [math.inf]}),))
    text = codec.dump(run)
    json.loads(text, parse_constant=pytest.fail)
    drill = codec.parse(text).drills[0]
    assert drill.verdicts[0].measured is not None
    assert math.isnan(drill.verdicts[0].measured)
    assert drill.verdicts[0].interval == (-math.inf, math.inf)
    assert drill.facts == {"worst": [math.inf]}


def test_enums_tuples_and_records_become_plain(make_drill: Callable[..., DrillRecord]) -> None:
    value = codec.plain({"code": ExitCode.BROKEN, "outcome": Outcome.KEPT, "pair": (1, 2.5), "step": make_drill().steps[0]})
    assert value["code"] == 1
    assert type(value["code"]) is int
    assert type(value["outcome"]) is str
    assert value["pair"] == [1, 2.5]
    assert value["step"]["name"] == "preflight"


@pytest.mark.parametrize("value", [Path("x"), {1: "a"}, b"raw", {1, 2}, StepRecord])
def test_what_json_cannot_hold_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="cannot be written as JSON"):
        codec.plain(value)


def _altered(*path: str | int, value: Any) -> str:
    document = json.loads(GOLDEN.read_text(encoding="utf-8"))
    place = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return json.dumps(document)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not JSON"),
        ("[]", "schema None"),
        ('{"schema": NaN}', "NaN is not a JSON number"),
        (_altered("schema", value="sre.run/2"), "schema 'sre.run/2'"),
        (_altered("schema", value=1), "schema 1"),
        (_altered("surprise", value=1), r"unknown \['surprise'\]"),
        (_altered("title", value=7), "title must be text"),
        (_altered("exit_code", value=1.5), "exit_code must be a whole number"),
        (_altered("exit_code", value=True), "exit_code must be a whole number"),
        (_altered("started", value="soon"), "started must be a number"),
        (_altered("started", value=False), "started must be a number"),
        (_altered("outcome", value="passed"), "outcome must be one of kept"),
        (_altered("environment", value=[]), "environment must be an object"),
        (_altered("drills", value={}), "drills must be a list"),
        (_altered("drills", 0, value="x"), r"drills\[0\] must be an object"),
        (_altered("drills", 0, "verdicts", 1, "interval", value=[1.0]), "interval must be a list of 2"),
        (_altered("drills", 0, "verdicts", 0, "measured", value="low"), r"verdicts\[0\]: measured must be a number"),
    ],
)
def test_any_other_document_is_damaged_evidence(text: str, message: str) -> None:
    with pytest.raises(EvidenceDamaged, match=message):
        codec.parse(text)


def test_a_missing_field_is_damaged_evidence() -> None:
    document = json.loads(GOLDEN.read_text(encoding="utf-8"))
    del document["drills"][0]["verdicts"]
    with pytest.raises(EvidenceDamaged, match=r"missing \['verdicts'\]"):
        codec.parse(json.dumps(document))


def test_an_absent_value_is_not_a_missing_field(
    make_run: Callable[..., RunRecord], make_drill: Callable[..., DrillRecord]
) -> None:
    run = make_run(drills=(replace(make_drill(), fault=None),))
    assert codec.parse(codec.dump(run)).drills[0].fault is None
