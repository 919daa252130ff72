from __future__ import annotations

import asyncio
import copy
import json
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sre.errors import UsageError
from sre.judges.canary.observation import Trouble
from sre.probes import answers
from sre.probes.answers import Api, Gap, Series

AT = 10.0
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


def read(document: dict[str, Any]) -> tuple[Series, ...]:
    return answers.matrix(json.dumps(document).encode(), AT, LABELS)


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
    assert read(TRUE) == tuple(
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
    try:
        found = read(document)
    except Gap:
        return
    result = document["data"]["result"]
    assert [(one["metric"], [tuple(sample) for sample in one["values"]]) for one in result] == [
        (one.labels, list(one.values)) for one in found
    ]
    assert all(LABELS.items() <= one.labels.items() for one in found)
    assert all(type(value) is str and at <= AT for one in found for at, value in one.values)


@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_bytes_in_disorder_raise_nothing_else(data: st.DataObject) -> None:
    body = bytearray(json.dumps(TRUE).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(body) - 1))
        body[place : place + data.draw(st.integers(0, 9))] = data.draw(st.binary(max_size=4))
        body = body or bytearray(b" ")
    with suppress(Gap):
        answers.matrix(bytes(body), AT, LABELS)
    for other in (lambda: answers.vector(bytes(body), AT, LABELS), lambda: answers.scalar(bytes(body))):
        with pytest.raises(Gap):
            other()


@given(st.binary(max_size=60))
def test_any_bytes_are_no_answer(body: bytes) -> None:
    with pytest.raises(Gap) as raised:
        answers.matrix(body, AT, LABELS)
    assert raised.value.trouble is Trouble.MALFORMED


def test_the_time_is_a_scalar() -> None:
    body = json.dumps({"status": "success", "data": {"resultType": "scalar", "result": [1.5, "1.25"]}}).encode()
    assert answers.scalar(body) == 1.25
    for wrong in (body.replace(b'"1.25"', b"1.25"), body.replace(b'"1.25"', b'"soon"'), body.replace(b"scalar", b"vector")):
        with pytest.raises(Gap):
            answers.scalar(wrong)


def test_an_instant_has_one_sample_of_each_series() -> None:
    def body(**one: Any) -> bytes:
        return json.dumps({"status": "success", "data": {"resultType": "vector", "result": [{"metric": LABELS, **one}]}}).encode()

    assert answers.vector(body(value=[10, "3"]), AT, LABELS) == (Series(LABELS, ((10.0, "3"),)),)
    for wrong in (body(), body(value=[10, 3]), body(value=[11, "3"]), body(histogram=[10, {}]), json.dumps(TRUE).encode()):
        with pytest.raises(Gap):
            answers.vector(wrong, AT, LABELS)


def test_a_remark_is_taken_only_where_it_is_said_to_be() -> None:
    body = json.dumps({**TRUE, "infos": ["the metric might not be a counter"]}).encode()
    assert len(answers.matrix(body, AT, LABELS, hints=True)) == 2
    with pytest.raises(Gap, match="might not be a counter"):
        answers.matrix(body, AT, LABELS)
    with pytest.raises(Gap, match="a store is away"):
        answers.matrix(json.dumps({**TRUE, "warnings": ["a store is away"]}).encode(), AT, LABELS, hints=True)


@pytest.fixture
def asked() -> Iterator[tuple[str, list[str]]]:
    """The address of a server that answers with `TRUE`, and what it was asked. How one that lies is read, test_source shows."""
    paths: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths.append(self.path)
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(TRUE).encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", paths
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_query_is_asked_as_it_is_and_its_body_comes_back(asked: tuple[str, list[str]]) -> None:
    url, paths = asked
    body = asyncio.run(Api(f"{url}/", 20.0).ask("query", 'x{a="b"}[3s]', time="10.000"))
    assert json.loads(body) == TRUE
    assert paths == ["/api/v1/query?query=x%7Ba%3D%22b%22%7D%5B3s%5D&time=10.000&timeout=20000ms"]
    with pytest.raises(Gap, match="longer than 10 bytes"):
        asyncio.run(Api(url, 20.0, most=10).ask("query", "x"))


def test_nobody_there_is_no_answer() -> None:
    with pytest.raises(Gap, match=r"no answer came \(.*see to Prometheus at http://127\.0\.0\.1:1$") as raised:
        asyncio.run(Api("http://127.0.0.1:1", 5.0).ask("query", "x"))
    assert raised.value.trouble is Trouble.UNREACHABLE


@pytest.mark.parametrize("url", ["", "prometheus:9090", "ftp://x", "http://", "127.0.0.1:9090"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="write for example http"):
        Api(url, 5.0)
