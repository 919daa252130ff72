"""What a client may send."""

from __future__ import annotations

from starlette.requests import ClientDisconnect
from starlette.types import Receive

from system.errors import PayloadTooLarge


async def read_body(receive: Receive, *, declared: str | None, limit_bytes: int) -> bytes:
    """The whole body, of which never more than the limit and one chunk is held.

    Args:
        receive: of the request.
        declared: its Content-Length; one that is too long is refused before a byte is read.
        limit_bytes: the most that is taken.

    Raises:
        PayloadTooLarge: the body is, or says it is, longer.
        ClientDisconnect: the client left before its end.
    """
    if declared is not None and int(declared) > limit_bytes:
        raise _too_large(limit_bytes)
    chunks: list[bytes] = []
    size = 0
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > limit_bytes:
            raise _too_large(limit_bytes)
        chunks.append(chunk)
        more = message.get("more_body", False)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _too_large(limit_bytes: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"the body is longer than {limit_bytes} bytes; send a smaller image")
