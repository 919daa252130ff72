"""What is known about one request while it is answered. It travels in the ASGI scope, so every layer reads the same one."""

from __future__ import annotations

from dataclasses import dataclass, field
from time import perf_counter
from typing import ClassVar

from starlette.types import Scope

from system.contracts import REQUEST_ID, REQUEST_ID_HEADER
from system.serving.tracing import Trace, draw

_ID_HEADER = REQUEST_ID_HEADER.lower().encode()
_TRACE_HEADER = b"traceparent"


@dataclass(slots=True)
class Exchange:
    """One request and its answer.

    Attributes:
        request_id: the client's when it is well formed, else a new one.
        trace: the request's place in the sender's trace, or in one that begins here.
        arrived: when its head was complete, on the clock of `perf_counter`.
        model_version: of the model that answered; empty when none did.
        variant: of that model; empty when none answered.
        code: of the problem that was answered; empty when there was none.
        key_name: of the API key; empty until one is accepted.
        stages: name, begin and end (`perf_counter`) of parts worth a span of their own; read only when the trace is sampled.
        fields: the headers by lower-case name; of a name that was sent twice, the last.
    """

    KEY: ClassVar[str] = "system.exchange"

    request_id: str
    trace: Trace = field(default_factory=lambda: draw(None, 0)[1])
    arrived: float = field(default_factory=perf_counter)
    model_version: str = ""
    variant: str = ""
    code: str = ""
    key_name: str = ""
    stages: tuple[tuple[str, float, float], ...] = ()
    fields: dict[bytes, bytes] = field(default_factory=dict, repr=False)

    @classmethod
    def begin(cls, scope: Scope, share: float) -> Exchange:
        """Put a new exchange into the scope of an HTTP request; `share` of those without a trace are sampled."""
        headers = scope["headers"]
        fields = dict(headers)
        parent = fields.get(_TRACE_HEADER)
        if parent is not None and len(fields) != len(headers) and sum(name == _TRACE_HEADER for name, _ in headers) > 1:
            parent = None  # two parents: the standard trusts neither
        request_id, trace = draw(parent, share)
        if (sent := fields.get(_ID_HEADER)) is not None and REQUEST_ID.fullmatch(text := sent.decode("latin-1")):
            request_id = text
        arrived = scope.get("system.arrived") or perf_counter()
        exchange = scope[cls.KEY] = cls(request_id, trace, arrived, "", "", "", "", (), fields)
        return exchange

    def ids(self) -> dict[str, str]:
        """By what a log line is found: from a trace, or from what a client reports."""
        return {"trace_id": self.trace.trace_id, "span_id": self.trace.span_id, "request_id": self.request_id}

    @classmethod
    def of(cls, scope: Scope) -> Exchange:
        """The exchange of a scope."""
        exchange: Exchange = scope[cls.KEY]
        return exchange
