from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sre.canary import reading
from sre.canary.reading import Look, Reading, Refusal, Series
from sre.errors import EvidenceDamaged
from sre.judges.canary.observation import Trouble

ASKED = Reading('x{track="canary"}', 'x{track="canary"}[3000ms]', 10.0)
LABELS = {"__name__": "x", "track": "canary"}
TRUE: dict[str, Any] = {
    "status": "success",
    "data": {
        "resultType": "matrix",
        "result": [
            {"metric": {**LABELS, "status": "200"}, "values": [[7.5, "3"], [9.5, "4"]]},
            {"metric": {**LABELS, "status": "500"}, "values": [[7.5, "0"], [9.5, "1"]]},
        ],
    },
}
WHOLE = reading.read(json.dumps(TRUE).encode(), ASKED, LABELS)


def places(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a document."""
    inner = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [path, *(place for key, value in inner for place in places(value, (*path, key)))]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def test_a_whole_answer_is_read_as_it_was_written() -> None:
    assert WHOLE.trouble is None
    assert WHOLE.series == tuple(
        Series(one["metric"], tuple((at, value) for at, value in one["values"])) for one in TRUE["data"]["result"]
    )


@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_a_mutated_answer_gives_no_sample_that_is_not_in_it(data: st.DataObject) -> None:
    """One place is replaced, dropped or doubled: the rest is either all there, unchanged, or nothing is."""
    document = copy.deepcopy(TRUE)
    *path, last = data.draw(st.sampled_from(places(TRUE)[1:]))
    node: Any = document
    for key in path:
        node = node[key]
    match data.draw(st.sampled_from(["replace", "drop", "double"])):
        case "replace":
            node[last] = data.draw(JSON)
        case "drop":
            del node[last]
        case _:
            if isinstance(node, list):
                node.append(node[last])
            else:
                node["other"] = node[last]
    found = reading.read(json.dumps(document).encode(), ASKED, LABELS)
    if found.trouble is not None:
        assert not found.series
        assert found.detail
        return
    result = document["data"]["result"]
    assert [(one["metric"], [tuple(sample) for sample in one["values"]]) for one in result] == [
        (one.labels, list(one.values)) for one in found.series
    ]
    assert all(LABELS.items() <= one.labels.items() for one in found.series)
    assert all(type(value) is str and at <= ASKED.at for one in found.series for at, value in one.values)


@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_bytes_in_disorder_never_raise(data: st.DataObject) -> None:
    body = bytearray(json.dumps(TRUE).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(body) - 1))
        body[place : place + data.draw(st.integers(0, 9))] = data.draw(st.binary(max_size=4))
        body = body or bytearray(b" ")
    found = reading.read(bytes(body), ASKED, LABELS)
    assert found.trouble is None or not found.series
    assert isinstance(reading.read_time(bytes(body)), Refusal)


@given(st.binary(max_size=60))
def test_any_bytes_are_no_answer(body: bytes) -> None:
    assert reading.read(body, ASKED, LABELS).trouble is Trouble.MALFORMED


def test_the_time_is_a_scalar() -> None:
    body = json.dumps({"status": "success", "data": {"resultType": "scalar", "result": [1.5, "1.25"]}}).encode()
    assert reading.read_time(body) == 1.25
    for wrong in (body.replace(b'"1.25"', b"1.25"), body.replace(b'"1.25"', b'"soon"'), body.replace(b"scalar", b"vector")):
        assert isinstance(reading.read_time(wrong), Refusal)


def test_a_look_is_one_line_and_comes_back() -> None:
    refused = reading.refuse(ASKED, Refusal(Trouble.STALE, "old"))
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
