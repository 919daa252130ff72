"""A page on this machine's loopback: how a rollout stands, and its questions with two buttons.

Its address holds a token that works once: the first browser that opens it gets a session of its own, and nobody after it. Every
answer carries a second secret that only the page itself holds, and counts for the question that it shows.
"""

from __future__ import annotations

import hmac
import secrets
import threading
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from sre.canary import report
from sre.canary.approval import Answer, Question
from sre.canary.plan import Plan
from sre.canary.view import Snapshot, View, rows, status_line
from sre.errors import CannotRun

_COOKIE = "canary"
_MOST_BYTES = 4096
_SECURITY = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Page:
    """Serves a page, takes answers, and passes on to another view.

    Args:
        port: on 127.0.0.1; 0 takes a free one.
        plan: of the canary.
        who: whose token it is, for the record.
        view: that is shown besides.

    Raises:
        CannotRun: the port is taken.
    """

    def __init__(self, port: int, plan: Plan, who: str, view: View) -> None:
        self._plan, self._who, self._view = plan, who, view
        self._template = report.templates().get_template("page.html.j2")
        self._token: str | None = secrets.token_urlsafe(32)
        self._session, self._csrf = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
        self._snapshot: Snapshot | None = None
        self._question: Question | None = None
        self._answer: Answer | None = None
        self._lock = threading.Lock()
        try:
            self._server = ThreadingHTTPServer(("127.0.0.1", port), type("Handler", (_Handler,), {"page": self}))
        except OSError as error:
            raise CannotRun(f"port {port} cannot be used for the page ({error.strerror}); name another with --page") from error
        self.origin = f"http://127.0.0.1:{self._server.server_port}"
        self.address = f"{self.origin}/?token={self._token}"
        self._thread = threading.Thread(target=self._server.serve_forever, name="page", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def show(self, snapshot: Snapshot) -> None:
        """Keep it for the next request."""
        self._snapshot = snapshot
        self._view.show(snapshot)

    def change(self, line: str) -> None:
        """Only the other view shows changes."""
        self._view.change(line)

    def ask(self, question: Question) -> None:
        """Show a question from now on."""
        with self._lock:
            self._question, self._answer = question, None

    def answer(self) -> Answer | None:
        """What was answered to it."""
        with self._lock:
            return self._answer

    def open(self, token: str) -> str | None:
        """The session for the one that brings the token; None for everybody else, and the second time."""
        with self._lock:
            if self._token is None or not _same(token, self._token):
                return None
            self._token = None
            return self._session

    def knows(self, session: str) -> bool:
        """Whether it is the session."""
        return _same(session, self._session)

    def take(self, csrf: str, question: str, answer: str) -> bool:
        """Take an answer; False when it is not from the page or not to the open question."""
        with self._lock:
            asked = self._question
            if asked is None or self._answer is not None or answer not in {"yes", "no"}:
                return False
            if not _same(csrf, self._csrf) or not _same(question, asked.id):
                return False
            self._answer = Answer(answer == "yes", self._who, "page")
            return True

    def html(self) -> str:
        """The page."""
        with self._lock:
            question = self._question if self._answer is None else None
        snapshot = self._snapshot
        standing, judged = (snapshot.standing, list(snapshot.judged)) if snapshot else (None, [])
        return self._template.render(
            snapshot=snapshot, line=status_line(snapshot) if snapshot else "", question=question, csrf=self._csrf,
            rows=rows(standing) if standing else [], **report.drawn(self._plan, judged),
        )  # fmt: skip


def _same(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode(), wanted.encode())


class _Handler(BaseHTTPRequestHandler):
    page: Page
    timeout = 10
    server_version, sys_version = "canary", ""

    def do_GET(self) -> None:
        asked = urlsplit(self.path)
        if not self._is_ours():
            return
        if token := parse_qs(asked.query).get("token"):
            session = self.page.open(token[0])
            if session is None:
                self._refuse(HTTPStatus.FORBIDDEN, "this address was used before, or is another one's")
                return
            cookie = f"{_COOKIE}={session}; HttpOnly; SameSite=Strict; Path=/"
            self._send(HTTPStatus.SEE_OTHER, "", {"Location": "/", "Set-Cookie": cookie})
        elif not self._has_session():
            self._refuse(HTTPStatus.FORBIDDEN, "open the address that the rollout printed")
        elif asked.path != "/":
            self._refuse(HTTPStatus.NOT_FOUND, "there is only one page")
        else:
            self._send(HTTPStatus.OK, self.page.html(), {})

    def do_POST(self) -> None:
        if not self._is_ours():
            return
        if not self._has_session() or self.headers.get("Origin") != self.page.origin or self.path != "/answer":
            self._refuse(HTTPStatus.FORBIDDEN, "only the page itself can answer")
            return
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > _MOST_BYTES:
            self._refuse(HTTPStatus.BAD_REQUEST, "this is no answer")
            return
        fields = parse_qs(self.rfile.read(int(length)).decode(errors="replace"))
        csrf, question, answer = (fields.get(name, [""])[0] for name in ("csrf", "question", "answer"))
        if self.page.take(csrf, question, answer):
            self._send(HTTPStatus.SEE_OTHER, "", {"Location": "/"})
        else:
            self._refuse(HTTPStatus.CONFLICT, "this question is no longer open; see the page again")

    def log_message(self, *_: Any) -> None:
        pass  # a line would hold the token

    def _is_ours(self) -> bool:
        # A name that somebody let point here would give a foreign page this one's origin.
        if self.headers.get("Host") == self.page.origin.removeprefix("http://"):
            return True
        self._refuse(HTTPStatus.MISDIRECTED_REQUEST, f"this is {self.page.origin}")
        return False

    def _has_session(self) -> bool:
        try:
            cookie = SimpleCookie(self.headers.get("Cookie", "")).get(_COOKIE)
        except CookieError:
            return False
        return cookie is not None and self.page.knows(cookie.value)

    def _refuse(self, status: HTTPStatus, why: str) -> None:
        self._send(status, f"<!DOCTYPE html><title>{status.phrase}</title><p>{why}</p>", {})

    def _send(self, status: HTTPStatus, content: str, headers: dict[str, str]) -> None:
        body = content.encode()
        self.send_response(status)
        sent = {"Content-Type": "text/html; charset=utf-8", "Content-Length": str(len(body))}
        for name, value in {**_SECURITY, **sent, **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
