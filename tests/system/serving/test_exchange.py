from __future__ import annotations

import re
from time import perf_counter
from typing import Any

import pytest

from system.serving.exchange import Exchange

PARENT = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
OTHER = b"00-11111111111111111111111111111111-2222222222222222-01"


def _scope(*headers: tuple[bytes, bytes], **more: Any) -> dict[str, Any]:
    return {"headers": [(b"host", b"x"), *headers], **more}


@pytest.mark.parametrize("sent", [b"a", b"A-b_c.9", b"x" * 64])
def test_a_well_formed_id_of_the_client_is_kept(sent: bytes) -> None:
    scope = _scope((b"x-request-id", sent))
    assert Exchange.begin(scope, 0).request_id == sent.decode()
    assert Exchange.of(scope).request_id == sent.decode()


@pytest.mark.parametrize("sent", [None, b"", b"x" * 65, b"a b", b"a\n", b"a\t'; DROP", b"\xfc", b'{"a":1}'])
def test_any_other_gives_a_new_one(sent: bytes | None) -> None:
    headers = [] if sent is None else [(b"x-request-id", sent)]
    first, second = (Exchange.begin(_scope(*headers), 0) for _ in range(2))
    assert re.fullmatch("[0-9a-f]{32}", first.request_id)
    assert first.request_id != second.request_id
    assert first.request_id != first.trace.trace_id


def test_the_senders_trace_goes_on() -> None:
    exchange = Exchange.begin(_scope((b"traceparent", PARENT)), 0)
    assert (exchange.trace.trace_id, exchange.trace.parent_id) == ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")
    assert exchange.trace.sampled
    assert exchange.ids() == {
        "trace_id": exchange.trace.trace_id,
        "span_id": exchange.trace.span_id,
        "request_id": exchange.request_id,
    }


def test_two_senders_are_none() -> None:
    exchange = Exchange.begin(_scope((b"traceparent", PARENT), (b"traceparent", OTHER)), 0)
    assert exchange.trace.parent_id == ""
    assert exchange.trace.trace_id.encode() not in PARENT + OTHER
    twice = _scope((b"accept", b"a"), (b"accept", b"b"), (b"traceparent", PARENT))
    assert Exchange.begin(twice, 0).trace.trace_id.encode() in PARENT


def test_the_arrival_is_what_the_wire_saw() -> None:
    assert Exchange.begin(_scope(**{"system.arrived": 12.5}), 0).arrived == 12.5
    before = perf_counter()
    assert before <= Exchange.begin(_scope(), 0).arrived <= perf_counter()


def test_headers_are_at_hand_by_name() -> None:
    fields = Exchange.begin(_scope((b"x-api-key", b"k"), (b"a", b"1"), (b"a", b"2")), 0).fields
    assert fields == {b"host": b"x", b"x-api-key": b"k", b"a": b"2"}
