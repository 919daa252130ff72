"""What is known about one request while it is answered. It travels in the ASGI scope, so every layer reads the same one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar
from uuid import uuid4

from starlette.types import Scope

from system.contracts import REQUEST_ID, REQUEST_ID_HEADER

_ID_HEADER = REQUEST_ID_HEADER.lower().encode()


@dataclass(slots=True)
class Exchange:
    """One request and its answer.

    Attributes:
        request_id: the client's when it is well formed, else a new one.
        model_version: of the model that answered; empty when none did.
        code: of the problem that was answered; empty when there was none.
    """

    KEY: ClassVar[str] = "system.exchange"

    request_id: str
    model_version: str = ""
    code: str = ""

    @classmethod
    def begin(cls, scope: Scope) -> Exchange:
        """Put a new exchange into the scope of an HTTP request."""
        sent = next((value.decode("latin-1") for name, value in scope["headers"] if name == _ID_HEADER), "")
        exchange = scope[cls.KEY] = cls(sent if REQUEST_ID.fullmatch(sent) else str(uuid4()))
        return exchange

    @classmethod
    def of(cls, scope: Scope) -> Exchange:
        """The exchange of a scope."""
        exchange: Exchange = scope[cls.KEY]
        return exchange
