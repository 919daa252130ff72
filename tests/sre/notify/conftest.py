"""A small server of Slack's Web API, over real sockets: it checks the token and the shape of every call."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from sre.notify.slack import SlackSettings

TOKEN = "xoxb-1-test"
CHANNEL = "C1"
APPROVERS = frozenset({"U1", "U2"})
_NEEDED = {
    "chat.postMessage": {"channel", "text"},
    "reactions.get": {"channel", "timestamp", "full"},
    "conversations.replies": {"channel", "ts", "oldest", "limit"},
}
_ALLOWED = {"chat.postMessage": {"thread_ts"}}


class SlackServer:
    """One channel.

    Attributes:
        messages: in order, each with `ts`, `text`, `thread_ts` and `reactions`.
        broken: how many answers to come are no JSON, with this status.
        calls: methods called, in order.
        wrong: what callers did wrong.
    """

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.broken: list[tuple[int, dict[str, str], bytes]] = []
        self.calls: list[str] = []
        self.wrong: list[str] = []
        self._lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                with outer._lock:
                    status, headers, answer = outer._answer(self.path, self.headers["Authorization"], body)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/api/"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def write(self, user: str, text: str, thread: str, **more: Any) -> dict[str, Any]:
        """A message of somebody in a thread."""
        with self._lock:
            return self._add({"user": user, "text": text, "thread_ts": thread, **more})

    def react(self, ts: str, name: str, *users: str) -> None:
        """A reaction to a message."""
        with self._lock:
            message = next(item for item in self.messages if item["ts"] == ts)
            message["reactions"].append({"name": name, "users": list(users), "count": len(users)})

    def _add(self, message: dict[str, Any]) -> dict[str, Any]:
        message |= {"ts": f"{1_800_000_000 + len(self.messages)}.000100", "reactions": []}
        self.messages.append(message)
        return message

    def _answer(self, path: str, authorization: str | None, body: str) -> tuple[int, dict[str, str], bytes]:
        method = path.removeprefix("/api/")
        self.calls.append(method)
        if self.broken:
            return self.broken.pop(0)
        fields = {name: values[0] for name, values in parse_qs(body).items()}
        return 200, {"Content-Type": "application/json"}, json.dumps(self._called(method, authorization, fields)).encode()

    def _called(self, method: str, authorization: str | None, fields: dict[str, str]) -> dict[str, Any]:
        if authorization != f"Bearer {TOKEN}":
            return {"ok": False, "error": "invalid_auth"}
        if method not in _NEEDED:
            return {"ok": False, "error": "unknown_method"}
        needed, allowed = _NEEDED[method], _ALLOWED.get(method, set())
        if fields.get("channel", CHANNEL) != CHANNEL:
            return {"ok": False, "error": "channel_not_found"}
        if not needed <= fields.keys() <= needed | allowed:
            self.wrong.append(f"{method} with {sorted(fields)}")
            return {"ok": False, "error": "invalid_arguments"}
        return self._told(method, fields)

    def _told(self, method: str, fields: dict[str, str]) -> dict[str, Any]:
        if method == "chat.postMessage":
            message = self._add({"bot_id": "B1", "user": "U0", "text": fields["text"], "thread_ts": fields.get("thread_ts")})
            return {"ok": True, "channel": CHANNEL, "ts": message["ts"]}
        if method == "reactions.get":
            found = next((item for item in self.messages if item["ts"] == fields["timestamp"]), None)
            return {"ok": True, "message": found} if found else {"ok": False, "error": "message_not_found"}
        thread = [item for item in self.messages if fields["ts"] in {item["ts"], item["thread_ts"]}]
        late = [item for item in thread if item["ts"] > fields["oldest"] or item["ts"] == fields["ts"]]
        return {"ok": True, "messages": late, "has_more": False}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[SlackServer]:
    for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    running = SlackServer()
    yield running
    running.close()
    assert running.wrong == []


@pytest.fixture
def settings(server: SlackServer, tmp_path: Path) -> Callable[..., SlackSettings]:
    def make(**changed: Any) -> SlackSettings:
        file = tmp_path / "token"
        file.write_text(f"{changed.pop('token', TOKEN)}\n")
        file.chmod(changed.pop("mode", 0o600))
        fields = {"token_file": file, "channel": CHANNEL, "approvers": ",".join(APPROVERS), "url": server.url}
        return SlackSettings.model_validate(fields | changed)

    return make
