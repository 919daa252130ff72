"""A server that answers as Prometheus would about a fleet, and lies about one query."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from sre.canary.reading import Look, Reading
from tests.sre.canary.histories import Fleet

# Gets the handler and the true document, and writes an answer of its own.
Lie = Callable[[BaseHTTPRequestHandler, dict[str, Any]], None]


class Still:
    """A clock that stands."""

    def __init__(self, wall: float) -> None:
        self.at = wall

    def now(self) -> float:
        return self.at

    def wall(self) -> float:
        return self.at

    def sleep(self, seconds: float) -> None:
        self.at += seconds


class Liar:
    """The server; `about` is a part of the query that it lies about.

    `at` is what it takes for the time; None: it looks at the clock.
    """

    def __init__(self, fleet: Fleet, at: float | None) -> None:
        self.fleet, self.at = fleet, at
        self.about = "nothing"
        self.lie: Lie | None = None
        self.asked: list[dict[str, str]] = []
        self.released = threading.Event()
        liar = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                url = urlsplit(self.path)
                query = {name: values[0] for name, values in parse_qs(url.query).items()}
                liar.asked.append(query)
                document = liar.truth(query, ranged=url.path.endswith("query_range"))
                if liar.lie is not None and liar.about in query["query"]:
                    self.close_connection = True
                    liar.lie(self, document)
                else:
                    answer(document)(self, document)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()

    def truth(self, query: dict[str, str], *, ranged: bool) -> dict[str, Any]:
        """What Prometheus would say."""
        if query["query"] == "time()":
            now = time.time() if self.at is None else self.at
            return success("scalar", [now, f"{now:.3f}"])
        at = float(query["end" if ranged else "time"])
        selector, _, span = query["query"].rpartition("[") if not ranged else (query["query"], "", "0ms]")
        look = self.fleet.look(at, at - float(span.removesuffix("ms]")) / 1000)
        return success("matrix", _result(look, selector))

    def close(self) -> None:
        self.released.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def _result(look: Look, selector: str) -> list[dict[str, Any]]:
    found: list[Reading] = [one for one in look.readings if one.selector == selector]
    return [{"metric": dict(one.labels), "values": [list(sample) for sample in one.values]} for one in found[0].series]


def success(kind: str, result: Any) -> dict[str, Any]:
    return {"status": "success", "data": {"resultType": kind, "result": result}}


def answer(document: Any, *, status: int = 200, kind: str = "application/json", headers: dict[str, str] | None = None) -> Lie:
    """A whole answer: `document` as JSON, or as it is when it is bytes."""
    body = document if isinstance(document, bytes) else json.dumps(document).encode()

    def write(handler: BaseHTTPRequestHandler, _: dict[str, Any]) -> None:
        handler.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **(headers or {})}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)

    return write


def altered(change: Callable[[dict[str, Any]], Any]) -> Lie:
    """The true document after a change."""

    def write(handler: BaseHTTPRequestHandler, document: dict[str, Any]) -> None:
        changed = change(document)
        answer(document if changed is None else changed)(handler, document)

    return write


def raw(*parts: bytes) -> Lie:
    """These bytes instead of an answer; then the connection is closed."""

    def write(handler: BaseHTTPRequestHandler, _: dict[str, Any]) -> None:
        for part in parts:
            handler.wfile.write(part)

    return write
