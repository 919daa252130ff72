from __future__ import annotations

from uuid import UUID

import pytest

from system.serving.exchange import Exchange


def _scope(request_id: str | None) -> dict[str, object]:
    return {"headers": [] if request_id is None else [(b"host", b"x"), (b"x-request-id", request_id.encode("latin-1"))]}


@pytest.mark.parametrize("sent", ["a", "A-b_c.9", "x" * 64])
def test_a_well_formed_id_of_the_client_is_kept(sent: str) -> None:
    scope = _scope(sent)
    assert Exchange.begin(scope).request_id == sent
    assert Exchange.of(scope).request_id == sent


@pytest.mark.parametrize("sent", [None, "", "x" * 65, "a b", "a\n", "a\t'; DROP", "\xfc", '{"a":1}'])
def test_any_other_gives_a_new_one(sent: str | None) -> None:
    first, second = Exchange.begin(_scope(sent)), Exchange.begin(_scope(sent))
    assert UUID(first.request_id).version == 4
    assert first.request_id != second.request_id
